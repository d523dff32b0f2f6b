SET client_min_messages = warning;
-- two lists in one: each item once, and whose pick it was; the seed is the coin
SELECT * FROM persona.interleave(ARRAY[1, 2, 3, 4], ARRAY[1, 3, 5], seed => 1, k => 4);
SELECT count(DISTINCT item_id) AS second_places FROM generate_series(1, 50) seed,
    LATERAL persona.interleave('{x,y}'::text[], '{x,z}'::text[], seed => seed, k => 2) WHERE position = 2;
SELECT * FROM persona.interleave('{}'::bigint[], NULL::bigint[]);
SELECT * FROM persona.interleave('[0:2]={7,NULL,8}'::bigint[], '{9}'::bigint[], seed => 3);
SELECT * FROM persona.interleave('{1}'::int[], '{2}'::int[], k => 0);
-- of two rankings, as a shop would do it
SELECT count(*) AS rows, bool_and(team IN ('a', 'b', 'both')) AS teams FROM persona.interleave(
    ARRAY(SELECT (item).id FROM persona.search(NULL::products, 'blue shoes', user_id => 1, k => 10) ORDER BY position),
    ARRAY(SELECT (item).id FROM persona.search(NULL::products, 'blue shoes', k => 10) ORDER BY position), seed => 42);
-- what clicks say
SELECT persona.interleave_credit('{a,both,a,b}'), persona.interleave_credit('{b}'), persona.interleave_credit('{}'), persona.interleave_credit(NULL);
SELECT persona.interleave_credit('{c}');
-- scipy.stats.binomtest(8, 10).pvalue is 0.109375
SELECT searches, a, b, ties, preference, low <= preference AND preference <= high AS within, round(p::numeric, 6) AS p
FROM persona.interleave_result(array_cat(array_fill(1, ARRAY[8]), '{-1,-1,0,0}'));
SELECT * FROM persona.interleave_result('{}');
-- two rankings of one search: what goes up when the shopper counts, and why
SELECT count(*) AS rows, bool_and(moved = position_a - position_b) AS moved, count(*) FILTER (WHERE position_a IS NULL) = count(*) FILTER (WHERE position_b IS NULL) AS paired,
    bool_or(parts_b ? 'taste') AS taste_in_b, bool_or(parts_a ? 'taste') AS taste_in_a
FROM persona.diff(NULL::products, 'something blue', '{"without": ["taste", "together"]}', '{}', user_id => 1, k => 10);
SELECT count(*) FROM persona.diff(NULL::products, 'something blue', k => 5) WHERE moved <> 0 OR score_a <> score_b;
SELECT (SELECT array_agg((item).id ORDER BY position_b) FROM persona.diff(NULL::products, 'boots', '{"without": ["popularity"]}', '{}', user_id => 4::bigint, k => 6) WHERE position_b IS NOT NULL)
     = (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'boots', user_id => 4::bigint, k => 6)) AS as_searched;
SELECT item_id, item ->> 'category' AS category, position_a, position_b FROM persona.diff('products', 'zwieback puzzle', '{"sources": ["lexical"]}', '{"sources": ["lexical"]}', user_id => 4, k => 2);
SELECT * FROM persona.diff(NULL::products, 'x', '[]');
