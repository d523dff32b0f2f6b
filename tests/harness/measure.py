"""Runs the scripts that measure. Each is a program of its own; this only knows their names, and says which are missing.

    measure.py bench | quality | soak [ARGUMENTS]
"""

from __future__ import annotations

import subprocess
import sys

import place

SCRIPTS = {
    "bench": ("benches/encoder.py", "benches/latency/run.py"),
    "quality": ("benches/quality/run.py",),
    "soak": ("benches/soak/run.py",),
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        raise place.Failure(f"usage: measure.py {' | '.join(SCRIPTS)}")
    status = 0
    for name in SCRIPTS[sys.argv[1]]:
        script = place.CHECKOUT / name
        if not script.exists():
            print(f"{sys.argv[1]}: {name} is not there yet")
            continue
        status = max(status, subprocess.run([sys.executable, script, *sys.argv[2:]], cwd=place.CHECKOUT).returncode)
    return status


if __name__ == "__main__":
    place.main(main)
