"""What is rolled back has never been: not in a cache either. And what is deployed meanwhile is seen whole or not at all."""

import json
import threading
import time

import psycopg
from case import Case, found, one, outcome, sqlstate

TUNING = {"layers": 1, "rank": 4, "epochs": 1, "rows": 64, "batch": 32, "adopt": "always"}


def everything(connection) -> list:
    """What the session finds, completes and understands, bit for bit."""
    asked = ("SELECT array_agg(r::text ORDER BY position) FROM persona.recommend(NULL::products, user_id => 1) r",
             "SELECT array_agg(s::text) FROM persona.suggest('products', 'runn') s", "SELECT persona.understand('products', 'red runing shoes')::text",
             "SELECT array_agg(c::text) FROM persona.catalogs c", "SELECT array_agg(r::text) FROM persona.rankers r",
             "SELECT array_agg(a::text) FROM persona.adapters a", "SELECT array_agg(m.bundle ORDER BY m.bundle) FROM persona.models m")
    return [found(connection), found(connection, user=1), found(connection, "", user=2), *(one(connection, sql) for sql in asked)]


@outcome
def what_is_rolled_back_leaves_no_cache(case: Case) -> None:
    """create_catalog (altered, and made anew), add_events, drop_events, drop_catalog, train, deploy, fine_tune, drop_adapter, refresh and a DROP TABLE of the items, each rolled back, to a savepoint and as a transaction: meanwhile the session sees what it did, afterwards it finds, completes and understands what it did before, bit for bit, and so does another."""
    tune = f"SELECT count(*) FROM persona.fine_tune('embed', 'products', '{json.dumps({'name': 'steady', **TUNING})}')"
    create = "SELECT persona.create_catalog('products', title => 'title'); SELECT persona.refresh('products')"
    train = "SELECT count(*) FROM persona.train('products', '{\"samples\": 300, \"epochs\": 2, \"sequence\": 1, \"anew\": true, \"deploy\": \"%s\"}')"
    with case.connect() as connection, case.connect() as other:
        connection.execute(train % "never")
        connection.execute(tune)
        ranker = one(connection, "SELECT max(ranker) FROM persona.rankers")
        embedded = one(connection, "SELECT persona.embed('rain', model => 'steady')::text")
        before = everything(connection)
        assert everything(other) == before
        other_tune = tune.replace("steady", "brief")
        steps = {
            "alter": create,
            "anew": "SELECT persona.drop_catalog('products'); " + create,
            "add_events": "CREATE TABLE more AS SELECT * FROM events LIMIT 9; CREATE INDEX ON more (user_id, at); "
                          "SELECT persona.add_events('products', 'more', user_id => 'user_id', item_id => 'product_id', at => 'at')",
            "drop_events": "SELECT persona.drop_events('products', 'events')",
            "drop_catalog": "SELECT persona.drop_catalog('products')",
            "drop_table": "DROP TABLE products CASCADE",
            "refresh": "UPDATE products SET title = 'Zorbulon lamp ' || id WHERE id < 60; INSERT INTO events (user_id, product_id, kind) SELECT 1, id, 'purchase' FROM products LIMIT 9; "
                       "SELECT persona.refresh('products')",
            "train": train % "always",
            "deploy": f"SELECT persona.deploy('products', {ranker})",
            "fine_tune": other_tune,
            "drop_adapter": "SELECT persona.drop_adapter('steady')",
        }
        gone = ("drop_catalog", "drop_table")
        for savepoint in (True, False):
            for name, sql in steps.items():
                connection.execute("BEGIN; SAVEPOINT here" if savepoint else "BEGIN")
                connection.execute(sql)
                if name in gone:
                    connection.execute("SAVEPOINT asked")
                    assert sqlstate(connection, "SELECT count(*) FROM persona.search('products', 'shoes')") in ("55000", "42P01"), name
                    connection.execute("ROLLBACK TO asked")
                elif name == "drop_adapter":
                    connection.execute("SAVEPOINT asked")
                    assert sqlstate(connection, "SELECT persona.embed('rain', model => 'steady')") == "42704"
                    connection.execute("ROLLBACK TO asked")
                elif name == "fine_tune":
                    assert one(connection, "SELECT persona.embed('rain', model => 'brief')::text") != embedded
                else:
                    assert everything(connection) != before, name
                connection.execute("ROLLBACK TO here" if savepoint else "ROLLBACK")
                assert everything(connection) == before, (name, savepoint)
                if savepoint:
                    connection.execute("ROLLBACK")
                assert one(connection, "SELECT persona.embed('rain', model => 'steady')::text") == embedded, name
                assert sqlstate(connection, "SELECT persona.embed('rain', model => 'brief')") == "42704", name
        assert everything(other) == before
        # a name that was rolled back is another adapter's now
        connection.execute(other_tune.replace('"rank": 4', '"rank": 8'))
        mine = one(connection, "SELECT persona.embed('rain', model => 'brief')::text")
        with case.connect() as fresh:
            assert one(fresh, "SELECT persona.embed('rain', model => 'brief')::text") == mine


