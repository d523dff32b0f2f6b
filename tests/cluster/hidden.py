"""What row-level security hides shows in nothing: two shops that differ only in it answer the same."""

import json
import random

from case import Case, outcome

COMPLETED = "SELECT array_agg(suggestion || ' ' || score ORDER BY score DESC, suggestion) FROM persona.suggest('products', %s, user_id => 1)"
FOUND = "SELECT array_agg(s::text ORDER BY position) FROM persona.search(NULL::products, %s, user_id => 1, k => 40) s"


def answer(connection, sql: str, *values) -> str:
    """What a statement returns or is refused with, as a text: errors and notices may tell something, too."""
    import psycopg

    told: list = []
    connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
    try:
        rows = connection.execute(sql, values or None).fetchall()
    except psycopg.Error as error:
        rows = [error.sqlstate, str(error), error.diag.message_detail, error.diag.message_hint]
    return json.dumps([rows, told], default=str)


def same(case: Case, here: str, there: str, asked: list[tuple], traces: tuple[str, ...], roles=("reader",)) -> None:
    """Makes a twin of the case's database, does `here` in the one and `there` in the other, and asks both as a reader."""
    twin = f"{case.database}_twin"
    case.server.psql(f'CREATE DATABASE "{twin}" TEMPLATE "{case.database}"', database="postgres")
    try:
        for database, sql in ((case.database, here), (twin, there)):
            with case.connect(database=database) as connection:
                connection.execute(sql)
        for role in roles:
            with case.connect(user=role) as one_side, case.connect(user=role, database=twin) as other:
                for connection in (one_side, other):
                    # a graph built anew may order its near neighbours otherwise
                    connection.execute("SET enable_indexscan = off")
                for statement, *values in asked:
                    mine, theirs = answer(one_side, statement, *values), answer(other, statement, *values)
                    at = next((n for n, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
                    assert mine == theirs, (statement, values, mine[max(0, at - 300):at + 100], theirs[max(0, at - 300):at + 100])
                    for trace in traces:
                        assert trace not in mine.lower() or any(trace in str(value).lower() for value in values), (statement, values, mine)
    finally:
        case.server.psql(f'DROP DATABASE "{twin}" WITH (FORCE)', database="postgres")


def questions(words: list[str], dice: random.Random) -> list[tuple]:
    """Statements of every kind that say something of items, with a query or without."""
    asked: list[tuple] = []
    for word in words:
        asked += [(FOUND, word), (COMPLETED, word), ("SELECT persona.understand('products', %s)", word),
                  ("SELECT array_agg(persona.score(p, %s, user_id => 1) ORDER BY id) FROM products p", word),
                  ("SELECT array_agg(d::text) FROM persona.diff('products', %s) d", word)]
    hidden = [*dice.sample(range(1, 2000, 2), 2), 9001]
    asked += [(f"SELECT array_agg(s::text ORDER BY position) FROM persona.{call} s",) for call in (
        "recommend(NULL::products, user_id => 1, k => 50)", "trending(NULL::products, k => 50)", "similar('products', '1')",
        "bought_together('products', '1')", *(f"similar('products', '{item}')" for item in hidden),
        *(f"bought_together('products', '{item}')" for item in hidden), "similar('products', '1234567')")]
    asked += [(f"SELECT persona.score(ROW({item}, 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 1, '2025-01-01')::products, 'x', user_id => 1)",) for item in (1, *hidden)]
    asked += [("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT (item).id FROM persona.search(NULL::products, 'lamp', filter => '{\"id\": 1}')",),
              ("SELECT count(*) FROM persona.search(NULL::products, '', filter => '{\"id\": {\"in\": [1, 3, 9001]}}')",),
              ("SELECT array_agg(u::text) FROM persona.unanswered u",), ("SELECT array_agg(c::text) FROM persona.catalogs c",),
              ("SELECT array_agg(s) FROM persona.forget('products', '1') s",), ("SELECT count(*) FROM persona.evaluate('products')",)]
    return asked


@outcome(once=True)
def words_of_hidden_items_show_nowhere(case: Case) -> None:
    """Two shops, refreshed, that differ only in the words of three hidden items: search, suggestions, spelling, what a query is understood to mean, scores, diff, neighbours, plans, errors and views are the same to the reader, bit for bit (the mean of all items' vectors, which is shared, being equal), and say none of the words."""
    case.do("ALTER TABLE products ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON products FOR SELECT TO reader, shelf_reader USING (id % 2 = 0)")

    def change(words: str) -> str:
        first, second = words.split()
        # nobody has taken them: what all shoppers share of behaviour has none of their words
        return (f"INSERT INTO products SELECT n, '{first} {second} ' || title, description, '{first}', category, type, style, '{second}', material, price, released "
                "FROM products, unnest(ARRAY[9001, 9003, 9005]) n WHERE id = 1; SELECT persona.refresh('products'); "
                "UPDATE products_persona_stats SET mean = NULL WHERE id = 0")

    words = ["zorbulon", "zorbuln", "zor", "wimplow", "wimplo", "wim", "quandix", "quandx", "brellin", "brelln", "running shoes", "zorbulon lamp",
             "quandix running shoes", "shoes by wimplow", "", "not zorbulon shoes"]
    same(case, change("zorbulon quandix"), change("wimplow brellin"), questions(words, random.Random(8)), ("zorbulon", "wimplow", "quandix", "brellin"))


@outcome(once=True)
def hidden_events_show_nowhere(case: Case) -> None:
    """Two shops that differ only in events hidden from the reader, of the very shopper asked for and of others, by session, by kind and by shopper: what is read of behaviour while asking (history, context, suggestions, queries without an answer) is the same to the reader, bit for bit."""
    dice = random.Random(9)
    policies = {"session": ("session IS DISTINCT FROM 'secret'", "1", "'view'", "'secret'"),
                "kind": ("kind <> 'purchase'", "1", "'purchase'", "'open'"),
                "shopper": ("user_id IS DISTINCT FROM 333", "333", "'cart'", "'open'")}
    for name, (policy, user, kind, session) in policies.items():
        case.do(f"""ALTER TABLE events ENABLE ROW LEVEL SECURITY; DROP POLICY IF EXISTS shown ON events;
            CREATE POLICY shown ON events FOR SELECT TO reader USING ({policy})""")
        items = dice.sample(range(1, 2000), 40)
        there = f"""INSERT INTO events (user_id, product_id, at, kind, query, session)
            SELECT {user}, i, timestamptz '2025-09-30 12:00+00' - i * interval '1 minute', {kind}, 'zorbulon ' || i, {session}
            FROM unnest('{{{','.join(map(str, items))}}}'::int[]) i"""
        asked = questions(["running shoes", "zor", "zorbulon", ""], dice)
        asked += [(sql.replace("user_id => 1", f"user_id => {user}"), *values) for sql, *values in asked if "user_id => 1" in sql]
        asked += [("SELECT array_agg(s::text ORDER BY position) FROM persona.search(NULL::products, 'lamp', user_id => 1, context => '{\"session\": \"secret\"}', options => '{\"exclude_seen\": true}') s",)]
        same(case, "SELECT 1", there, asked, ("zorbulon",))
