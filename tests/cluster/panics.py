"""Panics on demand, in a build that only this makes (feature `fault`)."""

import contextlib
import signal

import build
import place
import wheel
from case import LIMIT_SECONDS, Case, one, outcome, sqlstate
from server import Installation, Server

CALLS = {
    "embed": "SELECT persona.embed('a text')",
    "embed many": "SELECT persona.embed(ARRAY['a text', 'another'])",
    "search": "SELECT count(*) FROM persona.search(NULL::things, 'a lamp', user_id => 1)",
    "search by name": "SELECT count(*) FROM persona.search('things'::text, 'a lamp')",
    "recommend": "SELECT count(*) FROM persona.recommend(NULL::things, user_id => 1)",
    "similar": "SELECT count(*) FROM persona.similar((SELECT t FROM things t WHERE id = 1))",
    "score": "SELECT count(persona.score(t, 'a lamp')) FROM things t",
    "refresh": "SELECT count(*) FROM persona.refresh('things')",
    "work": "CALL persona.work('refresh', 'things')",
    "create_catalog": "SELECT persona.create_catalog('things', title => 'title')",
    "add_events": "SELECT persona.add_events('things', 'deeds', user_id => 'user_id', item_id => 'item_id', at => 'at')",
    "drop_events": "SELECT persona.drop_events('things', 'deeds')",
    "drop_catalog": "SELECT persona.drop_catalog('things')",
    "models": "SELECT count(*) FROM persona.models",
    "the trigger": "UPDATE things SET title = title || '!'",
}


@contextlib.contextmanager
def faulty(case: Case):
    """A server of the same version whose library can be told to panic, with a small shop in it."""
    version = case.server.version if case.server.version in wheel.TREES else min(wheel.TREES)
    with place.vanishing() as folder:
        at = Installation.stage(version, folder, extension=False)
        signal.alarm(0)  # the time limit is for the test, not for the compiler
        files = build.package(wheel.tree(version, wheel.postgres()) / "bin" / "pg_config", folder / "package", features=("fault",))
        signal.alarm(LIMIT_SECONDS)
        build.install(files, at.pg_config)
        with Server(at) as server:
            server.psql("""CREATE EXTENSION pg_persona CASCADE;
                CREATE TABLE things (id bigint PRIMARY KEY, title text); INSERT INTO things SELECT n, 'a lamp of kind ' || n FROM generate_series(1, 60) n;
                CREATE TABLE deeds (user_id bigint, item_id bigint, at timestamptz); INSERT INTO deeds SELECT 1, n, now() FROM generate_series(1, 9) n;
                SELECT persona.create_catalog('things', title => 'title');
                SELECT persona.add_events('things', 'deeds', user_id => 'user_id', item_id => 'item_id', at => 'at'); SELECT persona.refresh('things')""")
            yield Case(server, server.database)


@outcome
def a_panic_is_an_error_of_one_statement(case: Case) -> None:
    """A panic at the door of every function, within a forward pass and in a thread beside it: an ERROR each time without a backtrace, in the same backend, which then goes on as if nothing had been; the postmaster notices nothing."""
    import psycopg

    with faulty(case) as broken, broken.connect() as connection, broken.connect() as other:
        pid, started = connection.info.backend_pid, one(other, "SELECT pg_postmaster_start_time()")
        search = "SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::things, 'a lamp of kind 7', user_id => 1)"
        before = one(connection, search)
        bulk = "SELECT persona.embed(ARRAY(SELECT repeat('many words ' || n, 30) FROM generate_series(1, 200) n))"
        places = [("door", sql) for sql in CALLS.values()] + [("pass", CALLS["embed"]), ("pass", bulk), ("thread", bulk)]
        for fault, sql in places:
            connection.execute(f"SET persona.fault = '{fault}'; SET persona.threads = {4 if fault == 'thread' else 1}")
            try:
                connection.execute(sql)
                raise AssertionError(f"no error: {fault} {sql}")
            except psycopg.Error as error:
                assert error.sqlstate == "XX000", (fault, sql, error)
                assert "backtrace" not in (error.diag.message_detail or "").lower(), error.diag.message_detail
            connection.execute("RESET persona.fault; RESET persona.threads")
            assert one(connection, search) == before, (fault, sql)
        for sql in CALLS.values():
            assert sqlstate(connection, f"BEGIN; {sql}; ROLLBACK" if not sql.startswith("CALL") else sql) is None, sql
            connection.execute("ROLLBACK")
        assert connection.info.backend_pid == pid == one(connection, "SELECT pg_backend_pid()")
        assert one(other, "SELECT pg_postmaster_start_time()") == started
