"""Numbers that are none, and names that are odd."""

import math

from case import Case, found, ids, one, outcome, sqlstate


@outcome
def no_number_makes_a_nan(case: Case) -> None:
    """NaN, infinities, denormals and zero vectors in prices, weights, stored vectors and dwell times: a clear error, or results without a NaN, all of them in order."""
    with case.connect() as connection:
        connection.execute("""ALTER TABLE products ALTER price TYPE float8; UPDATE products SET price = 'NaN' WHERE id % 7 = 0; UPDATE products SET price = 1e-300 WHERE id % 7 = 1;
            UPDATE products SET price = 0 WHERE id % 7 = 2; UPDATE products SET price = -1 WHERE id % 7 = 3; UPDATE products SET price = 'infinity' WHERE id % 7 = 4;
            UPDATE products SET price = '-infinity' WHERE id % 7 = 5""")
        connection.execute("UPDATE products_persona SET embedding = (SELECT array_agg(0)::real[]::halfvec(384) FROM generate_series(1, 384)) WHERE key % 5 = 0")
        connection.execute("""UPDATE products_persona SET embedding = (SELECT array_agg(6e-8)::real[]::halfvec(384) FROM generate_series(1, 384)) WHERE key % 5 = 1""")
        connection.execute("UPDATE events SET at = 'infinity' WHERE user_id = 1 AND product_id % 3 = 0; UPDATE events SET at = '-infinity' WHERE user_id = 1 AND product_id % 3 = 1")
        connection.execute("SELECT * FROM persona.refresh('products')")
        for query, user in (("running shoes", 1), ("running shoes", None), ("", 1), (None, 1), ("NaN inf -inf 1e999", 2), ("\x01\x7f", 2)):
            rows = connection.execute("SELECT score, (SELECT bool_and(p.value::float8 < 'infinity'::float8) FROM jsonb_each_text(parts) p) FROM persona.search(NULL::products, %s, user_id => %s::bigint, k => 50) ORDER BY position",
                                      (query, user)).fetchall()
            scores = [row[0] for row in rows]
            assert len(rows) == 50 and all(math.isfinite(s) for s in scores) and scores == sorted(scores, reverse=True), (query, user, scores)
            assert all(row[1] for row in rows)
        assert one(connection, "SELECT count(*) FROM products p WHERE persona.score(p, 'running shoes', user_id => 1) = 'NaN'") == 0
        for options in ('{"weights": {"taste": "NaN"}}', '{"weights": {"taste": 1e999}}', '{"weights": {"taste": -1}}', '{"weights": {"taste": null}}', '{"candidates": 1e30}'):
            state = sqlstate(connection, f"SELECT * FROM persona.search(NULL::products, 'shoes', options => '{options}')")
            assert state in ("22023", "22P02", "22003"), (options, state)
        # what jsonb holds and no float does, nesting without end
        for options in ("jsonb_build_object('weights', jsonb_build_object('taste', 1e400::numeric))",
                        "(repeat('{\"weights\":', 500) || '1' || repeat('}', 500))::jsonb"):
            assert sqlstate(connection, f"SELECT * FROM persona.search(NULL::products, 'shoes', options => {options})") == "22023", options
        for filter in ('{"price": {"lt": "NaN"}}', '{"price": "infinity"}', '{"price": {"ge": -1e300}}', '{"price": 1e-320}'):
            assert sqlstate(connection, f"SELECT * FROM persona.search(NULL::products, 'shoes', filter => '{filter}')") in (None, "22023", "22003", "22P02"), filter
        assert one(connection, "SELECT vector_norm(persona.embed(''))") > 0.99
        assert one(connection, "SELECT persona.embed('{}'::text[])::text") == "{}"
        assert one(connection, "SELECT persona.embed(ARRAY[NULL]::text[])::text") == "{NULL}"


ODD = 'o"d.d \'t\nable; DROP TABLE x --'


@outcome
def odd_names_are_names(case: Case) -> None:
    """A shop whose schema, tables and columns hold quotes, dots, newlines and SQL, or are 63 bytes long: every function works on it, and its companions are dropped with it."""
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    schema, table, long = quoted("s.c'h\"é"), quoted(ODD), quoted("x" * 63)
    full = f"{schema}.{table}"
    with case.connect() as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {full} ({quoted('k;e.y')} text PRIMARY KEY, {quoted('ti%t$1')} text, {quoted('pr{i}ce')} numeric, {long} text)")
        connection.execute(f"INSERT INTO {full} SELECT id::text || ' '' \" ' || chr(10), title, price, brand FROM products WHERE id <= 60")
        connection.execute(f"CREATE TABLE {schema}.{long} ({quoted('u$er')} bigint, {quoted('i.d')} text, {quoted('a t')} timestamptz)")
        connection.execute(f"INSERT INTO {schema}.{long} SELECT 1, {quoted('k;e.y')}, now() FROM {full} LIMIT 10")
        connection.execute("SELECT persona.create_catalog(%s::text::regclass, title => %s, price => %s, brand => %s)", (full, "ti%t$1", "pr{i}ce", "x" * 63))
        connection.execute("SELECT persona.add_events(%s::text::regclass, %s::text::regclass, user_id => 'u$er', item_id => 'i.d', at => 'a t')",
                           (full, f"{schema}.{long}"))
        assert one(connection, "SELECT rows FROM persona.refresh(%s::text::regclass) WHERE step = 'vectors'", full) == 60
        rows = connection.execute(f"""SELECT (item).{quoted('k;e.y')}, score FROM persona.search(NULL::{full}, 'shoes', user_id => 1, k => 60,
            filter => jsonb_build_object(%s::text, '{{"gt": 0}}'::jsonb)) ORDER BY position""", ("pr{i}ce",)).fetchall()
        assert len(rows) == 60
        assert one(connection, f"SELECT count(persona.score(p, 'shoes', user_id => 1)) FROM {full} p") == 60
        assert connection.execute(f"SELECT * FROM persona.recommend(NULL::{full}, user_id => 1, k => 5)").rowcount == 5
        connection.execute(f"UPDATE {full} SET {quoted('ti%t$1')} = 'zorbulon' WHERE {long} IS NOT NULL")
        connection.execute("CALL persona.work('refresh', %s::text::regclass)", (full,))
        connection.execute(f"DROP TABLE {full} CASCADE")
        assert one(connection, "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname <> %s AND relkind = 'r'",
                   "s.c'h\"é", "x" * 63) == 0
        assert len(found(connection, user=1)) == 20


