-- Who may do what.
SET client_min_messages = warning;
CREATE ROLE shop_owner; CREATE ROLE shop_reader; CREATE ROLE shop_analyst; CREATE ROLE shop_writer; CREATE ROLE stranger;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
GRANT USAGE ON SCHEMA shop TO shop_reader, shop_analyst, shop_writer, stranger;
SET ROLE shop_owner;
CREATE TABLE shop.wares (id int PRIMARY KEY, title text, secret boolean DEFAULT false);
INSERT INTO shop.wares SELECT n, 'ware number ' || n, n % 2 = 0 FROM generate_series(1, 40) n;
CREATE TABLE shop.visits (shopper int, ware int, at timestamptz);
CREATE INDEX ON shop.visits (shopper, at);
INSERT INTO shop.visits SELECT s, 1 + (s * 5 + v) % 40, timestamptz '2026-01-01' + v * interval '1 hour' FROM generate_series(1, 12) s, generate_series(1, 6) v;
SELECT persona.create_catalog('shop.wares', title => 'title');
SELECT persona.add_events('shop.wares', 'shop.visits', user_id => 'shopper', item_id => 'ware', at => 'at', kind_value => 'view');
SELECT step, rows FROM persona.refresh('shop.wares');
GRANT SELECT ON shop.wares TO shop_reader, shop_analyst;
GRANT SELECT ON shop.visits TO shop_analyst;
GRANT INSERT, UPDATE, DELETE, SELECT ON shop.wares TO shop_writer;
-- the analyst reads both
SET ROLE shop_analyst;
SELECT count(*) FROM persona.search(NULL::shop.wares, 'ware', user_id => 1);
SELECT persona.score(w, 'ware', user_id => 1) > 0 FROM shop.wares w WHERE id = 1;
SELECT count(*) FROM shop.wares_persona;
SELECT persona.refresh('shop.wares');
SELECT persona.create_catalog('shop.wares', title => 'title');
SELECT persona.drop_catalog('shop.wares');
SELECT persona.drop_events('shop.wares', 'shop.visits');
SELECT count(*) FROM persona.catalog;
SELECT items FROM persona.catalogs;
SET persona.model_dir = '/';
-- the reader reads items only: no user id
SET ROLE shop_reader;
SELECT count(*) FROM persona.search(NULL::shop.wares, 'ware');
SELECT count(*) FROM persona.search(NULL::shop.wares, 'ware', user_id => 1);
SELECT persona.score(w, 'ware', user_id => 1) FROM shop.wares w WHERE id = 1;
-- the writer needs no right on the companions
SET ROLE shop_writer;
INSERT INTO shop.wares VALUES (100, 'quince');
UPDATE shop.wares SET title = 'quince jam' WHERE id = 100;
SELECT (item).id FROM persona.search(NULL::shop.wares, 'quince', k => 1);
DELETE FROM shop.wares WHERE id = 100;
-- the stranger sees nothing
SET ROLE stranger;
SELECT count(*) FROM persona.search(NULL::shop.wares, 'ware');
SELECT items FROM persona.catalogs;
-- row-level security: hidden rows stay hidden, as many rows come back as the caller may see
SET ROLE shop_owner;
ALTER TABLE shop.wares ENABLE ROW LEVEL SECURITY;
CREATE POLICY open ON shop.wares FOR SELECT TO shop_reader, shop_analyst USING (NOT secret);
SET ROLE shop_analyst;
SELECT count(*), bool_or((item).secret) FROM persona.search(NULL::shop.wares, 'ware', k => 40);
SELECT count(*), bool_or((item).secret) FROM persona.search(NULL::shop.wares, 'ware number 2', user_id => 1, k => 15);
SELECT count(*), bool_or((item).secret) FROM persona.search(NULL::shop.wares, '', k => 40, filter => '{"id": {"le": 10}}');
-- a forged row says nothing of a hidden item, not even that there is one
SELECT persona.score(ROW(2, 'forged', false)::shop.wares, 'number') = persona.score(ROW(4711, 'forged', false)::shop.wares, 'number') AS nothing_shown;
SELECT persona.score(ROW(1, 'forged', false)::shop.wares, 'number') > persona.score(ROW(4711, 'forged', false)::shop.wares, 'number') AS own_rows_count;
-- nor of a column that the caller may not read
RESET ROLE;
REVOKE SELECT ON shop.wares FROM shop_reader;
GRANT SELECT (id, secret) ON shop.wares TO shop_reader;
SET ROLE shop_reader;
SELECT persona.score(ROW(1, 'forged', false)::shop.wares, 'number');
-- row-level security on events: a shopper's history is what the caller may see of it
SET ROLE shop_owner;
ALTER TABLE shop.visits ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.visits FOR SELECT TO shop_analyst USING (shopper = 2);
SET ROLE shop_analyst;
SELECT bool_or(parts ? 'taste') FROM persona.search(NULL::shop.wares, 'ware', user_id => 1);
SELECT bool_or(parts ? 'taste') FROM persona.search(NULL::shop.wares, 'ware', user_id => 2);
-- companions follow the items to a new owner
RESET ROLE;
GRANT ALL ON SCHEMA shop TO shop_writer;
ALTER TABLE shop.wares OWNER TO shop_writer;
SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname LIKE 'wares%';
GRANT SELECT ON shop.wares, shop.visits TO shop_writer;
SET ROLE shop_writer;
INSERT INTO shop.wares VALUES (101, 'medlar');
SELECT (item).id FROM persona.search(NULL::shop.wares, 'medlar', k => 1);
-- names that a caller shadows are not taken
RESET ROLE;
CREATE SCHEMA evil;
GRANT ALL ON SCHEMA evil TO shop_analyst;
SET ROLE shop_analyst;
CREATE FUNCTION evil.boom(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'taken as %', current_user; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.boom, LEFTARG = bigint, RIGHTARG = bigint);
CREATE FUNCTION evil.boom(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'taken as %', current_user; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.boom, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION evil.boom(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'taken as %', current_user; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.boom, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION evil.count(integer) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'taken as %', current_user; END $$;
SET search_path = evil, pg_catalog, public, persona;
SELECT pg_catalog.count(*) FROM persona.search(NULL::shop.wares, 'ware', user_id => 2, filter => '{"id": {"le": 10}}');
SELECT persona.score(w, 'ware', user_id => 2) > 0 FROM shop.wares w WHERE w.id < 2;
RESET search_path;
RESET ROLE;
SELECT n.nspname || '.' || p.proname AS definer, p.proconfig FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'persona' AND p.prosecdef ORDER BY 1;
DROP SCHEMA shop, evil CASCADE;
DROP ROLE shop_owner, shop_reader, shop_analyst, shop_writer, stranger;
