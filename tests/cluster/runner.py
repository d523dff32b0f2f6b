"""Runs the cluster tests: what one session can't see.

    runner.py [--pg 16] [NAME ...]     all, or those whose name contains one of the words
    runner.py --list                   writes the list of outcomes into README.md
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import place  # noqa: E402
import wheel  # noqa: E402

NOT_TESTS = {"runner", "case", "sizes"}
# What of the same kind is tested without a server, and what is not tested at all.
ELSEWHERE = {
    "tests/embed_files.rs": "model files that are truncated, oversized, mis-shaped, no regular files, or mutated at random: errors or models, never a panic",
    "tests/fuzz.rs": "the fuzz targets (filters, options, queries, stored bytes, files of a bundle) over their corpus and mutations; `make soak` runs them guided by coverage",
    "tests/pg_regress": "every error with its SQLSTATE and hint, as a user sees it",
}
UNTRIED = (
    "A panic in the callback that runs at a transaction's end: Postgres lets no error out of there, ours or another's.",
    "How long an answer takes, as a way to learn of rows that are hidden.",
    "A crash of the machine: the servers here run with `fsync = off`, and kill -9 leaves the kernel's buffers in place.",
    "Random statements are made by `smith.py` from the functions in the catalog, not by sqlsmith.",
)
TEMPLATE = "shop"


def load() -> list:
    """Imports every file of this folder and returns the tests they register."""
    sys.path[:0] = [str(HERE), str(wheel.packages(HERE.parent / "harness" / "requirements.txt"))]
    for file in sorted(HERE.glob("*.py")):
        if file.stem not in NOT_TESTS:
            importlib.import_module(file.stem)
    import case

    return case.TESTS


def say(test) -> str:
    """The outcome, on one line."""
    return " ".join(test.__doc__.split())


def listed(tests: list) -> str:
    """README.md's text."""
    from sizes import SIZES

    lines = ["# Cluster tests", "",
             "What one session can't see: preload, cancel, kill, restart, concurrent sessions, roles, dump and restore. "
             "`make test ONLY=cluster` runs", "them, `tests/cluster/runner.py NAME` some. This list is written by `runner.py --list`.", "",
             "¹ long, and of code that is the same for every version of Postgres: `make test` runs it on the first version only."]
    for file in dict.fromkeys(test.__module__ for test in tests):
        lines += ["", f"## {file}.py", "", "| test | outcome |", "| --- | --- |"]
        lines += [f"| {test.__name__}{' ¹' * test.once} | {say(test)} |" for test in tests if test.__module__ == file]
    lines += ["", "## Sizes", "", "Each on every version of Postgres that is tested; `make soak` does more of it, and the variable sets either.", "",
              "| variable | make test | make soak | what |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {short:,} | {long:,} | {what} |" for name, (short, long, what) in SIZES.items()]
    lines += ["", "## Tested without a server", "", *(f"* `{place}`: {what}" for place, what in ELSEWHERE.items())]
    lines += ["", "## Not tested", "", *(f"* {what}" for what in UNTRIED)]
    return "\n".join(lines) + "\n"


def overdue(*_):
    raise TimeoutError("the test took too long")


def make_template(installation, folder: Path) -> Path:
    """The data folder of a stopped server with the demo shop, catalogued and refreshed."""
    from server import Server

    with Server(installation, database=TEMPLATE) as server:
        for sql in ("shop.sql", "catalog.sql"):
            script = (place.CHECKOUT / "tests" / "demo" / sql) if sql == "shop.sql" else HERE / sql
            done = server.psql_file(script, capture_output=True, text=True)
            if done.returncode != 0:
                raise place.Failure(f"the shop could not be made:\n{done.stderr}")
        server.stop()
        shutil.move(server.data, folder / "template")
    return folder / "template"


def run(installation, words: tuple[str, ...] = (), again: bool = False) -> tuple[int, int]:
    """Runs the tests on one Postgres, `again` on another one after the first, and returns how many passed and failed."""
    from server import Server

    tests = [test for test in load() if not words or any(word in f"{test.__module__}.{test.__name__}" for word in words)]
    tests = [test for test in tests if not (again and test.once)]
    import case

    signal.signal(signal.SIGALRM, overdue)
    failed = 0
    with place.vanishing() as folder:
        data = make_template(installation, folder)
        with Server(installation, database=TEMPLATE, data=data) as shared:
            for test in tests:
                start = time.monotonic()
                signal.alarm(case.LIMIT_SECONDS)
                try:
                    if test.own:
                        with Server(installation, database=TEMPLATE, data=data, preload=test.preload) as server:
                            attempt(test, case.Case(server, TEMPLATE))
                    else:
                        name = re.sub(r"\W", "_", f"{test.__module__}_{test.__name__}")[:63]
                        shared.psql(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"', database="postgres")
                        attempt(test, case.Case(shared, name))
                        shared.psql(f'DROP DATABASE "{name}" WITH (FORCE)', database="postgres")
                    verdict = "ok  "
                except Exception:
                    failed += 1
                    verdict = "FAIL"
                    traceback.print_exc(file=sys.stdout)
                finally:
                    signal.alarm(0)
                print(f"{verdict}  cluster {installation.version} {test.__module__}.{test.__name__} "
                      f"({time.monotonic() - start:.1f} s): {say(test)}", flush=True)
    return len(tests) - failed, failed


def attempt(test, case) -> None:
    """Runs one test; a failure shows the end of the server's log, unless the server is gone with it."""
    try:
        test(case)
    except BaseException:
        print(case.server.log(15))
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg", type=int, help="version of the embedded Postgres; without, PG_CONFIG or the first")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if options.list:
        (HERE / "README.md").write_text(listed(load()))
        return 0
    from server import Installation

    with place.vanishing() as folder:
        passed, failed = run(Installation.chosen(options.pg, folder), tuple(options.words))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    place.main(main)
