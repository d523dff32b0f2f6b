"""The background worker: catalogs are kept fresh where the library is preloaded."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psycopg
from case import Case, found, one, outcome, sqlstate, standby_of, until

ON = {"persona.worker": "on", "persona.worker_interval": "1s"}
WORKER, LAUNCHER = "pg_persona worker", "pg_persona launcher"


def processes(connection, kind: str, database: str | None = None) -> list[int]:
    """The processes of a kind, in a database or anywhere."""
    return [pid for pid, in connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = %s AND (%s::text IS NULL OR datname = %s)", (kind, database, database))]


def queued(connection, items: str = "products") -> int:
    """Items whose text is newer than their vector."""
    return one(connection, f"SELECT count(*) FROM {items}_persona WHERE embedded IS DISTINCT FROM hash")


def waited(pid: int) -> float:
    """Seconds for which a process could have run, but others had the cores."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def settled(connection) -> bool:
    """the worker has counted the statistics once, and nothing waits for a vector"""
    return one(connection, "SELECT count(*) FROM persona.worker_tasks WHERE task = 'statistics' AND done IS NOT NULL") > 0 and queued(connection) == 0


def reloaded(case: Case, connection, settings: dict) -> None:
    """Sets settings of a running server."""
    case.server.configure(settings)
    connection.execute("SELECT pg_reload_conf()")


@outcome(own=True)
def words_at_commit_and_vectors_soon(case: Case) -> None:
    """1,000 items are inserted with the worker on: searched by their words in the same transaction and at its commit, before any of them has a vector; all vectors are there within 30 s on one core, and the items are found by meaning."""
    case.server.restart(ON)
    with case.connect() as writer, case.connect() as reader:
        until(lambda: settled(reader))
        with writer.transaction():
            writer.execute("""INSERT INTO products SELECT (jsonb_populate_record(p, jsonb_build_object('id', 10000 + p.id, 'title', 'Zorbulon ' || p.title || ' ' || p.id))).*
                FROM products p WHERE p.id <= 1000""")
            assert queued(writer) == 1000
            assert len(found(writer, "zorbulon", k=50)) == 50
            assert not new(reader)
        begun = time.monotonic()
        rows = found(reader, "zorbulon", k=50)
        assert len(rows) == 50 and {row[0] for row in rows} <= new(writer), "found by their words at commit"
        pid = until(lambda: processes(reader, WORKER))[0]
        before = waited(pid)
        until(lambda: queued(reader) == 0, 120)
        took, starved = time.monotonic() - begun, waited(pid) - before
        print(f"      1,000 vectors {took:.1f} s after the commit, of which other processes had the worker's core for {starved:.1f} s")
        assert took - starved <= 30, (took, starved)
        assert one(reader, "SELECT count(*) FROM products_persona WHERE embedding IS NULL") == 0
        state = until(lambda: reader.execute("SELECT rows, failures FROM persona.worker_tasks WHERE task = 'vectors' AND rows >= 1000").fetchone())
        assert state[1] == 0
        assert one(reader, "SELECT count(*) FROM persona.worker_errors") == 0


def new(connection) -> set:
    """The items that the test has inserted."""
    return {key for key, in connection.execute("SELECT id FROM products WHERE title LIKE 'Zorbulon %'")}


@outcome(own=True)
def behaviour_is_counted_on_an_interval(case: Case) -> None:
    """New events count in what all shoppers share without a call: popularity and together follow within the interval; an interval in which nothing was written counts nothing."""
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: settled(connection))
        connection.execute("INSERT INTO events (user_id, product_id, kind) SELECT 9000 + n, 2000, 'purchase' FROM generate_series(1, 50) n")
        count = "SELECT s.shoppers FROM products_persona_stats s JOIN products_persona c USING (id) WHERE c.key = 2000"
        until(lambda: (connection.execute(count).fetchone() or (0,))[0] >= 50, 120)
        steps = "SELECT rows FROM persona.worker_tasks WHERE task = 'statistics'"
        done = "SELECT done FROM persona.worker_tasks WHERE task = 'statistics'"
        until(lambda: one(connection, steps) == 0)
        before = one(connection, done)
        until(lambda: one(connection, done) > before)
        assert one(connection, steps) == 0


