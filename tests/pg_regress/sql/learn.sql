-- Learning to rank: train, the rankers' story, deploy, back; what a ranker may not do.
SET client_min_messages = warning;
SELECT pg_catalog.set_config('default_text_search_config', 'pg_catalog.english', false);
-- more behaviour to learn from: shoppers who stay with their colour
INSERT INTO events
SELECT 1000 + u, 1 + (u % 3 + 3 * ((u * 11 + s * 13) % 80)) % 240, timestamptz '2026-01-10 08:00:00+00' + s * interval '1 day' + u * interval '1 minute',
       'purchase', NULL, 't' || u || '-' || s, 'FR'
FROM generate_series(1, 120) u, generate_series(1, 8) s;
SELECT step, rows FROM persona.refresh('products') WHERE step IN ('stats', 'pairs');
CREATE TEMP TABLE untrained AS SELECT (s.item).id, s.score, s.position, s.parts FROM persona.search(NULL::products, 'shoes', 1005) s;
SELECT stage, count(*), min(epoch) AS first, bool_and(loss > 0) AS lost, bool_and(seconds >= 0) AS took
FROM persona.train('products', '{"seed": 3, "samples": 400, "epochs": 3, "sequence": 2, "deploy": "always"}') GROUP BY stage ORDER BY stage;
SELECT count(*), bool_and(deployed) AS deployed, bool_and(parent IS NULL) AS first, min(pg_catalog.array_length(features, 1)) AS features,
    bool_and(metrics ? 'search' AND metrics ? 'recommend') AS judged, min(data->>'propensities') AS propensities, min((data->>'rows')::int) AS rows,
    min(data->>'to') AS until FROM persona.rankers WHERE items = 'products'::regclass;
SELECT ranker AS first FROM persona.rankers \gset
-- parts sum to the score, to the bit; a dimension can be left out or scaled; score says the same as search
SELECT count(*) = 20 AS all, bool_and(s.score = (SELECT sum(v::float8) FROM jsonb_each_text(s.parts) p(k, v))::real) AS sums,
    bool_and(s.score = persona.score(s.item, 'shoes', 1005)) AS same FROM persona.search(NULL::products, 'shoes', 1005) s;
SELECT bool_or(s.parts ? 'taste') AS taste FROM persona.search(NULL::products, 'shoes', 1005, options => '{"without": ["taste"]}') s;
SELECT bool_and(a.parts->>'popularity' IS NOT DISTINCT FROM b.parts->>'popularity') AS popularity,
    bool_and(abs(2 * (a.parts->>'relevance')::float8 - (b.parts->>'relevance')::float8) < 0.001) AS relevance
FROM persona.search(NULL::products, 'shoes', 1005, k => 200) a
JOIN persona.search(NULL::products, 'shoes', 1005, k => 200, options => '{"weights": {"relevance": 2}}') b ON (a.item).id = (b.item).id;
-- a what-if: 0 are the fixed weights, which rank as they did
SELECT count(*) FROM untrained u JOIN persona.search(NULL::products, 'shoes', 1005, options => '{"ranker": 0}') s
    ON (s.item).id = u.id AND s.score = u.score AND s.position = u.position AND s.parts = u.parts;
