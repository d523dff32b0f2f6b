"""One snapshot: what is written is seen at once by the writer, by nobody else before the commit, by nobody after a rollback."""

from case import Case, found, ids, outcome

CART = """INSERT INTO events (user_id, product_id, at, kind, session)
    SELECT 2, id, timestamptz '2025-09-30 12:00+00', 'cart', 'tonight' FROM products
    WHERE brand = 'Fernway' AND type = 'running shoes' ORDER BY id LIMIT 3"""
FERNWAY = "SELECT id FROM products WHERE brand = 'Fernway' AND type = 'running shoes'"


def fernway_places(connection, rows: list[tuple]) -> list[int]:
    wanted = {row[0] for row in connection.execute(FERNWAY)}
    return [place for place, item in enumerate(ids(rows), 1) if item in wanted]


@outcome
def an_event_in_an_open_transaction_moves_results(case: Case) -> None:
    """An event inserted in an open transaction moves like items up in its next search; after ROLLBACK all is as before, bit for bit."""
    with case.connect(autocommit=False) as connection:
        before = found(connection, user=2, k=100)
        connection.commit()
        connection.execute(CART)
        during = found(connection, user=2, k=100)
        connection.rollback()
        after = found(connection, user=2, k=100)
        up, down = fernway_places(connection, during), fernway_places(connection, before)
        assert sum(place <= 10 for place in up) > sum(place <= 10 for place in down), (down, up)
        assert after == before


@outcome
def other_sessions_see_it_after_the_commit(case: Case) -> None:
    """Another session's search is untouched by an uncommitted event, and as moved as the writer's after COMMIT."""
    with case.connect(autocommit=False) as writer, case.connect() as other:
        before = found(other, user=2)
        writer.execute(CART)
        mine = found(writer, user=2)
        assert mine != before
        assert found(other, user=2) == before
        writer.commit()
        assert found(other, user=2) == mine


@outcome
def a_savepoint_rolls_back_too(case: Case) -> None:
    """ROLLBACK TO a savepoint unlearns what came after it and keeps what came before."""
    with case.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO events (user_id, product_id, at, kind) VALUES (2, 1, '2025-09-30 11:00+00', 'view')")
        kept = found(connection, user=2)
        connection.execute("SAVEPOINT here")
        connection.execute(CART)
        assert found(connection, user=2) != kept
        connection.execute("ROLLBACK TO here")
        assert found(connection, user=2) == kept


@outcome
def a_new_item_is_found_by_its_words_at_once(case: Case) -> None:
    """An item inserted in an open transaction is found there by its words, nowhere else until COMMIT, and gone when deleted."""
    row = """INSERT INTO products SELECT 9001, 'Zorbulon quartz snowshoes', 'For deep powder.', brand, category, type, style, color,
        material, price, released FROM products WHERE id = 1"""
    with case.connect(autocommit=False) as writer, case.connect() as other:
        writer.execute(row)
        assert ids(found(writer, "zorbulon", k=1)) == [9001]
        assert 9001 not in ids(found(other, "zorbulon"))
        writer.commit()
        assert ids(found(other, "zorbulon", k=1)) == [9001]
        other.execute("DELETE FROM products WHERE id = 9001")
        assert 9001 not in ids(found(other, "zorbulon"))


@outcome
def a_repeatable_read_search_sees_its_snapshot(case: Case) -> None:
    """In a REPEATABLE READ transaction a search stays what it was while others commit events."""
    with case.connect(autocommit=False) as reader, case.connect() as writer:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = found(reader, user=2)
        writer.execute(CART)
        assert found(reader, user=2) == before
        reader.commit()
        assert found(reader, user=2) != before