@outcome(own=True)
def errors_are_kept_and_others_go_on(case: Case) -> None:
    """A catalog that cannot be refreshed is in persona.worker_errors with task, SQLSTATE and message, tried again later and later, and does not keep another catalog from being fresh; mended, it is fresh again. Owner and pg_monitor read the errors, others none."""
    case.do("""CREATE ROLE merchant LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher;
        GRANT CREATE, USAGE ON SCHEMA public TO merchant; CREATE TABLE books (id int PRIMARY KEY, title text); ALTER TABLE books OWNER TO merchant;
        INSERT INTO books VALUES (1, 'a book of tents'); SELECT persona.create_catalog('books', title => 'title');
        ALTER TABLE books_persona ADD CONSTRAINT never CHECK (embedding IS NULL) NOT VALID""")
    case.server.restart(ON)
    with case.connect() as connection:
        error = until(lambda: connection.execute(
            "SELECT task, sqlstate, message, at <= now() FROM persona.worker_errors WHERE items = 'books'::regclass").fetchone())
        assert error[:2] == ("vectors", "23514") and "never" in error[2] and error[3], error
        connection.execute("UPDATE products SET title = 'Zorbulon lamp' WHERE id = 1")
        until(lambda: settled(connection))
        assert one(connection, "SELECT count(*) FROM persona.worker_errors WHERE items <> 'books'::regclass") == 0
        until(lambda: one(connection, "SELECT failures FROM persona.worker_tasks WHERE items = 'books'::regclass AND task = 'vectors'") >= 2)
        assert one(connection, "SELECT retry > now() + interval '15 s' FROM persona.worker_tasks WHERE items = 'books'::regclass AND task = 'vectors'")
        for role, sees in (("merchant", True), ("watcher", True), ("stranger", False)):
            with case.connect(user=role) as other:
                assert (one(other, "SELECT count(*) FROM persona.worker_errors") > 0) is sees, role
                assert (one(other, "SELECT count(*) FROM persona.worker_tasks WHERE items = 'books'::regclass") > 0) is sees, role
                assert sqlstate(other, "SELECT * FROM persona.worker_error") == "42501"
        connection.execute("ALTER TABLE books_persona DROP CONSTRAINT never; DELETE FROM persona.worker_task WHERE items = 'books'::regclass")
        connection.execute("INSERT INTO books VALUES (2, 'a book of boots')")
        until(lambda: queued(connection, "books") == 0)


@outcome(own=True)
def a_killed_worker_is_followed_by_another(case: Case) -> None:
    """kill -9 of the worker, and of the launcher, while it embeds: the server recovers, both are there again, and the rest is embedded; pg_terminate_backend of either is followed by another too."""
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: settled(connection))
    for kind in (WORKER, LAUNCHER):
        with case.connect() as connection:
            connection.execute("UPDATE products SET title = title || ' again' WHERE id <= 1000")
            before = until(lambda: processes(connection, kind))
            until(lambda: 0 < queued(connection) < 1000)
            os.kill(before[0], signal.SIGKILL)
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT pg_sleep(5)")  # ends when the postmaster throws everybody out

        def up() -> bool:
            """the server takes connections again"""
            with contextlib.suppress(psycopg.OperationalError), case.connect():
                return True
            return False

        until(up)
        with case.connect() as connection:
            until(lambda: queued(connection) == 0)
            assert before[0] not in until(lambda: processes(connection, LAUNCHER)) + processes(connection, WORKER)
    with case.connect() as connection:
        for kind in (WORKER, LAUNCHER):
            connection.execute("UPDATE products SET title = title || ' anew' WHERE id <= 300")
            before = until(lambda: processes(connection, kind))
            assert one(connection, "SELECT pg_terminate_backend(%s)", before[0])
            until(lambda: before[0] not in processes(connection, kind))
            until(lambda: queued(connection) == 0)
            until(lambda: processes(connection, LAUNCHER))


