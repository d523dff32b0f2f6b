SET client_min_messages = warning;
-- One query, two shoppers.
SELECT (item).title, position, source FROM persona.search(NULL::products, 'something blue', k => 3);
SELECT (item).category, count(*) FROM persona.search(NULL::products, 'something blue', user_id => 1, k => 10) GROUP BY 1 ORDER BY 2 DESC LIMIT 1;
SELECT (item).category, count(*) FROM persona.search(NULL::products, 'something blue', user_id => 31, k => 10) GROUP BY 1 ORDER BY 2 DESC LIMIT 1;
-- a user id is text, integer, bigint or uuid
SELECT count(*) FROM persona.search(NULL::products, 'boots', user_id => '1');
SELECT count(*) FROM persona.search(NULL::products, 'boots', user_id => 1::bigint);
SELECT count(*) FROM persona.search('products', 'boots', user_id => 1, k => 5);
SELECT item_id, item ->> 'category' AS category FROM persona.search('products', 'boots', k => 2) ORDER BY position;
-- the parts sum to the score, in any order
SELECT count(*) AS searched, bool_and(score = (SELECT sum(value::float8)::real FROM jsonb_each_text(parts))) AS sums,
    bool_and(score = (SELECT sum(value::float8 ORDER BY value)::real FROM jsonb_each_text(parts))) AS sums_sorted
FROM persona.search(NULL::products, 'blue running shoes', user_id => 1, k => 100);
-- score gives a row what search gives it
SELECT count(*) AS same FROM persona.search(NULL::products, 'blue running shoes', user_id => 1, k => 50) s
JOIN products p ON p.id = (s.item).id WHERE persona.score(p, 'blue running shoes', user_id => 1) = s.score;
SELECT id FROM products p WHERE price < 40 ORDER BY persona.score(p, 'puzzle', user_id => 1) DESC, id LIMIT 3;
-- no query, nobody: browsing
SELECT count(*) FROM persona.search(NULL::products, NULL);
SELECT count(*) FROM persona.search(NULL::products, '');
SELECT (item).category, count(*) FROM persona.search(NULL::products, '', user_id => 40, k => 10) GROUP BY 1 ORDER BY 2 DESC LIMIT 1;
SELECT count(*) FROM persona.search(NULL::products, 'puzzle', user_id => 4711);
SELECT count(*) FROM persona.search(NULL::products, 'zzzz qqqq');
-- what was seen can stay out
SELECT count(*) FROM persona.search(NULL::products, 'shoes', user_id => 1, k => 60, options => '{"exclude_seen": true}') s
WHERE EXISTS (SELECT FROM events e WHERE e.user_id = 1 AND e.product_id = (s.item).id);
-- dimensions can be left out or scaled
SELECT bool_or(parts ? 'taste') AS taste, bool_or(parts ? 'popularity') AS popularity
FROM persona.search(NULL::products, 'shoes', user_id => 1, options => '{"without": ["taste"]}');
SELECT max((parts ->> 'relevance')::float8) > 2 * 4 AS scaled FROM persona.search(NULL::products, 'shoes', options => '{"weights": {"relevance": 2}}');
-- pages
SELECT array_agg(position) FROM persona.search(NULL::products, 'shoes', k => 3, options => '{"offset": 5}');
SELECT (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'shoes', k => 10))
     = (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'shoes', k => 5))
    || (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'shoes', k => 5, options => '{"offset": 5}')) AS pages;
-- an event moves the next result, in the same transaction; ROLLBACK unlearns it
CREATE TEMP TABLE before AS SELECT * FROM persona.search(NULL::products, 'a present', user_id => 77, k => 240);
BEGIN;
INSERT INTO events VALUES (77, 3, now(), 'purchase', NULL, NULL, NULL);
SELECT (SELECT avg(position) FROM persona.search(NULL::products, 'a present', user_id => 77, k => 240) WHERE (item).category = 'puzzle')
     < (SELECT avg(position) FROM before WHERE (item).category = 'puzzle') AS puzzles_move_up;
ROLLBACK;
SELECT count(*) AS bitwise_the_same FROM persona.search(NULL::products, 'a present', user_id => 77, k => 240) a
JOIN before b USING (position) WHERE (a.item).id = (b.item).id AND a.score = b.score AND a.parts = b.parts;
-- recommend: no query; what was taken before stays out, unless asked for
SELECT (item).category, count(*) FROM persona.recommend(NULL::products, user_id => 1, k => 10) GROUP BY 1 ORDER BY 2 DESC LIMIT 1;
SELECT count(*) FROM persona.recommend(NULL::products, user_id => 1, k => 200) r WHERE EXISTS (SELECT FROM events e WHERE e.user_id = 1 AND e.product_id = (r.item).id);
SELECT count(*) > 0 FROM persona.recommend(NULL::products, user_id => 1, k => 20, options => '{"exclude_seen": false}') r WHERE EXISTS (SELECT FROM events e WHERE e.user_id = 1 AND e.product_id = (r.item).id);
SELECT count(*) FROM persona.recommend(NULL::products);
SELECT count(*) FROM persona.recommend(NULL::products, user_id => 4711, k => 5, filter => '{"brand": "Alba"}');
SELECT item ->> 'category' AS category FROM persona.recommend('products', user_id => 31, k => 1);
-- the session counts on its own
SELECT bool_or(parts ? 'session') FROM persona.search(NULL::products, 'shoes', user_id => 1, context => '{"session": "s1-1"}');
SELECT bool_or(parts ? 'session') FROM persona.search(NULL::products, 'shoes', user_id => 1);
-- a moment before all events: nobody is known yet
SELECT bool_or(parts ? 'taste') FROM persona.search(NULL::products, 'shoes', user_id => 1, context => '{"at": "2025-12-31"}');
-- words are there at once, vectors after a refresh
INSERT INTO products (id, title) VALUES (1000, 'Zwieback toaster');
SELECT (item).id, source FROM persona.search(NULL::products, 'zwieback', k => 1);
UPDATE products SET title = 'Crispbread toaster' WHERE id = 1000;
SELECT count(*) FROM persona.search(NULL::products, 'zwieback', k => 240) WHERE parts ? 'relevance' AND (item).id = 1000;
SELECT (item).id FROM persona.search(NULL::products, 'crispbread', k => 1);
SELECT step, rows FROM persona.refresh('products') WHERE step IN ('words', 'vectors');
UPDATE products SET price = price + 1 WHERE id = 1000;
SELECT step, rows FROM persona.refresh('products') WHERE step IN ('words', 'vectors');
UPDATE products SET id = 1001 WHERE id = 1000;
SELECT (item).id FROM persona.search(NULL::products, 'crispbread', k => 1);
DELETE FROM products WHERE id = 1001;
SELECT count(*) FROM products_persona;
-- without a query or a user the same call is stable and can be prepared
PREPARE find(text, bigint) AS SELECT (item).id FROM persona.search(NULL::products, $1, user_id => $2, k => 1);
EXECUTE find('puzzle', 1); EXECUTE find('puzzle', 1); EXECUTE find('puzzle', 1); EXECUTE find('puzzle', 1);
EXECUTE find('puzzle', 1); EXECUTE find('puzzle', 1); EXECUTE find('puzzle', 1);
