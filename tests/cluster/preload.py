"""The library and the model in the postmaster."""

import os
from pathlib import Path

from case import Case, found, one, outcome


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def private_kilobytes(pid: int) -> int:
    """Memory that belongs to one process alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


@outcome
def the_postmaster_stays_single_threaded(case: Case) -> None:
    """Laying out the model in the postmaster starts no thread there, and searching starts none in a backend."""
    assert threads(case.server.pid) == 1
    with case.connect() as connection:
        assert found(connection, "trail shoes for mud", user=1)
        assert threads(connection.info.backend_pid) == 1
    assert threads(case.server.pid) == 1


@outcome
def the_first_search_finds_the_model_there(case: Case) -> None:
    """In a new connection of a preloaded server the model is loaded before anything was embedded, and the first search works."""
    with case.connect() as connection:
        assert one(connection, "SELECT loaded FROM persona.models WHERE model = 'all-MiniLM-L6-v2'") is True
    with case.connect() as connection:
        assert len(found(connection, "something to sleep in", k=10)) == 10


@outcome
def backends_share_the_weights(case: Case) -> None:
    """Ten backends that have each embedded own at most 6 MB each above one that has not."""
    import contextlib

    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(case.connect())
        idle.execute("SELECT count(*) FROM products")
        base = private_kilobytes(idle.info.backend_pid)
        above = []
        for number in range(10):
            connection = stack.enter_context(case.connect())
            connection.execute("SELECT count(*) FROM products")
            connection.execute("SELECT persona.embed(%s, 'query')", (f"query number {number} of a few words",))
            above.append(private_kilobytes(connection.info.backend_pid) - base)
        assert max(above) <= 6 * 1024, above


@outcome(own=True)
def a_bundle_that_fails_to_preload_is_a_warning(case: Case) -> None:
    """A bundle in persona.preload that does not exist is a WARNING in the log; the server starts, and the others work."""
    case.server.restart({"persona.preload": "no-such-bundle, all-MiniLM-L6-v2"})
    log = case.server.log(60)
    assert "WARNING" in log and "no-such-bundle" in log, log
    with case.connect() as connection:
        assert one(connection, "SELECT loaded FROM persona.models WHERE model = 'all-MiniLM-L6-v2'") is True
        assert found(connection)


@outcome(preload=False)
def it_works_without_preload(case: Case) -> None:
    """Without shared_preload_libraries everything works, each backend loading its own copy, and finds the same."""
    with case.connect() as connection:
        assert one(connection, "SHOW shared_preload_libraries") == ""
        bare = found(connection, "warm jacket for winter", user=1)
    case.server.restart({"shared_preload_libraries": "pg_persona", "persona.preload": "all-MiniLM-L6-v2"})
    with case.connect() as connection:
        assert found(connection, "warm jacket for winter", user=1) == bare
