"""Random SQL over the schema persona: whatever is asked, the answer is rows or a clear error."""

import json
import os
import random
import time

import psycopg
from case import Case, one, outcome
from psycopg import sql
from sizes import size

SECONDS = size("PERSONA_SMITH_SECONDS")
SEED = int(os.environ.get("PERSONA_SMITH_SEED", "0"))

WORDS = ["running shoes", "", " ", "the", "wireless hp printr under 100 -red", "a" * 5000, "\u0001\u007f", "ß☃𝔘ｗｉｄｅ", "红色连衣裙", "%s %d ''\"\\",
         "not", "x or y vs z", "between 20 and", "$$$", "17\"", "shoes " * 200, "' & | ! <-> :*", "--/*", "1e999", "null", "products", "events",
         "persona.catalog", "pg_class", "title", "id", "category", "refresh", "train", "fine_tune", "classify", "tag", "embed", "rank", "all-MiniLM-L6-v2", "../x"]
NUMBERS = [0, 1, -1, 5, 42, 240, 1000, 2**31 - 1, -2**31, 2**62]
KEYS = ["title", "price", "brand", "color", "category", "id", "weights", "without", "taste", "k", "seed", "candidates", "sources", "offset", "diversity",
        "caps", "group_by", "blend", "explore", "calibration", "exclude_seen", "correct", "understand", "ranker", "basket", "at", "session", "segment",
        "device", "lt", "ge", "in", "not", "contains", "samples", "epochs", "split", "since", "shoppers", "variants", "name", "text", "label", "task",
        "batch", "seconds", "sequence", "kinds", "propensity", "key", "text_search", "min_shoppers", "exclude", "intents", "tags", "deploy", "x"]


class Smith:
    """Makes calls of what is in the schema."""

    def __init__(self, connection, seed: int):
        self.random = random.Random(seed)
        self.functions = connection.execute("""
            SELECT p.proname, p.prokind::text, p.proretset, p.proargnames[1:p.pronargs],
                ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY t(a, n) ORDER BY n), p.pronargdefaults
            FROM pg_proc p WHERE p.pronamespace = 'persona'::regnamespace AND p.prorettype <> 'trigger'::regtype
              AND p.prorettype <> 'event_trigger'::regtype AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) a WHERE a = 'internal'::regtype)
            ORDER BY p.oid::regprocedure::text""").fetchall()

    def json(self, depth: int = 0):
        """Something that jsonb can hold, often with keys that mean something."""
        pick = self.random.random()
        if depth > 3 or pick < 0.35:
            return self.random.choice([None, True, False, 0, 1, -1, 0.5, 3, 1e30, 10**400, "", "2026-01-01", "better", "red", "lexical", [], {}, *WORDS[:4]])
        if pick < 0.5:
            return [self.json(depth + 1) for _ in range(self.random.randint(0, 3))]
        return {self.random.choice(KEYS): self.json(depth + 1) for _ in range(self.random.randint(0, 3))}

    def literal(self, kind: str) -> str:
        """An expression of a type."""
        draw = self.random
        if draw.random() < 0.08:
            return f"NULL::{kind}" if kind not in ("anyelement", "anyarray") else "NULL::products"
        if kind.endswith("[]"):
            return f"ARRAY[{', '.join(self.literal(kind[:-2]) for _ in range(draw.randint(0, 4)))}]::{kind}"
        if kind in ("text", "name", "character varying", "cstring"):
            return f"{quoted(draw.choice(WORDS))}::{kind}"
        if kind in ("bigint", "integer", "smallint", "numeric", "oid"):
            number = draw.choice(NUMBERS)
            bound = {"integer": 2**31, "smallint": 2**15, "oid": 2**31}.get(kind, 2**63)
            return f"({number % bound if kind == 'oid' else max(-bound, min(bound - 1, number))})::{kind}"
        if kind in ("real", "double precision"):
            return f"'{draw.choice(['0', '0.5', '-1', '1e-40', '1e30', 'NaN', 'Infinity'])}'::{kind}"
        if kind == "boolean":
            return draw.choice(["true", "false"])
        if kind == "jsonb":
            text = json.dumps(self.json() if draw.random() < 0.2 else {draw.choice(KEYS): self.json(1) for _ in range(draw.randint(0, 3))})
            return f"{quoted(text)}::jsonb"
        if kind == "regclass":
            return draw.choice(["'products'", "'events'", "'persona.catalog'", "'pg_class'", "'products_persona'", "'products_pkey'", "0"]) + "::regclass"
        if kind in ("anyelement", "record"):
            return draw.choice(["p", "p", "p", "NULL::products", "NULL::events", "ROW(1, 2)", "1", "'x'::text", "NULL::persona.catalogs"])
        if kind == "anyarray":
            return self.literal(draw.choice(["bigint[]", "text[]", "integer[]"]))
        if kind == "interval":
            return draw.choice(["'1 day'", "'-1 day'", "'0'", "'100 years'", "'1 microsecond'"]) + "::interval"
        if kind == "uuid":
            return "'00000000-0000-0000-0000-000000000000'::uuid"
        if kind == "bytea":
            return "decode('504b', 'hex')"
        if kind.startswith("timestamp") or kind == "date":
            return draw.choice(["now()", "'infinity'", "'-infinity'", "'4713-01-01 BC'"]) + f"::{kind}"
        return f"NULL::{kind}"

    def call(self) -> tuple[str, str, bool]:
        """A statement, the name of its function, and whether that is a procedure."""
        draw = self.random
        name, kind, many, names, types, defaults = draw.choice(self.functions)
        given = len(types) - draw.randint(0, defaults)
        arguments = [self.literal(kind) for kind in types[:given]]
        if names and all(names[:given]) and draw.random() < 0.3:
            arguments = [f'"{name}" => {argument}' for name, argument in zip(names, arguments)]
        call = f'persona."{name}"({", ".join(arguments)})'
        if kind == "p":
            return f"CALL {call}", name, True
        rows = "(SELECT * FROM products ORDER BY id LIMIT 3) p"
        shapes = [f"SELECT {call} FROM {rows}", f"SELECT f FROM {rows}, LATERAL {call} f LIMIT 5",
                  f"WITH w AS MATERIALIZED (SELECT {call} AS f FROM {rows}) SELECT count(*), max(a.f::text) FROM w a JOIN w b ON a.f::text = b.f::text",
                  f"SELECT count(*) FROM {rows} WHERE EXISTS (SELECT FROM {call} f)",
                  f"SELECT {call} FROM {rows} UNION ALL SELECT {call} FROM {rows}"]
        if not many:
            shapes += [f"SELECT id FROM products p ORDER BY ({call})::text, id LIMIT 2", f"SELECT CASE WHEN ({call}) IS NULL THEN 1 END FROM {rows}",
                       f"SELECT max(({call})::text) OVER () FROM {rows}"]
        statement = draw.choice(shapes)
        if draw.random() < 0.1:
            body = f"BEGIN PERFORM * FROM ({statement}) s; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', sqlstate; PERFORM 1 / length({quoted('x')}); END"
            statement = f"DO {quoted(body)}"
        return statement, name, False


