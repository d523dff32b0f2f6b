"""Fine-tuning that is cancelled, goes on, is dumped and restored; a catalog that changes its model."""

import json
import time

import psycopg
from case import Background, Case, found, one, outcome, sqlstate, standby_of, until
from dump import restore

OPTIONS = {"name": "mine", "text": "title", "label": "category", "layers": 1, "rank": 4, "epochs": 4, "patience": 0, "adopt": "always"}


def rows(case: Case) -> None:
    """Titles with their categories, few enough to be learnt in seconds."""
    case.do("CREATE TABLE titles AS SELECT title, category FROM products WHERE id % 5 = 0")


def work(**more) -> str:
    return f"CALL persona.work('fine_tune', 'titles', '{json.dumps({'task': 'classify', **OPTIONS, **more})}')"


def tune(connection, **more) -> None:
    connection.execute("SELECT count(*) FROM persona.fine_tune('classify', 'titles', %s)", (json.dumps({**OPTIONS, **more}),))


@outcome
def a_cancelled_run_leaves_nothing(case: Case) -> None:
    """A cancel ends fine_tune with 57014 within a second, and no adapter is there; the connection goes on working."""
    rows(case)
    with Background(case, f"SELECT * FROM persona.fine_tune('classify', 'titles', '{json.dumps({**OPTIONS, 'epochs': 500})}')") as task:
        with case.connect() as connection:
            until(lambda: connection.execute(
                "SELECT 1 FROM persona.activity WHERE pid = %s AND task = 'fine_tune' AND done >= 3", (task.pid,)).fetchone())
        start = time.monotonic()
        task.connection.cancel()
        task.join(30)
        assert task.sqlstate == "57014", task.sqlstate
        assert task.ended - start < 1, task.ended - start
        assert one(task.connection, "SELECT count(*) FROM persona.adapters") == 0


@outcome
def work_goes_on_to_the_same_bytes(case: Case) -> None:
    """persona.work that is cancelled keeps its state, and called again in another session it ends with the bytes of a run that was never stopped."""
    rows(case)
    with Background(case, work(seconds=0)) as task:
        first = until(lambda: case.one("SELECT max(changed) FROM persona.tuning"))
        until(lambda: case.one("SELECT max(changed) FROM persona.tuning") > first)
        task.connection.cancel()
        task.join(30)
    assert task.sqlstate == "57014", task.sqlstate
    assert case.one("SELECT count(*) FROM persona.tuning") == 1
    assert case.one("SELECT count(*) FROM persona.adapters") == 0
    with case.connect() as connection:
        connection.execute(work(seconds=0))
        tune(connection, name="whole")
        assert one(connection, "SELECT count(DISTINCT hash) FROM persona.adapters") == 1
        assert one(connection, "SELECT count(*) FROM persona.adapters") == 2
        assert one(connection, "SELECT count(*) FROM persona.tuning") == 0


@outcome
def an_adapter_is_dumped_and_restored(case: Case) -> None:
    """pg_dump brings adapters along: in the restored database they classify as before, bit for bit."""
    rows(case)
    name = f"{case.database}_tuned"
    ask = "SELECT array_agg(label || encode(float4send(score), 'hex')) FROM persona.classify('trail running shoes', 'mine')"
    with case.connect() as connection:
        tune(connection)
        before = one(connection, ask)
    try:
        restore(case, name, custom=True)
        with case.connect(database=name) as connection:
            assert one(connection, ask) == before
    finally:
        case.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")


@outcome
def a_change_of_model_is_seen_at_once_or_not_at_all(case: Case) -> None:
    """While persona.work embeds beside the old vectors, searches give what they gave; after the last step all vectors are the new model's."""
    with case.connect() as connection:
        connection.execute("SELECT count(*) FROM persona.fine_tune('embed', 'products', %s)", (json.dumps(
            {"name": "shop", "layers": 1, "rank": 4, "epochs": 1, "rows": 64, "batch": 32, "adopt": "always"}),))
        before = found(connection, "warm and dry")
        connection.execute("""SELECT persona.create_catalog('products', title => c.title, body => c.body, attributes => c.attributes,
            brand => c.brand, category => c.category, price => c.price, model => 'shop', options => c.options) FROM persona.catalogs c WHERE c.items = 'products'::regclass""")
        assert found(connection, "warm and dry") == before
        with Background(case, "CALL persona.work('refresh', 'products', '{\"batch\": 64}')") as task:
            until(lambda: one(connection, "SELECT count(*) FROM products_persona_incoming") > 128)
            assert found(connection, "warm and dry") == before
            assert one(connection, "SELECT count(DISTINCT model) FROM products_persona") == 1
            until(lambda: one(connection, "SELECT model FROM persona.catalogs WHERE items = 'products'::regclass") == "shop", 120)
            assert one(connection, "SELECT count(DISTINCT model) FROM products_persona") == 1
            task.join(120)
        assert task.sqlstate is None, task.sqlstate
        assert found(connection, "warm and dry") != before
        assert one(connection, "SELECT count(*) FROM products_persona_incoming") == 0


