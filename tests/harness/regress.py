"""The regression tests: tests/pg_regress/sql against expected, by Postgres's own pg_regress on a throw-away server.

    regress.py --pg 16              all files; each in a database of its own, a copy of the one that setup.sql made
    regress.py --pg 16 --accept     takes what came out as what is expected, to be read in the diff before it is committed
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys

import place
from server import SUPERUSER, Server

FOLDER = place.CHECKOUT / "tests" / "pg_regress"
LINE = re.compile(r"^(ok|not ok)\s+\d+\s+[-+]?\s*(\S+)|^test (\S+)\s+\.\.\. (ok|FAILED)")
# What `auto` means depends on the CPU; the expected output must not.
SETTINGS = {"persona.precision": "f32"}


def names() -> list[str]:
    """The tests, setup first."""
    return sorted((file.stem for file in (FOLDER / "sql").glob("*.sql")), key=lambda name: (name != "setup", name))


def run(server: Server, accept: bool = False) -> tuple[int, int]:
    """Runs all files on a running server, and returns how many passed and failed."""
    work = server.folder / "regress"
    # a copy, as the server's user may not be able to read the checkout, and must write the results
    shutil.copytree(FOLDER, work / "in" / "pg_regress")
    shutil.copytree(place.CHECKOUT / "tests" / "demo", work / "in" / "demo")
    (work / "out").mkdir()
    if server.user:
        os.chown(work / "out", server.user.pw_uid, server.user.pw_gid)
    verdicts, said = {}, ""
    for name in names():
        database = "regression" if name == "setup" else f"regress_{name}"
        template = "template0" if name == "setup" else "regression"
        server.psql(f"CREATE DATABASE {database} TEMPLATE {template}", database="postgres")
        done = server.run(
            server.at.regress(), f"--bindir={server.at.bin}", f"--inputdir={work / 'in' / 'pg_regress'}",
            f"--outputdir={work / 'out' / name}", f"--host={server.sockets}", f"--port={server.port}", f"--user={SUPERUSER}",
            "--use-existing", f"--dbname={database}", name, capture_output=True, text=True, identity=True)
        for line in done.stdout.splitlines():
            if found := LINE.match(line.strip()):
                verdicts[found[2] or found[3]] = "ok" in (found[1], found[4])
        differences = work / "out" / name / "regression.diffs"
        if done.returncode != 0:
            said += differences.read_text() if differences.exists() and differences.stat().st_size else (
                f"pg_regress ended with {done.returncode}\n{done.stdout}{done.stderr}{server.log()}\n")
        # a test that left no verdict is one that could not run
        print(f"{'ok  ' if verdicts.get(name) else 'FAIL'}  pg_regress {server.version} {name}", flush=True)
    passed = sum(verdicts.get(name, False) for name in names())
    if accept:
        for result in (work / "out").glob("*/results/*.out"):
            shutil.copyfile(result, FOLDER / "expected" / result.name)
    elif said:
        print(said)
    return passed, len(names()) - passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg", type=int, help="version of the embedded Postgres; without, PG_CONFIG or the first")
    parser.add_argument("--accept", action="store_true")
    options = parser.parse_args()
    with Server(options.pg, settings=SETTINGS) as server:
        passed, failed = run(server, options.accept)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed and not options.accept else 0


if __name__ == "__main__":
    place.main(main)
