SET client_min_messages = warning;
-- Lists that begin at an item. Orders say what goes together: a shoe with a puzzle, and with itself in another colour.
UPDATE products SET title = 'Trail shoe blue', color = 'blue', tags = NULL WHERE id = 4;
UPDATE products SET title = 'Trail shoe red', color = 'red', tags = NULL WHERE id = 16;
CREATE TABLE orders (invoice text, customer bigint, product bigint, at timestamptz);
CREATE INDEX ON orders (customer, at);
INSERT INTO orders
SELECT 'i' || n, n, p, timestamptz '2026-01-20 12:00:00+00' + n * interval '1 hour'
FROM generate_series(1, 30) n, LATERAL (VALUES (4), (16), (7 + 4 * (n % 2))) b(p)
UNION ALL SELECT 'none', NULL, p, timestamptz '2026-01-20' FROM (VALUES (5), (6)) b(p);
SELECT persona.add_events('products', 'orders', user_id => 'customer', item_id => 'product', at => 'at', session => 'invoice');
SELECT step, rows FROM persona.refresh('products') WHERE step = 'baskets';
-- complements: 16 is item 4 in another colour, so it stays out; an invoice of nobody known counts
SELECT (r.item).id, r.position, r.source, r.parts ? 'together' AS together FROM products p, persona.bought_together(p, k => 2) r WHERE p.id = 4;
SELECT count(*) FROM products p, persona.bought_together(p, k => 50) r WHERE p.id = 4 AND (r.item).id IN (4, 16);
SELECT (r.item).id FROM products p, persona.bought_together(p, k => 1) r WHERE p.id = 5;
SELECT item_id, source FROM persona.bought_together('products', '6', k => 1);
SELECT item_id FROM persona.bought_together('products', '6', user_id => 3, k => 1, options => '{"basket": [7, "11"]}');
-- alternatives
SELECT (r.item).category, r.source LIKE 'dense%' AS dense, count(*) FROM products p, persona.similar(p, k => 5) r WHERE p.id = 4 GROUP BY 1, 2;
SELECT count(*) FROM products p, persona.similar(p, user_id => 31, k => 100, options => '{"exclude_seen": true}') r
WHERE p.id = 4 AND EXISTS (SELECT FROM events e WHERE e.user_id = 31 AND e.product_id = (r.item).id);
SELECT count(*) AS found, bool_and(score = (SELECT sum(value::float8)::real FROM jsonb_each_text(parts))) AS sums, bool_and((r.item).brand = 'Alba') AS filtered
FROM products p, persona.similar(p, user_id => 1, filter => '{"brand": "Alba"}', k => 30) r WHERE p.id = 4;
SELECT count(*), count(DISTINCT (r.item).id) FROM products p, persona.bought_together(p, filter => '{"category": "puzzle"}', k => 40) r WHERE p.id = 4;
-- what nobody knows falls back: its category, then what is popular
INSERT INTO products (id, title, category, brand) VALUES (2000, 'Something new', 'puzzle', 'Alba'), (2001, 'Something else', NULL, NULL);
SELECT DISTINCT (r.item).category, r.source FROM products p, persona.bought_together(p, k => 5) r WHERE p.id = 2000;
SELECT DISTINCT r.source FROM products p, persona.bought_together(p, k => 5) r WHERE p.id = 2001;
SELECT count(*) FROM persona.similar(NULL::products, k => 3);
SELECT count(*) FROM persona.similar('products', '4711', k => 3);
SELECT count(*) FROM persona.similar('products', NULL, k => 3);
DELETE FROM products WHERE id >= 2000;
-- Rules are ordinary rows: a campaign is tried in a transaction, and rolled back
CREATE VIEW page AS SELECT (s.item).id, s.position, s.source, s.parts FROM persona.search(NULL::products, 'board game', k => 6, options => '{"offset": 0}') s;
BEGIN;
INSERT INTO persona.rules (items, action, filter, slot, query) VALUES ('products', 'pin', '{"id": [9]}', 2, 'games');
INSERT INTO persona.rules (items, action, filter, strength) VALUES ('products', 'boost', '{"brand": "Corvo", "category": "board game"}', 40);
INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'block', '{"id": [2]}');
INSERT INTO persona.rules (items, action, filter, slot, positions, pattern) VALUES ('products', 'sponsor', '{"brand": "Egret"}', 1, 2, '^board');
SELECT p.position, CASE p.position WHEN 2 THEN p.id END AS pinned, substring(p.source from '(pinned|sponsored)$') AS placed, p.parts -> 'rules' AS rules, i.brand FROM page p JOIN products i USING (id) ORDER BY 1;
SELECT bool_and(persona.score(p, 'board game') = s.score) AS score_knows_rules FROM persona.search(NULL::products, 'board game', k => 50) s JOIN products p ON p.id = (s.item).id;
SELECT count(*) FROM persona.search(NULL::products, 'board game', k => 240) WHERE (item).id = 2;
SELECT bool_or(parts ? 'rules') FROM persona.search(NULL::products, 'board game', options => '{"without": ["rules"]}');
SELECT count(*) FROM persona.search(NULL::products, 'puzzle', k => 5) WHERE source LIKE '%pinned%' OR source LIKE '%sponsored%';
SELECT (item).id FROM persona.search(NULL::products, 'board game', filter => '{"category": "puzzle"}', k => 240) WHERE source LIKE '%pinned%' AND (item).id = 9;
ROLLBACK;
SELECT bool_or(parts ? 'rules' OR source LIKE '%pinned%') FROM page;
-- by time, list, context, brand and category
INSERT INTO persona.rules (items, action, filter, surfaces, context, valid) VALUES
    ('products', 'pin', '{"id": 11}', '{recommend}', '{}', '[2026-01-01, 2026-02-01)'),
    ('products', 'pin', '{"id": 15}', '{recommend}', '{"country": ["FR", "BE"]}', DEFAULT),
    ('products', 'pin', '{"id": 19}', '{recommend}', '{"segment": "members"}', DEFAULT);
