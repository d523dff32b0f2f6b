-- A filter is the same as WHERE: every operator against plain SQL. All rows that pass come back.
CREATE TEMP TABLE filters (filter jsonb, condition text);
INSERT INTO filters VALUES
    ('{"brand": "Alba"}', $$brand = 'Alba'$$),
    ('{"brand": ["Alba", "Corvo"]}', $$brand IN ('Alba', 'Corvo')$$),
    ('{"brand": {"not_in": ["Alba", "Corvo"]}}', $$brand NOT IN ('Alba', 'Corvo')$$),
    ('{"brand": {"ne": "Alba"}}', $$brand <> 'Alba'$$),
    ('{"price": {"lt": 30}}', 'price < 30'),
    ('{"price": {"le": 30}}', 'price <= 30'),
    ('{"price": {"gt": 200.5}}', 'price > 200.5'),
    ('{"price": {"ge": 100, "lt": 110}}', 'price >= 100 AND price < 110'),
    ('{"price": {"eq": 100}}', 'price = 100'),
    ('{"id": {"in": [1, 2, 3, 999]}}', 'id IN (1, 2, 3, 999)'),
    ('{"description": {"is_null": true}}', 'description IS NULL'),
    ('{"description": {"is_null": false}}', 'description IS NOT NULL'),
    ('{"description": null}', 'description IS NULL'),
    ('{"tags": {"contains": "blue"}}', $$tags @> '{blue}'$$),
    ('{"tags": {"contains": ["blue", "puzzle"]}}', $$tags @> '{blue,puzzle}'$$),
    ('{"attributes": {"contains": {"size": 40}}}', $$attributes @> '{"size": 40}'$$),
    ('{"brand": []}', 'false'),
    ('{"brand": "Alba", "color": "red", "price": {"lt": 60}}', $$brand = 'Alba' AND color = 'red' AND price < 60$$),
    ('{}', 'true');
CREATE FUNCTION pg_temp.same(filter jsonb, condition text, query text, user_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    wrong bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT id FROM products WHERE %s) w FULL JOIN
        (SELECT (item).id FROM persona.search(NULL::products, $1, user_id => $2, filter => $3, k => 1000)) f USING (id)
        WHERE w.id IS NULL OR f.id IS NULL', condition) INTO wrong USING query, user_id, filter;
    RETURN wrong = 0;
END $$;
SELECT filter, pg_temp.same(filter, condition, 'blue shoes', '1') AS searched, pg_temp.same(filter, condition, NULL, NULL) AS browsed FROM filters;
-- a filter is applied inside the limit
SELECT count(*) FROM persona.search(NULL::products, 'puzzle', filter => '{"category": "leather boots", "brand": "Alba"}', k => 5);
SELECT count(*) FROM persona.search(NULL::products, 'puzzle', filter => '{"price": {"lt": 0}}');
-- wider than can be named one by one: checked batch by batch, with the same outcome
CREATE TABLE many (id int PRIMARY KEY, title text, part int);
INSERT INTO many SELECT n, CASE WHEN n % 50 = 0 THEN 'rare bird ' ELSE 'common bird ' END || n, n % 6 FROM generate_series(1, 30000) n;
SET client_min_messages = warning;
SELECT persona.create_catalog('many', title => 'title');
SELECT count(*), count(*) FILTER (WHERE (item).part = 0) AS wrong FROM persona.search(NULL::many, 'rare', filter => '{"part": {"ne": 0}}', k => 600);
SELECT count(*) FROM many WHERE part <> 0 AND title LIKE 'rare%';
SELECT count(*) FILTER (WHERE (item).title LIKE 'rare%') AS rare, bool_and((item).part <> 0) AS passed
FROM persona.search(NULL::many, 'rare', filter => '{"part": {"ne": 0}}', k => 700);
SELECT count(*), bool_and((item).part <> 0) AS passed FROM persona.search(NULL::many, NULL, filter => '{"part": {"ne": 0}}', k => 1000);
DROP TABLE many;
