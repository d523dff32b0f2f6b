"""What a DBA does to the tables and the server while a catalog stands on them."""

import signal

import psycopg
from case import Case, found, ids, one, outcome, sqlstate, until

QUERIES = (("running shoes", None), ("running shoes", 1), ("warm and dry", 2), ("", 1))


def everything(connection) -> list:
    """What several searches return, bit for bit."""
    return [found(connection, query, user=user) for query, user in QUERIES]


@outcome(own=True)
def a_restart_changes_no_result(case: Case) -> None:
    """After a restart, and after a crash (SIGQUIT) with uncommitted work, every result is what it was, bit for bit."""
    with case.connect() as connection:
        before = everything(connection)
    case.server.restart()
    with case.connect() as connection:
        assert everything(connection) == before
    half_done = psycopg.connect(case.server.dsn(case.database))
    half_done.execute("UPDATE products SET title = 'Zorbulon' WHERE id < 100")
    case.server.stop(signal.SIGQUIT)
    case.server.start()
    half_done.close()
    with case.connect() as connection:
        assert everything(connection) == before


@outcome
def vacuum_and_reindex_change_no_result(case: Case) -> None:
    """VACUUM FULL, REINDEX and CLUSTER of the companions leave every result as it was."""
    with case.connect() as connection:
        connection.execute("SET hnsw.ef_search = 1000")
        # by the exact scan: a graph built anew may order its near neighbours otherwise
        connection.execute("SET enable_indexscan = off")
        before = everything(connection)
        for table, in connection.execute("SELECT unnest(companions)::text FROM persona.catalogs").fetchall():
            connection.execute(f"VACUUM FULL {table}")
            connection.execute(f"REINDEX TABLE {table}")
            connection.execute(f"VACUUM ANALYZE {table}")
        connection.execute("CLUSTER products_persona USING products_persona_pkey")
        assert everything(connection) == before


@outcome
def the_extension_goes_and_comes_back(case: Case) -> None:
    """DROP EXTENSION is refused while a catalog hangs on it; after drop_catalog it goes, and the shop is as it was before it came."""
    with case.connect() as connection:
        assert sqlstate(connection, "DROP EXTENSION pg_persona") == "2BP01"
        assert len(found(connection)) == 20
        connection.execute("SELECT persona.drop_catalog('products')")
        connection.execute("DROP EXTENSION pg_persona")
        assert one(connection, "SELECT count(*) FROM products") == 2016
        assert one(connection, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'products'::regclass AND NOT tgisinternal") == 0
        assert one(connection, "SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_persona%'") == 0
        connection.execute("UPDATE products SET title = title || '!' WHERE id = 1")
        connection.execute("CREATE EXTENSION pg_persona")
        connection.execute("SELECT persona.create_catalog('products', title => 'title')")
        assert len(found(connection, "shoes")) == 20


@outcome
def a_cascaded_drop_leaves_a_shop_that_can_be_written(case: Case) -> None:
    """After DROP EXTENSION CASCADE the shop's tables take writes, and a new catalog says which tables are left over and how to drop them."""
    with case.connect() as connection:
        connection.execute("DROP EXTENSION pg_persona CASCADE")
        connection.execute("UPDATE products SET title = title || '!' WHERE id = 1")
        connection.execute("DELETE FROM products WHERE id = 2")
        connection.execute("CREATE EXTENSION pg_persona")
        try:
            connection.execute("SELECT persona.create_catalog('products', title => 'title')")
            raise AssertionError("left-over tables were taken for new ones")
        except psycopg.Error as error:
            assert error.sqlstate == "42P07", error.sqlstate
            cure = error.diag.message_hint
        connection.execute(cure[cure.index("DROP TABLE"):].rstrip("."))
        connection.execute("SELECT persona.create_catalog('products', title => 'title')")
        assert len(found(connection, "shoes")) == 20


@outcome
def a_renamed_column_is_said_and_mended(case: Case) -> None:
    """Renaming a column a catalog uses: writes to the items go on, refresh and search are right or one clear error, create_catalog mends it."""
    with case.connect() as connection:
        connection.execute("ALTER TABLE products RENAME title TO name")
        connection.execute("UPDATE products SET price = price + 1 WHERE id = 1")
        connection.execute("INSERT INTO products SELECT 9001, 'Zorbulon lamp', description, brand, category, type, style, color, material, price, released "
                           "FROM products WHERE id = 1")
        assert sqlstate(connection, "SELECT * FROM persona.refresh('products')") in ("42703", None)
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, 'shoes')") in ("42703", None)
        connection.execute("SELECT persona.create_catalog('products', title => 'name', body => '{description}')")
        connection.execute("SELECT * FROM persona.refresh('products')")
        assert ids(found(connection, "zorbulon", k=1)) == [9001]
        connection.execute("ALTER TABLE events RENAME at TO moment")
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, 'shoes', user_id => 1)") == "42703"
        connection.execute("SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'moment', kind => 'kind')")
        assert len(found(connection, "shoes", user=1)) == 20


