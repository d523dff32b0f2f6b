"""What is left of a shopper who is to be forgotten."""

from case import Case, found, one, outcome

SHOPPER = 987654321
QUERY = "zanzibar hammock"


def traces(connection) -> list[tuple[str, int]]:
    """Tables of the database whose rows hold the shopper's id, session or query as text, and how many do."""
    tables = connection.execute("""SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1""").fetchall()
    counts = [(table, one(connection, f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%{SHOPPER}%' OR t::text ILIKE '%zanzibar%'"))
              for table, in tables]
    return [(table, count) for table, count in counts if count]


@outcome
def a_forgotten_shopper_leaves_no_trace(case: Case) -> None:
    """After persona.forget no table holds the shopper's id, session or query, nor do suggestions, spelling and the dump; and a search for that id ranks as for a shopper nobody has ever seen."""
    with case.connect() as connection:
        connection.execute(
            "INSERT INTO events (user_id, product_id, kind, query, session) SELECT %s, id, 'purchase', %s, 'zanzibar-1' FROM products WHERE id %% 30 = 1 LIMIT 6",
            (SHOPPER, QUERY))
        # somebody else's words, so that a proposal of synonyms has two sides
        connection.execute("INSERT INTO events (user_id, product_id, kind, query) SELECT u, id, 'purchase', q FROM products, generate_series(1, 6) u, "
                           "unnest(ARRAY['garden hammock', %s]) q WHERE id %% 30 = 1 AND (u > 1 OR q <> %s) AND q <> %s", (QUERY, QUERY, QUERY))
        connection.execute("SELECT * FROM persona.refresh('products')")
        held = dict(traces(connection))
        assert "events" in held and "products_persona_queries" in held, held
        assert one(connection, "SELECT count(*) FROM persona.suggest('products', 'zanz', user_id => %s::bigint)", SHOPPER) == 1
        assert found(connection, user=SHOPPER) != found(connection, user=SHOPPER + 1)
        told = dict(connection.execute("SELECT relation, rows FROM persona.forget('products', %s)", (str(SHOPPER),)).fetchall())
        assert [rows for relation, rows in told.items() if relation.endswith("events")] == [6], told
        assert traces(connection) == []
        assert one(connection, "SELECT count(*) FROM persona.suggest('products', 'zanz', user_id => %s::bigint)", SHOPPER) == 0
        assert one(connection, "SELECT persona.understand('products', 'zanzibr hammock') ->> 'corrected'") == "zanzibr hammock"
        for query in ("running shoes", QUERY, ""):
            assert found(connection, query, user=SHOPPER) == found(connection, query, user=SHOPPER + 1), query
    server = case.server
    dump = server.run(server.at.bin / "pg_dump", database=case.database, check=True, capture_output=True, text=True).stdout
    assert "running" in dump and str(SHOPPER) not in dump and "zanzibar" not in dump.lower()
