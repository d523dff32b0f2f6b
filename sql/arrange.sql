-- Lists that begin at an item: overloads and comments. What is found, similar.rs says.

COMMENT ON FUNCTION persona.similar(anyelement, text, jsonb, int, jsonb) IS 'rows like an item, best first for this shopper: row, score, position, source and the parts that sum to the score';

CREATE FUNCTION persona.similar(item anyelement, user_id bigint, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.similar(item, user_id::pg_catalog.text, filter, k, options) $$;
COMMENT ON FUNCTION persona.similar(anyelement, bigint, jsonb, int, jsonb) IS 'similar for a shopper whose id is an integer';

CREATE FUNCTION persona.similar(item anyelement, user_id uuid, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.similar(item, user_id::pg_catalog.text, filter, k, options) $$;
COMMENT ON FUNCTION persona.similar(anyelement, uuid, jsonb, int, jsonb) IS 'similar for a shopper whose id is a uuid';

CREATE FUNCTION persona.similar(items text, item_id text, user_id text DEFAULT NULL, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._similar($1::pg_catalog.regclass, $2, $3, $4, $5, $6) $$;
COMMENT ON FUNCTION persona.similar(text, text, text, jsonb, int, jsonb) IS 'similar by the table''s name and the item''s key, with rows as jsonb';

CREATE FUNCTION persona.similar(items text, item_id text, user_id bigint, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._similar($1::pg_catalog.regclass, $2, $3::pg_catalog.text, $4, $5, $6) $$;
COMMENT ON FUNCTION persona.similar(text, text, bigint, jsonb, int, jsonb) IS 'similar by the table''s name and the item''s key, with rows as jsonb for a shopper whose id is an integer';

CREATE FUNCTION persona.similar(items text, item_id text, user_id uuid, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._similar($1::pg_catalog.regclass, $2, $3::pg_catalog.text, $4, $5, $6) $$;
COMMENT ON FUNCTION persona.similar(text, text, uuid, jsonb, int, jsonb) IS 'similar by the table''s name and the item''s key, with rows as jsonb for a shopper whose id is a uuid';
COMMENT ON FUNCTION persona._similar(oid, text, text, jsonb, int, jsonb) IS 'internal: similar by a table''s name';

COMMENT ON FUNCTION persona.bought_together(anyelement, text, jsonb, int, jsonb) IS 'rows that go with an item in one basket, best first for this shopper: row, score, position, source and the parts that sum to the score; options: basket';

CREATE FUNCTION persona.bought_together(item anyelement, user_id bigint, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.bought_together(item, user_id::pg_catalog.text, filter, k, options) $$;
COMMENT ON FUNCTION persona.bought_together(anyelement, bigint, jsonb, int, jsonb) IS 'bought_together for a shopper whose id is an integer';

CREATE FUNCTION persona.bought_together(item anyelement, user_id uuid, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.bought_together(item, user_id::pg_catalog.text, filter, k, options) $$;
COMMENT ON FUNCTION persona.bought_together(anyelement, uuid, jsonb, int, jsonb) IS 'bought_together for a shopper whose id is a uuid';

CREATE FUNCTION persona.bought_together(items text, item_id text, user_id text DEFAULT NULL, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._bought_together($1::pg_catalog.regclass, $2, $3, $4, $5, $6) $$;
COMMENT ON FUNCTION persona.bought_together(text, text, text, jsonb, int, jsonb) IS 'bought_together by the table''s name and the item''s key, with rows as jsonb';

CREATE FUNCTION persona.bought_together(items text, item_id text, user_id bigint, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._bought_together($1::pg_catalog.regclass, $2, $3::pg_catalog.text, $4, $5, $6) $$;
COMMENT ON FUNCTION persona.bought_together(text, text, bigint, jsonb, int, jsonb) IS 'bought_together by the table''s name and the item''s key, with rows as jsonb for a shopper whose id is an integer';

CREATE FUNCTION persona.bought_together(items text, item_id text, user_id uuid, filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._bought_together($1::pg_catalog.regclass, $2, $3::pg_catalog.text, $4, $5, $6) $$;
COMMENT ON FUNCTION persona.bought_together(text, text, uuid, jsonb, int, jsonb) IS 'bought_together by the table''s name and the item''s key, with rows as jsonb for a shopper whose id is a uuid';
COMMENT ON FUNCTION persona._bought_together(oid, text, text, jsonb, int, jsonb) IS 'internal: bought_together by a table''s name';
