-- From 0.1.0 to 0.2.0. Written by tests/harness/upgrade.py; once released, never edited.
\echo Use "ALTER EXTENSION pg_persona UPDATE TO '0.2.0'" to load this file. \quit

ALTER TABLE persona.catalog ADD COLUMN lexicon regclass, ADD COLUMN queries regclass, ADD COLUMN baskets regclass, ADD COLUMN learned regclass;

CREATE FUNCTION persona._companions(c persona.catalog) RETURNS regclass[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT array_remove(ARRAY[c.companion, c.stats, c.pairs, c.terms, c.lexicon, c.queries, c.baskets, c.learned], NULL) $$;

COMMENT ON FUNCTION persona._companions(persona.catalog) IS 'internal: the companion tables of a catalog';

DROP VIEW persona.catalogs;

CREATE VIEW persona.catalogs AS
SELECT c.items, c.key, c.title, c.body, c.attributes, c.brand, c.category, c.price, c.image, c.model, c.text_search, c.options,
    ARRAY(SELECT e.events FROM persona.event_source e WHERE e.items = c.items ORDER BY e.events::text) AS events,
    persona._companions(c) AS companions, c.created
FROM persona.catalog c
WHERE pg_catalog.has_any_column_privilege(c.items, 'SELECT');

CREATE OR REPLACE FUNCTION persona._dropped() RETURNS event_trigger
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

CREATE OR REPLACE FUNCTION persona._altered() RETURNS event_trigger
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

COMMENT ON TABLE persona.catalog IS 'catalogs: which columns of an item table mean what, and its companion tables; see the view persona.catalogs';

COMMENT ON VIEW persona.catalogs IS 'catalogs of the tables that the caller may read';

GRANT SELECT ON persona.models, persona.catalogs, persona.activity TO PUBLIC;
