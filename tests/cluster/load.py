"""Many sessions at once."""

import random
import threading
import time

from case import Case, found, ids, outcome
from sizes import size

SECONDS = size("PERSONA_LOAD_SECONDS")


class Session(threading.Thread):
    """One client that repeats `step(connection, dice)` until the time is over; what fails is kept."""

    def __init__(self, case: Case, step, seed: int, deadline: float, user: str = "postgres"):
        super().__init__(daemon=True)
        self.case, self.step, self.dice, self.deadline, self.user = case, step, random.Random(seed), deadline, user
        self.done, self.failure = 0, None

    def run(self) -> None:
        try:
            with self.case.connect(user=self.user) as connection:
                while time.monotonic() < self.deadline:
                    self.step(connection, self.dice)
                    self.done += 1
        except Exception as failure:  # whatever it is, the test shows it
            self.failure = failure


@outcome
def a_mixed_load_runs_without_error_or_stale_result(case: Case) -> None:
    """Searches, recommendations, new events, changed, new and deleted items, and committed refreshes side by side: no error, and what was committed is in the next result."""
    words = ["zor" + "".join(random.Random(n).choices("bcdfglmnprstvz", k=6)) for n in range(2000)]
    queries = ["running shoes", "warm jacket", "tent for two", "gift for a runner", "", "bike light"]
    fresh = iter(range(2000))
    lock = threading.Lock()

    def search(connection, dice) -> None:
        rows = found(connection, dice.choice(queries), user=dice.randint(1, 500), k=10)
        assert len(rows) == 10 and len(set(ids(rows))) == 10

    def recommend(connection, dice) -> None:
        rows = connection.execute("SELECT (item).id, score FROM persona.recommend(NULL::products, user_id => %s::bigint, k => 10)",
                                  (dice.randint(1, 500),)).fetchall()
        assert len({row[0] for row in rows}) == 10 and all(row[1] == row[1] for row in rows)

    def take(connection, dice) -> None:
        connection.execute("INSERT INTO events (user_id, product_id, kind, session) VALUES (%s, %s, %s, 'load')",
                           (dice.randint(1, 500), dice.randint(1, 2000), dice.choice(["view", "click", "purchase"])))

    def change(connection, dice) -> None:
        connection.execute("UPDATE products SET title = split_part(title, ' #', 1) || ' #' || %s, price = price + 0.01 WHERE id = %s",
                           (dice.randint(1, 99), dice.randint(1, 2000)))

    def add_and_find(connection, dice) -> None:
        with lock:
            number = next(fresh)
        connection.execute("INSERT INTO products SELECT %s, %s, description, brand, category, type, style, color, material, price, released "
                           "FROM products WHERE id = 1", (10_000 + number, f"{words[number]} lamp"))
        with case.connect() as other:
            assert ids(found(other, words[number], k=1)) == [10_000 + number]
            connection.execute("DELETE FROM products WHERE id = %s", (10_000 + number,))
            assert 10_000 + number not in ids(found(other, words[number], k=5))

    def refresh(connection, dice) -> None:
        connection.execute("CALL persona.work('refresh', 'products')")

    deadline = time.monotonic() + SECONDS
    steps = [search, search, search, recommend, take, take, change, add_and_find, refresh]
    sessions = [Session(case, step, seed, deadline) for seed, step in enumerate(steps)]
    sessions += [Session(case, search, 99, deadline, user="reader")]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join(SECONDS + 120)
    failures = [f"{s.step.__name__}: {s.failure!r}" for s in sessions if s.failure is not None]
    assert not failures, failures
    assert all(s.done > 0 for s in sessions), [(s.step.__name__, s.done) for s in sessions]
    with case.connect() as connection:
        connection.execute("SELECT * FROM persona.refresh('products')")
        left = connection.execute("""SELECT count(*) FROM products_persona c FULL JOIN products p ON p.id = c.key
            WHERE p.id IS NULL OR c.key IS NULL OR c.embedded IS DISTINCT FROM c.hash""").fetchone()[0]
        assert left == 0, left

