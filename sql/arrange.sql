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

-- rules: a filter or a pattern that nobody can read is refused when it is written, not when somebody searches
COMMENT ON FUNCTION persona._check_rule(oid, jsonb) IS 'internal: refuses a filter that does not fit the columns of an item table';

CREATE FUNCTION persona._rule() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM persona._check_rule(NEW.items, NEW.filter);
    PERFORM '' ~* NEW.pattern;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION persona._rule() IS 'internal: refuses a rule whose filter or pattern cannot be read';
CREATE TRIGGER checked BEFORE INSERT OR UPDATE ON persona.rules FOR EACH ROW EXECUTE FUNCTION persona._rule();
COMMENT ON TRIGGER checked ON persona.rules IS 'refuses a rule whose filter or pattern cannot be read';

CREATE FUNCTION persona.propensity(source text) RETURNS real
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT COALESCE(pg_catalog.substring(source, ' p=([0-9.e-]+)$')::real, 1) $$;
COMMENT ON FUNCTION persona.propensity(text) IS 'the chance with which an item came to stand at its place, read from the source of its row; 1 where nothing was left to chance';

COMMENT ON FUNCTION persona.trending(anyelement, interval, jsonb, int, jsonb) IS 'rows of a catalogued table that are taken more often of late than their own past and their category have it, best first';

CREATE FUNCTION persona.trending(items text, "window" interval DEFAULT '7 days', filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._trending($1::pg_catalog.regclass, $2, $3, $4, $5) $$;
COMMENT ON FUNCTION persona.trending(text, interval, jsonb, int, jsonb) IS 'trending by the table''s name, with rows as jsonb';
COMMENT ON FUNCTION persona._trending(oid, interval, jsonb, int, jsonb) IS 'internal: trending by a table''s name';