@outcome(own=True)
def it_shows_what_it_does(case: Case) -> None:
    """While it embeds, the worker is a row of persona.activity with its catalog and how far it is, and a row of pg_stat_activity; a cancel of it is kept as an error, and SIGTERM ends it within 100 ms."""
    case.server.restart({**ON, "persona.worker_interval": "1h"})
    with case.connect() as connection:
        until(lambda: settled(connection))
        connection.execute("UPDATE products SET title = title || ' again'")
        shown = until(lambda: connection.execute("""SELECT a.pid, a.relation::text, a.task, a.done, a.total, s.query FROM persona.activity a
            JOIN pg_stat_activity s USING (pid) WHERE s.backend_type = %s AND a.step = 'vectors' AND a.done > 0""", (WORKER,)).fetchone())
        assert shown[1:3] == ("products", "refresh") and 0 < shown[3] <= shown[4] and "vectors of public.products" in shown[5], shown
        assert one(connection, "SELECT pg_cancel_backend(%s)", shown[0])
        until(lambda: one(connection, "SELECT count(*) FROM persona.worker_errors WHERE task = 'vectors' AND sqlstate = '57014'") == 1)
        connection.execute("DELETE FROM persona.worker_task")
        connection.execute("UPDATE products SET title = title || ' anew'")
        for _ in range(3):
            pid = until(lambda: connection.execute("""SELECT a.pid FROM persona.activity a JOIN pg_stat_activity s USING (pid)
                WHERE s.backend_type = %s AND a.step = 'vectors'""", (WORKER,)).fetchone())[0]
            begun = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            until(lambda: not os.path.exists(f"/proc/{pid}"))
            assert time.monotonic() - begun < 0.3, "100 ms, and what the test itself needs to see it"
            until(lambda: pid not in processes(connection, WORKER))


@outcome(own=True)
def a_database_can_be_dropped_and_copied(case: Case) -> None:
    """DROP DATABASE, ALTER DATABASE RENAME and CREATE DATABASE TEMPLATE go through within their five seconds while the worker is busy in the database, by an owner who is no superuser, too; WITH (FORCE) as well; and DROP EXTENSION is not blocked by it."""
    case.server.restart({**ON, "persona.worker_databases": "4"})
    begin = "UPDATE products SET title = title || ' again'"
    with case.connect(database="postgres") as admin:
        admin.execute("CREATE ROLE landlord LOGIN CREATEDB")

        def busy(name: str) -> None:
            with case.connect(database=name) as inside:
                inside.execute(begin)
                until(lambda: 0 < queued(inside) < 2016)
                assert processes(admin, WORKER, name)

        busy(case.database)
        admin.execute(f'CREATE DATABASE copy TEMPLATE "{case.database}"')
        for name in ("second", "third"):
            admin.execute(f"CREATE DATABASE {name} TEMPLATE copy")
        admin.execute("ALTER DATABASE copy OWNER TO landlord")
        busy("copy")
        admin.execute("ALTER DATABASE copy RENAME TO renamed")
        busy("renamed")
        with case.connect(user="landlord", database="postgres") as landlord:
            landlord.execute("DROP DATABASE renamed")
        busy("second")
        admin.execute("DROP DATABASE second WITH (FORCE)")
        busy("third")
        with case.connect(database="third") as inside:
            inside.execute("SET lock_timeout = '20s'")
            inside.execute("DROP EXTENSION pg_persona CASCADE")
        until(lambda: not processes(admin, WORKER, "third"))
        with case.connect() as inside:
            assert one(inside, "SELECT count(*) FROM persona.worker_errors") == 0
    log = case.server.log(2000)
    assert "PANIC" not in log and "terminated by signal" not in log, log


