"""Every function under every kind of role, and what a hidden row may not change."""

import random

from case import Case, found, one, outcome, sqlstate

# Who may call what: `anybody`; who reads the `items`; who reads the items and the `events`; the items' `owner`.
# A function of the extension that is not here fails the test: it is to be decided who may call it.
CALLS = {
    "embed": ("anybody", "SELECT persona.embed('rain')"),
    "rerank": ("anybody", "SELECT persona.rerank('rain', ARRAY['coat'])"),
    "search": ("items", "SELECT count(*) FROM persona.search(NULL::products, 'rain')"),
    "search ": ("items", "SELECT count(*) FROM persona.search('products', 'rain')"),
    "search  ": ("events", "SELECT count(*) FROM persona.search(NULL::products, 'rain', user_id => 1)"),
    "recommend": ("events", "SELECT count(*) FROM persona.recommend(NULL::products, user_id => 1)"),
    "score": ("events", "SELECT persona.score(p, 'rain', user_id => 1) FROM products p LIMIT 1"),
    "similar": ("items", "SELECT count(*) FROM persona.similar('products', '1')"),
    "bought_together": ("items", "SELECT count(*) FROM persona.bought_together('products', '1')"),
    "trending": ("items", "SELECT count(*) FROM persona.trending('products')"),
    "diff": ("items", "SELECT count(*) FROM persona.diff('products', 'rain')"),
    "understand": ("items", "SELECT persona.understand('products', 'rain coat')"),
    "suggest": ("items", "SELECT count(*) FROM persona.suggest('products', 'ra')"),
    "train": ("owner", "SELECT count(*) FROM persona.train('products', '{\"samples\": 100, \"epochs\": 1, \"sequence\": 0}')"),
    "deploy": ("owner", "SELECT persona.deploy('products', NULL)"),
    "forget": ("owner", "SELECT count(*) FROM persona.forget('products', 'nobody')"),
    "propensity": ("anybody", "SELECT persona.propensity('explored p=0.5')"),
    "interleave": ("anybody", "SELECT count(*) FROM persona.interleave(ARRAY[1, 2], ARRAY[2, 1])"),
    "interleave_credit": ("anybody", "SELECT persona.interleave_credit(ARRAY['a'])"),
    "interleave_result": ("anybody", "SELECT count(*) FROM persona.interleave_result(ARRAY[1, -1])"),
    "classify": ("anybody", "SELECT count(*) FROM persona.classify('rain', 'nobody-made-it')"),
    "tag": ("anybody", "SELECT count(*) FROM persona.tag('rain', 'nobody-made-it')"),
    "report": ("anybody", "SELECT count(*) FROM persona.report('nobody-made-it')"),
    "drop_adapter": ("anybody", "SELECT persona.drop_adapter('nobody-made-it')"),
    "export_adapter": ("anybody", "SELECT count(*) FROM persona.export_adapter('nobody-made-it')"),
    "label_next": ("anybody", "SELECT count(*) FROM persona.label_next('nobody-made-it', 'products', 'title')"),
    "fine_tune": ("items", "SELECT count(*) FROM persona.fine_tune('classify', 'lessons', '{\"name\": \"x\", \"text\": \"content\", \"label\": \"label\"}')"),
    "evaluate": ("owner", "SELECT count(*) FROM persona.evaluate('products', '{\"shoppers\": 5}')"),
    "create_catalog": ("owner", "SELECT persona.create_catalog('products', title => 'title')"),
    "add_events": ("owner", "SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at')"),
    "drop_events": ("owner", "SELECT persona.drop_events('products', 'events')"),
    "refresh": ("owner", "SELECT count(*) FROM persona.refresh('products')"),
    "work": ("owner", "CALL persona.work('refresh', 'products')"),
    "drop_catalog": ("owner", "SELECT persona.drop_catalog('products')"),
}
ALLOWED = {
    "anybody": {"merchant", "reader", "shelf_reader", "stranger"},
    "items": {"merchant", "reader", "shelf_reader"},
    "events": {"merchant", "reader"},
    "owner": {"merchant"},
}


def settled(case: Case) -> None:
    """The shop belongs to a merchant who is no superuser."""
    case.do("""DROP ROLE IF EXISTS merchant; DROP ROLE IF EXISTS stranger; CREATE ROLE merchant LOGIN; CREATE ROLE stranger LOGIN;
        CREATE TABLE lessons (content text, label text); GRANT SELECT ON lessons TO merchant, reader, shelf_reader;
        GRANT CREATE, USAGE ON SCHEMA public TO merchant; ALTER TABLE products OWNER TO merchant; ALTER TABLE events OWNER TO merchant""")


