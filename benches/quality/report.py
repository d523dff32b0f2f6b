"""The table that `make quality` and `make bench` print, and the floors that its figures must not sink below."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from driver import place

CHECKOUT = Path(__file__).resolve().parents[2]
FLOORS = Path(__file__).with_name("floors.json")


class Report:
    """Lines of one run, printed as they come."""

    def __init__(self, title: str):
        self.low: list[str] = []
        self.kept: list[list[str]] = []
        self.floors = json.loads(FLOORS.read_text())
        print(f"{title}\n{machine()}\ncommit {commit()}\n", flush=True)
        print(f"{'data':<12} {'metric':<58} {'figure':>9}  {'95 % interval':<15} {'counted':>9}", flush=True)

    def line(self, data: str, metric: str, figure: float, counted: int, interval=None, digits: int = 3,
             key: str | None = None, shown: bool = False):
        """One line; with `key`, the figure is held against the bound of that name; with `key` or `shown` it goes into the README."""
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
        if key or shown:
            wanted = "" if floor is None else f"≥ {floor['least']}" if "least" in floor else f"≤ {floor['most']}"
            self.kept.append([data, metric, f"{figure:.{digits}f}" + (f" ({between})" if between else ""), f"{counted:,}", wanted])

    def note(self, text: str):
        """A remark under the line before."""
        print(f"{'':<12} {text}", flush=True)

    def end(self, name: str | None = None) -> int:
        """0 if every figure held its bound. With a name, the run is whole, and its figures are kept for `readme.py`."""
        if name:
            kept = {"lines": self.kept, "machine": machine(), "commit": commit()}
            figures(name).write_text(json.dumps(kept, indent=1, ensure_ascii=False))
        if self.low:
            print("\nmissed:\n  " + "\n  ".join(self.low), file=sys.stderr)
        return 1 if self.low else 0


def figures(name: str) -> Path:
    """Where the figures of the last whole run lie."""
    return place.cache() / f"figures-{name}.json"


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
