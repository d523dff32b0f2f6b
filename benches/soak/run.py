"""make soak: the tests of tests/cluster, the fuzz of bundles and the coverage-guided fuzz targets in their long form, one
after the other.

    run.py [--pg 16] [NAME ...]     all, or those whose name contains one of the words; `fuzz` is one of them

The long form is the short one with larger numbers; what each test shows, and the numbers, are in tests/cluster/README.md.
Some hours; PERSONA_SOAK_SHARE=0.02 does a fiftieth of each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / "tests" / "harness"), str(CHECKOUT / "tests" / "cluster")]

import build  # noqa: E402
import place  # noqa: E402
from sizes import SIZES  # noqa: E402

CARGO_FUZZ = "0.13.2"
TARGETS = ("filter", "options", "query", "bytes", "bundle")
# mutations of each corpus, and seconds of each target guided by coverage
FUZZ = {"PERSONA_FUZZ": 20_000, "PERSONA_FUZZ_SECONDS": 1800}
# A part of each size, for a soak of minutes.
SHARE = float(os.environ.get("PERSONA_SOAK_SHARE", "1"))


def sizes() -> dict[str, str]:
    """The environment of a long run: what the caller has set stays."""
    long = {name: size[1] for name, size in SIZES.items()} | FUZZ
    part = {name: max(1, round(size * SHARE)) if name != "PERSONA_LIMIT_SECONDS" else size for name, size in long.items()}
    return {name: str(size) for name, size in part.items()} | dict(os.environ)


def guided() -> int:
    """cargo fuzz over each target, from its corpus; what it finds on the way stays in the cache, a crash says where its input is."""
    status = 0
    tool = build.cargo_tool("cargo-fuzz", CARGO_FUZZ)
    for target in TARGETS:
        found = place.cache() / "fuzz" / "found" / target
        found.mkdir(parents=True, exist_ok=True)
        # Without a sanitizer it builds with a stable compiler: a panic is what is looked for, and unsafe code is not reached.
        command = [tool, "fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", target, found, f"tests/fuzz/corpus/{target}",
                   "--", f"-max_total_time={sizes()['PERSONA_FUZZ_SECONDS']}", f"-artifact_prefix={found.parent}/crash-{target}-", "-max_len=8192", "-timeout=10"]
        environment = dict(os.environ, CARGO_TARGET_DIR=str(place.cache() / "fuzz" / "target"))
        status = subprocess.run(command, cwd=CHECKOUT, env=environment).returncode or status
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg", default="16")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    status, started = 0, time.monotonic()
    cluster = [word for word in options.words if word != "fuzz"]
    if cluster or not options.words:
        command = [sys.executable, CHECKOUT / "tests" / "cluster" / "runner.py", "--pg", options.pg, *cluster]
        status = subprocess.run(command, env=sizes()).returncode
    if "fuzz" in options.words or not options.words:
        os.environ["PERSONA_FUZZ"] = sizes()["PERSONA_FUZZ"]
        with build.locked():
            for arguments in (("--test", "embed_files", "mutated"), ("--test", "fuzz")):
                done = build.cargo("test", "--release", "--no-default-features", *arguments)
                status = status or done.returncode
        status = guided() or status
    print(f"soak: {(time.monotonic() - started) / 60:.0f} min, {'something failed' if status else 'nothing failed'}")
    return status


if __name__ == "__main__":
    place.main(main)
