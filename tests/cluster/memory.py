"""Memory: what is used again and again does not grow, and what is too much is an error."""

import re
import shutil
from pathlib import Path

import place
from case import Case, found, one, outcome, sqlstate
from sizes import size

EMBEDS = size("PERSONA_EMBEDS")
ERRORS = size("PERSONA_ERRORS")


def resident(pid: int) -> float:
    """Anonymous memory of a process in MB: what it has taken, not the files that it maps."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


def with_fixtures(case: Case) -> None:
    """The server with the small bundles of tests/fixtures beside the others."""
    folder = case.server.folder / "models"
    shutil.copytree(case.server.at.models, folder)
    for bundle in ("bert", "cross-encoder"):
        shutil.copytree(place.CHECKOUT / "tests" / "fixtures" / bundle, folder / bundle)
    case.server.restart({"persona.model_dir": str(folder)})


def slope(connection, step, count: int, a: int) -> float:
    """MB by which a backend grows in `count` calls, `a` of them a step, the first tenth left out."""
    pid = connection.info.backend_pid
    for at in range(0, count // 10, a):
        step(at)
    first = resident(pid)
    for at in range(count // 10, count, a):
        step(at)
    return resident(pid) - first


@outcome(own=True)
def embedding_again_and_again_takes_no_memory(case: Case) -> None:
    """Queries and documents by the ten thousand, one at a time, on the fixture bundle: the backend grows by less than 1 MB for each 100,000 (1 MB allowed for the cache and the allocator)."""
    with_fixtures(case)
    with case.connect() as connection:
        def step(at: int) -> None:
            connection.execute("""SELECT count(persona.embed('ball ' || n, 'query', 'bert')), count(persona.embed('a mouse ' || n, 'document', 'bert'))
                FROM generate_series(%s::int, %s::int) n""", (at, at + 499))

        grown = slope(connection, step, EMBEDS // 2, 500)
        assert grown < 1 + EMBEDS / 100_000, grown


@outcome(own=True)
def errors_again_and_again_take_no_memory(case: Case) -> None:
    """Errors from embed, search and filters, caught in PL/pgSQL, a hundred thousand: the backend grows by less than 1 MB for each 100,000 (256 kB allowed for the allocator)."""
    with case.connect() as connection:
        connection.execute("""CREATE FUNCTION fails(times int) RETURNS int LANGUAGE plpgsql AS $$
            DECLARE caught int := 0; BEGIN
            FOR n IN 1 .. times LOOP
                BEGIN
                    CASE n % 4
                    WHEN 0 THEN PERFORM persona.embed('x', model => 'nobody' || n);
                    WHEN 1 THEN PERFORM count(*) FROM persona.search(NULL::products, 'shoes', filter => '{"nothing": 1}');
                    WHEN 2 THEN PERFORM count(*) FROM persona.search(NULL::products, 'shoes', options => '{"nothing": 1}');
                    ELSE PERFORM count(*) FROM persona.search(NULL::products, 'shoes', k => -1);
                    END CASE;
                EXCEPTION WHEN OTHERS THEN caught := caught + 1;
                END;
            END LOOP; RETURN caught; END $$""")

        def step(at: int) -> None:
            assert one(connection, "SELECT fails(1000)") == 1000

        grown = slope(connection, step, ERRORS, 1000)
        print(f"      {grown:.2f} MB for {ERRORS * 9 // 10} errors")
        assert grown < 0.25 + 0.9 * ERRORS / 100_000, grown


@outcome(own=True)
def too_little_memory_is_an_error(case: Case) -> None:
    """In a backend whose address space is limited, texts and arrays too large for it are 53200 (or 54000), the backend lives, and so does the server."""
    with case.connect() as connection, case.connect() as other:
        started = one(other, "SELECT pg_postmaster_start_time()")
        connection.execute("SELECT persona.embed('warm up')")
        assert len(found(connection, user=1)) == 20
        pid = connection.info.backend_pid
        size = int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
        # the server's own user may limit its processes; root in a container may not
        def limit(least: str) -> None:
            case.server.run("prlimit", f"--pid={pid}", f"--as={least}:", check=True, identity=True)

        states = set()
        for spare in (8 << 20, 24 << 20, 64 << 20, 160 << 20):
            limit(str(size + spare))
            for sql in ("SELECT persona.embed(repeat('word ', 12000000))",
                        "SELECT count(*) FROM unnest(persona.embed(ARRAY(SELECT 'a' || n FROM generate_series(1, 100000) n))) v",
                        "SELECT persona.embed(ARRAY(SELECT repeat('many words ', 500) FROM generate_series(1, 3000) n))",
                        "SELECT count(*) FROM persona.search(NULL::products, repeat('word ', 2000000))"):
                connection.execute("SET statement_timeout = 3000")
                state = sqlstate(connection, sql)
                assert state in ("53200", "54000", "57014", None), (state, sql, spare)
                states.add(state)
                connection.execute("SET statement_timeout = 0")
        assert "53200" in states
        limit("unlimited")
        assert len(found(connection, user=1)) == 20
        assert one(other, "SELECT pg_postmaster_start_time()") == started


@outcome
def huge_inputs_are_bounded(case: Case) -> None:
    """A 1 GB text, a 10 MB query, a filter of a million values, an array of 100,000 texts: a clear error or an answer, in bounded memory, and a cancel still works."""
    with case.connect() as connection:
        pid = connection.info.backend_pid
        assert sqlstate(connection, "SELECT persona.embed(repeat('x', 1000000000))") == "54000"
        assert sqlstate(connection, "SELECT persona.embed(repeat('word ', 2000000), 'query')") is None
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, repeat('word ', 2000000), user_id => 1)") in (None, "54000")
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, 'shoes', filter => jsonb_build_object('brand', (SELECT jsonb_agg(n::text) FROM generate_series(1, 1000000) n)))") in (None, "54000", "22023")
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, 'shoes', filter => repeat('[', 5000)::jsonb)") in ("22P02", "22023", "54001")
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, 'shoes', k => 2147483647)") in (None, "22023")
        connection.execute("SET statement_timeout = '2s'")
        assert sqlstate(connection, "SELECT persona.embed(ARRAY(SELECT 'a text of some words, number ' || n FROM generate_series(1, 100000) n))") == "57014"
        connection.execute("SET statement_timeout = 0")
        assert resident(pid) < 1500, resident(pid)
        assert len(found(connection, user=1)) == 20
