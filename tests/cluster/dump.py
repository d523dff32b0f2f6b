"""Dump and restore, and databases beside each other."""

from case import Case, found, one, outcome

QUERIES = (("running shoes", None), ("running shoes", 1), ("running shoes", 2), ("warm and dry", 17), ("", 1), (None, 2))


def everything(connection) -> list:
    return [found(connection, query, user=user, k=50) for query, user in QUERIES]


def restore(case: Case, name: str, custom: bool) -> None:
    """Dumps the case's database and restores it under another name."""
    server = case.server
    file = server.folder / f"{name}.dump"
    server.run(server.at.bin / "pg_dump", "-Fc" if custom else "-Fp", "-f", file, database=case.database, check=True)
    server.psql(f'CREATE DATABASE "{name}" TEMPLATE template0', database="postgres")
    if custom:
        server.run(server.at.bin / "pg_restore", "--exit-on-error", "-d", name, file, check=True)
    else:
        done = server.psql_file(file, database=name, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    file.unlink()


def same_after_restore(case: Case, custom: bool) -> None:
    name = f"{case.database}_again"
    with case.connect() as connection:
        connection.execute("INSERT INTO events (user_id, product_id, kind) SELECT 2, id, 'cart' FROM products WHERE brand = 'Fernway' LIMIT 3")
        before = everything(connection)
    try:
        restore(case, name, custom)
        with case.connect(database=name) as connection:
            assert everything(connection) == before
            # and it lives on: nothing to embed, the trigger works, the drop guard too
            assert one(connection, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 0
            connection.execute("UPDATE products SET title = 'Zorbulon lamp' WHERE id = 1")
            assert found(connection, "zorbulon", k=1)[0][0] == 1
            assert one(connection, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 1
            connection.execute("DROP TABLE events, products")
            assert one(connection, "SELECT count(*) FROM pg_class WHERE relname LIKE 'products\\_persona%'") == 0
            assert one(connection, "SELECT count(*) FROM persona.catalogs") == 0
    finally:
        case.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")


@outcome
def a_custom_dump_restores_the_same_results(case: Case) -> None:
    """pg_dump -Fc and pg_restore into another database: the same results bit for bit, nothing to embed again, and it lives on."""
    same_after_restore(case, custom=True)


@outcome
def a_plain_dump_restores_the_same_results(case: Case) -> None:
    """A plain pg_dump played back by psql gives the same results bit for bit, and it lives on."""
    same_after_restore(case, custom=False)


@outcome
def two_databases_do_not_mix(case: Case) -> None:
    """Two databases with catalogs of the same names: each finds its own rows, and dropping the extension in one leaves the other."""
    other = f"{case.database}_other"
    case.server.psql(f'CREATE DATABASE "{other}" TEMPLATE "{case.database}"', database="postgres")
    try:
        with case.connect() as here, case.connect(database=other) as there:
            before = found(here, user=1)
            assert found(there, user=1) == before
            there.execute("UPDATE products SET title = 'Zorbulon lamp' WHERE id = 1")
            assert found(there, "zorbulon", k=1)[0][0] == 1
            assert found(here, "zorbulon", k=1)[0][3] != "lexical"
            there.execute("DROP EXTENSION pg_persona CASCADE")
            assert found(here, user=1) == before
            assert one(there, "SELECT count(*) FROM products") == 2016
    finally:
        case.server.psql(f'DROP DATABASE "{other}" WITH (FORCE)', database="postgres")


@outcome
def schema_and_data_apart_restore_the_same_results(case: Case) -> None:
    """A dump of the schema alone, and then one of the data alone restored with --disable-triggers, give the same results bit for bit, with nothing to embed, and it lives on."""
    name, server = f"{case.database}_parts", case.server
    with case.connect() as connection:
        before = everything(connection)
    server.psql(f'CREATE DATABASE "{name}" TEMPLATE template0', database="postgres")
    try:
        for part, more in (("--schema-only", ()), ("--data-only", ("--disable-triggers",))):
            file = server.folder / f"{name}.dump"
            server.run(server.at.bin / "pg_dump", "-Fc", part, "-f", file, database=case.database, check=True)
            server.run(server.at.bin / "pg_restore", "--exit-on-error", part, *more, "-d", name, file, check=True)
            file.unlink()
        with case.connect(database=name) as connection:
            assert everything(connection) == before
            assert one(connection, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 0
            connection.execute("UPDATE products SET title = 'Zorbulon lamp' WHERE id = 1")
            assert found(connection, "zorbulon", k=1)[0][0] == 1
    finally:
        server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")


@outcome(once=True)
def the_restored_graph_finds_what_the_exact_scan_finds(case: Case) -> None:
    """In a restored database, whose HNSW index was built anew, the dense source finds at least 98 % of the ten rows nearest to each of 100 titles, compared with the exact scan; and the exact scan finds what it found before the dump, bit for bit."""
    name = f"{case.database}_graph"
    asked = """SELECT q.id, array(SELECT (s.item).id FROM persona.search(NULL::products, q.title || ' ' || q.color, k => 10,
        options => '{"sources": ["dense"], "weights": {"popularity": 0}}') s ORDER BY s.position) FROM products q WHERE q.id % 20 = 0 ORDER BY q.id"""
    exact = "SET enable_indexscan = off; SET enable_bitmapscan = off"
    with case.connect() as connection:
        connection.execute(exact)
        before = connection.execute(asked).fetchall()
    restore(case, name, custom=True)
    try:
        with case.connect(database=name) as connection:
            plan = "\n".join(row[0] for row in connection.execute(
                "EXPLAIN SELECT key FROM products_persona ORDER BY embedding <=> (SELECT embedding FROM products_persona WHERE key = 1) LIMIT 10"))
            by_graph = connection.execute(asked).fetchall()
            connection.execute(exact)
            assert connection.execute(asked).fetchall() == before
        hits = sum(len(set(graph[1]) & set(scan[1])) for graph, scan in zip(by_graph, before))
        recall = hits / sum(len(scan[1]) for scan in before)
        print(f"      recall@10 of the graph built anew: {recall:.4f}")
        assert len(before) >= 100 and recall >= 0.98, recall
        assert "embedding_idx" in plan, plan
    finally:
        case.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")