@outcome
def a_changed_type_is_said_and_mended(case: Case) -> None:
    """Changing the key's type: search is a clear error that names it, the shop's writes go on, create_catalog makes the catalog for the new type."""
    with case.connect() as connection:
        connection.execute("ALTER TABLE events DROP CONSTRAINT events_product_id_fkey")
        connection.execute("ALTER TABLE products ALTER id TYPE text")
        assert sqlstate(connection, "SELECT count(*) FROM persona.search(NULL::products, 'shoes')") == "42804"
        connection.execute("UPDATE products SET title = 'Zorbulon lamp' WHERE id = '1'")
        connection.execute("SELECT persona.create_catalog('products', title => 'title')")
        connection.execute("ALTER TABLE events ALTER product_id TYPE text")
        connection.execute("SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind')")
        connection.execute("SELECT * FROM persona.refresh('products')")
        assert found(connection, "zorbulon", user=1, k=1)[0][0] == "1"


@outcome
def partitions_come_and_go(case: Case) -> None:
    """A partition attached to a catalogued table is found after a refresh at the latest, one detached is gone from the results."""
    with case.connect() as connection:
        connection.execute("""
            CREATE TABLE parts (id int NOT NULL, title text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
            CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
            INSERT INTO parts SELECT i, 'brass hinge ' || i FROM generate_series(1, 20) i;
            SELECT persona.create_catalog('parts', title => 'title');
            SELECT count(*) FROM persona.refresh('parts');
            CREATE TABLE parts_2 (id int NOT NULL PRIMARY KEY, title text);
            INSERT INTO parts_2 SELECT i, 'copper bracket ' || i FROM generate_series(100, 119) i;
            ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (100) TO (200)""")
        connection.execute("SELECT * FROM persona.refresh('parts')")
        assert all(item >= 100 for item in ids(found(connection, "copper bracket", items="parts", k=10)))
        connection.execute("INSERT INTO parts VALUES (150, 'zorbulon clasp')")
        assert ids(found(connection, "zorbulon", items="parts", k=1)) == [150]
        connection.execute("ALTER TABLE parts DETACH PARTITION parts_2")
        rows = ids(found(connection, "copper bracket", items="parts", k=50))
        assert rows and all(item < 100 for item in rows), rows
        connection.execute("SELECT * FROM persona.refresh('parts')")
        assert one(connection, "SELECT count(*) FROM parts_persona") == 20


@outcome
def a_truncated_table_is_empty_at_once(case: Case) -> None:
    """TRUNCATE of the items empties every result at once, in its transaction; ROLLBACK brings them back."""
    with case.connect(autocommit=False) as connection:
        before = found(connection)
        connection.execute("TRUNCATE products CASCADE")
        assert found(connection) == []
        connection.rollback()
        assert found(connection) == before
        connection.execute("TRUNCATE events")
        connection.execute("SELECT * FROM persona.refresh('products')")
        assert found(connection, user=1) == found(connection, user=987654)