@outcome(own=True)
def databases_without_the_extension_are_left_alone(case: Case) -> None:
    """A database without the extension is looked into once and left; none of template databases or of those that take no connections is entered; once it has a catalog it is kept fresh. More databases than persona.worker_databases all get their turn."""
    case.server.restart({**ON, "persona.worker_databases": "1"})
    with case.connect(database="postgres") as admin:
        admin.execute("CREATE DATABASE plain")
        with case.connect() as inside:
            until(lambda: settled(inside))
        count = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
        admin.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false")
        before = [one(admin, count, name) for name in ("closed", "template1")]
        with case.connect(database="plain") as inside:
            inside.execute("CREATE EXTENSION pg_persona CASCADE; CREATE TABLE books (id int PRIMARY KEY, title text); INSERT INTO books VALUES (1, 'tents')")
            inside.execute("SELECT persona.create_catalog('books', title => 'title')")
            until(lambda: queued(inside, "books") == 0)
            until(lambda: one(inside, "SELECT count(*) FROM persona.worker_tasks WHERE task = 'statistics'") == 1)
        assert [one(admin, count, name) for name in ("closed", "template1")] == before
        assert not processes(admin, WORKER, "postgres")


@outcome(own=True)
def without_a_place_it_waits(case: Case) -> None:
    """Where all of max_worker_processes are taken, one WARNING in the log says so and everything works by call; with a place again catalogs are kept fresh."""
    case.server.restart({**ON, "max_worker_processes": "2"})
    with case.connect() as connection:
        connection.execute("UPDATE products SET title = 'Quixel lamp' WHERE id = 2")
        until(lambda: "max_worker_processes" in case.server.log(2000))
        assert found(connection, "quixel", k=1)[0][0] == 2 and queued(connection) == 1
        assert one(connection, "SELECT rows FROM persona.refresh('products') WHERE step = 'vectors'") == 1
        connection.execute("UPDATE products SET title = 'Quixel stove' WHERE id = 2")
    assert case.server.log(2000).count("max_worker_processes") == 1
    case.server.restart({"max_worker_processes": "8"})
    with case.connect() as connection:
        until(lambda: queued(connection) == 0)


@outcome(own=True)
def views_are_looked_through(case: Case) -> None:
    """A catalog of a view, which has no trigger, is looked through on the interval: a row that comes, changes or goes is found, and found no more, without a call."""
    case.do("""CREATE TABLE stock (id int PRIMARY KEY, title text, sold bool DEFAULT false); INSERT INTO stock VALUES (1, 'tents'), (2, 'boots');
        CREATE VIEW shelf AS SELECT id, title FROM stock WHERE NOT sold;
        SELECT persona.create_catalog('shelf', title => 'title', options => '{"key": "id"}')""")
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: one(connection, "SELECT count(embedding) FROM shelf_persona") == 2)
        connection.execute("INSERT INTO stock VALUES (3, 'zorbulon'); UPDATE stock SET title = 'quixel' WHERE id = 1; UPDATE stock SET sold = true WHERE id = 2")
        vectors = "SELECT count(*) FROM shelf_persona WHERE key <> 2 AND embedded = hash"
        until(lambda: one(connection, "SELECT count(*) FROM shelf_persona") == 2 and one(connection, vectors) == 2)
        for word, key in (("zorbulon", 3), ("quixel", 1)):
            assert [row[0] for row in found(connection, word, items="shelf", k=1)] == [key]


