"""A hot standby, and what the planner does with the functions."""


import psycopg
from case import Case, found, one, outcome, sqlstate, standby_of, until

QUERIES = (("running shoes", None), ("running shoes", 1), ("warm and dry", 2), ("", 1), (None, 2))


def everything(connection) -> list:
    return [found(connection, query, user=user) for query, user in QUERIES]


@outcome(own=True)
def a_standby_finds_the_same(case: Case) -> None:
    """A hot standby made by pg_basebackup returns the same results bit for bit and follows the primary; what writes is 25006; promoted, it refreshes."""
    primary = case.server
    with standby_of(case) as standby:
        with case.connect() as writer, psycopg.connect(standby.dsn(), autocommit=True) as reader:
            def caught_up() -> bool:
                """the standby has played all of the primary's log"""
                return one(reader, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", one(writer, "SELECT pg_current_wal_lsn()::text"))

            until(caught_up)
            assert one(reader, "SELECT pg_is_in_recovery()") is True
            before = everything(reader)
            assert before == everything(writer)
            writer.execute("INSERT INTO events (user_id, product_id, kind) SELECT 1, id, 'cart' FROM products WHERE brand = 'Fernway' LIMIT 3")
            writer.execute("UPDATE products SET title = 'Zorbulon lamp' WHERE id = 1")
            writer.execute("SELECT * FROM persona.refresh('products')")
            until(caught_up)
            assert everything(reader) == everything(writer) != before
            assert found(reader, "zorbulon", k=1)[0][0] == 1
            assert reader.execute("SELECT (item).id FROM persona.recommend(NULL::products, user_id => 1, k => 5)").rowcount == 5
            assert one(reader, "SELECT count(persona.score(p, 'shoes', user_id => 1)) FROM products p") == 2016
            for sql in ("SELECT * FROM persona.refresh('products')", "SELECT persona.create_catalog('products', title => 'title')",
                        "SELECT persona.drop_catalog('products')", "SELECT persona.drop_events('products', 'events')",
                        "CALL persona.work('refresh', 'products')"):
                assert sqlstate(reader, sql) == "25006", (sql, sqlstate(reader, sql))
            primary.stop()
            assert one(reader, "SELECT pg_promote()") is True
            reader.execute("UPDATE products SET title = 'Quixel lamp' WHERE id = 2")
            assert one(reader, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 1
            assert found(reader, "quixel", k=1)[0][0] == 2


@outcome
def parallel_plans_find_the_same(case: Case) -> None:
    """With parallel plans forced, embed, score and search return what they return in a serial plan, bit for bit."""
    setting = "debug_parallel_query" if case.server.version >= 16 else "force_parallel_mode"
    statements = (
        "SELECT md5(string_agg(persona.embed(title)::text, ' ' ORDER BY id)) FROM products WHERE id < 200",
        "SELECT md5(string_agg(persona.score(p, 'warm shoes', user_id => 1)::text, ' ' ORDER BY id)) FROM products p",
        "SELECT md5(string_agg((item).id || ' ' || score::text, ' ' ORDER BY position)) FROM persona.search(NULL::products, 'warm shoes', user_id => 1)",
        "SELECT md5(string_agg(id::text, ' ' ORDER BY s DESC, id)) FROM (SELECT id, persona.score(p, 'tent') s FROM products p WHERE price < 100) t",
    )
    with case.connect() as connection:
        serial = [one(connection, sql) for sql in statements]
        connection.execute(f"SET {setting} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
        plan = "\n".join(row[0] for row in connection.execute("EXPLAIN " + statements[0]))
        assert "Gather" in plan, plan
        assert [one(connection, sql) for sql in statements] == serial