SELECT count(*) FROM persona.recommend(NULL::products, 1005, k => 5);
SELECT bool_or(source LIKE '%sequence%') AS brought FROM persona.recommend(NULL::products, 1005, k => 50);
-- nobody known: nothing of a shopper in the parts
SELECT bool_or(s.parts ?| '{taste,session,together}') AS shopper FROM persona.search(NULL::products, 'shoes') s;
-- the same seed, the same bytes
SELECT count(*) FROM persona.deploy('products', NULL);
SELECT count(*) > 0 AS trained FROM persona.train('products', '{"seed": 3, "samples": 400, "epochs": 3, "sequence": 2, "deploy": "never"}');
SELECT count(DISTINCT checksum) AS weights, count(*) AS rankers, count(*) FILTER (WHERE deployed) AS deployed FROM persona.rankers;
-- deploy says what ranked before, so that back is one call; an abort switches nothing
SELECT persona.deploy('products', :first) IS NULL AS fixed_before;
BEGIN;
SELECT persona.deploy('products', NULL) = :first AS ranked_before;
SELECT count(*) FROM untrained u JOIN persona.search(NULL::products, 'shoes', 1005) s ON (s.item).id = u.id AND s.score = u.score;
ROLLBACK;
SELECT count(*) FROM untrained u JOIN persona.search(NULL::products, 'shoes', 1005) s ON (s.item).id = u.id AND s.score = u.score;
-- training goes on from what ranks
SELECT count(*) > 0 AS trained FROM persona.train('products', '{"samples": 400, "epochs": 2, "sequence": 2, "deploy": "never"}');
SELECT parent = :first AS goes_on FROM persona.rankers ORDER BY ranker DESC LIMIT 1;
-- hours are those of the catalog's own time zone: London has those of UTC in January, Tokyo others
BEGIN;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', options => '{"time_zone": "Asia/Tokyo"}');
SELECT count(*) > 0 AS trained FROM persona.train('products', '{"seed": 3, "samples": 400, "epochs": 1, "sequence": 1, "anew": true, "deploy": "never"}');
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', options => '{"time_zone": "Europe/London"}');
SELECT count(*) > 0 AS trained FROM persona.train('products', '{"seed": 3, "samples": 400, "epochs": 1, "sequence": 1, "anew": true, "deploy": "never"}');
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price');
SELECT count(*) > 0 AS trained FROM persona.train('products', '{"seed": 3, "samples": 400, "epochs": 1, "sequence": 1, "anew": true, "deploy": "never"}');
SELECT count(*) AS rankers, count(DISTINCT checksum) AS weights, count(DISTINCT checksum) FILTER (WHERE n <= 2) AS of_london_and_utc
FROM (SELECT checksum, row_number() OVER (ORDER BY ranker DESC) AS n FROM persona.rankers WHERE items = 'products'::regclass) r WHERE n <= 3;
ROLLBACK;
-- what cannot be bought is no negative, and is counted
BEGIN;
SELECT DISTINCT data->>'out_of_stock' AS out_of_stock FROM persona.rankers;
ALTER TABLE products ADD COLUMN left_over int;
UPDATE products SET left_over = CASE WHEN id % 2 = 1 THEN 5 WHEN id % 4 = 0 THEN 0 END;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', options => '{"stock": "left_over"}');
SELECT count(*) > 0 AS trained FROM persona.train('products', '{"samples": 400, "epochs": 1, "sequence": 0, "anew": true, "deploy": "never"}');
SELECT (data->>'out_of_stock')::int > 0 AS counted FROM persona.rankers ORDER BY ranker DESC LIMIT 1;
ROLLBACK;
-- forgetting a shopper: rows, statistics, and which rankers have learnt from them; one transaction
BEGIN;
SELECT relation, note NOT LIKE 'ranker%' AS counted, count(*), min(rows) > 0 AS some FROM persona.forget('products', '1005')
    GROUP BY 1, 2 ORDER BY relation::text;
SELECT count(*) FROM events WHERE user_id = 1005;
SELECT count(*) FROM persona.search(NULL::products, 'shoes', 1005) s WHERE s.parts ?| '{taste,together}';
ROLLBACK;
SELECT relation, rows FROM persona.forget('products', 'nobody');
-- errors
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT persona.deploy('products', 999);
SELECT count(*) FROM persona.search(NULL::products, 'shoes', options => '{"ranker": 999}');
SELECT * FROM persona.forget('products', NULL);
SELECT * FROM persona.train(NULL);
SELECT * FROM persona.train('products', '{"sample": 1}');
SELECT * FROM persona.train('products', '{"samples": 1}');
SELECT * FROM persona.train('products', '{"deploy": "perhaps"}');
SELECT * FROM persona.train('products', '{"rehearsal": -1}');
SELECT persona.create_catalog('products', title => 'title', options => '{"time_zone": "Mars/Olympus"}');
SELECT persona.create_catalog('products', title => 'title', options => '{"stock": "title"}');
SELECT persona.create_catalog('products', title => 'title', options => '{"stock": "shelf"}');
CREATE TABLE lonely (id int PRIMARY KEY, title text);
SELECT persona.create_catalog('lonely', title => 'title');
SELECT * FROM persona.train('lonely');
CREATE TABLE lonely_events (who int, what int, at timestamptz);
INSERT INTO lonely_events VALUES (1, 1, '2026-01-01');
SELECT persona.add_events('lonely', 'lonely_events', user_id => 'who', item_id => 'what', at => 'at');
SELECT * FROM persona.train('lonely');
UPDATE persona.ranker SET weights = substr(weights, 1, 100) WHERE ranker = :first;
-- a backend that has not read it yet
\c -
SELECT count(*) FROM persona.search(NULL::products, 'shoes', 1005);
-- who is unknown is ranked by the fixed weights, which need none
SELECT count(*) FROM persona.search(NULL::products, 'shoes');
CREATE ROLE learner_stranger;
GRANT SELECT ON products TO learner_stranger;
SET ROLE learner_stranger;
SELECT * FROM persona.train('products');
SELECT persona.deploy('products', NULL);
\set VERBOSITY terse
SELECT count(*) FROM persona.ranker;
RESET ROLE;
REVOKE ALL ON products FROM learner_stranger;
DROP ROLE learner_stranger;
