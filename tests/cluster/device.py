"""persona.device, with a stand-in for the library that runs on a GPU: the same code behind the same functions, on the CPU."""

import contextlib
import shutil

import build
import gpu
from case import Case, found, one, outcome, sqlstate

LATE = "SELECT persona.embed(array_agg(title || ' of ' || id)) FROM (SELECT * FROM products ORDER BY id LIMIT 40) p"


@contextlib.contextmanager
def library(case: Case, content=None):
    """The stand-in, or a file that is no library, where the server looks; away again at the end."""
    file = build.folder_of(case.server.at.pg_config, "pkglibdir") / gpu.LIBRARY
    try:
        if content is None:
            shutil.copyfile(file.with_name("pg_persona.so"), file)
        else:
            file.write_text(content)
        yield
    finally:
        file.unlink(missing_ok=True)


def hears(connection) -> list[str]:
    """The messages that a connection gets from now on."""
    said = []
    connection.add_notice_handler(lambda message: said.append(message.message_primary))
    return said


def devices(connection) -> set:
    """Where this backend's copies of the model are."""
    return {row[0] for row in connection.execute("SELECT device FROM persona.models WHERE loaded")}


def far(connection, left: str, right: str) -> float:
    """The largest difference between two vectors' numbers."""
    return one(connection, """SELECT max(abs(l - r)) FROM unnest(%s::vector::real[], %s::vector::real[]) t(l, r)""", left, right)


@outcome
def a_gpu_runs_what_it_is_told_to(case: Case) -> None:
    """With persona.device = cuda:0 every text is embedded by the library, to 1e-4 of the CPU's vector, and persona.models says so; cuda:9 is an error with a hint."""
    import psycopg

    with library(case), case.connect() as connection:
        cpu = one(connection, "SELECT persona.embed('a lamp for the desk')::text")
        connection.execute("SET persona.device = 'cuda:0'")
        device = one(connection, "SELECT persona.embed('a lamp for the desk')::text")
        assert device != cpu and far(connection, cpu, device) < 1e-4
        assert devices(connection) == {"cpu", "cuda:0"}
        assert len(found(connection, user=1)) == 20
        connection.execute("SET persona.device = 'cuda:9'")
        try:
            connection.execute("SELECT persona.embed('a lamp for the desk')")
            raise AssertionError("no error")
        except psycopg.Error as error:
            assert (error.sqlstate, "persona.device" in error.diag.message_hint) == ("55000", True), error
        connection.execute("SET persona.device = 'tpu'")
        assert sqlstate(connection, "SELECT persona.embed('a lamp for the desk')") == "22023"
        connection.execute("SET persona.device = 'cpu'")
        assert one(connection, "SELECT persona.embed('a lamp for the desk')::text") == cpu


@outcome
def auto_takes_the_gpu_for_bulk(case: Case) -> None:
    """Under auto a single text stays on the CPU and many go to the GPU; search and refresh work, and nothing is said."""
    with library(case), case.connect() as connection:
        said = hears(connection)
        connection.execute("SELECT persona.embed('a lamp for the desk')")
        assert devices(connection) == {"cpu"}
        connection.execute(LATE)
        assert devices(connection) == {"cpu", "cuda:0"}
        assert said == []
        connection.execute("UPDATE products SET title = title || ' 2025' WHERE id <= 100")
        assert one(connection, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 100
        assert len(found(connection, user=1)) == 20


@outcome
def auto_falls_back_to_the_cpu_and_says_so_once(case: Case) -> None:
    """Under auto a library that cannot be opened is one NOTICE a backend, and the vectors are the CPU's; cuda:0 is an error with a hint. Where there is neither driver nor library, auto says nothing."""
    from pathlib import Path

    with case.connect() as connection:
        cpu = one(connection, LATE)
        said = hears(connection)
        if not Path("/dev/nvidiactl").exists():
            connection.execute(LATE)
            assert said == []
        connection.execute("SET persona.device = 'cuda:0'")
        assert sqlstate(connection, "SELECT persona.embed('x')") == "55000"
    with library(case, "no library"), case.connect() as connection:
        said = hears(connection)
        assert one(connection, LATE) == cpu
        assert one(connection, LATE) == cpu
        assert len(said) == 1 and "CPU" in said[0] and gpu.LIBRARY in said[0], said
        assert devices(connection) == {"cpu"}


@outcome
def a_cancel_on_a_gpu_is_prompt(case: Case) -> None:
    """A statement_timeout during bulk work on the device ends it with 57014, and the connection goes on."""
    import time

    with library(case), case.connect() as connection:
        connection.execute("SET persona.device = 'cuda:0'")
        connection.execute("SELECT persona.embed('a lamp for the desk')")
        connection.execute("SET statement_timeout = 300")
        start = time.monotonic()
        assert sqlstate(connection, "SELECT persona.embed(array_agg(description)) FROM products") == "57014"
        assert time.monotonic() - start < 2
        connection.execute("SET statement_timeout = 0")
        assert len(found(connection, user=1)) == 20
