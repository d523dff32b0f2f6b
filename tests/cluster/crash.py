"""kill -9 at random moments: Postgres recovers, and finds everything that was committed and nothing that was not."""

import contextlib
import json
import os
import random
import signal
import threading
import time

import psycopg
from case import Background, Case, found, one, outcome, until
from sizes import size

CYCLES = size("PERSONA_KILL_CYCLES")


def up(case: Case) -> bool:
    """the server takes connections again"""
    with contextlib.suppress(psycopg.OperationalError), case.connect():
        return True
    return False


def kill_server(case: Case) -> None:
    """kill -9 of the postmaster and of every process it has, all at one moment."""
    postmaster = case.server.pid
    os.kill(postmaster, signal.SIGSTOP)  # it starts no other while they are counted
    children = [int(pid) for pid in open(f"/proc/{postmaster}/task/{postmaster}/children").read().split()]
    for pid in (postmaster, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    case.server.process.wait(10)
    # its shared memory must be gone before another may begin
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))


def sound(case: Case) -> None:
    """The catalog is whole: each item has one row of words, no row is orphaned, vectors belong to what is stored, and a search works."""
    with case.connect() as connection:
        assert one(connection, "SELECT count(*) FROM products p FULL JOIN products_persona c ON c.key = p.id WHERE p.id IS NULL OR c.key IS NULL") == 0
        assert one(connection, "SELECT count(*) FROM products_persona WHERE (embedding IS NULL) <> (embedded IS NULL)") == 0
        assert one(connection, "SELECT count(*) FROM persona.catalogs") == 1
        assert one(connection, "SELECT count(*) FROM persona.adapters WHERE name = 'sudden'") == 0
        assert len(found(connection, user=1, k=5)) == 5


