-- compare: two rankings side by side, and in one list

CREATE FUNCTION persona.interleave(a anyarray, b anyarray, seed bigint DEFAULT 0, k int DEFAULT 10)
RETURNS TABLE ("position" int, item_id anyelement, team text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 10
AS $$
    SELECT d."position", CASE WHEN d.team OPERATOR(pg_catalog.=) 'b' THEN b[pg_catalog.array_lower(b, 1) OPERATOR(pg_catalog.+) d.place OPERATOR(pg_catalog.-) 1]
        ELSE a[pg_catalog.array_lower(a, 1) OPERATOR(pg_catalog.+) d.place OPERATOR(pg_catalog.-) 1] END, d.team
    FROM persona._interleave(COALESCE(a::pg_catalog.text[], '{}'), COALESCE(b::pg_catalog.text[], '{}'), COALESCE(seed, 0), COALESCE(k, 10)) d
$$;
COMMENT ON FUNCTION persona.interleave IS 'one list of two, by team draft: each row says whose pick it was (a, b, or both where the two agree); the seed is the coin, so pass one that differs by search';

CREATE FUNCTION persona.interleave_credit(teams text[]) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT persona._interleave_credit(COALESCE(teams, '{}')) $$;
COMMENT ON FUNCTION persona.interleave_credit IS 'whom one search speaks for, by the teams of the rows that were taken in it: 1 for a, -1 for b, 0 for neither';

CREATE FUNCTION persona.interleave_result(credits int[], seed bigint DEFAULT 1)
RETURNS TABLE (searches bigint, a bigint, b bigint, ties bigint, preference double precision, low double precision, high double precision, p double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
AS $$ SELECT * FROM persona._interleave_result(COALESCE(credits, '{}'), COALESCE(seed, 1)) $$;
COMMENT ON FUNCTION persona.interleave_result IS 'what the credits of many searches say: how many each list won, the mean credit (above 0: a is better) with its 95 % bootstrap interval, and the p of a two-sided sign test';

CREATE FUNCTION persona.diff(items anyelement, query text, a jsonb DEFAULT '{}', b jsonb DEFAULT '{}', user_id text DEFAULT NULL,
    context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}', k int DEFAULT 20)
RETURNS TABLE (item anyelement, position_a int, position_b int, moved int, score_a real, score_b real, parts_a jsonb, parts_b jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
AS $$
    -- A row is told by its whole text: the types of its columns need no equality for that.
    SELECT COALESCE(x.item, y.item), x."position", y."position", x."position" OPERATOR(pg_catalog.-) y."position", x.score, y.score, x.parts, y.parts
    FROM persona.search(items, query, user_id, context, filter, k, a) x
    FULL JOIN persona.search(items, query, user_id, context, filter, k, b) y ON (x.item)::pg_catalog.text OPERATOR(pg_catalog.=) (y.item)::pg_catalog.text
    ORDER BY LEAST(x."position", y."position"), x."position"
$$;
COMMENT ON FUNCTION persona.diff(anyelement, text, jsonb, jsonb, text, jsonb, jsonb, int) IS 'two rankings of one search, by two sets of search options: where each row stands in either, how far up it moved from a to b, and its scores and parts';

CREATE FUNCTION persona.diff(items anyelement, query text, a jsonb, b jsonb, user_id bigint,
    context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}', k int DEFAULT 20)
RETURNS TABLE (item anyelement, position_a int, position_b int, moved int, score_a real, score_b real, parts_a jsonb, parts_b jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
AS $$ SELECT * FROM persona.diff(items, query, a, b, user_id::pg_catalog.text, context, filter, k) $$;
COMMENT ON FUNCTION persona.diff(anyelement, text, jsonb, jsonb, bigint, jsonb, jsonb, int) IS 'diff for a shopper whose id is an integer';

CREATE FUNCTION persona.diff(items anyelement, query text, a jsonb, b jsonb, user_id uuid,
    context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}', k int DEFAULT 20)
RETURNS TABLE (item anyelement, position_a int, position_b int, moved int, score_a real, score_b real, parts_a jsonb, parts_b jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
AS $$ SELECT * FROM persona.diff(items, query, a, b, user_id::pg_catalog.text, context, filter, k) $$;
COMMENT ON FUNCTION persona.diff(anyelement, text, jsonb, jsonb, uuid, jsonb, jsonb, int) IS 'diff for a shopper whose id is a uuid';

CREATE FUNCTION persona.diff(items text, query text, a jsonb DEFAULT '{}', b jsonb DEFAULT '{}', user_id text DEFAULT NULL,
    context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}', k int DEFAULT 20)
RETURNS TABLE (item_id text, item jsonb, position_a int, position_b int, moved int, score_a real, score_b real, parts_a jsonb, parts_b jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
AS $$
    SELECT item_id, COALESCE(x.item, y.item), x."position", y."position", x."position" OPERATOR(pg_catalog.-) y."position", x.score, y.score, x.parts, y.parts
    FROM persona._search(items::pg_catalog.regclass, query, user_id, context, filter, k, a) x
    FULL JOIN persona._search(items::pg_catalog.regclass, query, user_id, context, filter, k, b) y USING (item_id)
    ORDER BY LEAST(x."position", y."position"), x."position"
$$;
COMMENT ON FUNCTION persona.diff(text, text, jsonb, jsonb, text, jsonb, jsonb, int) IS 'diff by the table''s name, with rows as jsonb';

CREATE FUNCTION persona.diff(items text, query text, a jsonb, b jsonb, user_id bigint,
    context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}', k int DEFAULT 20)
RETURNS TABLE (item_id text, item jsonb, position_a int, position_b int, moved int, score_a real, score_b real, parts_a jsonb, parts_b jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
AS $$ SELECT * FROM persona.diff(items, query, a, b, user_id::pg_catalog.text, context, filter, k) $$;
COMMENT ON FUNCTION persona.diff(text, text, jsonb, jsonb, bigint, jsonb, jsonb, int) IS 'diff by the table''s name for a shopper whose id is an integer';

CREATE FUNCTION persona.diff(items text, query text, a jsonb, b jsonb, user_id uuid,
    context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}', k int DEFAULT 20)
RETURNS TABLE (item_id text, item jsonb, position_a int, position_b int, moved int, score_a real, score_b real, parts_a jsonb, parts_b jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 30
AS $$ SELECT * FROM persona.diff(items, query, a, b, user_id::pg_catalog.text, context, filter, k) $$;
COMMENT ON FUNCTION persona.diff(text, text, jsonb, jsonb, uuid, jsonb, jsonb, int) IS 'diff by the table''s name for a shopper whose id is a uuid';

COMMENT ON FUNCTION persona._interleave(text[], text[], bigint, int) IS 'internal: interleave: which place of which list stands where';
COMMENT ON FUNCTION persona._interleave_credit(text[]) IS 'internal: interleave_credit';
COMMENT ON FUNCTION persona._interleave_result(int[], bigint) IS 'internal: interleave_result';
