-- The shop that the other files use: shoes and games, and shoppers who take the one or the other.
CREATE EXTENSION vector;
CREATE EXTENSION pg_persona;
SELECT pg_catalog.set_config('default_text_search_config', 'pg_catalog.english', false);
CREATE TABLE products (
    id bigint PRIMARY KEY,
    title text NOT NULL,
    description text,
    brand text,
    category text,
    color text,
    price numeric,
    tags text[],
    attributes jsonb
);
INSERT INTO products
SELECT i, initcap(c.color) || ' ' || k.kind || ' ' || i, k.about, b.brand, k.kind, c.color, 10 + i, ARRAY[c.color, k.kind],
       jsonb_build_object('material', k.material, 'size', 36 + i % 10)
FROM generate_series(1, 240) i
JOIN (VALUES (0, 'running shoes', 'light shoes for the road', 'mesh'), (1, 'leather boots', 'warm boots for winter', 'leather'),
    (2, 'board game', 'a game for the family evening', 'paper'), (3, 'puzzle', 'a thousand pieces for patient people', 'paper')) k(n, kind, about, material) ON k.n = i % 4
JOIN (VALUES (0, 'red'), (1, 'blue'), (2, 'green')) c(n, color) ON c.n = i % 3
JOIN (VALUES (0, 'Alba'), (1, 'Borealis'), (2, 'Corvo'), (3, 'Delta'), (4, 'Egret')) b(n, brand) ON b.n = i % 5;
CREATE TABLE events (user_id bigint, product_id bigint, at timestamptz, kind text, query text, session text, country text);
CREATE INDEX ON events (user_id, at);
-- Shoppers 1 to 30 buy running shoes (and blue ones first), 31 to 60 board games.
INSERT INTO events
SELECT u, 4 * (1 + (u * 7 + s * 3) % 59) + CASE WHEN u <= 30 THEN 0 ELSE 2 END, timestamptz '2026-01-01 12:00:00+00' + s * interval '1 day' + u * interval '1 minute',
       CASE WHEN s % 3 = 0 THEN 'purchase' ELSE 'view' END, NULL, 's' || u || '-' || s / 4, 'FR'
FROM generate_series(1, 60) u, generate_series(1, 9) s;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price');
SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind',
    query => 'query', session => 'session', context => '{country}');
SET client_min_messages = warning;
SELECT step, rows FROM persona.refresh('products');
SELECT items, key, title, body, attributes, brand, category, price, model, text_search, events, companions FROM persona.catalogs;
-- again: nothing to do for words and vectors
SELECT step, rows FROM persona.refresh('products');
