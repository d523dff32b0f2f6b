-- evaluate: held-out behaviour replayed through the search

CREATE FUNCTION persona.evaluate(items regclass, options jsonb DEFAULT '{}')
RETURNS TABLE (variant text, metric text, slice text, value double precision, low double precision, high double precision, queries bigint)
LANGUAGE sql VOLATILE
AS $$ SELECT * FROM persona._evaluate(items, COALESCE(options, '{}')) $$;
COMMENT ON FUNCTION persona.evaluate IS 'replays held-out behaviour through the search, as of its own moment, and measures what each variant would have shown, with 95 % bootstrap intervals over shoppers; options: split, since, shoppers, searches, k, seed, clip, heads, search, recommend, variants';
COMMENT ON FUNCTION persona._evaluate(oid, jsonb) IS 'internal: evaluate';