@outcome
def a_prepared_statement_follows_role_and_rights(case: Case) -> None:
    """A prepared search, executed past the generic plan and across SET ROLE and a new policy, returns what the same search typed anew does."""
    case.do("CREATE POLICY thirds ON products FOR SELECT TO reader USING (id % 3 = 0); GRANT reader TO postgres")
    with case.connect() as connection:
        connection.prepare_threshold = None  # the driver's own prepared statements are ended by DDL, ours with them
        connection.execute("PREPARE s (text, bigint) AS SELECT (item).id, score FROM persona.search(NULL::products, $1, user_id => $2, k => 30)")
        typed = "SELECT (item).id, score FROM persona.search(NULL::products, 'running shoes', user_id => 1::bigint, k => 30)"

        def agree() -> list:
            prepared = connection.execute("EXECUTE s ('running shoes', 1)").fetchall()
            assert prepared == connection.execute(typed).fetchall()
            return [row[0] for row in prepared]

        plain = agree()
        for _ in range(10):
            assert agree() == plain
        connection.execute("ALTER TABLE products ENABLE ROW LEVEL SECURITY")
        assert agree() == plain  # the owner
        connection.execute("SET ROLE reader")
        assert all(item % 3 == 0 for item in agree())
        connection.execute("RESET ROLE")
        assert agree() == plain


@outcome
def serializable_transactions_work(case: Case) -> None:
    """In SERIALIZABLE transactions search sees its snapshot and its own writes, and a dangerous pair of them ends with 40001, not with a wrong result."""
    with case.connect(autocommit=False) as one_side, case.connect(autocommit=False) as other:
        for connection in (one_side, other):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        before = found(one_side, user=2)
        assert found(other, user=2) == before
        other.execute("INSERT INTO events (user_id, product_id, kind) SELECT 2, id, 'purchase' FROM products WHERE brand = 'Norvik' LIMIT 5")
        assert found(other, user=2) != before
        other.commit()
        assert found(one_side, user=2) == before
        state = sqlstate(one_side, "INSERT INTO events (user_id, product_id, kind) SELECT 2, id, 'purchase' FROM products WHERE brand = 'Tarn' LIMIT 5")
        if state is None:
            try:
                one_side.commit()
            except psycopg.Error as error:
                state = error.sqlstate
        assert state in (None, "40001"), state


