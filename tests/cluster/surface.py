"""The SQL surface as a DBA audits it."""

import re
import subprocess
import sys

import build
import place
import wheel
from case import Case, outcome

# SQL functions that run with the caller's rights, name everything by its schema and are inlined: a pinned search path
# would end the inlining, and nothing in them is looked up by it.
ALLOWED = "PS005: Function without explicit search_path"


@outcome
def pgspot_finds_nothing(case: Case) -> None:
    """pgspot over the installed SQL has no finding, but that the invoker's one-line SQL functions pin no search path; none of those is SECURITY DEFINER."""
    folder = wheel.packages(place.CHECKOUT / "tests" / "harness" / "pgspot.txt")
    script = build.folder_of(case.server.at.pg_config, "sharedir") / "extension" / f"pg_persona--{build.release()}.sql"
    # the parser takes SQL, not what the extension's loader replaces first
    sql = script.read_text().replace("MODULE_PATHNAME", "pg_persona")
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); from pgspot.cli import run; sys.argv = ['pgspot']; run()"],
                          input=sql, capture_output=True, text=True)
    assert "Errors:" in done.stdout, done.stderr
    findings = [line for line in done.stdout.splitlines() if re.match(r"PS\d+", line) and not line.startswith(ALLOWED)]
    assert not findings, "\n".join(findings)
    unpinned = case.one("""SELECT COALESCE(string_agg(p.oid::regprocedure::text, ', '), '') FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'persona'::regnamespace AND p.proconfig IS NULL AND (p.prosecdef OR l.lanname NOT IN ('sql', 'c'))
          AND p.prokind = 'f'""")
    assert unpinned == "", unpinned


@outcome
def a_definer_function_is_pinned_and_says_why(case: Case) -> None:
    """Every SECURITY DEFINER function has a pinned search path, and its comment says why it is one."""
    with case.connect() as connection:
        rows = connection.execute("""SELECT p.oid::regprocedure::text, p.proconfig::text, obj_description(p.oid, 'pg_proc')
            FROM pg_proc p WHERE p.pronamespace = 'persona'::regnamespace AND p.prosecdef""").fetchall()
        assert rows
        for name, config, comment in rows:
            assert "search_path=pg_catalog, pg_temp" in (config or ""), (name, config)
            assert "definer" in comment, (name, comment)


@outcome
def every_object_has_a_comment(case: Case) -> None:
    """Every function, table, view and type of the extension has a comment, and every setting a description."""
    with case.connect() as connection:
        bare = connection.execute("""SELECT i.type, i.identity FROM pg_depend d
            CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
            WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_persona')
              AND obj_description(d.objid, d.classid::regclass::text) IS NULL AND d.classid <> 'pg_event_trigger'::regclass
              AND NOT (d.classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = d.objid) IN ('S', 'i'))
              AND NOT (d.classid = 'pg_type'::regclass AND (SELECT typtype = 'c' OR typelem <> 0 FROM pg_type WHERE oid = d.objid))""").fetchall()
        assert not bare, bare
        silent = connection.execute("SELECT name FROM pg_settings WHERE name LIKE 'persona.%' AND (short_desc = '') IS NOT FALSE").fetchall()
        assert not silent, silent


@outcome
def everything_an_extension_stores_is_dumped(case: Case) -> None:
    """Every table of the extension is registered for pg_dump, and so is every sequence behind one."""
    with case.connect() as connection:
        lost = connection.execute("""SELECT c.oid::regclass::text FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
            JOIN pg_extension x ON x.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
            WHERE x.extname = 'pg_persona' AND d.deptype = 'e' AND c.relkind IN ('r', 'S') AND NOT c.oid = ANY (x.extconfig)""").fetchall()
        assert not lost, lost
