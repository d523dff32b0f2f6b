"""The table that `make quality` and `make bench` print, and the floors that its figures must not sink below."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FLOORS = Path(__file__).with_name("floors.json")


class Report:
    """Lines of one run, printed as they come."""

    def __init__(self, title: str):
        self.low: list[str] = []
        self.floors = json.loads(FLOORS.read_text())
        print(f"{title}\n{machine()}\ncommit {commit()}\n", flush=True)
        print(f"{'data':<12} {'metric':<58} {'figure':>9}  {'95 % interval':<15} {'counted':>9}", flush=True)

    def line(self, data: str, metric: str, figure: float, counted: int, interval=None, digits: int = 3, key: str | None = None):
        """One line; with `key`, the figure is held against the floor of that name."""
        between = f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}" if interval else ""
        floor = self.floors.get(key) if key else None
        verdict = ""
        if floor is not None:
            good = figure >= floor["least"] if "least" in floor else figure <= floor["most"]
            bound = floor.get("least", floor.get("most"))
            verdict = "" if good else f"  MISSES {bound}"
            if not good:
                self.low.append(f"{data}: {metric}: {figure:.{digits}f}, bound {bound}")
        print(f"{data:<12} {metric:<58} {figure:>9.{digits}f}  {between:<15} {counted:>9,}{verdict}", flush=True)

    def note(self, text: str):
        """A remark under the line before."""
        print(f"{'':<12} {text}", flush=True)

    def end(self) -> int:
        """0 if every figure held its bound."""
        if self.low:
            print("\nmissed:\n  " + "\n  ".join(self.low), file=sys.stderr)
        return 1 if self.low else 0


def machine() -> str:
    """The processor, its cores, the memory, the system."""
    model = platform.machine()
    memory = ""
    try:
        with open("/proc/cpuinfo") as info:
            model = next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
        with open("/proc/meminfo") as info:
            memory = f", {int(info.readline().split()[1]) / 1048576:.0f} GiB"
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores{memory}, {platform.system()} {platform.release()}"


def commit() -> str:
    """The commit of the checkout, and whether anything is changed in it."""
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""
    made = git("rev-parse", "--short", "HEAD") or "unknown"
    return made + (" and changes" if git("status", "--porcelain", "--untracked-files=no") else "")