@outcome
def pg_temp_can_not_take_over(case: Case) -> None:
    """Temporary tables, types, functions and operators of a caller that bear the names of ours or of pg_catalog's change no result and run with nobody else's rights."""
    with case.connect(user="reader") as connection:
        before, browse = found(connection, user=1), found(connection, "", user=1)
        connection.execute("""
            CREATE TEMP TABLE products (LIKE public.products); CREATE TEMP TABLE events (LIKE public.events);
            CREATE TEMP TABLE catalog (items regclass); CREATE TEMP TABLE products_persona (key bigint);
            CREATE TEMP TABLE who (name text);
            CREATE DOMAIN pg_temp.vector AS text; CREATE DOMAIN pg_temp.halfvec AS text; CREATE DOMAIN pg_temp.jsonb AS pg_catalog.text;
            CREATE FUNCTION pg_temp.spy(anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN INSERT INTO who VALUES (current_user); RETURN $1; END $$;
            CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT pg_temp.spy($1)';
            CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '1999-01-01'::timestamptz $$;
            CREATE FUNCTION pg_temp.eq(bigint, bigint) RETURNS bool LANGUAGE sql AS 'SELECT true';
            CREATE OPERATOR pg_temp.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = pg_temp.eq);
            SET search_path = pg_temp, public, persona, pg_catalog""")
        for query, want in (("running shoes", before), ("", browse)):
            rows = connection.execute("SELECT (item).id, encode(float4send(score), 'hex') FROM persona.search(NULL::public.products, %s, user_id => 1) ORDER BY position",
                                      (query,)).fetchall()
            assert rows == [row[:2] for row in want]
        assert one(connection, "SELECT count(*) FROM who WHERE name <> 'reader'") == 0


@outcome
def every_function_takes_every_null(case: Case) -> None:
    """Every function of the schema, called with NULLs, empty texts and empty objects in each place it has: a result or an error with a SQLSTATE of its own, never XX000, and the backend lives."""
    with case.connect() as connection:
        pid = connection.info.backend_pid
        functions = connection.execute("""SELECT p.oid::regprocedure::text, p.proname, p.prokind, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) t)
            FROM pg_proc p WHERE pronamespace = 'persona'::regnamespace AND prokind IN ('f', 'p') AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
            AND proname NOT LIKE '\\_%' ORDER BY 1""").fetchall()
        assert len(functions) > 20
        samples = {"anyelement": ["NULL::products", "NULL::persona.role", "ROW(1, 2)"], "text": ["NULL", "''", "'products'"], "jsonb": ["'{}'", "NULL", "'[]'", "'7'"],
                   "integer": ["3", "NULL", "0", "-1"], "regclass": ["'products'", "NULL", "0", "'pg_class'"], "text[]": ["'{}'", "NULL", "'{NULL}'", "'{{a},{b}}'"],
                   "name": ["'title'", "NULL", "''"], "name[]": ["'{}'", "NULL", "'{NULL}'"], "bigint": ["1", "NULL"], "interval": ["'7 days'", "NULL", "'-1 day'"]}
        wrong = []
        for signature, name, kind, types in functions:
            usual = [f"{samples.get(t, ['NULL'])[0]}::{t}" if t != "anyelement" else samples[t][0] for t in types]
            for place, type in enumerate(types):
                for value in samples.get(type, ["NULL"]):
                    arguments = list(usual)
                    arguments[place] = value if type == "anyelement" else f"{value}::{type}"
                    call = f"persona.{name}({', '.join(arguments)})"
                    connection.execute("SET statement_timeout = '3s'")
                    state = sqlstate(connection, f"BEGIN; {'CALL' if kind == 'p' else 'SELECT * FROM'} {call}; ROLLBACK")
                    connection.execute("ROLLBACK")
                    # 57014: it had more to do than this test has time for, and ended when it was told to
                    if state == "XX000" or (state or "").startswith("5") and state not in ("55000", "54000", "57014", "58P01"):
                        wrong.append((call, state))
        assert not wrong, wrong
        assert one(connection, "SELECT pg_backend_pid()") == pid
