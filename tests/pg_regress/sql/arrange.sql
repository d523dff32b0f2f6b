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