@outcome(own=True)
def off_is_off(case: Case) -> None:
    """persona.worker = off and a reload: the worker goes, what changes waits for a call; on again it is done. A catalog with the option worker false is left to its owner's calls."""
    case.server.restart({"persona.worker": "off"})
    with case.connect() as connection:
        assert one(connection, "SHOW persona.worker") == "off"
        connection.execute("UPDATE products SET title = title || ' again' WHERE id <= 10")
        assert until(lambda: processes(connection, LAUNCHER)) and not processes(connection, WORKER)
        reloaded(case, connection, ON)
        until(lambda: queued(connection) == 0)
        until(lambda: processes(connection, WORKER))
        connection.execute("UPDATE products SET title = title || ' anew'")
        reloaded(case, connection, {"persona.worker": "off"})
        until(lambda: not processes(connection, WORKER))
        left = queued(connection)
        assert left > 0
        connection.execute("CREATE TABLE books (id int PRIMARY KEY, title text); INSERT INTO books VALUES (1, 'tents')")
        connection.execute("SELECT persona.create_catalog('books', title => 'title', options => '{\"worker\": false}')")
        reloaded(case, connection, ON)
        until(lambda: queued(connection) == 0)
        until(lambda: settled(connection))
        assert queued(connection, "books") == 1
        assert one(connection, "SELECT rows FROM persona.refresh('books') WHERE step = 'vectors'") == 1


@outcome(own=True)
def a_standby_has_none(case: Case) -> None:
    """A hot standby has neither launcher nor worker; promoted, it has, and keeps its catalogs fresh."""
    primary = case.server
    with standby_of(case, ON) as standby:
        with psycopg.connect(standby.dsn(), autocommit=True) as connection:
            assert one(connection, "SELECT pg_is_in_recovery()") and one(connection, "SHOW persona.worker") == "on"
            assert found(connection)
            assert not processes(connection, LAUNCHER) and not processes(connection, WORKER)
            primary.stop()
            assert one(connection, "SELECT pg_promote()") is True
            connection.execute("UPDATE products SET title = 'Quixel lamp' WHERE id = 2")
            until(lambda: processes(connection, LAUNCHER))
            until(lambda: queued(connection) == 0)


@outcome(own=True)
def a_shutdown_waits_for_nobody(case: Case) -> None:
    """A fast shutdown while the worker embeds takes less than 5 s; after the next start it does the rest without a call."""
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: settled(connection))
        connection.execute("UPDATE products SET title = title || ' again'")
        until(lambda: 0 < queued(connection) < 2016)
    begun = time.monotonic()
    case.server.stop()
    assert time.monotonic() - begun < 5
    case.server.start()
    with case.connect() as connection:
        until(lambda: queued(connection) == 0)


@outcome(own=True)
def writers_never_lose(case: Case) -> None:
    """Writers who change 500 items in one transaction, up and down the table, while the worker embeds: none waits for a second, none ends in a deadlock, and at the end every vector is of what is stored."""
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: settled(connection))
        connection.execute("UPDATE products SET title = title || ' begin' WHERE id <= 500")
        until(lambda: processes(connection, WORKER))
        connection.execute("SET log_lock_waits = on; SET deadlock_timeout = '1s'")
        for number in range(4):
            order = "ASC" if number % 2 else "DESC"
            connection.execute(f"""DO $$ DECLARE key int; BEGIN FOR key IN SELECT id FROM products WHERE id <= 500 ORDER BY id {order} LOOP
                UPDATE products SET title = regexp_replace(title, ' #.*', '') || ' #{number}' WHERE id = key; END LOOP; END $$""")
            until(lambda: queued(connection) < 450)
        until(lambda: queued(connection) == 0, 120)
        errors = connection.execute("SELECT task, sqlstate, message FROM persona.worker_errors").fetchall()
        assert not errors, errors
    log = case.server.log(2000)
    assert "still waiting" not in log and "deadlock" not in log, log