@outcome(own=True)
def an_adapter_is_used_on_a_standby(case: Case) -> None:
    """An adapter made on the primary embeds, classifies and is listed on a hot standby, bit for bit; fine_tune, work and drop_adapter are 25006 there at once; what the primary drops is gone, and promoted it fine-tunes."""
    ask = "SELECT array_agg(label || encode(float4send(score), 'hex')) FROM persona.classify('trail running shoes', 'mine')"
    embed = "SELECT md5(persona.embed('trail running shoes', model => 'mine')::text)"
    rows(case)
    with standby_of(case) as standby:
        with case.connect() as writer, psycopg.connect(standby.dsn(), autocommit=True) as reader:
            def follow() -> None:
                """the standby has played all of the primary's log"""
                end = one(writer, "SELECT pg_current_wal_lsn()::text")
                until(lambda: one(reader, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", end))

            follow()
            assert sqlstate(reader, ask) == "42704"
            tune(writer)
            follow()
            assert one(reader, ask) == one(writer, ask)
            assert one(reader, embed) == one(writer, embed)
            assert one(reader, "SELECT name FROM persona.adapters WHERE adopted") == "mine"
            assert one(reader, "SELECT count(*) FROM persona.report('mine')") > 0
            start = time.monotonic()
            for sql in (work(name="more", epochs=500), "SELECT persona.drop_adapter('mine')",
                        f"SELECT * FROM persona.fine_tune('classify', 'titles', '{json.dumps({**OPTIONS, 'name': 'more', 'epochs': 500})}')"):
                assert sqlstate(reader, sql) == "25006", (sql, sqlstate(reader, sql))
            assert time.monotonic() - start < 5
            writer.execute("SELECT persona.drop_adapter('mine')")
            follow()
            assert sqlstate(reader, ask) == "42704"
            case.server.stop()
            assert one(reader, "SELECT pg_promote()") is True
            tune(reader)
            assert one(reader, "SELECT count(*) FROM persona.adapters") == 1


@outcome
def a_taught_run_goes_on_to_the_same_bytes(case: Case) -> None:
    """Distillation that is cancelled while the teacher still judges has kept its scores, and goes on in another session to the bytes of a run that was never stopped; another teacher of the same name begins anew."""
    rows(case)
    case.do("CREATE TABLE graded AS SELECT category AS query, title AS item, id % 3 AS grade FROM products WHERE id % 40 = 0")
    case.do("CREATE TABLE asked AS SELECT category AS query, title AS item FROM products WHERE id % 10 = 0")
    plain = {"layers": 1, "rank": 4, "epochs": 1, "adopt": "always"}
    taught = {**plain, "teacher": "judge", "negatives": 4, "batch": 16}
    judge = "SELECT count(*) FROM persona.fine_tune('rank', 'graded', %s)"

    def call(name: str) -> str:
        return f"CALL persona.work('fine_tune', 'asked', '{json.dumps({'task': 'embed', 'name': name, 'seconds': 0, **taught})}')"

    with case.connect() as connection:
        connection.execute(judge, (json.dumps({**plain, "name": "judge"}),))
        with Background(case, call("mine")) as task:
            first = until(lambda: one(connection, "SELECT max(octet_length(state)) FROM persona.tuning"))
            until(lambda: one(connection, "SELECT max(octet_length(state)) FROM persona.tuning") > first)
            task.connection.cancel()
            task.join(30)
        assert task.sqlstate == "57014", task.sqlstate
        key = one(connection, "SELECT key FROM persona.tuning")
        assert one(connection, "SELECT count(*) FROM persona.adapters") == 1
    with case.connect() as connection:
        connection.execute(call("mine"))
        connection.execute("SELECT count(*) FROM persona.fine_tune('embed', 'asked', %s)", (json.dumps({**taught, "name": "whole"}),))
        assert one(connection, "SELECT count(DISTINCT hash) FROM persona.adapters WHERE name IN ('mine', 'whole')") == 1
        before = one(connection, "SELECT hash FROM persona.adapters WHERE name = 'mine'")
        connection.execute("SELECT persona.drop_adapter('judge'), persona.drop_adapter('mine')")
        connection.execute(judge, (json.dumps({**plain, "name": "judge", "seed": 2}),))
        with Background(case, call("mine")) as task:
            until(lambda: one(connection, "SELECT count(*) FROM persona.tuning") == 1)
            assert one(connection, "SELECT key FROM persona.tuning") != key
            task.join(170)
        assert task.sqlstate is None, task.sqlstate
        assert one(connection, "SELECT hash FROM persona.adapters WHERE name = 'mine'") != before
