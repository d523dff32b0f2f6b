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
ALTER TABLE text_events RENAME COLUMN who TO whom;
SELECT count(*) FROM persona.search(NULL::by_text, 'kettle', user_id => uuid '11111111-1111-1111-1111-111111111111');
SELECT count(*) FROM persona.search(NULL::by_text, 'kettle');
ALTER TABLE text_events RENAME COLUMN whom TO who;
SELECT count(*) FROM persona.search(NULL::by_text, 'kettle', user_id => uuid '11111111-1111-1111-1111-111111111111');
ALTER TABLE by_text RENAME COLUMN sku TO code;
INSERT INTO by_text VALUES ('E-5', 'white kettle');
SELECT count(*) FROM persona.search(NULL::by_text, 'kettle');
ALTER TABLE by_text RENAME COLUMN code TO sku;
SELECT count(*) FROM persona.search(NULL::by_text, 'kettle');
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
-- keys and users of types that need their length or their schema to be named
CREATE DOMAIN sku AS char(6) CHECK (VALUE ~ '^[A-Z]');
CREATE TABLE by_char (code sku PRIMARY KEY, title text, attributes jsonb);
INSERT INTO by_char VALUES ('ABC123', 'blue kettle', '{"color": ["red"]}'), ('ABD', 'red kettle', '{"deep": [{"color": "blue"}]}');
CREATE TABLE char_events (who char(10), what char(6), at date);
CREATE TEXT SEARCH CONFIGURATION shop_words (COPY = pg_catalog.simple);
INSERT INTO char_events VALUES ('A', 'ABC123', '2026-01-01'), ('Alice', 'ABD', '2026-01-01');
SELECT persona.create_catalog('by_char', title => 'title', attributes => '{attributes}', options => '{"text_search": "shop_words"}');
SELECT persona.add_events('by_char', 'char_events', user_id => 'who', item_id => 'what', at => 'at');
SELECT step, rows FROM persona.refresh('by_char') WHERE step IN ('vectors', 'stats');
SELECT (item).code FROM persona.recommend(NULL::by_char, user_id => 'Alice', k => 1, options => '{"exclude_seen": false, "without": ["popularity"]}');
SELECT count(*) FROM persona.search(NULL::by_char, NULL, user_id => 'Azzz') WHERE parts ? 'taste';
SELECT count(*) FROM persona.search(NULL::by_char, 'kettle', filter => '{"code": "ABD"}');
SELECT lexemes FROM by_char_persona ORDER BY key;
DROP TABLE by_char, char_events;
-- the key's type is altered: writers go on with a warning, and the catalog is made anew by a call
CREATE TABLE growing (id int PRIMARY KEY, title text, stock int);
INSERT INTO growing VALUES (1, 'blue kettle', 1), (2, 'red kettle', 2);
SELECT persona.create_catalog('growing', title => 'title');
ALTER TABLE growing ALTER id TYPE bigint;
INSERT INTO growing VALUES (3000000000, 'garden chair', 3);
SELECT persona.create_catalog('growing', title => 'title');
SELECT step, rows FROM persona.refresh('growing') WHERE step IN ('words', 'vectors');
SELECT (item).id FROM persona.search(NULL::growing, 'garden', k => 1);
-- an update that changes no words touches no companion
BEGIN;
UPDATE growing SET stock = stock - 1;
SELECT count(*) FROM pg_locks WHERE relation = 'growing_persona'::regclass AND mode = 'RowExclusiveLock' AND pid = pg_backend_pid();
ROLLBACK;
-- odd dates stop no refresh; an event of the machine's next minute counts; impressions push nothing out
CREATE TABLE growing_events (who int, what bigint, at timestamptz, kind text);
INSERT INTO growing_events VALUES (1, 1, 'infinity', 'purchase'), (1, 1, '1900-01-01', 'purchase'), (2, 3000000000, clock_timestamp() + interval '1 minute', 'purchase');
INSERT INTO growing_events SELECT 2, 1, clock_timestamp() + interval '2 minutes', 'impression' FROM generate_series(1, 300);
INSERT INTO growing_events VALUES (3, 99999999999, now(), 'view');
SELECT persona.add_events('growing', 'growing_events', user_id => 'who', item_id => 'what', at => 'at', kind => 'kind');
SELECT step, rows FROM persona.refresh('growing') WHERE step IN ('stats', 'pairs');
SELECT (item).id FROM persona.recommend(NULL::growing, user_id => 2, k => 1, options => '{"exclude_seen": false, "without": ["popularity"]}');
SELECT count(*) FROM persona.search(NULL::growing, 'kettle', user_id => 3);
-- texts of any length
UPDATE growing SET title = repeat('漢字 ', 300000) WHERE id = 1;
SELECT count(*) FROM persona.search(NULL::growing, 'kettle');
-- tables that change places keep their own companions
ALTER TABLE growing RENAME TO growing_old;
CREATE TABLE growing (id bigint PRIMARY KEY, title text);
INSERT INTO growing VALUES (7, 'new kettle');
SELECT persona.create_catalog('growing', title => 'title');
SELECT (item).id FROM persona.search(NULL::growing, 'kettle', k => 1);
SELECT (item).id FROM persona.search(NULL::growing_old, 'garden', k => 1);
DROP TABLE growing, growing_old, growing_events;
-- so do schemas
CREATE SCHEMA blue; CREATE SCHEMA green;
CREATE TABLE blue.p (id int PRIMARY KEY, title text); INSERT INTO blue.p VALUES (1, 'apple');
CREATE TABLE green.p (id int PRIMARY KEY, title text); INSERT INTO green.p VALUES (1, 'zebra');
SELECT persona.create_catalog('blue.p', title => 'title'), persona.create_catalog('green.p', title => 'title');
SELECT (item).title FROM persona.search(NULL::blue.p, 'fruit', k => 1);
ALTER SCHEMA blue RENAME TO old; ALTER SCHEMA green RENAME TO blue;
SELECT (item).title FROM persona.search(NULL::blue.p, 'fruit', k => 1);
SELECT (item).title FROM persona.search(NULL::old.p, 'fruit', k => 1);
DROP SCHEMA old, blue CASCADE;
-- inheritance: the children's rows are the parent's, and refresh compares
CREATE TABLE parent (id int PRIMARY KEY, title text);
CREATE TABLE child () INHERITS (parent);
SELECT persona.create_catalog('parent', title => 'title');
INSERT INTO child VALUES (1, 'phone');
SELECT step, rows FROM persona.refresh('parent') WHERE step IN ('words', 'vectors');
UPDATE child SET title = 'book';
SELECT step, rows FROM persona.refresh('parent') WHERE step IN ('words', 'vectors');
DROP TABLE parent, child;
-- a view whose key is not unique: one of the rows is the item
CREATE VIEW twice AS SELECT n % 3 AS id, 'phone ' || n AS title FROM generate_series(1, 6) n;
SELECT persona.create_catalog('twice', title => 'title', options => '{"key": "id"}');
SELECT step, rows FROM persona.refresh('twice') WHERE step IN ('words', 'vectors');
DROP VIEW twice;
-- the trigger function is for persona's own triggers
CREATE TABLE misused (id int PRIMARY KEY, title text);
SELECT persona.create_catalog('misused', title => 'title');
CREATE TRIGGER by_statement AFTER INSERT ON misused FOR EACH STATEMENT EXECUTE FUNCTION persona._mark();
INSERT INTO misused VALUES (1, 'one');
DROP TRIGGER by_statement ON misused;
CREATE TRIGGER before_row BEFORE INSERT ON misused FOR EACH ROW EXECUTE FUNCTION persona._mark();
INSERT INTO misused VALUES (1, 'one');
DROP TRIGGER before_row ON misused;
-- a catalog ends with any of its tables, and the shop goes on
DROP TABLE misused_persona_pairs;
INSERT INTO misused VALUES (1, 'one');
SELECT to_regclass('misused_persona');
SELECT count(*) FROM persona.search(NULL::misused, 'one');
DROP TABLE misused;
-- work commits, so it needs to begin its own transaction
BEGIN;
INSERT INTO products (id, title) VALUES (5000, 'a thing');
CALL persona.work('refresh', 'products');
ROLLBACK;
CALL persona.work('refresh', 'products');
-- more statements than a backend keeps plans for, from inside a view that a search reads
CREATE TABLE deep (id int PRIMARY KEY, title text, a int, b int, c int, d int, e int, f int, g int, h int);
INSERT INTO deep (id, title) SELECT n, 'deep thing ' || n FROM generate_series(1, 5) n;
SELECT persona.create_catalog('deep', title => 'title');
CREATE FUNCTION storm() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    filter jsonb;
BEGIN
    FOR filter IN SELECT jsonb_object_agg(chr(97 + b), NULL) FROM generate_series(1, 255) n, generate_series(0, 7) b WHERE n >> b & 1 = 1 GROUP BY n LOOP
        PERFORM 1 FROM persona.search(NULL::public.deep, 'thing', filter => filter, k => 1);
    END LOOP;
    RETURN 1;
