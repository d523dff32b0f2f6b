"""Training that is killed, a deployment that is killed or rolled back, and a future that is planted for a ranker to learn."""

import contextlib
import json
import os
import signal
import time

import psycopg
from case import Background, Case, found, one, outcome, until
from crash import up

SMALL = {"samples": 300, "epochs": 2, "sequence": 1}


def train(connection, items: str = "products", **options) -> None:
    connection.execute("SELECT count(*) FROM persona.train(%s::regclass, %s)", (items, json.dumps({**SMALL, **options})))


def killed(case: Case, sql: str, ready) -> None:
    """Kills the backend of a statement with -9 once it is `ready`, and waits for the server."""
    with Background(case, sql) as task:
        with case.connect() as watch:
            until(lambda: ready(watch, task.pid))
            os.kill(task.pid, signal.SIGKILL)
            with contextlib.suppress(psycopg.Error):
                watch.execute("SELECT pg_sleep(5)")  # ends when the postmaster throws everybody out
        task.join(30)
    until(lambda: up(case))


@outcome(own=True)
def a_kill_leaves_the_ranker_that_ranked(case: Case) -> None:
    """kill -9 of a backend while it trains, while it deploys and after a deploy that is not committed: the ranker that ranked ranks on, bit for bit, no half-made ranker is there, and the next training works."""
    with case.connect() as connection:
        train(connection, deploy="always")
        before = found(connection, user=1)
        story = connection.execute("SELECT ranker, deployed, checksum FROM persona.rankers ORDER BY 1").fetchall()
        first = story[0][0]

    def step(name: str):
        return lambda watch, pid: watch.execute(
            "SELECT 1 FROM persona.activity WHERE pid = %s AND task = 'train' AND step = %s", (pid, name)).fetchone()

    def sleeps(watch, pid):
        return watch.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'", (pid,)).fetchone()

    long = json.dumps({"deploy": "always", "anew": True, "samples": 5000, "sequence": 20, "epochs": 50})
    trains = f"SELECT * FROM persona.train('products', '{long}')"
    for sql, ready in ((trains, step("sequence")), (trains, step("samples")),
                       (f"BEGIN; SELECT persona.deploy('products', NULL); SELECT pg_sleep(60), {first}; COMMIT", sleeps)):
        killed(case, sql, ready)
        with case.connect() as connection:
            assert found(connection, user=1) == before, sql
            assert connection.execute("SELECT ranker, deployed, checksum FROM persona.rankers ORDER BY 1").fetchall() == story
    with case.connect() as connection:
        train(connection, deploy="always", anew=True)
        assert one(connection, "SELECT count(*) FROM persona.rankers WHERE deployed AND ranker > %s", first) == 1


@outcome
def work_goes_on_to_the_same_weights(case: Case) -> None:
    """persona.work('train') that is cancelled after a pass keeps what it has learnt, and called again in another session it ends with the weights of a training that was never stopped, whatever the session's time zone."""
    options = json.dumps({**SMALL, "sequence": 4, "anew": True, "deploy": "never"})
    work = f"CALL persona.work('train', 'products', '{options}')"
    with Background(case, work) as task:
        until(lambda: case.one("SELECT count(*) FROM persona.tuning WHERE task = 'train'"))
        task.connection.cancel()
        task.join(30)
    assert task.sqlstate == "57014", task.sqlstate
    assert case.one("SELECT count(*) FROM persona.tuning") == 1 and case.one("SELECT count(*) FROM persona.rankers") == 0
    with case.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'German'")
        connection.execute(work)
    with case.connect() as connection:
        connection.execute("SELECT count(*) FROM persona.train('products', %s)", (options,))
        assert one(connection, "SELECT count(*) FROM persona.tuning") == 0
        story = connection.execute("SELECT count(*), count(DISTINCT checksum), count(DISTINCT data) FROM persona.rankers").fetchone()
        assert story == (2, 1, 1), story


@outcome
def a_deploy_that_is_rolled_back_switches_nothing(case: Case) -> None:
    """A deploy in an open transaction counts there and nowhere else, a rollback undoes it, and another session's next statement after a commit ranks by it."""
    with case.connect() as connection, case.connect() as other:
        fixed = found(connection, user=1)
        train(connection, deploy="never")
        ranker = one(connection, "SELECT max(ranker) FROM persona.rankers")
        assert found(connection, user=1) == fixed
        connection.execute("BEGIN")
        connection.execute("SELECT persona.deploy('products', %s)", (ranker,))
        trained = found(connection, user=1)
        assert trained != fixed and found(other, user=1) == fixed
        connection.execute("ROLLBACK")
        assert found(connection, user=1) == fixed and found(other, user=1) == fixed
        connection.execute("SELECT persona.deploy('products', %s)", (ranker,))
        assert found(connection, user=1) == trained and found(other, user=1) == trained


# Each tenth of the behaviour has a lamp of its own that everybody buys; nothing tells which, but what is bought meanwhile.
PLANTED = """CREATE TABLE lamps AS SELECT n AS id, 'lamp ' || chr(96 + n) || chr(97 + n % 7) AS title FROM generate_series(1, 26) n;
    ALTER TABLE lamps ADD PRIMARY KEY (id);
    CREATE TABLE lamp_orders (shopper text, lamp int, at timestamptz, query text);
    INSERT INTO lamp_orders SELECT 's' || n, {lamp}, timestamptz '2026-01-01' + n * interval '1 hour', 'lamp' FROM generate_series(0, 1999) n;
    SELECT persona.create_catalog('lamps', title => 'title');
    SELECT persona.add_events('lamps', 'lamp_orders', user_id => 'shopper', item_id => 'lamp', at => 'at', query => 'query');
    SELECT * FROM persona.refresh('lamps')"""


def learnt(case: Case, lamp: str) -> float:
    """NDCG@10 of the searches that judge a ranker, where the n-th order is of this lamp."""
    case.do("DROP TABLE IF EXISTS lamps, lamp_orders")
    case.do(PLANTED.format(lamp=lamp))
    with case.connect() as connection:
        train(connection, "lamps", samples=1000, epochs=8, sequence=0, deploy="better")
        return one(connection, "SELECT (metrics->'search'->>'after')::float8 FROM persona.rankers WHERE items = 'lamps'::regclass")


@outcome
def a_planted_future_is_not_learnt(case: Case) -> None:
    """Lamps that are bought by everybody from the moment on at which a slice of samples begins, and by nobody before: popularity would give them away if it knew the future, and does not; where the same lamps were bought before as well, it does."""
    # from 0.72 of the rows on the slices begin, at 0.8 and 0.88 the next ones; before that every lamp is bought alike
    hot = "CASE WHEN n < 1440 THEN 1 + n % 26 WHEN n < 1600 THEN 3 WHEN n < 1760 THEN 11 ELSE 19 END"
    blind = learnt(case, hot)
    seeing = learnt(case, "CASE WHEN n % 10 < 4 THEN 1 + n % 26 ELSE 3 END")
    assert blind < 0.35 < 0.55 < seeing, (blind, seeing)
