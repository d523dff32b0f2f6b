-- The demo shop as the cluster tests have it: catalogued and refreshed, with a reader who may see products and events.
CREATE EXTENSION pg_persona CASCADE;
SELECT persona.create_catalog('products', title => 'title', body => '{description}', attributes => '{type,color,material}',
    brand => 'brand', category => 'category', price => 'price', options => '{"text_search": "english"}');
SELECT persona.add_events('products', 'events', user_id => 'user_id', item_id => 'product_id', at => 'at', kind => 'kind',
    query => 'query', session => 'session', context => '{device,country}');
SELECT count(*) FROM persona.refresh('products');
CREATE ROLE reader LOGIN;
GRANT SELECT ON products, events TO reader;
CREATE ROLE shelf_reader LOGIN;
GRANT SELECT ON products TO shelf_reader;
CREATE ROLE keeper LOGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON products TO keeper;
CHECKPOINT;
