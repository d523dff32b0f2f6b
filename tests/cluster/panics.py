"""Panics on demand, in a build that only this makes (feature `fault`)."""

import atexit
import contextlib
import shutil
import signal
import time

import build
import place
import wheel
from case import LIMIT_SECONDS, Case, found, one, outcome, sqlstate, until
from matrix import CALLS, settled
from server import Installation, Server

BUILT = {}
# An expression of each type that a function of ours takes; `p` is a row of the products.
VALUES = {
    "text": "'products'", "name": "'title'", "integer": "1", "bigint": "1", "real": "1", "double precision": "1", "boolean": "true", "jsonb": "'{}'",
    "oid": "'products'::regclass::oid", "regclass": "'products'", "interval": "'1 day'", "uuid": "'00000000-0000-0000-0000-000000000000'",
    "tsvector": "'x'", "bytea": "''", "persona.role": "'query'", "text[]": "ARRAY['x']", "name[]": "ARRAY['title']", "integer[]": "ARRAY[1]",
    "bigint[]": "ARRAY[1]", "anyelement": "p", "anyarray": "ARRAY[1]", "timestamp with time zone": "now()",
}
# What is SQL or PL/pgSQL and calls nothing of the library.
SQL_ALONE = {"propensity", "report", "_equality", "_qualified", "_companions", "_dropped", "_altered"}
TRIGGERS = {"_mark": "UPDATE products SET title = title || '!' WHERE id = 1",
            "_rule": "INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'bury', '{}')"}
BULK = "SELECT persona.embed(ARRAY(SELECT repeat('many words ' || n, 30) FROM generate_series(1, 200) n))"


def faulty(case: Case) -> Installation:
    """The same Postgres with a library that can be told to panic; built once a run."""
    version = case.server.version if case.server.version in wheel.TREES else min(wheel.TREES)
    if version not in BUILT:
        folder = place.run_folder()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        at = Installation.stage(version, folder, extension=False)
        signal.alarm(0)  # the time limit is for the test, not for the compiler
        files = build.package(wheel.tree(version, wheel.postgres()) / "bin" / "pg_config", folder / "package", features=("fault",))
        signal.alarm(LIMIT_SECONDS)
        build.install(files, at.pg_config)
        BUILT[version] = at
    return BUILT[version]


@contextlib.contextmanager
def shop(case: Case, settings: dict | None = None):
    """A server of that Postgres with the demo shop."""
    with Server(faulty(case), database=case.server.database, data=case.server.golden, settings=settings) as server:
        yield Case(server, server.database)


def asked(connection, fault: str) -> None:
    """Asks for a panic, or with an empty name for none."""
    connection.execute(f"SET persona.fault = '{fault}'")
    if not fault:
        connection.execute("SELECT persona._segment('x')")  # what was asked for is forgotten by the next call


def calls(connection) -> dict:
    """A call of every function in the schema that leads into the library, by its signature."""
    made = {}
    for what, name, language, kind, types in connection.execute("""
            SELECT p.oid::regprocedure::text, p.proname, l.lanname, p.prokind::text,
                ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY t(a, n) ORDER BY n)
            FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'persona'::regnamespace ORDER BY 1"""):
        if name in SQL_ALONE:
            assert language != "c", name
        elif name in TRIGGERS:
            made[what] = TRIGGERS[name]
        else:
            missing = set(types) - set(VALUES)
            assert not missing, f"tests/cluster/panics.py has no value of {missing}, for {what}"
            call = f"persona.{name}({', '.join(VALUES[kind] if kind.startswith('any') else f'{VALUES[kind]}::{kind}' for kind in types)})"
            made[what] = f"CALL {call}" if kind == "p" else f"SELECT f FROM (SELECT * FROM products ORDER BY id LIMIT 1) p, LATERAL {call} f"
    return made


