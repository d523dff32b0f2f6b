"""Cancel, timeouts, termination, shutdown: nothing of ours keeps a backend from ending when it is told to."""

import contextlib
import math
import os
import random
import threading
import time

import psycopg
from case import Background, Case, found, one, outcome, sqlstate, until
from sizes import size

TRIES = size("PERSONA_INTERRUPT_TRIES")
LONG = {
    "embed": "SELECT persona.embed(array_agg(description || id)) FROM products",
    "search": "SELECT count(*) FROM generate_series(1, 100000) n, LATERAL persona.search(NULL::products, 'warm shoes ' || n, k => 5)",
    "score": "SELECT count(persona.score(p, 'warm shoes ' || n)) FROM generate_series(1, 1000) n, products p",
    "refresh": "SELECT * FROM persona.refresh('products')",
    "train": "SELECT * FROM persona.train('products', '{\"anew\": true}')",
    "fine_tune": """SELECT * FROM persona.fine_tune('embed', 'products', '{"name": "never", "epochs": 100, "adopt": "always"}')""",
    "bulk": "SELECT persona.embed(array_agg(title || n)) FROM products, generate_series(1, 20) n",
}
SLEEP = "SELECT pg_sleep(60)"


def p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def seconds_to_cancel(case: Case, connection, sql: str, after: float) -> float:
    """From the cancel to the error, on a connection that is used again."""
    outcome = {}

    def run() -> None:
        outcome["state"] = sqlstate(connection, sql)
        outcome["end"] = time.monotonic()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with case.connect() as watch:
        pid = connection.info.backend_pid
        until(lambda: one(watch, "SELECT state = 'active' AND now() - query_start > %s * interval '1 s' FROM pg_stat_activity WHERE pid = %s",
                          after, pid))
        start = time.monotonic()
        watch.execute("SELECT pg_cancel_backend(%s)", (pid,))
    thread.join(60)
    assert outcome["state"] == "57014", (sql, outcome)
    return outcome["end"] - start


@outcome
def a_cancel_takes_effect_within_100_ms(case: Case) -> None:
    """Cancel of embed, search, score, refresh, train and fine_tune at random moments: 57014, and the p99 of the time is within 100 ms of pg_sleep's in the same run."""
    case.do("UPDATE products SET title = title || ' 2025'")
    dice = random.Random(7)
    taken = {name: [] for name in (*LONG, "pg_sleep")}
    with case.connect() as connection:
        for _ in range(TRIES):
            for name, sql in (*LONG.items(), ("pg_sleep", SLEEP)):
                taken[name].append(seconds_to_cancel(case, connection, sql, dice.uniform(0.02, 0.3)))
        assert len(found(connection, user=1)) == 20
    idle = p99(taken.pop("pg_sleep"))
    slow = {name: round(p99(values) - idle, 3) for name, values in taken.items()}
    assert all(above <= 0.1 for above in slow.values()), (slow, idle)


def late(connection, setting: str, calls: dict, state: str, milliseconds) -> dict:
    """The p99, by call, of the seconds by which a timeout of this setting ends it late; of pg_sleep's, or whatever is last, the p99 is taken off."""
    taken = {name: [] for name in calls}
    for _ in range(TRIES):
        for name, sql in calls.items():
            limit = milliseconds()
            connection.execute(f"SET {setting} = {limit}")
            start = time.monotonic()
            ended = sqlstate(connection, sql)
            taken[name].append(time.monotonic() - start - limit / 1000)
            assert ended == state, (setting, name, ended)
            connection.execute(f"SET {setting} = 0")
    idle = p99(taken.pop(list(calls)[-1]))
    return {name: round(p99(values) - idle, 3) for name, values in taken.items()}


@outcome
def a_statement_timeout_ends_each_call(case: Case) -> None:
    """statement_timeout, at random moments, ends embed, search, score, refresh, train and fine_tune with 57014; the p99 of how late is within 100 ms of pg_sleep's in the same run, and the session goes on."""
    case.do("UPDATE products SET title = title || ' 2025'")
    dice = random.Random(3)
    with case.connect() as connection:
        slow = late(connection, "statement_timeout", {**LONG, "pg_sleep": SLEEP}, "57014", lambda: dice.randint(5, 90))
        assert all(above <= 0.1 for above in slow.values()), slow
        assert len(found(connection, user=1)) == 20


@outcome
def a_lock_timeout_ends_a_wait(case: Case) -> None:
    """lock_timeout ends embed by an adapter, search, score, refresh, train, fine_tune, create_catalog and drop_catalog that wait for another session's lock with 55P03 (Postgres's own code for it); the p99 of how late is within 100 ms of that of a plain SELECT, and nothing is half done."""
    calls = {
        "embed": "SELECT persona.embed('rain', model => 'nobody')",
        "search": "SELECT count(*) FROM persona.search(NULL::products, 'shoes', user_id => 1)",
        "score": "SELECT persona.score(ROW(1, 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 1, '2025-01-01')::products, 'shoes', user_id => 1)",
        "refresh": LONG["refresh"], "train": LONG["train"], "fine_tune": LONG["fine_tune"],
        "create_catalog": "SELECT persona.create_catalog('products', title => 'title')",
        "drop_catalog": "SELECT persona.drop_catalog('products')",
        "SELECT": "SELECT count(*) FROM products",
    }
    with case.connect(autocommit=False) as holder, case.connect() as connection:
        before = found(connection, user=1)
        tables = case.one("""SELECT string_agg(t, ', ') FROM (SELECT 'products' UNION ALL SELECT 'events'
            UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'persona'::regnamespace AND relname LIKE 'adapter%' AND relkind = 'r') s (t)""")
        holder.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        slow = late(connection, "lock_timeout", calls, "55P03", lambda: 15)
        assert all(above <= 0.1 for above in slow.values()), slow
        holder.rollback()
        assert found(connection, user=1) == before


