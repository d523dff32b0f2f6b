-- Understanding the query: what it means, what it may become, what was asked in vain.

CREATE FUNCTION persona.understand(items regclass, query text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$ SELECT persona._understand(items, query, true) $$;
COMMENT ON FUNCTION persona.understand(regclass, text) IS 'what a query means: normalized, corrected, language, tokens, entities, price, a filter to use if wanted, without, dropped, category, intent with its confidence';

CREATE FUNCTION persona.suggest(items regclass, prefix text, user_id text DEFAULT NULL, k int DEFAULT 10)
RETURNS TABLE (suggestion text, score real)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10
AS $$ SELECT * FROM persona._suggest(items, prefix, user_id, k) $$;
COMMENT ON FUNCTION persona.suggest(regclass, text, text, int) IS 'completes what is being typed, from what shoppers asked and from the catalog, for this shopper';

CREATE FUNCTION persona.suggest(items regclass, prefix text, user_id bigint, k int DEFAULT 10)
RETURNS TABLE (suggestion text, score real)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10
AS $$ SELECT * FROM persona._suggest(items, prefix, user_id::pg_catalog.text, k) $$;
COMMENT ON FUNCTION persona.suggest(regclass, text, bigint, int) IS 'suggest for a shopper whose id is an integer';

CREATE FUNCTION persona.suggest(items regclass, prefix text, user_id uuid, k int DEFAULT 10)
RETURNS TABLE (suggestion text, score real)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10
AS $$ SELECT * FROM persona._suggest(items, prefix, user_id::pg_catalog.text, k) $$;
COMMENT ON FUNCTION persona.suggest(regclass, text, uuid, int) IS 'suggest for a shopper whose id is a uuid';

CREATE VIEW persona.unanswered AS
SELECT u.items::pg_catalog.regclass AS items, u.query, u.asked, u.shoppers, u.last FROM persona._unanswered() u;
COMMENT ON VIEW persona.unanswered IS 'logged queries after which no shopper took anything, of the catalogs that the caller manages; as of the last refresh';
GRANT SELECT ON persona.unanswered TO PUBLIC;

COMMENT ON FUNCTION persona._segment(text) IS 'internal: a text with spaces between words of Chinese, Japanese and Korean';
COMMENT ON FUNCTION persona._understand(oid, text, boolean) IS 'internal: understand, with or without the query''s vector';
COMMENT ON FUNCTION persona._suggest(oid, text, text, int) IS 'internal: suggest';
COMMENT ON FUNCTION persona._unanswered() IS 'internal: unanswered';
