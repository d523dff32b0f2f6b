-- Fine-tuning and what uses it.

CREATE FUNCTION persona.fine_tune(task text, source regclass, options jsonb DEFAULT '{}')
RETURNS TABLE (epoch int, loss double precision, metric text, value double precision, seconds double precision)
LANGUAGE sql VOLATILE
AS $$ SELECT * FROM persona._fine_tune(task, source, COALESCE(options, '{}')) $$;
COMMENT ON FUNCTION persona.fine_tune IS 'adapts a model bundle to the rows of a relation: task embed, classify, tag or rank; options name the adapter to make, the columns, the method; a row for each epoch, the base model''s first';

CREATE FUNCTION persona.classify(content text, model text) RETURNS TABLE (label text, score real)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
AS $$ SELECT * FROM persona._classify(content, model) $$;
COMMENT ON FUNCTION persona.classify IS 'every label of an adapter with its share, the likeliest first; no row for NULL';

CREATE FUNCTION persona.tag(content text, model text)
RETURNS TABLE (label text, value text, start int, "end" int, score real)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
AS $$ SELECT * FROM persona._tag(content, model) $$;
COMMENT ON FUNCTION persona.tag IS 'the spans of a text that bear a label of an adapter; places in characters from 0';

CREATE FUNCTION persona.label_next(model text, pool regclass, content name, k int DEFAULT 20)
RETURNS TABLE (content text, uncertainty real)
LANGUAGE sql STABLE ROWS 20
AS $$ SELECT * FROM persona._label_next(model, pool, content::pg_catalog.text, k) $$;
COMMENT ON FUNCTION persona.label_next IS 'the texts of a column whose label would teach a classifier the most: unsure ones that are not alike, best first';

CREATE FUNCTION persona.drop_adapter(name text) RETURNS void
LANGUAGE sql VOLATILE AS $$ SELECT persona._drop_adapter(name) $$;
COMMENT ON FUNCTION persona.drop_adapter IS 'drops an adapter; refused while a catalog uses it';

CREATE FUNCTION persona.export_adapter(name text) RETURNS TABLE (path text, content bytea)
LANGUAGE sql STABLE ROWS 8
AS $$ SELECT * FROM persona._export_adapter(name) $$;
COMMENT ON FUNCTION persona.export_adapter IS 'an adapter merged into its base as the files of a sentence-transformers folder';

CREATE VIEW persona.adapters AS
SELECT a.name, a.owner, a.task, a.method, a.base, a.adopted, a.reason, a.labels, a.metrics, a.options, a.hash, a.bytes, a.created
FROM persona.adapter a;
COMMENT ON VIEW persona.adapters IS 'what was fine-tuned: its base, its figures on rows held out, and whether it may be used';

CREATE FUNCTION persona.report(name text)
RETURNS TABLE (label text, "precision" double precision, recall double precision, f1 double precision, support bigint)
LANGUAGE sql STABLE ROWS 20
AS $$
    SELECT r.label, r.precision, r.recall, r.f1, r.support
    FROM persona.adapters a, pg_catalog.jsonb_to_recordset(a.metrics OPERATOR(pg_catalog.->) 'report')
        AS r(label text, "precision" double precision, recall double precision, f1 double precision, support bigint)
    WHERE a.name OPERATOR(pg_catalog.=) report.name
$$;
COMMENT ON FUNCTION persona.report IS 'the classification report of an adapter on rows held out: each label, then macro and weighted means';

COMMENT ON FUNCTION persona._fine_tune(text, oid, jsonb) IS 'internal: fine_tune';
COMMENT ON FUNCTION persona._classify(text, text) IS 'internal: classify';
COMMENT ON FUNCTION persona._tag(text, text) IS 'internal: tag';
COMMENT ON FUNCTION persona._label_next(text, oid, text, int) IS 'internal: label_next';
COMMENT ON FUNCTION persona._drop_adapter(text) IS 'internal: drop_adapter';
COMMENT ON FUNCTION persona._export_adapter(text) IS 'internal: export_adapter';
GRANT SELECT ON persona.adapters TO PUBLIC;