@outcome(own=True)
def no_code_of_a_shop_gets_more_rights(case: Case) -> None:
    """The worker reads a shop whose view, trigger and index call functions of its owner's: each runs as that owner in a security-restricted operation, may not SET ROLE, and a deferred trigger is an error that is kept and not a call."""
    case.do("""CREATE ROLE merchant LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO merchant; SET ROLE merchant;
        CREATE TABLE caught (who name, what text);
        CREATE FUNCTION peek(title text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.caught VALUES (current_user, 'view');
            BEGIN SET ROLE postgres; INSERT INTO public.caught VALUES (current_user, 'role'); EXCEPTION WHEN OTHERS THEN NULL; END;
            RETURN title; END $$;
        CREATE TABLE stock (id int PRIMARY KEY, title text); INSERT INTO stock VALUES (1, 'tents'), (2, 'boots');
        CREATE VIEW shelf AS SELECT id, public.peek(title) AS title FROM stock;
        SELECT persona.create_catalog('shelf', title => 'title', options => '{"key": "id"}');
        CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.caught VALUES (current_user, TG_NAME); RETURN NULL; END $$;
        CREATE TRIGGER at_once AFTER UPDATE ON shelf_persona FOR EACH ROW EXECUTE FUNCTION spring();
        TRUNCATE caught""")
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: queued(connection, "shelf") == 0)
        until(lambda: one(connection, "SELECT count(*) FROM persona.worker_tasks WHERE items = 'shelf'::regclass AND task = 'statistics'") == 1)
        seen = {tuple(row) for row in connection.execute("SELECT who, what FROM caught")}
        assert seen == {("merchant", "view"), ("merchant", "at_once")}, seen
        connection.execute("""CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON shelf_persona DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spring();
            UPDATE stock SET title = 'stoves' WHERE id = 1""")
        until(lambda: one(connection, "SELECT count(*) FROM persona.worker_errors WHERE items = 'shelf'::regclass AND message LIKE '%deferred trigger%'") > 0)
        assert one(connection, "SELECT count(*) FROM caught WHERE what = 'later'") == 0


@outcome(own=True)
def a_ranker_is_trained_when_the_catalog_says_so(case: Case) -> None:
    """With the option train the worker trains a ranker once it is due, and with deploy never deploys none; a schedule that is no interval, too short or with unknown options is refused, and without the option nothing is trained."""
    create = """SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{type,color,material}',
        brand => 'brand', category => 'category', price => 'price', options => %s)"""
    with case.connect() as connection:
        for bad, state in (('{"train": {"every": "often"}}', "22007"), ('{"train": {"every": "1 second"}}', "22023"),
                           ('{"train": {"every": "1 day", "options": {"speed": 9}}}', "22023"), ('{"train": {}}', "22007")):
            assert sqlstate(connection, create, bad) == state, (bad, sqlstate(connection, create, bad))
    case.server.restart(ON)
    with case.connect() as connection:
        until(lambda: settled(connection))
        assert one(connection, "SELECT count(*) FROM persona.rankers") == 0
        connection.execute(create, ('{"text_search": "english", "train": {"every": "1 day", "options": {"samples": 300, "epochs": 1, "sequence": 0, "deploy": "never"}}}',))
        until(lambda: one(connection, "SELECT count(*) FROM persona.rankers WHERE NOT deployed") == 1)
        until(lambda: one(connection, "SELECT count(*) FROM persona.worker_tasks WHERE task = 'train' AND done IS NOT NULL AND failures = 0") == 1)
        assert one(connection, "SELECT count(*) FROM persona.rankers") == 1


@outcome(own=True)
def a_refresh_by_call_and_the_worker_get_along(case: Case) -> None:
    """While a refresh by call holds a catalog, the worker leaves it alone and keeps no error of that; rules can be written while it works."""
    case.server.restart(ON)
    with case.connect() as connection, case.connect(autocommit=False) as other:
        until(lambda: settled(connection))
        other.execute("SELECT * FROM persona.refresh('products')")
        connection.execute("UPDATE products SET title = 'Quixel lamp' WHERE id = 2")
        looked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = %s AND query_start > %s"
        for _ in range(2):
            until(lambda now=one(connection, "SELECT clock_timestamp()"): one(connection, looked, WORKER, now))
        assert queued(connection) == 1
        connection.execute("INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'block', '{\"id\": 5}')")
        other.rollback()
        until(lambda: queued(connection) == 0)
        assert one(connection, "SELECT count(*) FROM persona.worker_errors") == 0