@outcome
def a_terminated_backend_ends_cleanly(case: Case) -> None:
    """pg_terminate_backend during embed, search and refresh is a FATAL 57P01 within a second; nothing crashes, and others go on."""
    case.do("UPDATE products SET title = title || ' 2025'")
    with case.connect() as watch:
        started = one(watch, "SELECT pg_postmaster_start_time()")
        for name, sql in LONG.items():
            with Background(case, sql) as task:
                until(lambda: one(watch, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'", task.pid))
                time.sleep(0.1)
                start = time.monotonic()
                watch.execute("SELECT pg_terminate_backend(%s)", (task.pid,))
                task.join(30)
                assert task.sqlstate == "57P01", (name, task.sqlstate)
                assert task.ended - start < 1, name
        assert one(watch, "SELECT pg_postmaster_start_time()") == started
        assert "PANIC" not in case.server.log(50) and "terminated by signal" not in case.server.log(50)
        assert len(found(watch, user=1)) == 20


@outcome(own=True)
def a_fast_shutdown_waits_for_nobody(case: Case) -> None:
    """A fast shutdown while ten backends embed takes less than 5 s, and the server comes up again as it was."""
    with case.connect() as connection:
        before = found(connection, user=1)
    with contextlib.ExitStack() as stack:
        tasks = [stack.enter_context(Background(case, LONG["bulk"])) for _ in range(10)]
        with case.connect() as watch:
            until(lambda: one(watch, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%embed%' AND pid <> pg_backend_pid()") == 10)
        start = time.monotonic()
        case.server.stop()
        assert time.monotonic() - start < 5
        for task in tasks:
            task.join(10)
            assert task.sqlstate is not None
    assert "terminated by signal" not in case.server.log(60)
    case.server.start()
    with case.connect() as connection:
        assert found(connection, user=1) == before


@outcome
def timers_that_fire_change_no_vector(case: Case) -> None:
    """With a timer that fires every few milliseconds (SIGALRM) and persona.threads = 4, embed and search return what they return at rest, bit for bit."""
    sql = "SELECT md5(string_agg(v::text, ' ')) FROM unnest(persona.embed(ARRAY(SELECT title || ' ' || description FROM products ORDER BY id LIMIT 200))) v"
    with case.connect() as connection:
        vectors, rows = one(connection, sql), found(connection, user=1)
        connection.execute("SET persona.threads = 4")
        pid, stop = connection.info.backend_pid, threading.Event()

        def storm() -> None:
            while not stop.is_set():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 14)
                time.sleep(0.002)

        thread = threading.Thread(target=storm, daemon=True)
        thread.start()
        try:
            for _ in range(3):
                assert one(connection, sql) == vectors
                assert found(connection, user=1) == rows
        finally:
            stop.set()
            thread.join(5)


def masks(pid: int) -> dict[int, int]:
    """The blocked signals of each thread of a process but the main one."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir(f"/proc/{pid}/task"):
            if int(task) != pid:
                with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/status") as status:
                    blocked = next(line for line in status if line.startswith("SigBlk:"))
                    found[int(task)] = int(blocked.split()[1], 16)
    return found


@outcome
def threads_block_every_signal(case: Case) -> None:
    """persona.threads = 1 starts none; with 3, in a backend of a preloaded server, the threads seen during bulk work block every signal that can be blocked, and are gone after it."""
    # what the kernel lets nobody block: SIGKILL, SIGSTOP; and glibc's own 32 and 33
    every = (1 << 64) - 1 & ~(1 << 8 | 1 << 18 | 1 << 31 | 1 << 32)
    with Background(case, LONG["embed"]) as task:
        with case.connect() as watch:
            until(lambda: one(watch, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'", task.pid))
        for _ in range(100):
            assert masks(task.pid) == {}
            time.sleep(0.005)
        assert task.is_alive()
    with Background(case, "SET persona.threads = 3; " + LONG["bulk"]) as task:
        seen = until(lambda: masks(task.pid))
        for _ in range(50):
            seen.update(masks(task.pid))
            time.sleep(0.005)
        assert len(seen) >= 2 and all(mask & every == every for mask in seen.values()), {k: hex(v) for k, v in seen.items()}
    with case.connect() as connection:
        connection.execute("SET persona.threads = 3")
        connection.execute("SELECT persona.embed(array_agg(title)) FROM products WHERE id < 300")
        assert masks(connection.info.backend_pid) == {}
