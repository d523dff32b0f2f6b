"""Writes the figures of the last whole runs of `make quality` and `make bench` into the README's table.

The runs leave their figures in the cache folder; this puts those that have a bound, and some beside them, between the
README's markers. Run it where the figures were measured, and commit what it wrote.
"""

from __future__ import annotations

import json
import re

import driver
from report import CHECKOUT, figures

COMMANDS = {"quality": "make quality", "latency": "make bench"}


def main() -> int:
    lines = ["| data | metric | figure (95 %) | wanted | counted |", "| --- | --- | --- | --- | --- |"]
    origins = []
    for name, command in COMMANDS.items():
        file = figures(name)
        if not file.exists():
            raise driver.place.Failure(f"{file} is not there: run `{command}` first, whole")
        run = json.loads(file.read_text())
        lines += [f"| {data} | {metric} | {figure} | {wanted} | {counted} |" for data, metric, figure, counted, wanted in run["lines"]]
        origins.append(f"`{command}`: {run['machine']}; commit {run['commit']}.")
    readme = CHECKOUT / "README.md"
    table = "\n".join([*lines, "", *origins])
    text, count = re.subn(r"(<!-- measured -->\n).*?(<!-- /measured -->)", lambda m: m[1] + table + "\n" + m[2], readme.read_text(),
                          flags=re.DOTALL)
    if count != 1:
        raise driver.place.Failure("README.md has no pair of markers <!-- measured --> and <!-- /measured -->")
    readme.write_text(text)
    return 0


if __name__ == "__main__":
    driver.place.main(main)
