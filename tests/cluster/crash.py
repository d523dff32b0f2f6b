"""kill -9 at random moments: Postgres recovers, and finds everything that was committed and nothing that was not."""

import contextlib
import os
import random
import signal
import time

import psycopg
from case import Background, Case, found, one, outcome, until

# make soak says 500
CYCLES = int(os.environ.get("PERSONA_KILL_CYCLES", "30"))


def up(case: Case) -> bool:
    """the server takes connections again"""
    with contextlib.suppress(psycopg.OperationalError), case.connect():
        return True
    return False


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
            postmaster = case.server.pid
            children = [int(pid) for pid in open(f"/proc/{postmaster}/task/{postmaster}/children").read().split()]
            for pid in (postmaster, *children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            task.join(30)
        case.server.process.wait(10)
        # its shared memory must be gone before another may begin
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))
        case.server.start()
        sound(case)
        now = case.one("SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash")
        assert now <= left - 64, (now, left)
    assert case.one("SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == now