END $$;
CREATE VIEW deep_view AS SELECT id, title, CASE WHEN id = 2 THEN storm() ELSE id END AS s FROM deep;
SELECT persona.create_catalog('deep_view', title => 'title', options => '{"key": "id"}');
SELECT count(*) FROM persona.search(NULL::deep_view, 'thing');
SELECT count(*) FROM persona.search(NULL::deep_view, 'thing');
DROP VIEW deep_view; DROP TABLE deep;
-- companions that their owner altered are an error, never bytes taken for what they are not
CREATE TABLE bent (id int PRIMARY KEY, title text);
INSERT INTO bent VALUES (1, 'apple'), (2, 'pear');
SELECT persona.create_catalog('bent', title => 'title');
SELECT step, rows FROM persona.refresh('bent') WHERE step = 'vectors';
DROP INDEX bent_persona_lexemes_idx;
ALTER TABLE bent_persona ALTER lexemes TYPE int USING 5;
SELECT count(*) FROM persona.search(NULL::bent, 'apple', options => '{"sources": ["dense"]}');
SELECT persona.drop_catalog('bent');
SELECT persona.create_catalog('bent', title => 'title');
ALTER TABLE bent_persona ALTER id TYPE int;
SELECT count(*) FROM persona.search(NULL::bent, 'apple', options => '{"sources": ["dense"]}');
DROP TABLE bent;
