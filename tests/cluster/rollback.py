"""What is rolled back has never been: not in a cache either. And what is deployed meanwhile is seen whole or not at all."""

import json
import threading
import time

import psycopg
from case import Case, found, one, outcome, sqlstate

SMALL = '{"samples": 100, "epochs": 1, "sequence": 0, "anew": true, "seed": %d, "deploy": "%s"}'
LESSONS = "CREATE TABLE lessons AS SELECT title, category, brand FROM products WHERE id <= 100"
ASKED = "SELECT array_agg(c::text) FROM persona.classify('rain jacket', '%s') c"


def train(connection, deploy: str, seed: int = 1) -> None:
    connection.execute("SELECT count(*) FROM persona.train('products', %s)", (SMALL % (seed, deploy),))


def tune(name: str, label: str) -> str:
    """A small classifier of the lessons' titles."""
    options = {"name": name, "text": "title", "label": label, "method": "head", "epochs": 1, "patience": 0, "adopt": "always"}
    return f"SELECT count(*) FROM persona.fine_tune('classify', 'lessons', '{json.dumps(options)}')"


def everything(connection) -> list:
    """What the session finds, completes and understands, bit for bit."""
    asked = ("SELECT array_agg(r::text ORDER BY position) FROM persona.recommend(NULL::products, user_id => 1) r",
             "SELECT array_agg(s::text) FROM persona.suggest('products', 'runn') s", "SELECT persona.understand('products', 'red runing shoes')::text",
             "SELECT array_agg(c::text) FROM persona.catalogs c", "SELECT array_agg(r::text) FROM persona.rankers r",
             "SELECT array_agg(a::text) FROM persona.adapters a", "SELECT array_agg(m::text ORDER BY m::text) FROM (SELECT model, error FROM persona.models) m")
    return [found(connection), found(connection, user=1), found(connection, "", user=2), *(one(connection, sql) for sql in asked)]


@outcome(once=True)
def what_is_rolled_back_leaves_no_cache(case: Case) -> None:
    """create_catalog (altered, and made anew), add_events, drop_events, drop_catalog, train, deploy, fine_tune, drop_adapter, refresh and a DROP TABLE of the items, each rolled back, to a savepoint and as a transaction: meanwhile the session sees what it did, afterwards it finds, completes and understands what it did before, bit for bit, and so does another."""
    create = "SELECT persona.create_catalog('products', title => 'title'); SELECT persona.refresh('products')"
    with case.connect() as connection, case.connect() as other:
        connection.execute("DELETE FROM products WHERE id > 300; SELECT persona.refresh('products')")
        connection.execute(LESSONS)
        train(connection, "never")
        connection.execute(tune("steady", "category"))
        ranker = one(connection, "SELECT max(ranker) FROM persona.rankers")
        labelled = one(connection, ASKED % "steady")
        before = everything(connection)
        assert everything(other) == before
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
            "train": f"SELECT count(*) FROM persona.train('products', '{SMALL % (2, 'always')}')",
            "deploy": f"SELECT persona.deploy('products', {ranker})",
            "fine_tune": tune("brief", "category"),
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
                    assert sqlstate(connection, ASKED % "steady") == "42704"
                    connection.execute("ROLLBACK TO asked")
                elif name == "fine_tune":
                    assert one(connection, ASKED % "brief")
                else:
                    assert everything(connection) != before, name
                connection.execute("ROLLBACK TO here" if savepoint else "ROLLBACK")
                assert everything(connection) == before, (name, savepoint)
                if savepoint:
                    connection.execute("ROLLBACK")
                assert one(connection, ASKED % "steady") == labelled, name
                assert sqlstate(connection, ASKED % "brief") == "42704", name
        assert everything(other) == before
        # a name that was rolled back is another adapter's now
        connection.execute(tune("brief", "brand"))
        brands = {brand for brand, in connection.execute("SELECT brand FROM lessons")}
        assert {label for label, in connection.execute("SELECT label FROM persona.classify('rain jacket', 'brief')")} <= brands


@outcome(once=True)
def each_search_sees_one_ranker(case: Case) -> None:
    """Deploys, refreshes, changed items and new events side by side with searches: each search is bit for bit that by the ranker which its own snapshot says is deployed, whichever that is."""
    with case.connect() as connection:
        rankers: list = [None]
        for seed in (1, 2):
            train(connection, "never", seed)
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
        query, user = (("running shoes", 1), ("warm and dry", 2), ("", 1))[turn % 3]
        ranker, same = connection.execute(agree, {"query": query, "user": user}).fetchone()
        seen.add(ranker)
        if not same:
            wrong.append((query, user, ranker))

    threads = [loop(step) for step in (deploy, refresh, search, search, search)]
    deadline = time.monotonic() + 5
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
        train(connection, "always")
        trained = agree()
        assert trained != fixed
        with case.connect() as other:
            other.execute("SELECT persona.deploy('products', NULL)")
        assert agree() == fixed


@outcome(once=True)
def altered_weights_are_refused(case: Case) -> None:
    """A byte of a deployed ranker's weights or of an adapter's that somebody changed in its table: search and classify are XX001 with the cure as hint in every session that reads them, and work again when that is taken."""
    with case.connect() as connection:
        train(connection, "always")
        connection.execute(LESSONS)
        connection.execute(tune("steady", "category"))
        assert len(found(connection, user=1)) == 20
        connection.execute(ASKED % "steady")
        for table in ("ranker", "adapter"):
            connection.execute(f"UPDATE persona.{table} SET weights = set_byte(weights, length(weights) / 2, get_byte(weights, length(weights) / 2) # 1)")
        with case.connect() as fresh:
            for sql, hint in (("SELECT count(*) FROM persona.search(NULL::products, 'running shoes', user_id => 1)", "persona.deploy"),
                              (ASKED % "steady", "fine-tune again")):
                try:
                    fresh.execute(sql)
                    raise AssertionError(f"no error: {sql}")
                except psycopg.Error as error:
                    assert error.sqlstate == "XX001" and hint in error.diag.message_hint, (sql, error)
                # this session has read them before, and goes on with what it has checked
                assert sqlstate(connection, sql) in (None, "XX001")
        connection.execute("SELECT persona.deploy('products', NULL); SELECT persona.drop_adapter('steady')")
        assert len(found(connection, user=1)) == 20