@outcome
def each_search_sees_one_ranker(case: Case) -> None:
    """Deploys, refreshes, changed items and new events side by side with searches: each search is bit for bit that by the ranker which its own snapshot says is deployed, whichever that is."""
    with case.connect() as connection:
        rankers: list = [None]
        for seed in (1, 2):
            connection.execute("SELECT count(*) FROM persona.train('products', %s)", (json.dumps(
                {"samples": 300, "epochs": 2, "sequence": 1, "seed": seed, "anew": True, "deploy": "never"}),))
            rankers.append(one(connection, "SELECT max(ranker) FROM persona.rankers"))
    agree = """WITH d AS (SELECT COALESCE(max(ranker), 0) AS ranker FROM persona.rankers WHERE items = 'products'::regclass AND deployed),
        a AS (SELECT string_agg((item).id || encode(float4send(score), 'hex') || parts::text, ',' ORDER BY position) AS rows
            FROM persona.search(NULL::products, %(query)s, user_id => %(user)s::bigint)),
        b AS (SELECT string_agg((item).id || encode(float4send(score), 'hex') || parts::text, ',' ORDER BY position) AS rows
            FROM d, LATERAL persona.search(NULL::products, %(query)s, user_id => %(user)s::bigint, options => jsonb_build_object('ranker', d.ranker)))
        SELECT d.ranker, a.rows = b.rows FROM d, a, b"""
    over, wrong, seen, failures = threading.Event(), [], set(), []

    def loop(step) -> threading.Thread:
        def run() -> None:
            try:
                with case.connect() as connection:
                    # a graph that grows between two looks may show other near neighbours
                    connection.execute("SET enable_indexscan = off")
                    turn = 0
                    while not over.is_set():
                        step(connection, turn)
                        turn += 1
            except psycopg.Error as failure:
                failures.append(repr(failure))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def deploy(connection, turn: int) -> None:
        connection.execute("SELECT persona.deploy('products', %s)", (rankers[turn % 3],))

    def refresh(connection, turn: int) -> None:
        connection.execute("UPDATE products SET title = split_part(title, ' #', 1) || ' #' || %s WHERE id %% 100 = %s", (turn, turn % 100))
        connection.execute("INSERT INTO events (user_id, product_id, kind) VALUES (1, %s, 'view')", (1 + turn,))
        if turn % 2:
            connection.execute("SELECT count(*) FROM persona.refresh('products')")
        else:
            connection.execute("CALL persona.work('refresh', 'products', '{\"batch\": 16}')")

    def search(connection, turn: int) -> None:
        query, user = (("running shoes", 1), ("warm and dry", 2), ("", 1), ("running shoes", None))[turn % 4]
        ranker, same = connection.execute(agree, {"query": query, "user": user}).fetchone()
        seen.add(ranker)
        if not same:
            wrong.append((query, user, ranker))

    threads = [loop(step) for step in (deploy, refresh, search, search, search)]
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline and not failures:
        time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join(60)
    assert not failures, failures
    assert not wrong, wrong[:5]
    assert len(seen) == 3, seen


@outcome
def a_prepared_search_follows_the_ranker(case: Case) -> None:
    """A prepared search, past ten executions and its generic plan, ranks by a ranker from its deploy on and by the fixed weights from the way back on, as the same search typed anew does."""
    with case.connect() as connection:
        connection.prepare_threshold = None
        connection.execute("PREPARE s (text, bigint) AS SELECT (item).id, score FROM persona.search(NULL::products, $1, user_id => $2)")
        typed = "SELECT (item).id, score FROM persona.search(NULL::products, 'running shoes', user_id => 1::bigint)"

        def agree() -> list:
            prepared = connection.execute("EXECUTE s ('running shoes', 1)").fetchall()
            assert prepared == connection.execute(typed).fetchall()
            return prepared

        fixed = agree()
        for _ in range(10):
            assert agree() == fixed
        connection.execute("SELECT count(*) FROM persona.train('products', '{\"samples\": 300, \"epochs\": 2, \"sequence\": 1, \"deploy\": \"always\"}')")
        trained = agree()
        assert trained != fixed
        with case.connect() as other:
            other.execute("SELECT persona.deploy('products', NULL)")
        assert agree() == fixed


@outcome
def altered_weights_are_refused(case: Case) -> None:
    """A byte of a deployed ranker's weights or of an adapter's that somebody changed in its table: search and embed are XX001 with the cure as hint, in every session, and work again when that is taken."""
    with case.connect() as connection:
        connection.execute("SELECT count(*) FROM persona.train('products', '{\"samples\": 300, \"epochs\": 2, \"sequence\": 1, \"deploy\": \"always\"}')")
        connection.execute("SELECT count(*) FROM persona.fine_tune('embed', 'products', %s)", (json.dumps({"name": "steady", **TUNING}),))
        assert len(found(connection, user=1)) == 20
        connection.execute("SELECT persona.embed('rain', model => 'steady')")
        for table in ("ranker", "adapter"):
            connection.execute(f"UPDATE persona.{table} SET weights = set_byte(weights, length(weights) / 2, get_byte(weights, length(weights) / 2) # 1)")
        with case.connect() as fresh:
            for session in (connection, fresh):
                for sql, hint in (("SELECT count(*) FROM persona.search(NULL::products, 'running shoes', user_id => 1)", "persona.deploy"),
                                  ("SELECT persona.embed('rain', model => 'steady')", "fine-tune again")):
                    try:
                        session.execute(sql)
                        raise AssertionError(f"no error: {sql}")
                    except psycopg.Error as error:
                        assert error.sqlstate == "XX001" and hint in error.diag.message_hint, (sql, error)
        connection.execute("SELECT persona.deploy('products', NULL); SELECT persona.drop_adapter('steady')")
        assert len(found(connection, user=1)) == 20
