-- Tables of the extension. Rows are written by persona's functions for the owners of item tables; nobody else needs a right.

CREATE TABLE persona.catalog (
    items       regclass PRIMARY KEY,
    key         name NOT NULL,
    title       name NOT NULL,
    body        name[] NOT NULL,
    attributes  name[] NOT NULL,
    brand       name,
    category    name,
    price       name,
    image       name,
    model       text NOT NULL,
    dimension   int NOT NULL,
    text_search text NOT NULL,
    options     jsonb NOT NULL,
    companion   regclass NOT NULL,
    stats       regclass NOT NULL,
    pairs       regclass NOT NULL,
    terms       regclass NOT NULL,
    lexicon     regclass,
    queries     regclass,
    baskets     regclass,
    learned     regclass,
    incoming    regclass,
    wanted      text,
    created     timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE persona.catalog IS 'catalogs: which columns of an item table mean what, and its companion tables; see the view persona.catalogs';

CREATE TABLE persona.event_source (
    items      regclass NOT NULL REFERENCES persona.catalog ON DELETE CASCADE,
    events     regclass NOT NULL,
    user_id    name NOT NULL,
    item_id    name NOT NULL,
    at         name NOT NULL,
    kind       name,
    kind_value text,
    query      name,
    session    name,
    "position" name,
    dwell_ms   name,
    context    name[] NOT NULL,
    options    jsonb NOT NULL,
    PRIMARY KEY (items, events)
);
COMMENT ON TABLE persona.event_source IS 'behaviour tables of a catalog: which columns of them mean what';

REVOKE ALL ON persona.catalog, persona.event_source FROM PUBLIC;

-- What was fine-tuned: the numbers that are added to a bundle. Everybody may know of them and use them, as of bundles.
CREATE TABLE persona.adapter (
    name      text COLLATE "C" PRIMARY KEY,
    owner     name NOT NULL,
    task      text NOT NULL,
    method    text NOT NULL,
    base      text NOT NULL,
    base_hash text NOT NULL,
    hash      text NOT NULL,
    adopted   boolean NOT NULL,
    reason    text,
    labels    text[] NOT NULL,
    options   jsonb NOT NULL,
    metrics   jsonb NOT NULL,
    seed      bigint NOT NULL,
    bytes     bigint NOT NULL,
    weights   bytea NOT NULL,
    created   timestamptz NOT NULL DEFAULT pg_catalog.now()
);
ALTER TABLE persona.adapter ALTER weights SET STORAGE EXTERNAL;
COMMENT ON TABLE persona.adapter IS 'adapters that persona.fine_tune made; see the view persona.adapters';

-- Runs that persona.work is at.
CREATE TABLE persona.tuning (
    name    text COLLATE "C" PRIMARY KEY,
    owner   name NOT NULL,
    task    text NOT NULL,
    source  regclass NOT NULL,
    key     text NOT NULL,
    state   bytea NOT NULL,
    changed timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE persona.tuning IS 'fine-tuning that persona.work has begun: all that it needs to go on';

REVOKE ALL ON persona.adapter, persona.tuning FROM PUBLIC;
GRANT SELECT (name, owner, task, method, base, base_hash, hash, adopted, reason, labels, options, metrics, seed, bytes, created)
    ON persona.adapter TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('persona.adapter', '');
SELECT pg_catalog.pg_extension_config_dump('persona.tuning', '');

-- The companion tables of a catalog that are there.
CREATE FUNCTION persona._companions(c persona.catalog) RETURNS regclass[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT array_remove(ARRAY[c.companion, c.stats, c.pairs, c.terms, c.lexicon, c.queries, c.baskets, c.learned, c.incoming], NULL) $$;
COMMENT ON FUNCTION persona._companions(persona.catalog) IS 'internal: the companion tables of a catalog';

SELECT pg_catalog.pg_extension_config_dump('persona.catalog', '');
SELECT pg_catalog.pg_extension_config_dump('persona.event_source', '');

CREATE TYPE persona.role AS ENUM ('query', 'document');
COMMENT ON TYPE persona.role IS 'what a text is to a model that tells queries from documents';

-- A relation's name, qualified and quoted.
CREATE FUNCTION persona._qualified(relation oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation $$;
COMMENT ON FUNCTION persona._qualified(oid) IS 'internal: a relation''s name, qualified and quoted';

-- A type's equality, as its default btree operator class has it.
CREATE FUNCTION persona._equality(type oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass c
    JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
    JOIN pg_amop a ON a.amopfamily = c.opcfamily AND a.amopstrategy = 3
        AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype
    JOIN pg_operator o ON o.oid = a.amopopr
    JOIN pg_namespace n ON n.oid = o.oprnamespace
    CROSS JOIN LATERAL (SELECT CASE typtype WHEN 'd' THEN typbasetype ELSE t.oid END FROM pg_type t WHERE t.oid = type) b(base)
    WHERE c.opcdefault AND (c.opcintype = b.base
        OR (b.base = 'varchar'::regtype AND c.opcintype = 'text'::regtype))
    LIMIT 1
$$;
COMMENT ON FUNCTION persona._equality(oid) IS 'internal: the = of a type''s default btree operator class, qualified';

-- English that keeps its stop words, for items: "The Who" is found, and how common a word is says enough.
CREATE TEXT SEARCH DICTIONARY persona.english_stem (TEMPLATE = pg_catalog.snowball, Language = english);
CREATE TEXT SEARCH CONFIGURATION persona.english (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION persona.english
    ALTER MAPPING FOR asciiword, asciihword, hword_asciipart, word, hword, hword_part WITH persona.english_stem;
COMMENT ON TEXT SEARCH DICTIONARY persona.english_stem IS 'snowball for English without a list of stop words';
COMMENT ON TEXT SEARCH CONFIGURATION persona.english IS 'English for the words of items: stems, and keeps stop words';
