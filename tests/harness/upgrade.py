"""Writes the upgrade script from the last release to this one: sql/pg_persona--OLD--NEW.sql.

    upgrade.py 0.1.0

The script is what the new SQL has and the old has not, statement by statement: what was dropped, what is new, and what
reads differently as CREATE OR REPLACE. A table that has changed needs a statement that no comparison can write: those
stand in sql/upgrade-OLD--NEW.sql, one `ALTER TABLE` a change, and are put first. tests/cluster/upgrade.py holds the
outcome against a fresh install.
"""

from __future__ import annotations

import argparse
import re
import sys

import build
import place
import wheel

SQL = place.CHECKOUT / "sql"
# Up to the closing tag of a body, a quoted text with doubled quotes, or a comment: none of them ends a statement.
TOKEN = re.compile(r"(\$[A-Za-z_]*\$).*?\1|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|;", re.DOTALL)
MADE = re.compile(r"CREATE\s+(?:OR\s+REPLACE\s+)?(?P<kind>FUNCTION|PROCEDURE|AGGREGATE|VIEW|TABLE|TYPE|INDEX|UNIQUE INDEX|TRIGGER|"
                  r"EVENT TRIGGER|TEXT SEARCH \w+|OPERATOR|CAST|DOMAIN|SEQUENCE|POLICY)\s+(?P<name>[\w.\"]+)", re.IGNORECASE)


def statements(sql: str) -> list[str]:
    """The statements of a script, without comments between them."""
    found, begin = [], 0
    for token in TOKEN.finditer(sql):
        if token[0] == ";":
            found.append(sql[begin:token.end()])
            begin = token.end()
    return [clean for one in found if (clean := bare(one))]


def bare(statement: str) -> str:
    """A statement without the comments before it and at the ends of its lines."""
    kept, last = [], 0
    for token in TOKEN.finditer(statement):
        if token[0].startswith(("--", "/*")):
            kept.append(statement[last:token.start()])
            last = token.end()
    return "".join([*kept, statement[last:]]).strip()


def same(statement: str) -> str:
    """A statement with its white space folded, so that a moved line is no change."""
    return " ".join(statement.split())


def types(arguments: str) -> str:
    """A function's arguments without defaults: what its name is told apart by."""
    depth, quoted, parts, now = 0, False, [], ""
    for letter in arguments:
        quoted ^= letter == "'"
        depth += (letter in "([") - (letter in ")]") if not quoted else 0
        if letter == "," and depth == 0 and not quoted:
            parts.append(now)
            now = ""
        else:
            now += letter
    parts.append(now)
    return ", ".join(" ".join(re.split(r"\s+DEFAULT\s+|\s*=\s*", part.strip(), maxsplit=1, flags=re.IGNORECASE)[0].split())
                     for part in parts if part.strip())


def identity(statement: str) -> tuple[str, str] | None:
    """What a CREATE makes: its kind, and the name by which it is dropped; None for another statement."""
    found = MADE.match(statement)
    if not found:
        return None
    kind, name = " ".join(found["kind"].upper().split()), found["name"]
    if kind in ("FUNCTION", "PROCEDURE", "AGGREGATE"):
        begin = statement.index("(", found.end() - 1)
        depth, quoted = 0, False
        for at in range(begin, len(statement)):
            quoted ^= statement[at] == "'"
            depth += ((statement[at] == "(") - (statement[at] == ")")) if not quoted else 0
            if depth == 0:
                break
        if not name.lower().startswith("persona."):
            name = "persona." + name.strip('"')
        name = f"{name.replace(chr(34), '')}({types(statement[begin + 1:at])})"
    return kind, name


def returns(statement: str) -> str:
    """What a function returns: where it changes, the function cannot be replaced."""
    found = re.search(r"\bRETURNS\s+(.*?)(?:\s+(?:LANGUAGE|AS|STRICT|STABLE|VOLATILE|IMMUTABLE|PARALLEL|COST|ROWS|SET|SECURITY)\b|/\*)",
                      bare(statement), re.DOTALL | re.IGNORECASE)
    return same(found[1]) if found else ""


def short(name: str) -> str:
    """A function's name without its arguments."""
    return name.split("(")[0]


def upgrade(old: str, new: str, by_hand: str) -> str:
    """The script that leads from one to the other."""
    before, after = statements(old), statements(new)
    there = {same(statement) for statement in before}
    made = {identity(statement): statement for statement in before if identity(statement)}
    making = {identity(statement) for statement in after if identity(statement)}
    dropped = [name for name in made if name not in making and name[0] not in ("INDEX", "UNIQUE INDEX")]
    out = [f"DROP {kind} {name};" for kind, name in reversed(dropped)]
    if by_hand:
        out.append(by_hand.strip())
    # What was dropped and made anew: under the same name, with other arguments or another result.
    anew = [what for what in dropped if any(what[0] == kind and short(what[1]) == short(name) for kind, name in making)]
    for statement in after:
        if same(statement) in there:
            continue
        what = identity(statement)
        if what not in made:
            out.append(statement)
        elif what[0] in ("FUNCTION", "PROCEDURE") and returns(statement) == returns(made[what]):
            out.append(re.sub(r"^CREATE\s+(?:OR\s+REPLACE\s+)?", "CREATE OR REPLACE ", statement))
        elif what[0] == "TABLE":
            if what[1] not in by_hand:
                raise place.Failure(f"{what[1]} has changed: write its ALTER TABLE into the file of changes by hand")
        else:
            anew.append(what)
            out += [f"DROP {what[0]} {what[1]};", statement]
    # What is said of an object that was dropped and made anew is said again, though it has not changed.
    for _, name in anew:
        out += [s for s in after if same(s) in there and short(name) in s and not identity(s) and s not in out]
    return "\n\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="the release to start from")
    options = parser.parse_args()
    release = build.release()
    with place.vanishing() as run:
        pg_config = wheel.tree(16, wheel.postgres()) / "bin" / "pg_config"
        fresh = build.package(pg_config, run) / "extension" / f"pg_persona--{release}.sql"
        by_hand = SQL / f"upgrade-{options.old}--{release}.sql"
        script = upgrade((SQL / f"pg_persona--{options.old}.sql").read_text(), fresh.read_text(),
                         "\n".join(statements(by_hand.read_text())) if by_hand.exists() else "")
    target = SQL / f"pg_persona--{options.old}--{release}.sql"
    target.write_text(f"-- From {options.old} to {release}. Written by tests/harness/upgrade.py; once released, never edited.\n"
                      f"\\echo Use \"ALTER EXTENSION pg_persona UPDATE TO '{release}'\" to load this file. \\quit\n\n{script}")
    print(target, file=sys.stderr)
    return 0


if __name__ == "__main__":
    place.main(main)
