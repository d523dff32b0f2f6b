"""Model folders that are missing or broken, on a server that must not mind."""

import shutil
from pathlib import Path

from case import Case, found, one, outcome, sqlstate

MODEL = "all-MiniLM-L6-v2"


def told(connection, sql: str) -> tuple[str, str]:
    """SQLSTATE and message of an error."""
    import psycopg

    try:
        connection.execute(sql)
    except psycopg.Error as error:
        return error.sqlstate, str(error)
    raise AssertionError(f"no error: {sql}")


def broken(case: Case, name: str) -> Path:
    """A copy of the model under another name, for the test to break. Never the staged one: others read it."""
    folder = case.server.folder / "broken"
    folder.mkdir(exist_ok=True)
    shutil.copytree(case.server.at.models / MODEL, folder / name)
    return folder / name


@outcome(preload=False)
def a_missing_model_folder_is_a_clear_error(case: Case) -> None:
    """With persona.model_dir unset or not there, embedding is one clear error that names the setting, and the backend lives."""
    for folder in ("", "/nonexistent/models"):
        case.server.restart({"persona.model_dir": folder})
        with case.connect() as connection:
            state, message = told(connection, "SELECT persona.embed('hello')")
            assert state and state != "XX000" and "persona.model_dir" in message, (state, message)
            assert one(connection, "SELECT count(*) FROM products") == 2016


@outcome(preload=False)
def broken_bundles_are_errors_not_crashes(case: Case) -> None:
    """Truncated weights, weights of another shape, broken json, a missing file: each one clear error, in a backend that lives."""
    truncated = broken(case, "truncated") / "model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:5_000_000])
    shape = broken(case, "shape") / "config.json"
    shape.write_text(shape.read_text().replace('"hidden_size": 384', '"hidden_size": 768'))
    (broken(case, "json") / "config.json").write_text("{")
    (broken(case, "nothing") / "tokenizer.json").unlink()
    (broken(case, "empty") / "model.safetensors").write_bytes(b"")
    case.server.restart({"persona.model_dir": str(case.server.folder / "broken")})
    with case.connect() as connection:
        pid = connection.info.backend_pid
        for name in ("truncated", "shape", "json", "nothing", "empty"):
            state, message = told(connection, f"SELECT persona.embed('hello', model => '{name}')")
            assert state and state != "XX000" and name in message, (state, message)
        # the view lists them all, with what is wrong
        assert one(connection, "SELECT count(*) FROM persona.models") == 5
        assert one(connection, "SELECT pg_backend_pid()") == pid


@outcome
def a_bundle_is_a_name_not_a_path(case: Case) -> None:
    """Names with ../ or a leading slash are refused with one and the same error, whether or not the path exists."""
    with case.connect() as connection:
        states = {told(connection, f"SELECT persona.embed('hello', model => '{name}')")[0]
                  for name in (f"../models/{MODEL}", f"/etc", "..", ".", f"{MODEL}/../{MODEL}", f"{MODEL}/1_Pooling")}
        assert len(states) == 1 and "XX000" not in states, states


@outcome(own=True)
def the_file_may_change_under_a_running_backend(case: Case) -> None:
    """Truncating the weights of a loaded model neither crashes the backend that holds it nor changes what it returns."""
    own = broken(case, MODEL)
    case.server.restart({"persona.model_dir": str(own.parent), "shared_preload_libraries": None, "persona.preload": None})
    with case.connect() as connection:
        before = one(connection, "SELECT persona.embed('hello')::text")
        with open(own / "model.safetensors", "r+b") as weights:
            weights.truncate(1000)
        assert one(connection, "SELECT persona.embed('hello')::text") == before
        assert one(connection, "SELECT persona.embed('another text')::text") != before
    with case.connect() as connection:
        assert sqlstate(connection, "SELECT persona.embed('hello')") not in (None, "XX000")


@outcome(preload=False)
def hostile_bundles_are_refused(case: Case) -> None:
    """A FIFO, a device, a directory, a link out of the folder, a pickle in place of weights, a header of 2^60 bytes, a tokenizer of brackets, a folder that is a link out: each an error within 2 s that names bundle or file; the backend lives and the file outside is not read."""
    import os
    import time

    folder = case.server.folder / "broken"
    weights = [broken(case, name) / "model.safetensors" for name in ("fifo", "device", "folder", "link", "pickle", "header", "relative")]
    for file in weights:
        file.unlink()
    fifo, device, directory, link, pickle, header, relative = weights
    os.mkfifo(fifo, 0o666)
    device.symlink_to("/dev/zero")
    directory.mkdir()
    link.symlink_to(case.server.at.models / MODEL / "model.safetensors")
    relative.symlink_to("../../data/PG_VERSION")
    pickle.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch /tmp/persona-pwned'\ntR.")
    header.write_bytes((1 << 60).to_bytes(8, "little") + b"{" * 100)
    (broken(case, "brackets") / "tokenizer.json").write_text("[" * 1_000_000)
    (broken(case, "deep") / "config.json").write_text('{"model_type":' + '{"a":' * 100_000)
    (folder / "outside").symlink_to(case.server.at.models / MODEL)
    case.server.restart({"persona.model_dir": str(folder)})
    with case.connect() as connection:
        pid = connection.info.backend_pid
        for name in ("fifo", "device", "folder", "link", "pickle", "header", "relative", "brackets", "deep", "outside"):
            start = time.monotonic()
            state, message = told(connection, f"SELECT persona.embed('hello', model => '{name}')")
            assert state and state != "XX000" and name in message, (state, message)
            assert time.monotonic() - start < 2, name
        assert one(connection, "SELECT count(*) FROM persona.models WHERE error IS NOT NULL") >= 5
        assert one(connection, "SELECT pg_backend_pid()") == pid
    assert not os.path.exists("/tmp/persona-pwned")


@outcome(preload=False)
def vectors_of_another_bundle_are_refused(case: Case) -> None:
    """When the bundle's files are replaced by others, search is 55000 with the refresh that mends it as hint, and after the refresh it finds the same by the new identity."""
    import psycopg

    own = broken(case, MODEL)
    case.server.restart({"persona.model_dir": str(own.parent)})
    with case.connect() as connection:
        connection.execute("DELETE FROM products WHERE id > 150")
        connection.execute("SELECT * FROM persona.refresh('products')")
        before = found(connection, "running shoes")
    config = own / "config.json"
    config.write_text(config.read_text().rstrip() + "\n\n")
    with case.connect() as connection:
        try:
            found(connection, "running shoes")
            raise AssertionError("no error")
        except psycopg.Error as error:
            assert error.sqlstate == "55000" and "refresh" in error.diag.message_hint, error
        assert one(connection, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == one(connection, "SELECT count(*) FROM products")
        assert [row[:2] for row in found(connection, "running shoes")] == [row[:2] for row in before]
