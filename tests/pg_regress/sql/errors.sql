-- Bad input: one clear error each, with SQLSTATE and hint; nothing is changed.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; hint text; detail text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN format(E'%s: %s\n  hint: %s%s', state, message, hint, CASE WHEN detail <> '' THEN E'\n  detail: ' || detail ELSE '' END);
END $$;
CREATE TABLE no_key (a int, title text);
CREATE TEMP TABLE passing (id int PRIMARY KEY, title text);
CREATE TABLE two_keys (a int, b int, title text, PRIMARY KEY (a, b));
CREATE TEMP TABLE other_events (user_id bigint, product_id text, at timestamptz, word text);
CREATE TABLE plain (id int PRIMARY KEY, title text);
CREATE TABLE left_over (id int PRIMARY KEY, title text);
CREATE TABLE left_over_persona_stats ();
\t on
\a
SELECT pg_temp.try(s) FROM unnest(ARRAY[
    $$SELECT persona.create_catalog('nowhere', title => 'title')$$,
    $$SELECT persona.create_catalog('no_key', title => 'title')$$,
    $$SELECT persona.create_catalog('two_keys', title => 'title')$$,
    $$SELECT persona.create_catalog('passing', title => 'title')$$,
    $$SELECT persona.create_catalog(0::regclass, title => 'title')$$,
    $$SELECT * FROM persona.search(NULL::text, 'x')$$,
    $$SELECT persona.create_catalog('plain', title => 'titel')$$,
    $$SELECT persona.create_catalog('plain', title => NULL)$$,
    $$SELECT persona.create_catalog('plain', title => 'title', body => '{nothing}')$$,
    $$SELECT persona.create_catalog('plain', title => 'title', model => 'no-such-model')$$,
    $$SELECT persona.create_catalog('plain', title => 'title', model => '../all-MiniLM-L6-v2')$$,
    $$SELECT persona.create_catalog('plain', title => 'title', options => '{"text_search": "klingon"}')$$,
    $$SELECT persona.create_catalog('plain', title => 'title', options => '{"key": "title"}')$$,
    $$SELECT persona.create_catalog('plain', title => 'title', options => '{"keys": "id"}')$$,
    $$SELECT persona.create_catalog('products_pkey', title => 'title')$$,
    $$SELECT persona.create_catalog('left_over', title => 'title')$$,
    $$SELECT persona.add_events('plain', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at')$$,
    $$SELECT persona.add_events('products', 'events', user_id => 'nobody', item_id => 'product_id', at => 'at')$$,
    $$SELECT persona.add_events('products', 'other_events', user_id => 'user_id', item_id => 'product_id', at => 'at')$$,
    $$SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'kind')$$,
    $$SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', "position" => 'kind')$$,
    $$SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind', kind_value => 'view')$$,
    $$SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', options => '{"kinds": {"bought": "acquisition"}}')$$,
    $$SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', options => '{"debias": "yes"}')$$,
    $$SELECT persona.drop_events('products', 'plain')$$,
    $$SELECT persona.drop_catalog('plain')$$,
    $$SELECT * FROM persona.refresh('plain')$$,
    $$SELECT * FROM persona.refresh('products', '{"bath": 1}')$$,
    $$SELECT * FROM persona.refresh('products', '{"batch": 0}')$$,
    $$SELECT * FROM persona.search(NULL::plain, 'x')$$,
    $$SELECT * FROM persona.search('nowhere', 'x')$$,
    $$SELECT persona.score(row(1, 2), 'x')$$,
    $$SELECT persona.score(1, 'x')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', k => 0)$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', k => 10001)$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', options => '{"exclude": true}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', options => '{"weights": {"colour": 1}}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', options => '{"weights": {"taste": "NaN"}}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', options => '{"candidates": 0}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', options => '[]')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', filter => '{"nothing": 1}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', filter => '{"brand": {"like": "A%"}}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', filter => '{"brand": {"eq": ["Alba"]}}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', filter => '{"brand": {"contains": "A"}}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', filter => '{"price": "cheap"}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', filter => '"brand"')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', context => '{"moon": "full"}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', context => '{"at": "infinity"}')$$,
    $$SELECT * FROM persona.search(NULL::products, 'x', context => '{"at": "some day"}')$$,
    $$SELECT persona.embed('x', model => 'no-such-model')$$,
    $$SELECT persona.embed('x', model => '..')$$,
    $$SELECT persona.embed('x', model => '/etc')$$,
    $$SELECT persona.embed(repeat('a long text ', 20000000))$$,
    $$CALL persona.work('tidy', 'products')$$
]) s;
\a
\t off
-- no errors
SELECT count(*) FROM persona.search(NULL::products, 'x', user_id => 'not a number');
SELECT count(*) FROM persona.search(NULL::products, 'x', user_id => '99999999999999999999');
SELECT count(*) FROM persona.search(NULL::products, (SELECT string_agg('word' || n, ' ') FROM generate_series(1, 200000) n));
SELECT persona.embed(NULL), persona.embed(NULL::text[]), persona.score(NULL::products, 'x');
SELECT vector_dims(persona.embed('')), array_length(persona.embed('{}'::text[]), 1), cardinality(persona.embed(ARRAY['a', NULL, 'b']));
SELECT count(*) FROM persona.search(NULL::products, 'x', k => NULL, options => NULL, filter => NULL, context => NULL);
-- nothing was changed
SELECT count(*) FROM persona.catalogs;
DROP TABLE no_key, two_keys, plain, left_over, left_over_persona_stats;
