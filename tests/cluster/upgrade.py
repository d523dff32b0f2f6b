"""From a released version to this one."""

import psycopg
from case import Case, found, ids, one, outcome

RELEASED = "0.1.0"
# Everything that the extension has made, by name, with what it is: two installations with equal lists are equal.
MADE = """
SELECT i.type, i.identity,
    CASE d.classid
        WHEN 'pg_proc'::regclass THEN (SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.oid = d.objid AND p.prokind <> 'a')
        WHEN 'pg_class'::regclass THEN (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                pg_get_expr(f.adbin, f.adrelid)), ', ' ORDER BY a.attname)
            || COALESCE(pg_get_viewdef(d.objid), '')
            FROM pg_attribute a LEFT JOIN pg_attrdef f ON (f.adrelid, f.adnum) = (a.attrelid, a.attnum)
            WHERE a.attrelid = d.objid AND a.attnum > 0 AND NOT a.attisdropped)
    END AS definition,
    obj_description(d.objid, d.classid::regclass::text) AS comment,
    COALESCE((SELECT p.proacl::text FROM pg_proc p WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid),
        (SELECT c.relacl::text FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid)) AS rights
FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_persona')
ORDER BY 1, 2"""
DUMPED = """SELECT c::regclass::text, w FROM pg_extension, unnest(extconfig, extcondition) u(c, w)
    WHERE extname = 'pg_persona' ORDER BY 1"""


def fresh(case: Case, name: str, version: str | None):
    """A database of its own with the extension at a version."""
    case.server.psql(f'CREATE DATABASE "{name}" TEMPLATE template0', database="postgres")
    with case.connect(database=name) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE EXTENSION pg_persona" + (f" VERSION '{version}'" if version else ""))


@outcome
def an_upgrade_equals_a_fresh_install(case: Case) -> None:
    """ALTER EXTENSION UPDATE from the released version leaves the very objects, comments and rights of a fresh install."""
    new, old = f"{case.database}_new", f"{case.database}_old"
    try:
        fresh(case, new, None)
        fresh(case, old, RELEASED)
        with case.connect(database=new) as one_side, case.connect(database=old) as other:
            other.execute("ALTER EXTENSION pg_persona UPDATE")
            for sql in (MADE, DUMPED):
                wanted, got = one_side.execute(sql).fetchall(), other.execute(sql).fetchall()
                assert got == wanted, f"only fresh: {[r for r in wanted if r not in got]}\nonly upgraded: {[r for r in got if r not in wanted]}"
            assert len(one_side.execute(MADE).fetchall()) > 50
    finally:
        for name in (new, old):
            case.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")


@outcome
def a_catalog_of_the_released_version_lives_on(case: Case) -> None:
    """A catalog made by the released version is searched after the upgrade, and its next refresh brings what is new in this one."""
    name = f"{case.database}_old"
    try:
        fresh(case, name, RELEASED)
        with case.connect(database=name) as connection:
            connection.execute("CREATE TABLE lamps (id int PRIMARY KEY, title text)")
            connection.execute("CREATE TABLE seen (user_id int, item int, at timestamptz)")
            connection.execute("INSERT INTO lamps SELECT i, 'lamp ' || i FROM generate_series(1, 40) i")
            connection.execute("INSERT INTO seen SELECT u, 1 + u % 7, now() - u * interval '1 hour' FROM generate_series(1, 30) u")
            connection.execute("ALTER EXTENSION pg_persona UPDATE")
            connection.execute("SELECT persona.create_catalog('lamps', title => 'title')")
            connection.execute("SELECT persona.add_events('lamps', 'seen', user_id => 'user_id', item_id => 'item', at => 'at')")
            # a catalog of the released version: without the companion tables that are new
            missing = connection.execute("""SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'persona.catalog'::regclass
                AND a.atttypid = 'regclass'::regtype AND a.attname <> 'items' AND NOT a.attnotnull ORDER BY 1""").fetchall()
            new = [column for column, in missing]
            assert new, "nothing is new in this version"
            for column in new:
                table = one(connection, f"SELECT {column}::regclass::text FROM persona.catalog")
                connection.execute(f"UPDATE persona.catalog SET {column} = NULL")
                connection.execute(f"DROP TABLE {table}")
            connection.execute("SELECT persona.create_catalog('lamps', title => 'title')")
            assert len(ids(found(connection, "lamp", items="lamps", k=5))) == 5
            connection.execute("SELECT * FROM persona.refresh('lamps')")
            for column in new:
                assert one(connection, f"SELECT {column} IS NOT NULL FROM persona.catalog"), column
            assert len(ids(found(connection, "lamp", user=3, items="lamps", k=5))) == 5
    finally:
        case.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")


@outcome
def an_old_library_refuses_new_sql(case: Case) -> None:
    """An update script of a later version, whose functions the library does not have: one clear error that names the function and the file, nothing is changed, and everything works as before."""
    version = case.one("SELECT extversion FROM pg_extension WHERE extname = 'pg_persona'")
    script = case.server.at.share / "extension" / f"pg_persona--{version}--9.9.9.sql"
    script.write_text("CREATE FUNCTION persona.tomorrow() RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'tomorrow_wrapper';\n")
    try:
        with case.connect() as connection:
            before = found(connection, user=1)
            try:
                connection.execute("ALTER EXTENSION pg_persona UPDATE TO '9.9.9'")
                raise AssertionError("the update went through")
            except psycopg.Error as error:
                assert error.sqlstate == "42883" and "tomorrow_wrapper" in str(error) and "pg_persona" in str(error), error
            assert one(connection, "SELECT extversion FROM pg_extension WHERE extname = 'pg_persona'") == version
            assert found(connection, user=1) == before
    finally:
        script.unlink()
