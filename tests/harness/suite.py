"""make test: every test, cheapest first, one line each, and the sum as the last line.

    suite.py                      everything, on each embedded Postgres, or on PG_CONFIG's
    ONLY=format,lint,engine,regress,cluster   some parts
    PG=16                         one version

A part whose tool is missing on this machine is counted as skipped and says why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import build
import place
import regress
import wheel
from server import VERSIONS, Installation, Server

PARTS = ("format", "lint", "engine", "regress", "cluster")
ENGINE_SUM = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")


@dataclass
class Count:
    """What was seen so far."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, passed: int, failed: int, skipped: int = 0) -> None:
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped

    def one(self, name: str, ok: bool) -> None:
        print(f"{'ok  ' if ok else 'FAIL'}  {name}", flush=True)
        self.add(ok, not ok)

    def skip(self, name: str, why: str) -> None:
        print(f"skip  {name}: {why}", flush=True)
        self.add(0, 0, 1)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def has(component: str) -> bool:
    """Whether cargo has a component such as fmt or clippy."""
    return subprocess.run(["cargo", component, "--version"], capture_output=True).returncode == 0


def any_pg_config():
    """A Postgres to lint against: the caller's own, or the first embedded one."""
    named = os.environ.get("PG_CONFIG")
    return named or wheel.tree(VERSIONS[0], wheel.postgres()) / "bin" / "pg_config"


def checks(count: Count, parts: set[str]) -> None:
    """Format, lint with and without Postgres, and the engine's own tests."""
    with build.locked():
        if "format" in parts:
            if has("fmt"):
                count.one("format", build.cargo("fmt", "--check").returncode == 0)
            else:
                count.skip("format", "rustfmt is not installed (rustup component add rustfmt)")
        if "lint" in parts:
            pg_config = any_pg_config()
            for name, features in (("lint engine", ()), ("lint pg", ("--features", f"pg{build.major(pg_config)}"))):
                if not has("clippy"):
                    count.skip(name, "clippy is not installed (rustup component add clippy)")
                    continue
                done = build.cargo("clippy", "--quiet", "--release", "--no-default-features", *features, "--all-targets", "--",
                                   "-D", "warnings", pg_config=pg_config)
                count.one(name, done.returncode == 0)
        if "engine" in parts:
            engine(count)


def engine(count: Count) -> None:
    """cargo test, its output passed on, its sums added up."""
    settings = dict(build.environment(), PERSONA_MODEL_DIR=str(wheel.models()))
    running = subprocess.Popen(["cargo", "test", "--release", "--no-default-features", "--no-fail-fast"],
                               cwd=place.CHECKOUT, env=settings, stdout=subprocess.PIPE, text=True)
    sums = 0
    for line in running.stdout:
        print(line, end="", flush=True)
        if found := ENGINE_SUM.match(line):
            count.add(*map(int, found.groups()))
            sums += 1
    if running.wait() != 0 and (sums == 0 or count.failed == 0):
        count.one("engine (cargo test did not get to its end)", False)


def on_postgres(count: Count, version: int | None, parts: set[str], again: bool = False) -> None:
    """The parts that need a server, on one Postgres; `again` on another one after the first."""
    with place.vanishing() as folder:
        try:
            installation = Installation.chosen(version, folder)
        except place.Failure as failure:
            print(failure)
            count.one(f"build for Postgres {version or os.environ.get('PG_CONFIG')}", False)
            return
        if "regress" in parts:
            with Server(installation, settings=regress.SETTINGS) as server:
                count.add(*regress.run(server))
        if "cluster" in parts:
            sys.path[:0] = [str(place.CHECKOUT / "tests" / "cluster"), str(regress_packages())]
            import runner

            count.add(*runner.run(installation, again=again))


def regress_packages():
    """Where the database driver lies."""
    return wheel.packages(place.CHECKOUT / "tests" / "harness" / "requirements.txt")


def main() -> int:
    asked = os.environ.get("ONLY", "")
    parts = set(asked.replace(",", " ").split()) or set(PARTS)
    if unknown := parts - set(PARTS):
        raise place.Failure(f"ONLY knows {', '.join(PARTS)}, not {', '.join(unknown)}")
    count = Count()
    if parts & {"format", "lint", "engine"}:
        checks(count, parts)
    if parts & {"regress", "cluster"}:
        if os.environ.get("PG"):
            versions = [int(os.environ["PG"])]
        else:
            versions = [None] if os.environ.get("PG_CONFIG") else list(VERSIONS)
        for version in versions:
            on_postgres(count, version, parts, again=version != versions[0])
    print(count)
    return 1 if count.failed else 0


if __name__ == "__main__":
    place.main(main)