SELECT (item).id FROM persona.recommend(NULL::products, context => '{"at": "2026-01-15"}', k => 1);
SELECT (item).id FROM persona.recommend(NULL::products, context => '{"at": "2026-02-01", "country": "BE"}', k => 1);
SELECT (item).id FROM persona.recommend(NULL::products, context => '{"at": "2026-02-01", "country": "DE", "segment": "members"}', k => 1);
SELECT count(*) FROM persona.search(NULL::products, 'shoes', k => 5) WHERE source LIKE '%pinned%';
INSERT INTO persona.rules (items, action, filter, category) VALUES ('products', 'pin', '{"id": 20}', 'running shoes');
SELECT (item).id FROM persona.search(NULL::products, 'green running shoes', k => 1);
SELECT (item).id FROM persona.search(NULL::products, 'green', filter => '{"category": "running shoes"}', k => 1);
SELECT count(*) FROM persona.search(NULL::products, 'green', k => 1) WHERE source LIKE '%pinned%';
DELETE FROM persona.rules;
-- Variants collapsed, caps, diversity, calibration
SELECT count(*), count(DISTINCT (item).color) FROM persona.search(NULL::products, 'shoes', k => 5, options => '{"group_by": "color"}');
SELECT max(n) FROM (SELECT count(*) AS n FROM persona.search(NULL::products, 'shoes', k => 10, options => '{"caps": {"brand": 2}}') GROUP BY (item).brand) g;
SELECT count(DISTINCT (item).category) > 1 AS varied FROM persona.recommend(NULL::products, user_id => 1, k => 10, options => '{"diversity": 0.8}');
SELECT count(DISTINCT (item).id) FROM persona.search(NULL::products, 'a present', user_id => 1, k => 20, options => '{"diversity": 0.3, "calibration": 0.3, "caps": {"brand": 5}, "explore": 0.2, "blend": 0.2, "seed": 1}');
-- what is recommended within a search, and what chance has placed
SELECT array_agg(position) FROM persona.search(NULL::products, 'puzzle', user_id => 1, k => 10, options => '{"blend": 0.2}') WHERE source LIKE 'recommended%';
SELECT count(*) FROM persona.search(NULL::products, 'puzzle game family evening', user_id => 1, k => 10, options => '{"blend": 0.2}') WHERE source LIKE 'recommended%';
SELECT bool_and(persona.propensity(source) > 0 AND persona.propensity(source) < 1) AS chances, bool_or(source LIKE '%explored p=%') AS explored
FROM persona.search(NULL::products, 'puzzle', k => 20, options => '{"explore": 0.5, "seed": 7}');
SELECT (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'puzzle', k => 20, options => '{"explore": 0.5, "seed": 7}'))
     = (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'puzzle', k => 20, options => '{"explore": 0.5, "seed": 7}')) AS same_seed;
