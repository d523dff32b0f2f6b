-- Fine-tuning: a classifier of the tiny shop's own words, and what uses it.
SET client_min_messages = error;
CREATE TABLE asks (content text, topic text);
INSERT INTO asks SELECT w || ' ' || t || ' ' || i, topic FROM generate_series(1, 12) i,
    (VALUES ('where is my', 'parcel', 'delivery'), ('when comes the', 'package', 'delivery'),
            ('I want my', 'money back', 'refund'), ('please return the', 'payment', 'refund'),
            ('do you have', 'red shoes', 'stock'), ('are there any', 'board games left', 'stock')) v(w, t, topic);
-- the head alone
SELECT epoch, metric, value >= 0 AS judged FROM persona.fine_tune('classify', 'asks',
    '{"name": "topics", "text": "content", "label": "topic", "method": "head", "epochs": 3, "validation": 0.25, "adopt": "always"}');
SELECT name, task, method, base, adopted, labels, metrics ->> 'metric' AS metric, bytes > 0 AS has_bytes FROM persona.adapters;
SELECT label, score BETWEEN 0 AND 1 AS share FROM persona.classify('where is my parcel', 'topics') LIMIT 1;
SELECT round(sum(score)::numeric, 4) AS whole, count(*) FROM persona.classify('where is my parcel', 'topics');
SELECT count(*) FROM persona.classify(NULL, 'topics');
SELECT label, support FROM persona.report('topics');
SELECT model, architecture, dimension, loaded, error FROM persona.models WHERE model = 'topics';
-- low-rank matrices: same seed, same bytes
SELECT count(*) FROM persona.fine_tune('classify', 'asks', '{"name": "lora1", "text": "content", "label": "topic", "epochs": 2, "rank": 4, "adopt": "always"}');
SELECT count(*) FROM persona.fine_tune('classify', 'asks', '{"name": "lora2", "text": "content", "label": "topic", "epochs": 2, "rank": 4, "adopt": "always"}');
SELECT count(DISTINCT hash) AS hashes, count(*) FROM persona.adapters WHERE name LIKE 'lora_';
-- an adapter is a model name like any other
SELECT vector_dims(persona.embed('red shoes', model => 'lora1')) = vector_dims(persona.embed('red shoes')) AS wide,
    persona.embed('red shoes', model => 'lora1') <> persona.embed('red shoes') AS changed;
