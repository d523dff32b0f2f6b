"""persona.device, with a stand-in for the library that runs on a GPU: the same code behind the same functions, on the CPU."""

import contextlib
import shutil

import build
import gpu
import tune
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


def tuned(connection, name: str, device: str, **more) -> None:
    """An adapter that was trained on a device."""
    connection.execute(f"SET persona.device = '{device}'")
    tune.tune(connection, name=name, epochs=2, **more)


def same_adapter(connection, left: str, right: str) -> bool:
    """Whether two adapters are alike to the bit."""
    return one(connection, "SELECT count(DISTINCT hash) FROM persona.adapters WHERE name IN (%s, %s)", left, right) == 1


@outcome
def fine_tuning_runs_on_a_gpu(case: Case) -> None:
    """With persona.device = cuda:0 fine_tune trains by the library: what it learns is the CPU's to 1e-3 in a vector and not to the bit, with the same bytes through work, and an adapter embeds there to 1e-4 of the CPU's vector; under auto a library that cannot be opened is one NOTICE, and the adapter is the CPU's to the bit."""
    tune.rows(case)
    with library(case), case.connect() as connection:
        for name, device in (("here", "cpu"), ("there", "cuda:0")):
            tuned(connection, name, device)
        connection.execute(tune.work(name="worked", seconds=0, epochs=2))
        assert not same_adapter(connection, "here", "there") and same_adapter(connection, "there", "worked")
        connection.execute("SET persona.device = 'cpu'")
        here, there = (one(connection, "SELECT persona.embed('a lamp for the desk', model => %s)::text", name) for name in ("here", "there"))
        assert here != there and far(connection, here, there) < 1e-3
        connection.execute("SET persona.device = 'cuda:0'")
        moved = one(connection, "SELECT persona.embed('a lamp for the desk', model => 'here')::text")
        assert moved != here and far(connection, here, moved) < 1e-4
        assert {row[0] for row in connection.execute("SELECT device FROM persona.models WHERE model = 'here' AND loaded")} == {"cpu", "cuda:0"}
        connection.execute("SET persona.device = 'cuda:9'")
        assert sqlstate(connection, tune.work(name="other", seconds=0)) == "55000"
    with library(case, "no library"), case.connect() as connection:
        said = hears(connection)
        tuned(connection, "fallen", "auto")
        assert len([line for line in said if gpu.LIBRARY in line]) == 1, said
        assert same_adapter(connection, "here", "fallen")


@outcome
def training_runs_on_a_gpu(case: Case) -> None:
    """With persona.device = cuda:0 train has the library make the shopper encoder's gradients: the pass's loss is the CPU's to 1e-3 and not to the bit; a cancel ends it with 57014; under auto a library that cannot be opened is one NOTICE, and the losses are the CPU's to the bit."""
    train = """SELECT loss FROM persona.train('products', '{"samples": 100, "epochs": 1, "sequence": 1, "anew": true, "deploy": "never"}')
        WHERE stage = 'sequence'"""

    def losses(connection, device):
        connection.execute(f"SET persona.device = '{device}'")
        return [row[0] for row in connection.execute(train)]

    with library(case), case.connect() as connection:
        here, there = losses(connection, "cpu"), losses(connection, "cuda:0")
        assert len(here) == 1 and here != there and all(abs(a - b) < 1e-3 for a, b in zip(here, there)), (here, there)
        connection.execute("SET statement_timeout = 700")
        assert sqlstate(connection, train) == "57014"
        connection.execute("SET statement_timeout = 0")
        assert losses(connection, "cuda:0") == there
    with library(case, "no library"), case.connect() as connection:
        said = hears(connection)
        assert losses(connection, "auto") == here
        assert len([line for line in said if gpu.LIBRARY in line]) == 1, said
