"""Long work that is cancelled, killed, or met by another session."""

import os
import signal
import statistics
import time

import psycopg
from case import Background, Case, found, one, outcome, sqlstate, until

# every title changed: all 2,016 products are to be embedded again
CHANGE_ALL = "UPDATE products SET title = title || ' 2025'"


def working(case: Case, pid: int, done: int = 1):
    """Waits until a backend's long work has got somewhere."""
    with case.connect() as connection:
        until(lambda: connection.execute(
            "SELECT 1 FROM persona.activity WHERE pid = %s AND done >= %s AND done < total", (pid, done)).fetchone())


def left(case: Case) -> int:
    """How many vectors the next refresh makes."""
    return case.one("SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash")


def refreshed(case: Case) -> int:
    """How many vectors a refresh made."""
    return case.one("SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'")


def cancel_seconds(task: Background, when) -> float:
    """The time from the cancel to the statement's end."""
    with task:
        when(task.pid)
        start = time.monotonic()
        task.connection.cancel()
        task.join(30)
    assert task.sqlstate == "57014", task.sqlstate
    return task.ended - start


@outcome
def a_cancel_during_refresh_is_prompt(case: Case) -> None:
    """A cancel during a refresh ends it with 57014, within 100 ms above pg_sleep's (medians of five), and nothing of it stays."""
    case.do(CHANGE_ALL)

    def asleep(pid: int) -> None:
        with case.connect() as connection:
            until(lambda: connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'", (pid,)).fetchone())

    idle = statistics.median(cancel_seconds(Background(case, "SELECT pg_sleep(60)"), asleep) for _ in range(5))
    busy = statistics.median(
        cancel_seconds(Background(case, "SELECT * FROM persona.refresh('products')"), lambda pid: working(case, pid)) for _ in range(5))
    assert busy - idle <= 0.1, (busy, idle)
    assert left(case) == 2016


@outcome
def a_statement_timeout_stops_a_refresh(case: Case) -> None:
    """statement_timeout stops a refresh with 57014, and the same connection goes on working."""
    case.do(CHANGE_ALL)
    with case.connect() as connection:
        connection.execute("SET statement_timeout = 300")
        start = time.monotonic()
        assert sqlstate(connection, "SELECT * FROM persona.refresh('products')") == "57014"
        assert time.monotonic() - start < 3
        connection.execute("SET statement_timeout = 0")
        assert found(connection)


@outcome
def work_keeps_what_it_has_done(case: Case) -> None:
    """CALL persona.work commits after each step: after a cancel a refresh has less to do, and the rest is done by the next."""
    case.do(CHANGE_ALL)
    with Background(case, "CALL persona.work('refresh', 'products', '{\"batch\": 64}')") as task:
        until(lambda: left(case) <= 2016 - 128)
        task.connection.cancel()
        task.join(30)
        assert task.sqlstate == "57014", task.sqlstate
    rest = left(case)
    assert 0 < rest <= 2016 - 128, rest
    assert refreshed(case) == rest


@outcome(own=True)
def a_kill_during_refresh_is_recovered_from(case: Case) -> None:
    """kill -9 of a backend during a refresh: Postgres recovers, search is as before, the next refresh does all the work."""
    case.do("UPDATE products SET title = title || ' 2025' WHERE id <= 800")
    with case.connect() as connection:
        before = found(connection, user=1)
    with Background(case, "SELECT * FROM persona.refresh('products')") as task:
        working(case, task.pid)
        os.kill(task.pid, signal.SIGKILL)
        task.join(30)
        assert task.sqlstate is not None

    def up() -> bool:
        """the server takes connections again"""
        try:
            with case.connect():
                return True
        except psycopg.OperationalError:
            return False

    until(up)
    assert left(case) == 800
    with case.connect() as connection:
        assert found(connection, user=1) == before
    assert refreshed(case) == 800


@outcome
def two_refreshes_at_once_end_well(case: Case) -> None:
    """Two refreshes of one catalog at once: both end without error, and nothing is left to do."""
    case.do("UPDATE products SET title = title || ' 2025' WHERE id <= 500")
    with Background(case, "SELECT * FROM persona.refresh('products')") as first, \
            Background(case, "SELECT * FROM persona.refresh('products')") as second:
        first.join(120)
        second.join(120)
        assert (first.sqlstate, second.sqlstate) == (None, None)
    assert left(case) == 0


@outcome
def shoppers_search_while_it_refreshes(case: Case) -> None:
    """During a refresh, another session's search returns what it returned before, and writers of the shop are not blocked."""
    case.do(CHANGE_ALL)
    with case.connect() as connection:
        before = found(connection, user=2)
        with Background(case, "SELECT * FROM persona.refresh('products')") as task:
            working(case, task.pid)
            assert found(connection, user=2) == before
            connection.execute("SET lock_timeout = '2s'")
            connection.execute("UPDATE products SET price = price + 1 WHERE id = 7")
            connection.execute("INSERT INTO events (user_id, product_id, kind) VALUES (3, 7, 'view')")
            assert task.is_alive()