-- the texts whose label would teach the most
SELECT count(*), min(uncertainty) >= 0 AS unsure FROM persona.label_next('lora1', 'asks', 'content', k => 5);
-- in committed steps, to the same bytes
CALL persona.work('fine_tune', 'asks', '{"task": "classify", "name": "lora3", "text": "content", "label": "topic", "epochs": 2, "rank": 4, "adopt": "always"}');
SELECT count(DISTINCT hash) AS hashes, count(*) FROM persona.adapters WHERE name LIKE 'lora_';
-- every other method and task
SELECT count(*) FROM persona.fine_tune('classify', 'asks', '{"name": "full", "text": "content", "label": "topic", "method": "full", "epochs": 1, "adopt": "always"}');
SELECT count(*) FROM persona.fine_tune('classify', 'asks', '{"name": "necks", "text": "content", "label": "topic", "method": "adapter", "epochs": 1, "adopt": "always"}');
SELECT count(*) FROM persona.fine_tune('embed', 'products', '{"name": "shop", "epochs": 1, "rows": 64, "batch": 16, "negatives": 1, "rehearsal": 0.2, "adopt": "always"}');
INSERT INTO events SELECT i % 60 + 1, p.id, timestamptz '2026-02-01 12:00:00+00', 'view', p.color || ' ' || p.category, 's', 'FR'
FROM products p, generate_series(1, 2) i WHERE p.id <= 40;
SELECT count(*) FROM persona.fine_tune('embed', 'products', '{"name": "asked", "from": "queries", "epochs": 1, "adopt": "always"}');
SELECT (metrics #>> '{rows,train}')::int + (metrics #>> '{rows,held_out}')::int AS pairs FROM persona.adapters WHERE name = 'asked';
SELECT count(*) FROM persona.fine_tune('tag', 'products', '{"name": "tags", "epochs": 2, "adopt": "always"}');
SELECT label, count(*) > 0 AS there FROM persona.tag('Blue running shoes 12', 'tags') GROUP BY 1 ORDER BY 1;
CREATE TABLE judged AS SELECT q AS query, p.title AS item, (p.category = q)::int AS grade
FROM (VALUES ('puzzle'), ('board game'), ('running shoes'), ('leather boots')) v(q), products p WHERE p.id <= 12;
SELECT count(*) FROM persona.fine_tune('rank', 'judged', '{"name": "ranks", "epochs": 1, "validation": 0.25, "adopt": "always"}');
SELECT array_length(persona.rerank('puzzle', ARRAY['a puzzle', 'boots', NULL], model => 'ranks'), 1);
-- the cross-encoder teaches an embedding model, at once or in committed steps
SELECT count(*) FROM persona.fine_tune('embed', 'judged', '{"name": "taught1", "teacher": "ranks", "negatives": 3, "epochs": 1, "batch": 8, "rank": 4, "validation": 0.25, "adopt": "always"}');
CALL persona.work('fine_tune', 'judged', '{"task": "embed", "name": "taught2", "teacher": "ranks", "negatives": 3, "epochs": 1, "batch": 8, "rank": 4, "validation": 0.25, "adopt": "always", "seconds": 0}');
SELECT count(DISTINCT hash) AS hashes, count(*), min((metrics #>> '{agreement,before}')::real) BETWEEN 0 AND 1 AS before, min((metrics #>> '{agreement,after}')::real) BETWEEN 0 AND 1 AS after
FROM persona.adapters WHERE name LIKE 'taught_';
SELECT persona.embed('puzzle', model => 'taught1') <> persona.embed('puzzle') AS changed;
SELECT count(*) FROM persona.fine_tune('embed', 'products', '{"name": "taught3", "teacher": "ranks", "from": "items", "rows": 32, "negatives": 2, "epochs": 1, "rank": 4}');
SELECT adopted, reason LIKE '%queries made of the items%' AS reason, (metrics #>> '{rows,train}')::int AS lists FROM persona.adapters WHERE name = 'taught3';
-- a tagger learns from queries what stands in no title, where what was taken bears it
INSERT INTO events SELECT u, p.id, timestamptz '2026-02-02 12:00:00+00', 'view', p.brand || ' ' || p.category, 's', 'FR' FROM products p, generate_series(1, 3) u WHERE p.id <= 60;
INSERT INTO events SELECT 1, p.id, timestamptz '2026-02-02 12:00:00+00', k, q, 's', 'FR'
FROM products p, (VALUES ('view', 'Zephyr shop'), ('impression', 'seen ' || p.brand), ('return', 'back ' || p.brand)) v(k, q) WHERE p.id <= 5;
SELECT count(*) FROM persona.fine_tune('tag', 'products', '{"name": "titles", "from": "items", "epochs": 1, "rank": 4, "adopt": "always"}');
SELECT count(*) FROM persona.fine_tune('tag', 'products', '{"name": "queries", "from": "queries", "epochs": 12, "batch": 4, "patience": 0, "adopt": "always"}');
SELECT count(*) FROM persona.fine_tune('tag', 'products', '{"name": "both", "epochs": 1, "rank": 4, "adopt": "always"}');
SELECT name, 'B-brand' = ANY (labels) AS brand, (metrics #>> '{rows,train}')::int + (metrics #>> '{rows,held_out}')::int AS rows
FROM persona.adapters WHERE name IN ('titles', 'queries', 'both') ORDER BY name;
SELECT count(DISTINCT query) AS queries FROM events e JOIN products p ON p.id = e.product_id WHERE query ILIKE '%' || p.color || '%' OR (kind = 'view' AND query ILIKE '%' || p.brand || '%');
SELECT label, value FROM persona.tag('Corvo puzzle', 'queries');
-- what too few shoppers asked is left out
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', options => '{"min_shoppers": 3}');
INSERT INTO events SELECT u, 1, timestamptz '2026-02-02 12:00:00+00', 'view', 'Borealis by two', 's', 'FR' FROM generate_series(1, 2) u, generate_series(1, 3);
SELECT count(*) FROM persona.fine_tune('tag', 'products', '{"name": "three", "from": "queries", "epochs": 1, "rank": 4, "adopt": "always"}');
SELECT count(*) FROM persona.fine_tune('embed', 'products', '{"name": "asked3", "from": "queries", "epochs": 1, "rank": 4, "adopt": "always"}');
SELECT name, (metrics #>> '{rows,train}')::int + (metrics #>> '{rows,held_out}')::int AS rows FROM persona.adapters WHERE name IN ('three', 'asked3') ORDER BY name;
SELECT count(*) AS queries FROM (SELECT query FROM events WHERE kind = 'view' AND query IS NOT NULL GROUP BY 1 HAVING count(DISTINCT user_id) >= 3) q;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', options => '{"min_shoppers": null}');
SELECT name, task, method FROM persona.adapters ORDER BY name;
-- a catalog understands by a classifier and a tagger of the shop's own
CREATE TABLE said (content text, intent text);
INSERT INTO said SELECT format(w, i), c FROM generate_series(1, 12) i,
    (VALUES ('where is parcel %s', 'support'), ('refund for order %s', 'support'), ('red shoes size %s', 'buy_attribute'),
            ('blue boots size %s', 'buy_attribute'), ('ideas for %s friends', 'browse'), ('gifts for %s people', 'browse')) v(w, c);
SELECT count(*) FROM persona.fine_tune('classify', 'said', '{"name": "intents", "text": "content", "label": "intent", "method": "head", "epochs": 3, "adopt": "always"}');
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', options => '{"intents": "intents", "tags": "tags"}');
SELECT u #>> '{intent,is}' AS intent, (SELECT sum(value::numeric) FILTER (WHERE key NOT IN ('support', 'buy_attribute', 'browse')) FROM jsonb_each_text(u #> '{intent,classes}')) AS others
FROM persona.understand('products', 'where is parcel 5') u;
SELECT count(*) > 0 AS found FROM jsonb_array_elements(persona.understand('products', 'blue running shoes under 50') -> 'entities') e WHERE e ->> 'kind' = 'color';
SELECT count(*) FROM persona.search(NULL::products, 'red shoes', k => 5);
SELECT persona.drop_adapter('intents');
SELECT persona.create_catalog('products', title => 'title', options => '{"intents": "topics"}');
SELECT persona.create_catalog('products', title => 'title', options => '{"intents": "tags"}');
SELECT persona.create_catalog('products', title => 'title', options => '{"tags": "nothing"}');
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price');
SELECT persona.drop_adapter('intents');
-- a folder for other programs
SELECT path, length(content) > 0 AS full FROM persona.export_adapter('shop') ORDER BY path;
-- a catalog changes its model: searches go by the old vectors until all new ones are there
CREATE FUNCTION mean_model() RETURNS TABLE (model text, items bigint) LANGUAGE sql
AS $$ SELECT split_part(c.model, '@', 1), count(*) FROM products_persona c GROUP BY 1 ORDER BY 1 $$;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', model => 'shop');
SELECT model FROM persona.catalogs;
SELECT * FROM mean_model();
SELECT count(*) FROM persona.search(NULL::products, 'red shoes', k => 5);
SELECT persona.drop_adapter('shop');
CALL persona.work('refresh', 'products', '{"batch": 100}');
SELECT model FROM persona.catalogs;
SELECT * FROM mean_model();
SELECT count(*) FROM products_persona_incoming;
SELECT count(*) FROM persona.search(NULL::products, 'red shoes', k => 5);
-- and back, in one transaction
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{color,tags,attributes}',
    brand => 'brand', category => 'category', price => 'price', model => 'all-MiniLM-L6-v2');
SELECT persona.drop_adapter('shop');
SELECT step, rows FROM persona.refresh('products') WHERE step = 'vectors';
SELECT model FROM persona.catalogs;
SELECT * FROM mean_model();
-- not adopted, not used
SET client_min_messages = warning;
SELECT count(*) FROM persona.fine_tune('classify', 'asks', '{"name": "none", "text": "content", "label": "topic", "epochs": 1, "validation": 0}');
SET client_min_messages = error;
\set VERBOSITY sqlstate
SELECT persona.embed('x', model => 'none');
SELECT persona.fine_tune('classify', 'asks', '{"name": "topics", "text": "content", "label": "topic"}');
SELECT persona.fine_tune('classify', 'asks', '{"name": "all-MiniLM-L6-v2", "text": "content", "label": "topic"}');
SELECT persona.fine_tune('classify', 'asks', '{"name": "x", "text": "content", "label": "topic", "rank": 0}');
SELECT persona.fine_tune('classify', 'asks', '{"name": "x", "text": "missing"}');
SELECT persona.fine_tune('guess', 'asks', '{"name": "x"}');
SELECT persona.fine_tune('classify', 'asks', '{"name": "x", "text": "content", "label": "topic", "learning_rate": 2}');
SELECT persona.fine_tune('embed', 'products', '{"name": "x", "method": "head"}');
SELECT persona.fine_tune('classify', 'asks', '{"name": "x", "text": "content", "label": "topic", "teacher": "ranks"}');
SELECT persona.fine_tune('embed', 'judged', '{"name": "x", "teacher": "ranks", "negatives": 0}');
\set VERBOSITY default
SELECT persona.fine_tune('embed', 'judged', '{"name": "x", "teacher": "nobody"}');
SELECT persona.fine_tune('embed', 'judged', '{"name": "x", "teacher": "all-MiniLM-L6-v2"}');
SELECT persona.fine_tune('embed', 'judged', '{"name": "x", "teacher": "topics"}');
SELECT persona.fine_tune('embed', 'judged', '{"name": "x", "teacher": "none"}');
BEGIN READ ONLY;
SELECT persona.fine_tune('embed', 'judged', '{"name": "x"}');
ROLLBACK;
\set VERBOSITY sqlstate
SELECT * FROM persona.classify('x', 'shop');
SELECT * FROM persona.classify('x', 'nobody');
SELECT persona.drop_adapter('nobody');
CREATE TABLE few AS SELECT 'a' AS text, 'b' AS label;
SELECT persona.fine_tune('classify', 'few', '{"name": "x"}');
\set VERBOSITY default
-- whose it is
CREATE ROLE tune_reader;
GRANT USAGE ON SCHEMA public TO tune_reader;
SET ROLE tune_reader;
SELECT label FROM persona.classify('where is my parcel', 'topics') LIMIT 1;
SELECT persona.drop_adapter('topics');
SELECT * FROM persona.export_adapter('topics');
SELECT persona.fine_tune('classify', 'asks', '{"name": "x", "text": "content", "label": "topic"}');
RESET ROLE;
SELECT persona.drop_adapter('topics');
SELECT count(*) FROM persona.adapters WHERE name = 'topics';
DROP OWNED BY tune_reader;
DROP ROLE tune_reader;