@outcome
def a_panic_is_an_error_of_one_statement(case: Case) -> None:
    """A panic at the door of every function of the schema (as pg_proc lists them), within a forward pass and in a thread beside it: an ERROR each time without a backtrace, in the same backend, which then goes on as if nothing had been; the postmaster notices nothing."""
    import psycopg

    with shop(case) as broken, broken.connect() as connection, broken.connect() as other:
        pid, started = connection.info.backend_pid, one(other, "SELECT pg_postmaster_start_time()")
        before = found(connection, user=1)
        every = calls(connection)
        doors = [("door", what, sql) for what, sql in every.items()]
        print(f"      {len(doors)} functions at their doors")
        for fault, what, sql in doors + [("pass", "a pass", "SELECT persona.embed('a text')"), ("pass", "many", BULK), ("thread", "a thread", BULK)]:
            asked(connection, fault)
            connection.execute(f"SET persona.threads = {4 if fault == 'thread' else 1}")
            try:
                connection.execute(sql)
                raise AssertionError(f"no error: {fault} {what}: {sql}")
            except psycopg.Error as error:
                assert error.sqlstate == "XX000", (fault, what, error)
                assert "backtrace" not in (error.diag.message_detail or "").lower(), error.diag.message_detail
            asked(connection, "")
            connection.execute("RESET persona.threads")
            assert found(connection, user=1) == before, (fault, what)
        assert connection.info.backend_pid == pid == one(connection, "SELECT pg_backend_pid()")
        assert one(other, "SELECT pg_postmaster_start_time()") == started


@outcome(once=True)
def a_panic_in_the_middle_leaves_nothing_behind(case: Case) -> None:
    """Every public function panics at its first statement, at its second and so on, caught at a savepoint: the user is who he was, locks and caches are as before, the next search in the same transaction finds the same, and without the panic each function does what it did."""
    with shop(case) as broken, broken.connect() as connection:
        settled(broken)
        before, panics = found(connection), 0
        states = {}
        for name, (_, sql) in CALLS.items():
            connection.execute("BEGIN; SET LOCAL ROLE merchant")
            states[name] = sqlstate(connection, sql)
            connection.execute("ROLLBACK")
        for name, (_, sql) in CALLS.items():
            if sql.startswith("CALL"):
                continue  # it commits: the functions behind it are among the others
            at = 1
            while True:
                start = time.monotonic()
                connection.execute(f"BEGIN; SET LOCAL persona.fault = 'query {at}'; SET LOCAL ROLE merchant; SAVEPOINT here")
                state = sqlstate(connection, sql)
                if state != "XX000":
                    assert state == states[name], (name, at, state)
                    connection.execute("ROLLBACK")
                    break
                panics += 1
                connection.execute("ROLLBACK TO here")
                assert one(connection, "SELECT current_user || current_setting('search_path')") == 'merchant"$user", public', (name, at)
                assert found(connection) == before, (name, at)
                connection.execute("ROLLBACK")
                # what takes long runs many statements alike
                at = at + 1 if at < 8 and time.monotonic() - start < 0.3 else at * 3
            asked(connection, "")
        print(f"      {panics} panics")
        assert panics > 100
        assert one(connection, "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('relation', 'advisory') AND relation <> 'pg_locks'::regclass") == 0
        assert found(connection) == before


@outcome
def a_panic_in_the_background_is_kept(case: Case) -> None:
    """A panic in the postmaster while it lays out the model is a WARNING, and the server starts; one in each step of the worker, in its forward pass and in the launcher's rounds is an error that is kept or a process that is started again, and once there are none, catalogs are kept fresh."""
    with shop(case, {"persona.worker": "on", "persona.worker_interval": "1s", "persona.fault": "preload"}) as broken:
        assert "persona.preload" in broken.server.log(100) and "WARNING" in broken.server.log(100)

        def told(fault: str, sign) -> None:
            broken.server.configure({"persona.fault": fault})
            with broken.connect() as connection:
                connection.execute("SELECT pg_reload_conf()")
                connection.execute("SET persona.fault = ''")
                for turn in range(30):
                    # a worker that has not read the setting yet does what there is to do: there is more
                    connection.execute("UPDATE products SET title = title || %s WHERE id = 1", (f" {turn}",))
                    connection.execute("DELETE FROM persona.worker_task WHERE retry > now()")
                    with contextlib.suppress(AssertionError):
                        return until(lambda: sign(connection), 2)
                raise AssertionError(f"nothing was seen of a panic at {fault or 'no place'}")

        with broken.connect() as connection:
            started = one(connection, "SELECT pg_postmaster_start_time()")
        told("pass", lambda c: c.execute("SELECT 1 FROM persona.worker_errors WHERE task = 'vectors' AND sqlstate = 'XX000'").fetchone())
        told("door", lambda c: "catalogs cannot be looked at" in broken.server.log(1000))
        told("round", lambda c: "Round" in broken.server.log(1000))
        told("", lambda c: one(c, "SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash") == 0)
        with broken.connect() as connection:
            assert one(connection, "SELECT pg_postmaster_start_time()") == started
            assert len(found(connection, user=1)) == 20
            assert "terminated by signal" not in broken.server.log(10_000)