SELECT DISTINCT persona.propensity(source) FROM persona.search(NULL::products, 'puzzle', k => 5);
-- Who may write rules: the owner of the items, and nobody reads another's
CREATE ROLE merchant; CREATE ROLE passer_by;
CREATE SCHEMA stall AUTHORIZATION merchant;
GRANT USAGE ON SCHEMA stall TO passer_by;
SET ROLE merchant;
CREATE TABLE stall.wares (id int PRIMARY KEY, title text);
INSERT INTO stall.wares SELECT n, 'ware ' || n FROM generate_series(1, 9) n;
SELECT persona.create_catalog('stall.wares', title => 'title');
GRANT SELECT ON stall.wares TO passer_by;
INSERT INTO persona.rules (items, action, filter) VALUES ('stall.wares', 'pin', '{"id": 7}');
SELECT count(*) FROM persona.rules;
\set VERBOSITY terse
INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'pin', '{"id": 7}');
SET ROLE passer_by;
SELECT count(*) FROM persona.rules;
UPDATE persona.rules SET slot = 3;
INSERT INTO persona.rules (items, action, filter) VALUES ('stall.wares', 'pin', '{"id": 3}');
SELECT (item).id, source LIKE '%pinned' AS pinned FROM persona.search(NULL::stall.wares, 'ware', k => 1);
SET row_security = off;
SELECT (item).id FROM persona.search(NULL::stall.wares, 'ware', k => 1);
RESET ROLE;
RESET row_security;
-- what cannot be read is refused when it is written
INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'pin', '{"colour": "red"}');
INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'pin', '{"color": {"like": "red"}}');
INSERT INTO persona.rules (items, action, pattern) VALUES ('products', 'pin', '(');
INSERT INTO persona.rules (items, action) VALUES ('products', 'hide');
-- a column that is dropped later ends its rule, not the search; a dropped catalog ends its rules
INSERT INTO persona.rules (items, action, filter) VALUES ('products', 'pin', '{"attributes": {"is_null": true}}');
ALTER TABLE products RENAME attributes TO more;
SELECT count(*) FROM persona.search(NULL::products, 'puzzle', k => 3);
DROP TABLE stall.wares;
SELECT count(*) FROM persona.rules WHERE items <> 'products'::regclass;
-- options out of range
\set VERBOSITY default
SELECT * FROM persona.search(NULL::products, 'x', options => '{"diversity": 2}');
SELECT * FROM persona.search(NULL::products, 'x', options => '{"caps": {"brand": 0}}');
SELECT * FROM persona.search(NULL::products, 'x', options => '{"caps": {"nothing": 1}}');
SELECT * FROM persona.search(NULL::products, 'x', options => '{"group_by": "nothing"}');
DROP SCHEMA stall; DROP ROLE merchant, passer_by;
-- Trends: what is taken more often of late than its own past and its category have it
INSERT INTO events SELECT 1000 + n, 6, timestamptz '2026-01-21 18:00:00+00' - n * interval '1 hour', 'purchase', NULL, NULL, 'IT' FROM generate_series(1, 20) n;
INSERT INTO persona.rules (items, action, filter, surfaces) VALUES ('products', 'block', '{"id": 2}', '{trending}');
DELETE FROM persona.rules WHERE action = 'pin';
ALTER TABLE products RENAME more TO attributes;
SELECT step, rows FROM persona.refresh('products') WHERE step IN ('stats', 'segments');
SELECT (item).id, position, source, score > 0 AS rises, (SELECT array_agg(key) FROM jsonb_object_keys(parts) key) AS parts FROM persona.trending(NULL::products, k => 1);
SELECT count(*), count(*) FILTER (WHERE source = 'trending') BETWEEN 1 AND 200 AS some_rise, bool_and((item).id <> 2) AS blocked FROM persona.trending(NULL::products, '3 days', k => 200);
SELECT item_id, source FROM persona.trending('products', "window" => '1 day', filter => '{"category": "board game"}', k => 1);
SELECT * FROM persona.trending(NULL::products, '1 second');
-- Nobody known: the segment that the context names, then what is popular, then what is new
SELECT (item).id, source LIKE 'segment%' AS by_segment, parts ? 'context' AS context FROM persona.recommend(NULL::products, context => '{"country": "IT"}', k => 1);
SELECT count(*) FROM persona.recommend(NULL::products, context => '{"country": "NO"}', k => 5) WHERE source LIKE 'segment%';
SELECT persona.score(p, user_id => NULL, context => '{"country": "IT"}') = s.score AS same FROM persona.recommend(NULL::products, context => '{"country": "IT"}', k => 1) s JOIN products p ON p.id = (s.item).id;
INSERT INTO products (id, title) VALUES (3000, 'Just in'), (3001, 'Just in, too');
SELECT array_agg((item).id ORDER BY position) FROM persona.recommend(NULL::products, k => 300) WHERE source = 'new' AND (item).id >= 3000;
-- What recommendations leave out of the past, as the catalog says, unless the call does
CREATE VIEW again AS SELECT count(*) AS rows, count(*) FILTER (WHERE EXISTS (SELECT FROM events e WHERE e.user_id = 1 AND e.kind = 'purchase' AND e.product_id = (r.item).id)) AS owned,
    count(*) FILTER (WHERE EXISTS (SELECT FROM events e WHERE e.user_id = 1 AND e.product_id = (r.item).id)) AS seen FROM persona.recommend(NULL::products, user_id => 1, k => 300) r;
SELECT owned, seen FROM again;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}', brand => 'brand', category => 'category', price => 'price', options => '{"exclude": "owned"}');
SELECT owned, seen FROM again;
SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM events e WHERE e.user_id = 1 AND e.kind = 'purchase' AND e.product_id = (r.item).id)) AS owned FROM persona.recommend(NULL::products, user_id => 1, k => 300, options => '{"exclude_owned": false}') r;
SELECT persona.create_catalog('products', title => 'title', options => '{"exclude": "all"}');
