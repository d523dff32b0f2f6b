-- Learning to rank: training, the story of the rankers, which one ranks.

CREATE FUNCTION persona.train(items regclass, options jsonb DEFAULT '{}')
RETURNS TABLE (stage text, epoch int, loss double precision, pointwise double precision, search_ndcg double precision,
    recommend_ndcg double precision, seconds double precision)
LANGUAGE sql VOLATILE
AS $$ SELECT * FROM persona._train(items, COALESCE(options, '{}')) $$;
COMMENT ON FUNCTION persona.train(regclass, jsonb) IS 'trains a ranker from the behaviour tables; a NOTICE and a row for each epoch; it ranks where it is surely better on held-out behaviour; options: seed, samples, epochs, sequence, anew, rehearsal, debias, deploy';

CREATE FUNCTION persona.deploy(items regclass, ranker bigint) RETURNS bigint
LANGUAGE sql VOLATILE
AS $$ SELECT persona._deploy(items, ranker) $$;
COMMENT ON FUNCTION persona.deploy(regclass, bigint) IS 'ranks by this ranker from the next statement on, by the fixed weights where it is NULL; returns the one that ranked before, so that back is one call';

CREATE VIEW persona.rankers AS
SELECT r.items, r.ranker, r.deployed, r.parent, r.replaced, r.trained, r.metrics, r.data, r.options, r.features,
    pg_catalog.octet_length(r.weights) AS bytes, pg_catalog.encode(r.checksum, 'hex') AS checksum
FROM persona.ranker r
WHERE pg_catalog.has_any_column_privilege(r.items, 'SELECT');
COMMENT ON VIEW persona.rankers IS 'rankers of the tables that the caller may read: which one ranks, what each was trained on, how it compared';
GRANT SELECT ON persona.rankers TO PUBLIC;

CREATE FUNCTION persona.forget(items regclass, user_id text)
RETURNS TABLE (relation regclass, "rows" bigint, note text)
LANGUAGE sql VOLATILE
AS $$ SELECT f.relation::pg_catalog.regclass, f."rows", f.note FROM persona._forget(items, user_id) f $$;
COMMENT ON FUNCTION persona.forget(regclass, text) IS 'deletes a shopper''s rows of the behaviour tables and counts statistics without them, in one transaction; rows name the rankers that have learnt from them';
COMMENT ON FUNCTION persona._train(oid, jsonb) IS 'internal: train';
COMMENT ON FUNCTION persona._deploy(oid, bigint) IS 'internal: deploy';
COMMENT ON FUNCTION persona._forget(oid, text) IS 'internal: forget';