@outcome(own=True)
def a_killed_backend_loses_nothing(case: Case) -> None:
    """Backends killed at random moments of refresh, work, create_catalog, drop_catalog, embed, search, fine_tune and item writes: after each recovery every committed event and title is there, the catalog is whole, and the next call is right."""
    dice = random.Random(11)
    create = """SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{type,color,material}',
        brand => 'brand', category => 'category', price => 'price', options => '{"text_search": "english"}')"""
    operations = [
        "SELECT * FROM persona.refresh('products')",
        "CALL persona.work('refresh', 'products', '{\"batch\": 64}')",
        create,
        f"BEGIN; SELECT persona.drop_catalog('products'); {create}; SELECT * FROM persona.refresh('products'); SELECT pg_sleep(9); COMMIT",
        "SELECT persona.embed(array_agg(description)) FROM products",
        # what a killed step leaves behind, the next call goes on with
        """CALL persona.work('fine_tune', 'products', '{"task": "embed", "name": "steady", "epochs": 1, "rows": 128, "seconds": 0, "adopt": "always"}')""",
        """SELECT * FROM persona.fine_tune('embed', 'products', '{"name": "sudden", "epochs": 50, "adopt": "always"}')""",
        "SELECT count(*) FROM generate_series(1, 100000) n, LATERAL persona.search(NULL::products, 'warm shoes ' || n, user_id => 1, k => 5)",
        "UPDATE products SET title = title || ' lost'; SELECT pg_sleep(9)",
    ]
    committed = 0
    for cycle in range(CYCLES):
        with case.connect() as connection:
            connection.execute("UPDATE products SET title = regexp_replace(title, ' #.*', '') || ' #' || %s WHERE id %% 40 = %s", (cycle, cycle % 40))
            connection.execute("INSERT INTO events (user_id, product_id, kind, session) VALUES (77, %s, 'view', 'crash')", (1 + cycle,))
            committed += 1
        with Background(case, operations[cycle % len(operations)]) as task:
            with case.connect() as watch:
                until(lambda: one(watch, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state <> 'idle' OR pid = %s AND query <> ''", task.pid, task.pid))
                time.sleep(dice.uniform(0, 0.4))  # the moment of the kill is what is random here
                with contextlib.suppress(ProcessLookupError):
                    os.kill(task.pid, signal.SIGKILL)
                with contextlib.suppress(psycopg.Error):
                    watch.execute("SELECT pg_sleep(5)")  # ends when the postmaster throws everybody out
            task.join(30)
        until(lambda: up(case))
        with case.connect() as connection:
            assert one(connection, "SELECT count(*) FROM events WHERE user_id = 77 AND session = 'crash'") == committed, cycle
            assert one(connection, "SELECT count(*) FROM products WHERE title LIKE %s", f"% #{cycle}") > 0, cycle
            assert one(connection, "SELECT count(*) FROM products WHERE title LIKE '%% lost'") == 0
        sound(case)
    with case.connect() as connection:
        connection.execute("SELECT * FROM persona.refresh('products')")
        assert one(connection, "SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash") == 0


@outcome(own=True)
def a_killed_server_loses_nothing(case: Case) -> None:
    """kill -9 of every process of the server during a refresh that commits in steps: it starts again, what was committed stays, the rest is done by the next refresh."""
    case.do("UPDATE products SET title = title || ' 2025' WHERE id <= 600")
    for _ in range(3):
        left = case.one("SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash")
        with Background(case, "CALL persona.work('refresh', 'products', '{\"batch\": 32}')") as task:
            until(lambda: case.one("SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash") <= left - 64)
            kill_server(case)
            task.join(30)
        case.server.start()
        sound(case)
        now = case.one("SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash")
        assert now <= left - 64, (now, left)
    assert case.one("SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == now


def rankers(connection) -> list:
    """What is known of the rankers of a catalog."""
    return connection.execute("SELECT ranker, deployed, checksum FROM persona.rankers ORDER BY 1").fetchall()


@outcome(own=True, once=True)
def a_server_killed_in_training_keeps_its_ranker(case: Case) -> None:
    """kill -9 of every process of the server during a training, and during one that commits in steps: the ranker that ranked ranks on, bit for bit, every committed event is there, no half-made ranker is; the step that was committed is gone on with, and ends with the weights of a training that was never stopped."""
    # Candidates come by the index or by a scan, as the planner's statistics say: those must not change between two trainings.
    case.server.configure({"autovacuum": "off"})
    small = {"samples": 100, "epochs": 1, "sequence": 1}
    train = "SELECT count(*) FROM persona.train('products', %s)"
    with case.connect() as connection:
        connection.execute(train, (json.dumps({**small, "deploy": "always"}),))
        before, story = found(connection, user=1), rankers(connection)
    long = {"deploy": "always", "anew": True, "samples": 5000, "sequence": 20, "epochs": 50}
    steps = json.dumps({**small, "sequence": 3, "anew": True, "deploy": "never"})
    shown = "SELECT count(*) FROM persona.activity WHERE task = 'train' AND step = %s"
    for sql, ready in ((f"SELECT * FROM persona.train('products', '{json.dumps({**long, 'sequence': 0})}')", lambda: case.one(shown, "samples")),
                       (f"SELECT * FROM persona.train('products', '{json.dumps(long)}')", lambda: case.one(shown, "sequence")),
                       (f"CALL persona.work('train', 'products', '{steps}')", lambda: case.one("SELECT count(*) FROM persona.tuning"))):
        with case.connect() as connection:
            connection.execute("INSERT INTO events (user_id, product_id, kind, session) VALUES (7777, 1, 'view', 'killed')")
            events = one(connection, "SELECT count(*) FROM events")
        with Background(case, sql) as task:
            until(ready)
            kill_server(case)
            task.join(30)
        case.server.start()
        sound(case)
        with case.connect() as connection:
            assert found(connection, user=1) == before, sql
            assert rankers(connection) == story, sql
            assert one(connection, "SELECT count(*) FROM events") == events
    with case.connect() as connection:
        assert one(connection, "SELECT count(*) FROM persona.tuning") == 1
        connection.execute(f"CALL persona.work('train', 'products', '{steps}')")
        connection.execute(train, (steps,))
        assert one(connection, "SELECT count(*) FROM persona.tuning") == 0
        assert one(connection, "SELECT count(DISTINCT checksum) || ' of ' || count(*) FROM persona.rankers WHERE ranker > %s", story[-1][0]) == "1 of 2"


@outcome(own=True, once=True)
def a_server_killed_in_a_deploy_ranks_by_one_ranker(case: Case) -> None:
    """kill -9 of every process of the server while a deploy is open, right after its commit, and at random moments of a storm of deploys: after each start exactly the ranker of the last commit is deployed, and searches give what it gave before, bit for bit."""
    dice = random.Random(5)
    known = {}
    with case.connect() as connection:
        known[None] = found(connection, user=1)
        for seed in (1, 2):
            connection.execute("SELECT count(*) FROM persona.train('products', %s)", (json.dumps(
                {"samples": 100, "epochs": 1, "sequence": 0, "seed": seed, "anew": True, "deploy": "always"}),))
            known[one(connection, "SELECT ranker FROM persona.rankers WHERE deployed")] = found(connection, user=1)
        first, second = list(known)[1:]
        made = one(connection, "SELECT count(*) FROM persona.rankers")
        assert len({str(rows) for rows in known.values()}) == 3

    def restarted(allowed: set) -> None:
        case.server.start()
        sound(case)
        with case.connect() as connection:
            deployed = [ranker for ranker, in connection.execute("SELECT ranker FROM persona.rankers WHERE deployed")] or [None]
            assert len(deployed) == 1 and deployed[0] in allowed, (deployed, allowed)
            assert found(connection, user=1) == known[deployed[0]]
            assert one(connection, "SELECT count(*) FROM persona.rankers") == made

    for autocommit, last in ((False, second), (True, first)):
        with contextlib.suppress(psycopg.OperationalError), case.connect(autocommit=autocommit) as connection:
            connection.execute("SELECT persona.deploy('products', %s)", (first,))
            kill_server(case)
        restarted({last})
    for _ in range(2):
        told: list = [first, first]

        def storm() -> None:
            with contextlib.suppress(psycopg.Error), case.connect() as connection:
                while True:
                    # the last that was answered, or the one that was under way
                    told[:] = [told[1], second if told[1] == first else first]
                    connection.execute("SELECT persona.deploy('products', %s)", (told[1],))

        with case.connect() as connection:
            connection.execute("SELECT persona.deploy('products', %s)", (first,))
        thread = threading.Thread(target=storm, daemon=True)
        thread.start()
        time.sleep(dice.uniform(0.05, 0.5))  # the moment of the kill is what is random here
        kill_server(case)
        thread.join(30)
        assert not thread.is_alive()
        restarted(set(told))
