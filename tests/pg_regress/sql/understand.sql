-- What a query means: corrected, its parts, its price, what it does not want.
SET client_min_messages = warning;
CREATE FUNCTION said(query text) RETURNS TABLE (corrected text, search text, filter jsonb, without jsonb)
LANGUAGE sql AS $$ SELECT u ->> 'corrected', u ->> 'search', u -> 'filter', u -> 'without' FROM persona.understand('products', query) u $$;
SELECT q, s.* FROM unnest(ARRAY['blue running shoes', 'bleu runing shoes under 50', 'boardgame not red', 'leather boots -green', 'between 20 and 40 dollars puzzle', '', '42']) WITH ORDINALITY a(q, n), said(q) s ORDER BY n;
SELECT persona.understand('products', NULL) IS NULL;
SELECT e ->> 'text' AS text, e ->> 'kind' AS kind, e ->> 'value' AS value, e ->> 'from' AS from
FROM jsonb_array_elements(persona.understand('products', 'Corvo red leather boots size 42') -> 'entities') e;
SELECT t ->> 'text' AS text, t ->> 'form' AS form, t ->> 'role' AS role
FROM jsonb_array_elements(persona.understand('products', 'alba running shoes for winter under 30') -> 'tokens') t;
SELECT persona.understand('products', 'boots') ->> 'language' AS en, persona.understand('products', '红色连衣裙') ->> 'language' AS zh,
    persona.understand('products', '电子产品') -> 'tokens' AS tokens;