@outcome(own=True)
def every_function_asks_who_calls(case: Case) -> None:
    """Owner, reader of items and events, reader of items, stranger: each function works for those who may, and is 42501 for the others; no function is missing here."""
    settled(case)
    with case.connect() as connection:
        there = {name for name, in connection.execute(
            "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'persona'::regnamespace AND proname NOT LIKE '\\_%'")}
        assert there == {name.strip() for name in CALLS}, there ^ {name.strip() for name in CALLS}
    for role in ("stranger", "shelf_reader", "reader", "merchant"):
        for who, sql in CALLS.values():
            with case.connect(user=role) as connection:
                state = sqlstate(connection, sql)
            if role in ALLOWED[who]:
                assert state != "42501", (role, sql, state)
            else:
                assert state == "42501", (role, sql, state)


@outcome(own=True)
def the_internal_functions_ask_too(case: Case) -> None:
    """A role with no right that calls the internal functions behind the managing ones gets 42501 from each, and the catalog is as it was."""
    settled(case)
    before = case.one("SELECT to_jsonb(c)::text FROM persona.catalogs c WHERE items = 'products'::regclass")
    with case.connect(user="stranger") as connection:
        items, events = (one(connection, f"SELECT '{table}'::regclass::oid") for table in ("products", "events"))
        for sql in (f"SELECT persona._create_catalog({items}, '{{\"title\": \"title\", \"options\": {{}}}}')",
                    f"SELECT persona._drop_catalog({items})", f"SELECT persona._refresh({items}, '{{}}')",
                    f"SELECT persona._work('refresh', {items}, '{{}}', 0)", f"SELECT persona._drop_events({items}, {events})",
                    f"SELECT count(*) FROM persona._search({items}, 'rain', NULL, '{{}}', '{{}}', 3, '{{}}')"):
            assert sqlstate(connection, sql) == "42501", sql
    assert case.one("SELECT to_jsonb(c)::text FROM persona.catalogs c WHERE items = 'products'::regclass") == before


@outcome(own=True)
def a_hidden_row_changes_nothing_that_is_seen(case: Case) -> None:
    """Two shops that differ only in the words of rows hidden from the reader: whatever the reader asks, both answer the same, bit for bit (what counts over all rows, popularity and lengths, being equal)."""
    twin = f"{case.database}_twin"
    case.do("""ALTER TABLE products ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON products FOR SELECT TO reader USING (id % 2 = 0);
        DROP INDEX IF EXISTS products_persona_embedding_idx""")
    case.server.psql(f'CREATE DATABASE "{twin}" TEMPLATE "{case.database}"', database="postgres")
    dice = random.Random(4)
    # the hidden titles trade their words for made-up ones of the same number, and three of them say what the reader asks
    with case.connect(database=twin) as connection:
        connection.execute("UPDATE products SET title = regexp_replace(title, '\\w+', 'zq' || id, '') WHERE id % 2 = 1")
        connection.execute("UPDATE products SET title = 'zorbulon quartz ' || title WHERE id IN (1, 3, 5)")
    queries = ["running shoes", "zorbulon", "zorbulon quartz lamp", "warm and dry", "zq7", ""]
    queries += [f"zq{dice.randrange(1, 2000, 2)} jacket" for _ in range(4)]
    with case.connect(user="reader") as here, case.connect(user="reader", database=twin) as there:
        for connection in (here, there):
            connection.execute("SET enable_indexscan = off")
        for query in queries:
            rows = found(here, query, k=40)
            assert rows == found(there, query, k=40), query
            assert all(row[0] % 2 == 0 for row in rows)
            for connection in (here, there):
                plan = "\n".join(row[0] for row in connection.execute(
                    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT (item).id FROM persona.search(NULL::products, %s)", (query,)))
                assert "zorbulon quartz lamp" not in plan.replace(query, "")
            # a forged row of a hidden key has no score
            forged = "SELECT persona.score(ROW(1, 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 1, '2025-01-01')::products, %s)"
            assert one(here, forged, query) == one(there, forged, query)
    case.server.psql(f'DROP DATABASE "{twin}" WITH (FORCE)', database="postgres")
