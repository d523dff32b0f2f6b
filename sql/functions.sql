-- The SQL surface: overloads and defaults over the functions of the library, views, the drop guard, comments, rights.
-- Bodies name everything with its schema; a NULL option object counts as an empty one.

-- set up

CREATE FUNCTION persona.create_catalog(items regclass, title name, body name[] DEFAULT '{}', attributes name[] DEFAULT '{}',
    brand name DEFAULT NULL, category name DEFAULT NULL, price name DEFAULT NULL, image name DEFAULT NULL,
    model text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql VOLATILE
AS $$
    SELECT persona._create_catalog(items, pg_catalog.jsonb_build_object('title', title, 'body', body, 'attributes', attributes,
        'brand', brand, 'category', category, 'price', price, 'image', image, 'model', model, 'options', options))
$$;
COMMENT ON FUNCTION persona.create_catalog IS 'makes a catalog of an item table, or alters it: which columns are title, body, attributes, brand, category, price, image; which model; options: key, text_search, min_shoppers, exclude, intents, tags, time_zone, stock, worker, train';

CREATE FUNCTION persona.drop_catalog(items regclass) RETURNS void
LANGUAGE sql VOLATILE AS $$ SELECT persona._drop_catalog(items) $$;
COMMENT ON FUNCTION persona.drop_catalog IS 'drops a catalog with its companion tables and triggers; the items stay';

CREATE FUNCTION persona.add_events(items regclass, events regclass, user_id name, item_id name, at name, kind name DEFAULT NULL,
    kind_value text DEFAULT NULL, query name DEFAULT NULL, session name DEFAULT NULL, "position" name DEFAULT NULL,
    dwell_ms name DEFAULT NULL, context name[] DEFAULT '{}', options jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql VOLATILE
AS $$
    SELECT persona._add_events(items, events, pg_catalog.jsonb_build_object('user_id', user_id, 'item_id', item_id, 'at', at,
        'kind', kind, 'kind_value', kind_value, 'query', query, 'session', session, 'position', "position", 'dwell_ms', dwell_ms,
        'context', context, 'options', options))
$$;
COMMENT ON FUNCTION persona.add_events IS 'adds a behaviour table to a catalog, or alters what its columns mean; without kind, every row is of kind_value (default: purchase); options: kinds, propensity, debias';

CREATE FUNCTION persona.drop_events(items regclass, events regclass) RETURNS void
LANGUAGE sql VOLATILE AS $$ SELECT persona._drop_events(items, events) $$;
COMMENT ON FUNCTION persona.drop_events IS 'takes a behaviour table from a catalog; the table stays';

CREATE FUNCTION persona.refresh(items regclass, options jsonb DEFAULT '{}')
RETURNS TABLE (step text, "rows" bigint, seconds double precision)
LANGUAGE sql VOLATILE
AS $$ SELECT * FROM persona._refresh(items, COALESCE(options, '{}')) $$;
COMMENT ON FUNCTION persona.refresh IS 'embeds what is new or changed and folds new events into statistics, in one transaction; a NOTICE and a row for each step';

CREATE PROCEDURE persona.work(task text, source regclass, options jsonb DEFAULT '{}')
LANGUAGE plpgsql
AS $$
DECLARE
    step int := 0;
BEGIN
    IF pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'persona.work commits after each step, and this transaction has already begun'
            USING ERRCODE = 'invalid_transaction_termination', HINT = 'CALL it outside of BEGIN and COMMIT, or use persona.refresh.';
    END IF;
    WHILE step IS NOT NULL LOOP
        step := persona._work(task, source, COALESCE(options, '{}'), step);
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE persona.work IS 'runs a task (refresh, train, fine_tune) in bounded steps with a commit after each, so that a cancel loses one step; options: batch, and those of train and fine_tune';

-- models

CREATE FUNCTION persona.embed(content text, role persona.role DEFAULT 'document', model text DEFAULT NULL) RETURNS vector
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT persona._embed(content, role::pg_catalog.text, model) $$;
COMMENT ON FUNCTION persona.embed(text, persona.role, text) IS 'the vector of a text, by the default model or the one named; NULL for NULL';

CREATE FUNCTION persona.embed(content text[], role persona.role DEFAULT 'document', model text DEFAULT NULL) RETURNS vector[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT persona._embed(content, role::pg_catalog.text, model) $$;
COMMENT ON FUNCTION persona.embed(text[], persona.role, text) IS 'the vectors of texts, embedded in batches, in input order; NULL for NULL';

CREATE FUNCTION persona.rerank(query text, documents text[], model text DEFAULT NULL) RETURNS real[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT persona._rerank(query, documents, model) $$;
COMMENT ON FUNCTION persona.rerank(text, text[], text) IS 'how well each document answers the query, by a cross-encoder bundle, in input order';

-- search

COMMENT ON FUNCTION persona.search(anyelement, text, text, jsonb, jsonb, int, jsonb) IS 'rows of a catalogued table for a query, best first for this shopper: row, score, position, source and the parts that sum to the score';
COMMENT ON FUNCTION persona.score(anyelement, text, text, jsonb, jsonb) IS 'the score that search would give a row, for the rows of any SELECT';

CREATE FUNCTION persona.search(items anyelement, query text, user_id bigint, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.search(items, query, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.search(anyelement, text, bigint, jsonb, jsonb, int, jsonb) IS 'search for a shopper whose id is an integer';

CREATE FUNCTION persona.search(items anyelement, query text, user_id uuid, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.search(items, query, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.search(anyelement, text, uuid, jsonb, jsonb, int, jsonb) IS 'search for a shopper whose id is a uuid';

CREATE FUNCTION persona.search(items text, query text, user_id text DEFAULT NULL, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._search(items::pg_catalog.regclass, query, user_id, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.search(text, text, text, jsonb, jsonb, int, jsonb) IS 'search by the table''s name, with rows as jsonb: for ORMs and RPC';

CREATE FUNCTION persona.search(items text, query text, user_id bigint, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._search(items::pg_catalog.regclass, query, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.search(text, text, bigint, jsonb, jsonb, int, jsonb) IS 'search by the table''s name for a shopper whose id is an integer';

CREATE FUNCTION persona.search(items text, query text, user_id uuid, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._search(items::pg_catalog.regclass, query, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.search(text, text, uuid, jsonb, jsonb, int, jsonb) IS 'search by the table''s name for a shopper whose id is a uuid';

CREATE FUNCTION persona.score(item anyelement, query text, user_id bigint, context jsonb DEFAULT '{}', options jsonb DEFAULT '{}') RETURNS real
LANGUAGE sql STABLE PARALLEL RESTRICTED
AS $$ SELECT persona.score(item, query, user_id::pg_catalog.text, context, options) $$;
COMMENT ON FUNCTION persona.score(anyelement, text, bigint, jsonb, jsonb) IS 'score for a shopper whose id is an integer';

CREATE FUNCTION persona.score(item anyelement, query text, user_id uuid, context jsonb DEFAULT '{}', options jsonb DEFAULT '{}') RETURNS real
LANGUAGE sql STABLE PARALLEL RESTRICTED
AS $$ SELECT persona.score(item, query, user_id::pg_catalog.text, context, options) $$;
COMMENT ON FUNCTION persona.score(anyelement, text, uuid, jsonb, jsonb) IS 'score for a shopper whose id is a uuid';

-- recommend

COMMENT ON FUNCTION persona.recommend(anyelement, text, jsonb, jsonb, int, jsonb) IS 'rows of a catalogued table that a shopper would want, best first; what is in the history stays out unless options say "exclude_seen": false';

CREATE FUNCTION persona.recommend(items anyelement, user_id bigint, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.recommend(items, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.recommend(anyelement, bigint, jsonb, jsonb, int, jsonb) IS 'recommend for a shopper whose id is an integer';

CREATE FUNCTION persona.recommend(items anyelement, user_id uuid, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item anyelement, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona.recommend(items, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.recommend(anyelement, uuid, jsonb, jsonb, int, jsonb) IS 'recommend for a shopper whose id is a uuid';

CREATE FUNCTION persona.recommend(items text, user_id text DEFAULT NULL, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._recommend(items::pg_catalog.regclass, user_id, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.recommend(text, text, jsonb, jsonb, int, jsonb) IS 'recommend by the table''s name, with rows as jsonb';

CREATE FUNCTION persona.recommend(items text, user_id bigint, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._recommend(items::pg_catalog.regclass, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.recommend(text, bigint, jsonb, jsonb, int, jsonb) IS 'recommend by the table''s name, with rows as jsonb';

CREATE FUNCTION persona.recommend(items text, user_id uuid, context jsonb DEFAULT '{}', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
RETURNS TABLE (item_id text, item jsonb, score real, "position" int, source text, parts jsonb)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
AS $$ SELECT * FROM persona._recommend(items::pg_catalog.regclass, user_id::pg_catalog.text, context, filter, k, options) $$;
COMMENT ON FUNCTION persona.recommend(text, uuid, jsonb, jsonb, int, jsonb) IS 'recommend by the table''s name, with rows as jsonb';

-- look

CREATE VIEW persona.models AS SELECT * FROM persona._models();
COMMENT ON VIEW persona.models IS 'model bundles in persona.model_dir, and whether this backend holds them';

CREATE VIEW persona.activity AS SELECT * FROM (SELECT pid, relation::pg_catalog.regclass, task, step, done, total, started FROM persona._activity()) a;
COMMENT ON VIEW persona.activity IS 'long work going on in this database, where the library is preloaded';

-- What the worker did and what went wrong is for the owner of the items, and for who watches over the server.
CREATE VIEW persona.worker_tasks AS
SELECT t.items, t.task, t.done, t.seconds, t."rows", t.failures, t.retry
FROM persona.worker_task t JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) t.items
WHERE pg_catalog.pg_has_role(r.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW persona.worker_tasks IS 'what the background worker last did for the catalogs that the caller manages: when, how long it took, how many rows; errors since, and when it tries again';

CREATE VIEW persona.worker_errors AS
SELECT e.items, e.task, e.at, e.sqlstate, e.message
FROM persona.worker_error e JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) e.items
WHERE pg_catalog.pg_has_role(r.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW persona.worker_errors IS 'errors of the background worker in the catalogs that the caller manages, the newest hundred of each';

CREATE VIEW persona.catalogs AS
SELECT c.items, c.key, c.title, c.body, c.attributes, c.brand, c.category, c.price, c.image, c.model, c.text_search, c.options,
    ARRAY(SELECT e.events FROM persona.event_source e WHERE e.items OPERATOR(pg_catalog.=) c.items
        ORDER BY e.events::pg_catalog.text) AS events,
    persona._companions(c) AS companions, c.created
FROM persona.catalog c
WHERE pg_catalog.has_any_column_privilege(c.items, 'SELECT');
COMMENT ON VIEW persona.catalogs IS 'catalogs of the tables that the caller may read';

-- Dropping an item table drops its companion tables, and what is known of it; dropping a behaviour table ends its part.
CREATE FUNCTION persona._dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone oid[] := ARRAY(SELECT objid FROM pg_event_trigger_dropped_objects() WHERE classid = 'pg_class'::regclass AND objsubid = 0);
    companion text;
BEGIN
    IF to_regclass('persona.catalog') IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM persona.event_source WHERE events::oid = ANY (gone);
    -- A catalog ends with any of its tables.
    FOR companion IN
        SELECT persona._qualified(t) FROM persona.catalog c, unnest(persona._companions(c)::oid[]) t
        WHERE c.items::oid || persona._companions(c)::oid[] && gone AND persona._qualified(t) IS NOT NULL
    LOOP
        EXECUTE 'DROP TABLE IF EXISTS ' || companion || ' CASCADE';
    END LOOP;
    DELETE FROM persona.catalog c WHERE c.items::oid || persona._companions(c)::oid[] && gone;
END
$$;
COMMENT ON FUNCTION persona._dropped() IS 'internal: companion tables go with their item table; definer, since persona''s tables are written by nobody else';
CREATE EVENT TRIGGER pg_persona_dropped ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP VIEW', 'DROP MATERIALIZED VIEW', 'DROP SCHEMA', 'DROP OWNED', 'DROP FOREIGN TABLE')
    EXECUTE FUNCTION persona._dropped();

-- internal

COMMENT ON FUNCTION persona._create_catalog(oid, jsonb) IS 'internal: create_catalog';
COMMENT ON FUNCTION persona._drop_catalog(oid) IS 'internal: drop_catalog';
COMMENT ON FUNCTION persona._add_events(oid, oid, jsonb) IS 'internal: add_events';
COMMENT ON FUNCTION persona._drop_events(oid, oid) IS 'internal: drop_events';
COMMENT ON FUNCTION persona._refresh(oid, jsonb) IS 'internal: refresh';
COMMENT ON FUNCTION persona._work(text, oid, jsonb, int) IS 'internal: work: one step';
COMMENT ON FUNCTION persona._embed(text, text, text) IS 'internal: embed';
COMMENT ON FUNCTION persona._embed(text[], text, text) IS 'internal: embed';
COMMENT ON FUNCTION persona._search(oid, text, text, jsonb, jsonb, int, jsonb) IS 'internal: search by a table''s name';
COMMENT ON FUNCTION persona._recommend(oid, text, jsonb, jsonb, int, jsonb) IS 'internal: recommend by a table''s name';
COMMENT ON FUNCTION persona._rerank(text, text[], text) IS 'internal: rerank';
COMMENT ON FUNCTION persona._models() IS 'internal: models';
COMMENT ON FUNCTION persona._activity() IS 'internal: activity';
COMMENT ON FUNCTION persona._mark() IS 'internal: trigger that keeps an item''s words';
COMMENT ON FUNCTION persona._bm25(tsvector, real, bytea) IS 'internal: BM25 of a row for a packed query';
COMMENT ON FUNCTION persona._length(tsvector) IS 'internal: weighted length of an item''s words';

-- Companion tables follow the item table to a new owner.
CREATE FUNCTION persona._altered() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    companion text;
    new_owner name;
BEGIN
    FOR companion, new_owner IN
        SELECT persona._qualified(t.oid), pg_get_userbyid(i.relowner)
        FROM persona.catalog c JOIN pg_class i ON i.oid = c.items
        JOIN pg_class t ON t.oid = ANY (persona._companions(c)::oid[]) AND t.relowner <> i.relowner
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', companion, new_owner);
    END LOOP;
END
$$;
COMMENT ON FUNCTION persona._altered() IS 'internal: companion tables follow their item table to a new owner; definer, since the old owner has no right on the new one''s';
CREATE EVENT TRIGGER pg_persona_altered ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE')
    EXECUTE FUNCTION persona._altered();

-- rights: everybody may call; what a call may see and do, the functions check
GRANT USAGE ON SCHEMA persona TO PUBLIC;
GRANT SELECT ON persona.models, persona.catalogs, persona.activity, persona.worker_tasks, persona.worker_errors TO PUBLIC;
REVOKE ALL ON FUNCTION persona._dropped(), persona._altered() FROM PUBLIC;