SELECT persona.understand('products', 'how do i return my order') #>> '{intent,is}' AS intent,
    (SELECT round(sum(value::numeric), 2) FROM jsonb_each_text(persona.understand('products', 'boots') #> '{intent,classes}')) AS all_classes;

-- The filter is one that search takes.
SELECT DISTINCT (item).color, (item).brand FROM persona.search(NULL::products, 'corvo red shoes under 100', k => 50,
    filter => persona.understand('products', 'corvo red shoes under 100') -> 'filter');

-- Search: corrected, unless the caller says otherwise; the score is that of the right spelling.
SELECT array_agg((item).id ORDER BY position) = (SELECT array_agg((item).id ORDER BY position) FROM persona.search(NULL::products, 'leather boots', k => 10)) AS same
FROM persona.search(NULL::products, 'lether boots', k => 10);
SELECT bool_or(source LIKE '%relaxed') AS relaxed FROM persona.search(NULL::products, 'lether boots', options => '{"correct": false}');
SELECT bool_or(source LIKE '%relaxed') AS relaxed FROM persona.search(NULL::products, 'lether boots', options => '{"understand": false}');
SELECT s.score = persona.score(s.item, 'lether boots') AS same_score FROM persona.search(NULL::products, 'lether boots', k => 1) s;

-- Where no item holds every word, the least telling ones go, and are named; what nothing holds goes first.
SELECT q, persona.understand('products', q) -> 'dropped' AS dropped
FROM unnest(ARRAY['leather boots', 'leather hoverboard boots', 'puzzle boots', 'blue leather boots puzzle', 'hoverboard', 'the for', '']) q;

-- A word that only a newer item has is no slip; for whom the item is hidden, it is one.
INSERT INTO products VALUES (3000, 'Leathar stool', NULL, 'Sonno', 'furniture', 'red', 5, NULL, NULL);
SELECT persona.understand('products', 'leathar stool') -> 'corrections' AS corrections;
SELECT (item).id FROM persona.search(NULL::products, 'leathar', k => 1);
CREATE ROLE stranger;
GRANT SELECT ON products TO stranger;
ALTER TABLE products ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON products FOR SELECT TO stranger USING (id < 3000);
SET ROLE stranger;
SELECT persona.understand('products', 'leathar') ->> 'corrected' AS corrected;
RESET ROLE;
ALTER TABLE products DISABLE ROW LEVEL SECURITY;
DROP POLICY visible ON products;
DROP OWNED BY stranger;
DROP ROLE stranger;
DELETE FROM products WHERE id = 3000;

-- What is not wanted is in no source, before any limit.
SELECT count(*) FILTER (WHERE (item).color = 'red') AS red, count(*) FROM persona.search(NULL::products, 'running shoes not red', k => 200);
SELECT count(*) FILTER (WHERE (item).color = 'red') AS red, count(*) FROM persona.search(NULL::products, 'running shoes -red', user_id => 1, k => 100, filter => '{"price": {"lt": 200}}');
-- For score, what is excluded is no answer: it counts as an item that nothing is known of.
SELECT count(*) FILTER (WHERE color = 'red' AND scored = nothing) AS red_as_unknown, count(*) FILTER (WHERE color = 'red') AS red,
    count(*) FILTER (WHERE color <> 'red' AND scored > nothing) > 10 AS others_score
FROM (SELECT p.color, persona.score(p, 'running shoes -red', user_id => 1) AS scored, min(persona.score(p, 'running shoes -red', user_id => 1)) OVER () AS nothing
    FROM products p WHERE p.title ~* 'shoes') s;
SELECT count(*) FILTER (WHERE (item).color = 'red') > 0 AS red FROM persona.search(NULL::products, 'running shoes not red', k => 200, options => '{"understand": false}');

-- Synonyms: one way, two ways, while valid.
SELECT count(*) FROM persona.search(NULL::products, 'sneakers', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
INSERT INTO persona.synonyms (items, term, synonym) VALUES ('products', 'Sneakers', 'running shoes');
SELECT count(*) FROM persona.search(NULL::products, 'sneakers', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
INSERT INTO persona.synonyms (items, term, synonym, two_way) VALUES ('products', 'jigsaw', 'puzzle', true);
SELECT DISTINCT (item).category FROM persona.search(NULL::products, 'jigsaw', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
UPDATE persona.synonyms SET valid = '(,2020-01-01)';
SELECT count(*) FROM persona.search(NULL::products, 'sneakers jigsaw', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
UPDATE persona.synonyms SET valid = '(,)', status = 'proposed';
SELECT count(*) FROM persona.search(NULL::products, 'sneakers jigsaw', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
\set VERBOSITY terse
INSERT INTO persona.synonyms (items, term, synonym, status) VALUES ('products', 'a', 'b', 'perhaps');
\set VERBOSITY default

-- Logged queries: where they led, what they led to nothing of, what completes them.
INSERT INTO events SELECT u, 4, now(), 'click', 'Road  Shoes', 's', 'FR' FROM generate_series(1, 8) u;
INSERT INTO events SELECT u, NULL, now(), 'search', 'hoverboard', 's', 'FR' FROM generate_series(1, 7) u;
INSERT INTO events SELECT 1, NULL, now(), 'search', 'rollers for my red bike', 's', 'FR';
SELECT step, rows > 0 AS some FROM persona.refresh('products') WHERE step IN ('queries', 'lexicon');
SELECT items, query, asked, shoppers FROM persona.unanswered;
SELECT persona.understand('products', 'road shoes') -> 'category' AS category;
SELECT suggestion FROM persona.suggest('products', 'ro', k => 3);
SELECT suggestion FROM persona.suggest('products', 'run', k => 3);
SELECT suggestion FROM persona.suggest('products', 'roll');
SELECT suggestion FROM persona.suggest('products', 'roll', user_id => 1);
SELECT suggestion FROM persona.suggest('products', 'b', user_id => 40, k => 3);
SELECT count(*) FROM persona.suggest('products', '');
SELECT count(*) FROM persona.suggest('products', NULL);
SELECT * FROM persona.suggest('products', 'a', k => 0);
SELECT persona.understand('events', 'a');

-- What shoppers do after a query moves its intent: all take one item, or each looks around and takes other things besides.
CREATE FUNCTION intent(query text) RETURNS TABLE (exact boolean, browse boolean) LANGUAGE sql
AS $$ SELECT (i #>> '{classes,buy_exact}')::real > .5, (i #>> '{classes,browse}')::real > .4 FROM (SELECT persona.understand('products', query) -> 'intent') u(i) $$;
SELECT q, i.* FROM unnest(ARRAY['that shoe', 'weekend']) q, intent(q) i;
INSERT INTO events SELECT u, 4, now(), 'purchase', 'that shoe', 's', 'FR' FROM generate_series(1, 60) u;
INSERT INTO events SELECT u, p.id, now(), 'click', 'weekend', 's', 'FR' FROM generate_series(1, 60) u,
    LATERAL (SELECT id FROM products WHERE category = 'running shoes' ORDER BY (id * 7919 + u * 31) % 101 LIMIT 4) p;
INSERT INTO events SELECT u, p.id, now(), 'click', 'weekend', 's', 'FR' FROM generate_series(1, 30) u,
    LATERAL (SELECT id FROM products WHERE category = 'puzzle' ORDER BY (id * 7919 + u * 31) % 101 LIMIT 2) p;
SELECT count(*) > 0 AS refreshed FROM persona.refresh('products');
SELECT q, i.* FROM unnest(ARRAY['that shoe', 'weekend']) q, intent(q) i;
SELECT query, round(answered::numeric / asked, 2) AS answered, round(focus::numeric, 2) AS focus, round(breadth::numeric, 1) AS breadth,
    round(beside::numeric, 2) AS beside, category FROM products_persona_queries WHERE query IN ('that shoe', 'weekend') ORDER BY 1;
-- so that is what its page has room for, unless the caller says otherwise
SELECT count(*) > 0 AS blended FROM persona.search(NULL::products, 'weekend', user_id => 1, k => 20) WHERE source LIKE 'recommended%';
SELECT count(*) FROM persona.search(NULL::products, 'weekend', user_id => 1, k => 20, options => '{"blend": 0}') WHERE source LIKE 'recommended%';
SELECT count(*) FROM persona.search(NULL::products, 'that shoe', user_id => 1, k => 20, options => '{"blend": 0.5}') WHERE source LIKE 'recommended%';

-- Queries that lead to the same items are proposed as synonyms, once.
INSERT INTO events SELECT u, i, now(), 'purchase', q, 's', 'FR' FROM generate_series(1, 6) u, unnest(ARRAY[4, 8]) i, unnest(ARRAY['blue sneakers', 'blue trainers']) q;
SELECT step, rows FROM persona.refresh('products') WHERE step = 'synonyms';
SELECT step, rows FROM persona.refresh('products') WHERE step = 'synonyms';
SELECT term, synonym, two_way, status, evidence FROM persona.synonyms WHERE evidence IS NOT NULL;

-- A rolled-back refresh leaves nothing behind in the backend.
BEGIN;
INSERT INTO products SELECT 1000 + n, 'Zeppelin kite', NULL, 'Zephyr', 'kite', 'red', 5, NULL, NULL FROM generate_series(1, 6) n;
SELECT count(*) FROM persona.refresh('products');
SELECT persona.understand('products', 'zepelin') ->> 'corrected' AS corrected;
ROLLBACK;
SELECT persona.understand('products', 'zepelin') ->> 'corrected' AS corrected;

-- Who sees what: words of hidden rows correct nothing, complete nothing, and are found in nothing, unless many items hold them.
INSERT INTO products VALUES (2000, 'Xylophone', NULL, 'Secretbrand', 'music', 'mauve', 5, NULL, NULL), (2001, 'Xylophone', NULL, 'Secretbrand', 'music', 'mauve', 5, NULL, NULL);
SELECT count(*) FROM persona.refresh('products');
CREATE ROLE understand_reader;
GRANT SELECT ON products, events TO understand_reader;
ALTER TABLE products ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON products FOR SELECT TO understand_reader USING (brand <> 'Secretbrand');
SELECT persona.understand('products', 'xylophne') ->> 'corrected' AS corrected, persona.understand('products', 'secretbrand') -> 'entities' <> '[]' AS found;
SET ROLE understand_reader;
SELECT persona.understand('products', 'xylophne') ->> 'corrected' AS corrected, persona.understand('products', 'secretbrand') -> 'entities' AS entities;
SELECT count(*) FROM persona.suggest('products', 'xyl');
SELECT persona.understand('products', 'lether') ->> 'corrected' AS corrected;
SELECT count(*) FROM persona.unanswered;
SELECT count(*) FROM persona.synonyms;
INSERT INTO persona.synonyms (items, term, synonym) VALUES ('products', 'c', 'd');
RESET ROLE;
REVOKE SELECT ON products FROM understand_reader;
SET ROLE understand_reader;
SELECT persona.understand('products', 'a');
RESET ROLE;

-- Chinese is cut into words, in items as they are written and in queries.
CREATE TABLE shop (id bigint PRIMARY KEY, title text, color text);
SELECT persona.create_catalog('shop', title => 'title', attributes => '{color}');
INSERT INTO shop VALUES (1, '红色连衣裙 长款', '红色'), (2, '蓝牙耳机', '黑色'), (3, '電池のケース', NULL), (4, '노트북을 위한 가방', NULL), (5, 'ＵＳＢ　cable', NULL);
SELECT (item).id FROM persona.search(NULL::shop, '连衣裙', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
SELECT (item).id FROM persona.search(NULL::shop, '电池 耳机', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
SELECT (item).id FROM persona.search(NULL::shop, 'ケース', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
SELECT (item).id FROM persona.search(NULL::shop, '노트북', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
SELECT (item).id FROM persona.search(NULL::shop, 'usb', options => '{"sources": ["lexical"]}') WHERE source LIKE 'lexical%';
SELECT count(*) FROM persona.refresh('shop');
SELECT u -> 'without' AS without, u -> 'filter' AS filter FROM persona.understand('shop', '连衣裙 不要红色') u;
DROP OWNED BY understand_reader;
DROP ROLE understand_reader;