@outcome(own=True)
def logical_replication_feeds_a_second_shop(case: Case) -> None:
    """Items that arrive by logical replication get their words at once on the subscriber (the trigger is enabled always), and vectors at its refresh."""
    case.server.restart({"wal_level": "logical"})
    other = f"{case.database}_copy"
    case.server.psql(f'CREATE DATABASE "{other}" TEMPLATE "{case.database}"', database="postgres")
    case.do("CREATE PUBLICATION shop FOR TABLE products, events")
    case.do("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    with case.connect(database=other) as there:
        there.execute("TRUNCATE events")
        there.execute(f"CREATE SUBSCRIPTION shop CONNECTION '{case.server.dsn(case.database)}' PUBLICATION shop "
                      "WITH (create_slot = false, slot_name = 'shop', copy_data = false)")
        case.do("INSERT INTO products SELECT 9001, 'Zorbulon quartz lamp', description, brand, category, type, style, color, material, price, released "
                "FROM products WHERE id = 1; DELETE FROM products WHERE id = 2; "
                "INSERT INTO events (user_id, product_id, kind) VALUES (777, 9001, 'purchase')")
        until(lambda: there.execute("SELECT 1 FROM events WHERE user_id = 777").fetchone())
        assert ids(found(there, "zorbulon", k=1)) == [9001]
        assert one(there, "SELECT count(*) FROM products_persona WHERE key = 2") == 0
        assert one(there, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 1
        there.execute("ALTER SUBSCRIPTION shop DISABLE")
        there.execute("ALTER SUBSCRIPTION shop SET (slot_name = NONE)")
        there.execute("DROP SUBSCRIPTION shop")


@outcome
def a_dropped_table_takes_what_is_its_own(case: Case) -> None:
    """DROP TABLE of the events ends their part: searches for a shopper find what they find for a stranger; DROP TABLE of the items takes companions and catalog along, a search is a clear error, and a table made again by that name can be catalogued."""
    with case.connect() as connection:
        connection.execute("DROP TABLE events")
        assert one(connection, "SELECT count(*) FROM persona.event_source") == 0
        assert found(connection, user=1) == found(connection, user=987654)
        connection.execute("SELECT * FROM persona.refresh('products')")
        connection.execute("CREATE TABLE kept AS SELECT id, title FROM products; ALTER TABLE kept ADD PRIMARY KEY (id)")
        connection.execute("DROP TABLE products")
        assert one(connection, "SELECT count(*) FROM pg_class WHERE relname LIKE 'products\\_persona%'") == 0
        assert one(connection, "SELECT count(*) FROM persona.catalogs") == 0
        assert sqlstate(connection, "SELECT count(*) FROM persona.search('products', 'shoes')") == "42P01"
        connection.execute("ALTER TABLE kept RENAME TO products")
        assert sqlstate(connection, "SELECT count(*) FROM persona.search('products', 'shoes')") == "55000"
        connection.execute("SELECT persona.create_catalog('products', title => 'title')")
        assert len(found(connection, "shoes")) == 20


@outcome(own=True)
def companions_are_replicated_as_tables_are(case: Case) -> None:
    """Logical replication of the companion tables beside items and events, with the subscriber's own trigger disabled: items, words, vectors and statistics arrive, nothing is left to embed there, and the subscriber finds what the publisher finds, bit for bit."""
    case.server.restart({"wal_level": "logical"})
    other = f"{case.database}_copy"
    case.server.psql(f'CREATE DATABASE "{other}" TEMPLATE "{case.database}"', database="postgres")
    tables = case.one("SELECT string_agg(t::text, ', ') FROM (SELECT unnest(companions) FROM persona.catalogs UNION ALL VALUES ('products'::regclass), ('events')) s (t)")
    case.do(f"CREATE PUBLICATION whole FOR TABLE {tables}")
    case.do("SELECT pg_create_logical_replication_slot('whole', 'pgoutput')")
    with case.connect(database=other) as there, case.connect() as here:
        for name, in there.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'products'::regclass AND NOT tgisinternal").fetchall():
            there.execute(f'ALTER TABLE products DISABLE TRIGGER "{name}"')
        there.execute(f"CREATE SUBSCRIPTION whole CONNECTION '{case.server.dsn(case.database)}' PUBLICATION whole "
                      "WITH (create_slot = false, slot_name = 'whole', copy_data = false)")
        here.execute("INSERT INTO products SELECT 9001, 'Zorbulon quartz lamp', description, brand, category, type, style, color, material, price, released "
                     "FROM products WHERE id = 1; DELETE FROM products WHERE id = 2; UPDATE products SET title = title || ' anew' WHERE id = 3; "
                     "INSERT INTO events (user_id, product_id, kind) SELECT 777, id, 'purchase' FROM products ORDER BY id DESC LIMIT 30")
        here.execute("SELECT * FROM persona.refresh('products')")
        here.execute("INSERT INTO events (user_id, product_id, kind, session) VALUES (778, 9001, 'view', 'last')")
        until(lambda: there.execute("SELECT 1 FROM events WHERE session = 'last'").fetchone())
        for connection in (here, there):
            # a graph built elsewhere may order its near neighbours otherwise
            connection.execute("SET enable_indexscan = off")
        assert one(there, "SELECT count(*) FROM products_persona WHERE embedded IS DISTINCT FROM hash") == 0
        for query, user in (*QUERIES, ("zorbulon lamp", 777), ("", 777), ("shoes anew", 778)):
            assert found(there, query, user=user) == found(here, query, user=user), query
        there.execute("ALTER SUBSCRIPTION whole DISABLE")
        there.execute("ALTER SUBSCRIPTION whole SET (slot_name = NONE)")
        there.execute("DROP SUBSCRIPTION whole")