def quoted(text: str) -> str:
    """A literal."""
    return sql.Literal(text).as_string(None)


@outcome(own=True)
def whatever_is_asked_is_answered_or_refused(case: Case) -> None:
    """Random statements over every function of the schema, by several roles, for a minute on each version of Postgres: rows, or an error with a SQLSTATE that is not XX000; no backend dies, and search then finds what it found before."""
    before = case.one("SELECT md5(string_agg(s::text, ',' ORDER BY position)) FROM persona.search(NULL::products, 'running shoes', user_id => 1) s")
    with case.connect() as connection:
        smith = Smith(connection, SEED or case.server.version)
    deadline, asked, refused, errors, wrong = time.monotonic() + SECONDS, 0, 0, {}, {}
    roles = ["postgres", "reader", "shelf_reader", "keeper"]
    while time.monotonic() < deadline:
        with case.connect(user=roles[asked % len(roles)]) as connection:
            connection.execute("SET statement_timeout = '2s'; SET client_min_messages = error")
            for _ in range(40):
                if connection.closed:
                    break
                statement, name, procedure = smith.call()
                asked += 1
                try:
                    # what it changes is taken back, so that the next statement finds the shop
                    if not procedure:
                        connection.execute("BEGIN")
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    refused += 1
                    state = error.sqlstate
                    errors[state] = errors.get(state, 0) + 1
                    if not state or state.startswith("XX"):
                        wrong.setdefault(f"{name}: {str(error)[:40]}", f"{state or 'the backend died'}: {error}\n{statement}")
                finally:
                    if not procedure and not connection.closed:
                        connection.execute("ROLLBACK")
    print(f"smith: {asked} statements, {refused} refused: {dict(sorted(errors.items()))}")
    assert not wrong, "\n\n".join(list(wrong.values())[:8])
    assert asked > 100 and refused < asked
    assert "was terminated by signal" not in case.server.log(1_000_000)
    assert case.one("SELECT count(*) FROM persona.catalogs") == 1
    after = case.one("SELECT md5(string_agg(s::text, ',' ORDER BY position)) FROM persona.search(NULL::products, 'running shoes', user_id => 1) s")
    assert before == after
