SET client_min_messages = warning;
-- no queries are logged: they are made of titles
CREATE TEMP TABLE report AS SELECT * FROM persona.evaluate('products', '{"since": "2026-01-08", "shoppers": 60}');
SELECT variant, metric, slice FROM report WHERE slice = 'all' AND metric NOT LIKE 'taken%' ORDER BY variant, metric;
SELECT DISTINCT slice FROM report WHERE metric = 'exposure' ORDER BY 1;
SELECT bool_and(low <= value AND value <= high) AS within, bool_and(queries > 0) AS counted FROM report WHERE metric NOT LIKE '%taken%';
-- the shopper helps: the interval of the difference is above 0
SELECT variant, metric FROM report WHERE variant LIKE 'recommend - %' AND metric IN ('ndcg@10', 'recall@10') AND slice = 'all' AND low > 0 ORDER BY 2;
-- the same seed, the same rows; another seed, another draw
SELECT count(*) AS differ FROM (SELECT * FROM report EXCEPT SELECT * FROM persona.evaluate('products', '{"since": "2026-01-08", "shoppers": 60}')) d;
SELECT count(*) > 0 AS differ FROM (SELECT * FROM report WHERE slice = 'all' EXCEPT SELECT * FROM persona.evaluate('products', '{"since": "2026-01-08", "shoppers": 60, "seed": 2}')) d;
-- what is done to the shop: nothing
SELECT count(*) FROM pg_class WHERE relname LIKE 'persona_known%';
SELECT sum(popularity) = (SELECT sum(popularity) FROM products_persona_stats) AS untouched FROM products_persona_stats;
-- Leaks. Everybody buys item 239 from the split on: whoever counted that beforehand would recommend it first.
INSERT INTO events SELECT u, 239, timestamptz '2026-01-20' + u * interval '1 minute', 'purchase', NULL, NULL, 'FR' FROM generate_series(1, 60) u;
SELECT count(*) > 0 FROM persona.refresh('products');
SELECT (item).id FROM persona.recommend(NULL::products, k => 1);
SELECT metric, value FROM persona.evaluate('products', '{"since": "2026-01-19", "heads": ["recommend"]}') WHERE variant = 'popular' AND slice = 'all' AND metric IN ('recall@10', 'support') ORDER BY 1;
SELECT metric, value FROM persona.evaluate('products', '{"split": "last", "heads": ["recommend"]}') WHERE variant = 'popular' AND slice = 'all' AND metric = 'recall@10';
DELETE FROM events WHERE product_id = 239 AND at >= '2026-01-20';
-- statistics: the second place is looked at half as often as the first, so a click there counts twice, where debias is not off
CREATE TABLE listed AS
SELECT u + 5000 AS user_id, i AS product_id, timestamptz '2026-02-01' + u * interval '1 hour' + k.n * interval '5 seconds' AS at, k.kind, CASE WHEN i < 100 THEN 'red' ELSE 'boots' END AS query, v.place
FROM generate_series(1, 400) u
CROSS JOIN LATERAL (VALUES (10, 1 + u % 2), (14, 2 - u % 2), (110, 1), (114, 2)) v(i, place)
CROSS JOIN (VALUES (0, 'impression'), (1, 'click')) k(n, kind)
WHERE k.n = 0 OR u / 2 % (2 * v.place) = 0;
CREATE FUNCTION liked(debias text) RETURNS numeric LANGUAGE plpgsql AS $$BEGIN
    PERFORM persona.add_events('products', 'listed', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind', query => 'query', "position" => 'place', options => jsonb_build_object('debias', debias::bool));
    PERFORM persona.refresh('products');
    RETURN (SELECT round((max(s.popularity) FILTER (WHERE c.key = 110) / max(s.popularity) FILTER (WHERE c.key = 114))::numeric, 1)
        FROM products_persona_stats s JOIN products_persona c USING (id));
END$$;
SELECT liked('true') AS weighed, liked('false') AS "as they are";
SELECT persona.drop_events('products', 'listed');
SELECT count(*) > 0 FROM persona.refresh('products');
DROP FUNCTION liked;
DROP TABLE listed;
-- a log with queries, places and the chance of each item to stand at its place: item 4 or item 8 first, by a coin; who sees 4 first clicks, and
-- before the split half of those who see it second
CREATE TABLE shown (user_id bigint, product_id bigint, at timestamptz, kind text, query text, place int, chance float8);
INSERT INTO shown SELECT u, i, timestamptz '2026-02-01' + u * interval '1 hour', 'impression', 'blue shoes', CASE WHEN (i = 4) = (u % 2 = 0) THEN 1 ELSE 2 END, 0.5
FROM generate_series(701, 1200) u, (VALUES (4), (8)) v(i);
INSERT INTO shown SELECT u, 4, timestamptz '2026-02-01' + u * interval '1 hour' + interval '5 seconds', 'click', 'blue shoes', 1 + u % 2, NULL
FROM generate_series(701, 1200) u WHERE u % 2 = 0 OR (u < 1000 AND u % 4 = 1);
CREATE INDEX ON shown (user_id, at);
SELECT persona.add_events('products', 'shown', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind', query => 'query', "position" => 'place', options => '{"propensity": "chance"}');
CREATE TEMP TABLE logged AS SELECT * FROM persona.evaluate('products', '{"since": "2026-03-17", "heads": ["search"], "variants": {"words": {"sources": ["lexical"]}}}');
SELECT DISTINCT variant FROM logged WHERE slice = 'all' ORDER BY 1;
SELECT variant, metric, value BETWEEN 0.4 AND 0.6 AS half FROM logged WHERE variant = 'as logged';
SELECT count(*) FROM logged WHERE metric IN ('taken, ips', 'taken, doubly robust') AND low <= value AND value <= high;
SELECT DISTINCT slice FROM logged WHERE metric = 'mrr' ORDER BY 1;
SELECT count(*) FROM logged WHERE metric = 'unbiased ndcg@10' AND low <= value AND value <= high AND high <= 1;
-- errors
\set VERBOSITY terse
SELECT * FROM persona.evaluate('products', '{"shopper": 1}');
SELECT * FROM persona.evaluate('products', '{"k": 0}');
SELECT * FROM persona.evaluate('products', '{"heads": []}');
SELECT * FROM persona.evaluate('products', '{"since": "infinity"}');
SELECT * FROM persona.evaluate('products', '{"split": "last", "since": "2026-01-01"}');
SELECT * FROM persona.evaluate('products', '{"variants": {"a": {"candidates": 0}}}');
SELECT persona.add_events('products', 'shown', user_id => 'user_id', item_id => 'product_id', at => 'at', options => '{"propensity": "kind"}');
CREATE TABLE quiet (id int PRIMARY KEY, title text);
SELECT persona.create_catalog('quiet', title => 'title');
SELECT * FROM persona.evaluate('quiet');
CREATE ROLE evaluate_reader;
GRANT SELECT ON products, events, shown TO evaluate_reader;
SET ROLE evaluate_reader;
SELECT * FROM persona.evaluate('products');
RESET ROLE;
DROP OWNED BY evaluate_reader;
DROP ROLE evaluate_reader;
-- an owner who is no superuser
CREATE ROLE evaluate_owner;
GRANT CREATE ON SCHEMA public TO evaluate_owner;
GRANT SELECT ON shown, events TO evaluate_owner;
ALTER TABLE products OWNER TO evaluate_owner;
SET ROLE evaluate_owner;
SELECT count(*) > 0 AS reports FROM persona.evaluate('products', '{"since": "2026-01-08", "shoppers": 20}');
RESET ROLE;
ALTER TABLE products OWNER TO CURRENT_USER;
DROP OWNED BY evaluate_owner;
DROP ROLE evaluate_owner;
