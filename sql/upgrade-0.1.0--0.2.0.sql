-- What the comparison of two releases cannot write: changes of tables, in the order in which they are made.
-- tests/harness/upgrade.py puts these first. A column goes last in its table, here and in tables.sql alike or not: the
-- test of the upgrade compares columns by name.

ALTER TABLE persona.catalog ADD COLUMN lexicon regclass, ADD COLUMN queries regclass, ADD COLUMN baskets regclass, ADD COLUMN learned regclass;

ALTER TABLE persona.catalog ADD COLUMN segments regclass, ADD COLUMN incoming regclass, ADD COLUMN wanted text;

-- Companion tables are the shops' own: they get what is new at once where a search reads it, whole tables at the next refresh.
DO $$
DECLARE
    stats text;
BEGIN
    FOR stats IN SELECT persona._qualified(c.stats) FROM persona.catalog c LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS impressions bigint NOT NULL DEFAULT 0,
            ADD COLUMN IF NOT EXISTS buckets smallint[], ADD COLUMN IF NOT EXISTS counts real[],
            ADD COLUMN IF NOT EXISTS kin_buckets smallint[], ADD COLUMN IF NOT EXISTS kin real[]', stats);
        EXECUTE pg_catalog.format('CREATE INDEX ON %s (popularity DESC, id)', stats);
    END LOOP;
END
$$;
