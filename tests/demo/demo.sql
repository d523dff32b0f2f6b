-- What `make demo` shows, over the shop of shop.sql. Every block is plain SQL that works as well in your own psql.
\pset pager off
\set QUIET off

\echo
\echo '-- 1. A catalog over the shop''s own table, and the behaviour table beside it.'
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{type,color,material}',
    brand => 'brand', category => 'category', price => 'price', options => '{"text_search": "english"}');
SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind',
    query => 'query', session => 'session', context => '{device,country}');

\echo '-- 2. Every product is embedded by a transformer inside Postgres.'
SELECT step, rows, round(seconds::numeric, 1) AS seconds FROM persona.refresh('products');

\echo '-- 3. One search, without a shopper ...'
SELECT position, (item).title, (item).color, (item).price, round(score::numeric, 3) AS score
FROM persona.search(NULL::products, 'running shoes', k => 6);

\echo '-- ... for Ada, who runs on trails and buys Norvik and Tarn ...'
SELECT position, (item).title, (item).color, (item).price, round(score::numeric, 3) AS score
FROM persona.search(NULL::products, 'running shoes', user_id => 1, k => 6);

\echo '-- ... and for Ben, who races on roads and buys Aerion and Pacewell.'
SELECT position, (item).title, (item).color, (item).price, round(score::numeric, 3) AS score
FROM persona.search(NULL::products, 'running shoes', user_id => 2, k => 6);

\echo '-- 4. Why Ada sees what she sees: the parts of the score sum to the score.'
SELECT (item).title, score, jsonb_pretty(parts) AS parts,
    score = (SELECT sum(value::float8) FROM jsonb_each_text(parts))::real AS they_sum
FROM persona.search(NULL::products, 'running shoes', user_id => 1, k => 2);

\echo '-- 5. An event changes the next search, in the same transaction. Ben puts three pairs of Fernway in his cart ...'
CREATE TEMP TABLE before AS SELECT position, (item).id, score FROM persona.search(NULL::products, 'running shoes', user_id => 2, k => 50);
BEGIN;
INSERT INTO events (user_id, product_id, at, kind, session)
SELECT 2, id, timestamptz '2025-09-30 12:00+00', 'cart', 'tonight' FROM products
WHERE brand = 'Fernway' AND type = 'running shoes' ORDER BY id LIMIT 3;
SELECT s.position, (s.item).title, before.position AS before, round(s.score::numeric, 3) AS score
FROM persona.search(NULL::products, 'running shoes', user_id => 2, k => 6) s LEFT JOIN before ON before.id = (s.item).id
ORDER BY 1;
ROLLBACK;
\echo '-- ... and after ROLLBACK it never happened, bit for bit.'
SELECT bool_and((now.item).id = before.id AND now.score = before.score) AS as_before, count(*) AS rows
FROM persona.search(NULL::products, 'running shoes', user_id => 2, k => 50) now JOIN before USING (position);

\echo '-- 6. Filters are values to bind, and hold inside the search: five rows come back whenever five match.'
SELECT position, (item).title, (item).color, (item).price
FROM persona.search(NULL::products, 'something warm for cold evenings', user_id => 1,
    filter => '{"color": ["green", "olive"], "price": {"lt": 90}}', k => 5);

\echo '-- 7. Or rank the rows of any SELECT of your own.'
SELECT p.title, p.price, round(persona.score(p, 'jacket for heavy rain', user_id => 1)::numeric, 3) AS score
FROM products p WHERE p.category = 'Hiking' AND p.released > '2025-01-01'
ORDER BY score DESC LIMIT 5;
