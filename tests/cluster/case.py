"""What a cluster test is written with.

A test is a function with the decorator `outcome`; its docstring is the outcome it shows. It gets a `Case`: a database of
its own, a copy of the demo shop with its catalog made and refreshed, on a server that all tests of a run share. A test
that restarts, kills or configures a server says `@outcome(own=True)` and gets one of its own, begun from the same data.
No test sleeps for luck: what must have happened is asked for until it has (`until`), under a time limit.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from dataclasses import dataclass

import psycopg
from server import Server
from sizes import size

TESTS: list = []
LIMIT_SECONDS = size("PERSONA_LIMIT_SECONDS")


def outcome(function=None, *, own: bool = False, preload: bool = True, once: bool = False):
    """Registers a test. `own`: a server of its own; `preload`: whether that server preloads; `once`: long, and of code that is the
    same for every version of Postgres, so `make test` runs it on the first."""

    def register(test):
        test.own, test.preload, test.once = own or not preload, preload, once
        TESTS.append(test)
        return test

    return register(function) if function else register


@dataclass
class Case:
    """A server and the name of this test's database on it."""

    server: Server
    database: str

    @contextlib.contextmanager
    def connect(self, user: str = "postgres", autocommit: bool = True, database: str | None = None):
        """A connection of its own, closed at the end."""
        with psycopg.connect(self.server.dsn(database or self.database, user), autocommit=autocommit) as connection:
            yield connection

    def one(self, sql: str, *values):
        """The only value of the only row, on a new connection."""
        with self.connect() as connection:
            return one(connection, sql, *values)

    def do(self, sql: str) -> None:
        """Statements, on a new connection."""
        with self.connect() as connection:
            connection.execute(sql)


def one(connection, sql: str, *values):
    """The only value of the only row."""
    # without values a % in the statement is a %
    return connection.execute(sql, values or None).fetchone()[0]


def found(connection, query: str | None = "running shoes", user: int | None = None, k: int = 20, items: str = "products", **more) -> list[tuple]:
    """What a search returns: id, the bits of the score, position, source, parts. Two equal lists are equal bit for bit."""
    arguments = "".join(f", {name} => %s" for name in more)
    return connection.execute(
        f"SELECT (item).id, encode(float4send(score), 'hex'), position, source, parts::text "
        f"FROM persona.search(NULL::{items}, %s, user_id => %s::bigint, k => %s{arguments}) ORDER BY position",
        (query, user, k, *more.values())).fetchall()


def ids(rows: list[tuple]) -> list[int]:
    """The ids of what `found` returned, in order."""
    return [row[0] for row in rows]


def sqlstate(connection, sql: str, *values) -> str | None:
    """The SQLSTATE of the error that a statement ends with, None if it succeeds."""
    try:
        connection.execute(sql, values or None)
    except psycopg.Error as error:
        return error.sqlstate or type(error).__name__
    return None


def until(what, seconds: float = 60):
    """Asks `what()` until it is true, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.005)
    raise AssertionError(f"did not come about within {seconds} s: {what.__doc__ or what}")


@contextlib.contextmanager
def standby_of(case: Case, settings: dict[str, str] | None = None):
    """A hot standby of the case's server, made by pg_basebackup."""
    primary = case.server
    primary.restart({"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"})
    with Server(primary.at, database=case.database, settings=settings) as standby:
        standby.stop()
        for entry in standby.data.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        primary.run(primary.at.bin / "pg_basebackup", "-D", standby.data, "-R", "-c", "fast", "-X", "stream", check=True, identity=True)
        standby.configure({})
        standby.start()
        yield standby


class Background(threading.Thread):
    """A statement that runs in a connection of its own while the test does something else to it."""

    def __init__(self, case: Case, sql: str):
        super().__init__(daemon=True)
        self.connection = psycopg.connect(case.server.dsn(case.database), autocommit=True)
        self.pid = self.connection.info.backend_pid
        self.sql, self.sqlstate, self.ended = sql, None, 0.0

    def run(self) -> None:
        try:
            self.connection.execute(self.sql)
        except psycopg.Error as error:
            self.sqlstate = error.sqlstate or type(error).__name__
        self.ended = time.monotonic()

    def __enter__(self) -> Background:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        if self.is_alive():
            with contextlib.suppress(psycopg.Error):
                self.connection.cancel()
        self.join(30)
        self.connection.close()
