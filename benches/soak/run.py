"""make soak: the tests of tests/cluster and the fuzz of bundles in their long form, one after the other.

    run.py [--pg 16] [NAME ...]     all, or those whose name contains one of the words; `fuzz` is one of them

The long form is the short one with larger numbers; what each test shows is written in tests/cluster/README.md. Some hours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "harness"))

import build  # noqa: E402
import place  # noqa: E402

LONG = {
    "PERSONA_INTERRUPT_TRIES": "200",
    "PERSONA_KILL_CYCLES": "500",
    "PERSONA_EMBEDS": "1000000",
    "PERSONA_ERRORS": "100000",
    "PERSONA_LOAD_SECONDS": "1800",
    "PERSONA_LIMIT_SECONDS": "14400",
}
FUZZ = "20000"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg", default="16")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    status, started = 0, time.monotonic()
    cluster = [word for word in options.words if word != "fuzz"]
    if cluster or not options.words:
        command = [sys.executable, CHECKOUT / "tests" / "cluster" / "runner.py", "--pg", options.pg, *cluster]
        status = subprocess.run(command, env=dict(os.environ, **LONG)).returncode
    if "fuzz" in options.words or not options.words:
        os.environ["PERSONA_FUZZ"] = FUZZ
        with build.locked():
            done = build.cargo("test", "--release", "--no-default-features", "--test", "embed_files", "mutated")
        status = status or done.returncode
    print(f"soak: {(time.monotonic() - started) / 60:.0f} min, {'something failed' if status else 'nothing failed'}")
    return status


if __name__ == "__main__":
    place.main(main)
