-- Keys of any type, views, partitions, names that need quoting; altering, dropping.
SET client_min_messages = warning;
CREATE TABLE by_text (sku text PRIMARY KEY, name varchar(80));
INSERT INTO by_text VALUES ('A-1', 'blue kettle'), ('B''2', 'red kettle'), ('C"3', 'garden chair');
CREATE TABLE text_events (who uuid, sku text, at timestamp);
INSERT INTO text_events VALUES ('11111111-1111-1111-1111-111111111111', 'C"3', '2026-01-01'), ('11111111-1111-1111-1111-111111111111', 'gone', '2026-01-02');
SELECT persona.create_catalog('by_text', title => 'name');
SELECT persona.add_events('by_text', 'text_events', user_id => 'who', item_id => 'sku', at => 'at', kind_value => 'view');
SELECT step, rows FROM persona.refresh('by_text');
SELECT (item).sku, parts ? 'taste' AS taste FROM persona.search(NULL::by_text, 'kettle', user_id => uuid '11111111-1111-1111-1111-111111111111') ORDER BY position;
CREATE SCHEMA "Odd Shop";
CREATE TABLE "Odd Shop"."Items; --" ("the Key" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "The ""Title""" text, "order" int);
INSERT INTO "Odd Shop"."Items; --" ("The ""Title""", "order") VALUES ('odd lamp', 1), ('odd table', 2);
SELECT persona.create_catalog('"Odd Shop"."Items; --"', title => 'The "Title"');
SELECT step, rows FROM persona.refresh('"Odd Shop"."Items; --"');
SELECT (item)."The ""Title""" FROM persona.search(NULL::"Odd Shop"."Items; --", 'lamp', filter => '{"order": {"lt": 5}}') ORDER BY position;
SELECT item ->> 'order' AS "order" FROM persona.search('"Odd Shop"."Items; --"', 'table', k => 1);
DROP SCHEMA "Odd Shop" CASCADE;
-- a partitioned table; a partition resolves to it, and gives its own rows only
CREATE TABLE parted (id int PRIMARY KEY, title text) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200);
INSERT INTO parted SELECT n, 'partitioned thing ' || n FROM generate_series(90, 109) n;
SELECT persona.create_catalog('parted', title => 'title');
INSERT INTO parted VALUES (150, 'partitioned late thing');
INSERT INTO parted_low VALUES (50, 'partitioned early thing');
SELECT step, rows FROM persona.refresh('parted') WHERE step IN ('words', 'vectors');
SELECT count(*) FROM persona.search(NULL::parted, 'thing', k => 50);
SELECT count(*), min((item).id), max((item).id) FROM persona.search(NULL::parted_high, 'thing', k => 50);
SELECT (item).id FROM persona.search(NULL::parted, 'early', k => 1);
SELECT id, persona.score(p, 'thing') > 0 FROM parted_low p ORDER BY id LIMIT 1;
SELECT persona.create_catalog('parted_low', title => 'title');
ALTER TABLE parted DETACH PARTITION parted_high;
SELECT step, rows FROM persona.refresh('parted') WHERE step IN ('words', 'vectors');
-- views have no trigger: refresh compares
CREATE VIEW cheap AS SELECT id, title, price FROM products WHERE price < 20;
SELECT persona.create_catalog('cheap', title => 'title');
SELECT persona.create_catalog('cheap', title => 'title', options => '{"key": "id"}');
SELECT step, rows FROM persona.refresh('cheap') WHERE step IN ('words', 'vectors');
UPDATE products SET title = 'Golden thing' WHERE id = 1;
SELECT step, rows FROM persona.refresh('cheap') WHERE step IN ('words', 'vectors');
SELECT (item).title FROM persona.search(NULL::cheap, 'golden', k => 1);
CREATE MATERIALIZED VIEW cheap_now AS SELECT id, title FROM products WHERE price < 20;
SELECT persona.create_catalog('cheap_now', title => 'title', options => '{"key": "id"}');
SELECT step, rows FROM persona.refresh('cheap_now') WHERE step IN ('words', 'vectors');
SELECT (item).title FROM persona.search(NULL::cheap_now, 'golden', k => 1);
-- called again, it alters; what was embedded stays where its text does
SELECT persona.create_catalog('by_text', title => 'name', attributes => '{sku}');
SELECT step, rows FROM persona.refresh('by_text') WHERE step IN ('words', 'vectors');
-- a renamed column warns the shop's writers and stops nobody
ALTER TABLE by_text RENAME COLUMN name TO label;
INSERT INTO by_text VALUES ('D-4', 'green kettle');
SELECT count(*) FROM by_text;
SELECT step, rows FROM persona.refresh('by_text');
SELECT persona.create_catalog('by_text', title => 'label');
SELECT step, rows FROM persona.refresh('by_text') WHERE step IN ('words', 'vectors');
SELECT (item).sku FROM persona.search(NULL::by_text, 'green kettle', k => 1);
TRUNCATE by_text;
SELECT count(*) FROM by_text_persona;
-- dropping
SELECT persona.drop_events('by_text', 'text_events');
DROP TABLE text_events, by_text;
SELECT to_regclass('by_text_persona'), to_regclass('by_text_persona_terms');
SELECT persona.drop_catalog('parted');
SELECT to_regclass('parted_persona'), (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'parted'::regclass);
DROP MATERIALIZED VIEW cheap_now;
DROP VIEW cheap;
DROP TABLE parted, parted_high;
SELECT items FROM persona.catalogs;
-- made and dropped in a transaction that is rolled back
BEGIN;
SELECT persona.drop_catalog('products');
ROLLBACK;
SELECT count(*) FROM persona.search(NULL::products, 'puzzle');
SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE c.relname LIKE '%\_persona%' AND c.relkind = 'r' AND c.relname NOT LIKE 'products%';
