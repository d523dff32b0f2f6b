-- The demo shop: 2,016 products of an outdoor and sports shop, 500 shoppers of known tastes, and what they did in three
-- months. Deterministic: every choice is a hash of row numbers, so the same rows come out on every machine and version,
-- and the shop's clock ends on 30 September 2025.
--
-- Tables: products, shoppers, events. Shoppers 1 and 2 are written by hand: Ada runs on trails and buys Norvik and Tarn,
-- mostly green; Ben races on roads and buys Aerion and Pacewell, mostly white. The shop knows nothing of the table
-- `shoppers`; it is there to check results against.

-- roll: a number from 0 to n - 1 that depends on (row, salt) alone.
CREATE FUNCTION pg_temp.roll(row_number bigint, salt bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT ((hashint8extended(row_number, salt) & 2147483647) % n)::int
$$;
CREATE FUNCTION pg_temp.pick(row_number bigint, salt bigint, list text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT list[1 + pg_temp.roll(row_number, salt, cardinality(list))]
$$;

-- What is sold. noun stands at the end of a title; features and uses fill the description.
CREATE TEMP TABLE type_list (type_id int, category text, type text, noun text, base numeric, materials text[], features text[], uses text[]);
INSERT INTO type_list VALUES
(0, 'Running', 'running shoes', 'Running Shoes', 110, '{mesh,knit,nylon}', '{a cushioned midsole,a grippy rubber outsole,a breathable upper,a padded heel collar,a wide toe box,reflective details}', '{daily training,long Sunday runs,your first marathon,muddy paths,tempo sessions}'),
(1, 'Running', 'running jacket', 'Running Jacket', 85, '{polyester,nylon,softshell}', '{taped seams,a packable hood,reflective piping,a zipped chest pocket,underarm vents}', '{wet mornings,windy ridges,winter training,early commutes on foot}'),
(2, 'Running', 'running shorts', 'Running Shorts', 38, '{polyester,elastane,nylon}', '{a soft liner,a zipped key pocket,split hems,a drawcord waist}', '{hot days,track sessions,marathon training,the gym}'),
(3, 'Running', 'running socks', 'Running Socks', 14, '{merino wool,polyamide,bamboo}', '{a seamless toe,arch support,a padded heel,fast drying yarn}', '{blister-free miles,cold mornings,race day,everyday wear}'),
(4, 'Running', 'hydration vest', 'Hydration Vest', 95, '{mesh,ripstop,nylon}', '{two soft flasks,stretch pockets,pole loops,a whistle}', '{ultra races,mountain days,long training runs}'),
(5, 'Running', 'sports watch', 'GPS Sports Watch', 240, '{aluminium,polymer,titanium}', '{dual-band GPS,a wrist heart rate sensor,two weeks of battery life,offline maps}', '{interval training,navigation off the beaten track,triathlon,tracking sleep}'),
(6, 'Hiking', 'hiking boots', 'Hiking Boots', 150, '{leather,suede,nylon}', '{a waterproof membrane,a stiff shank,deep lugs,a rubber toe cap,ankle support}', '{rocky paths,multi-day treks,winter walks,heavy packs}'),
(7, 'Hiking', 'hiking backpack', 'Hiking Backpack', 130, '{ripstop,nylon,canvas}', '{a ventilated back panel,a rain cover,hip belt pockets,a 40 litre main compartment}', '{hut-to-hut tours,weekend hikes,long distance trails}'),
(8, 'Hiking', 'trekking poles', 'Trekking Poles', 75, '{aluminium,carbon,cork}', '{cork grips,quick locks,tungsten tips,a folding shaft}', '{steep descents,snowshoeing,tired knees}'),
(9, 'Hiking', 'rain jacket', 'Rain Jacket', 140, '{nylon,polyester,softshell}', '{a three-layer membrane,pit zips,an adjustable hood,taped seams}', '{downpours,mountain weather,festivals,everyday wear in autumn}'),
(10, 'Hiking', 'fleece', 'Fleece Jacket', 70, '{fleece,merino wool,polyester}', '{a brushed inside,flat seams,thumb loops,a high collar}', '{cold evenings,layering under a shell,camp life}'),
(11, 'Camping', 'tent', 'Tent', 260, '{ripstop,polyester,nylon}', '{two porches,colour-coded poles,a full mesh inner,taped floor seams}', '{two people,four seasons,cycle touring,family weekends}'),
(12, 'Camping', 'sleeping bag', 'Sleeping Bag', 160, '{down,synthetic fill,nylon}', '{a draught collar,a two-way zip,a compression sack,a shaped hood}', '{cold nights,summer festivals,alpine huts}'),
(13, 'Camping', 'head torch', 'Head Torch', 45, '{polymer,aluminium,rubber}', '{400 lumens,a red night mode,USB charging,a washable strap}', '{night runs,reading in the tent,early starts}'),
(14, 'Camping', 'camping stove', 'Camping Stove', 60, '{steel,titanium,aluminium}', '{a piezo igniter,folding legs,a wind shield,simmer control}', '{quick coffee,melting snow,group meals}'),
(15, 'Cycling', 'bike helmet', 'Bike Helmet', 90, '{polycarbonate,foam,carbon}', '{a rotation liner,eighteen vents,a dial fit system,an integrated rear light}', '{commuting,gravel rides,criterium races}'),
(16, 'Cycling', 'cycling jersey', 'Cycling Jersey', 65, '{polyester,merino wool,elastane}', '{three rear pockets,a full zip,silicone grippers,mesh sides}', '{summer rides,long climbs,club runs}'),
(17, 'Cycling', 'bike light', 'Bike Light', 40, '{aluminium,polymer,rubber}', '{a side-visible beam,USB charging,tool-free mounting,a day flash mode}', '{dark commutes,night rides,winter training}'),
(18, 'Gym', 'yoga mat', 'Yoga Mat', 48, '{natural rubber,cork,foam}', '{a grippy surface,alignment marks,a carry strap,extra thickness}', '{hot yoga,home workouts,pilates,stretching after runs}'),
(19, 'Gym', 'leggings', 'Leggings', 55, '{elastane,polyamide,organic cotton}', '{a high waist,a phone pocket,squat-proof fabric,flat seams}', '{yoga classes,the gym,winter runs,lounging}'),
(20, 'Gym', 'dumbbells', 'Dumbbell Set', 85, '{steel,rubber,neoprene}', '{knurled grips,hexagonal ends,a storage rack,quick-change plates}', '{home strength training,circuit classes,rehabilitation}'),
(21, 'Gym', 'resistance bands', 'Resistance Band Set', 28, '{natural rubber,fabric,foam}', '{five strengths,a door anchor,padded handles,a travel pouch}', '{warm-ups,hotel rooms,physiotherapy}'),
(22, 'Travel', 'suitcase', 'Carry-On Suitcase', 170, '{polycarbonate,aluminium,nylon}', '{four silent wheels,a combination lock,a laptop sleeve,compression straps}', '{business trips,city breaks,cabin luggage rules}'),
(23, 'Travel', 'travel backpack', 'Travel Backpack', 120, '{canvas,ripstop,polyester}', '{a clamshell opening,a padded laptop pocket,hideaway straps,lockable zips}', '{one-bag travel,commuting,gap years}'),
(24, 'Travel', 'water bottle', 'Water Bottle', 26, '{steel,glass,polymer}', '{double walls,a leakproof lid,a carry loop,a wide mouth}', '{keeping tea hot,the office,long hikes}'),
(25, 'Everyday', 'sneakers', 'Sneakers', 80, '{leather,canvas,knit}', '{a gum sole,a cushioned insole,a low profile,padded ankles}', '{the city,smart casual days,travel,school runs}'),
(26, 'Everyday', 'hoodie', 'Hoodie', 58, '{organic cotton,fleece,polyester}', '{a lined hood,a kangaroo pocket,ribbed cuffs,a brushed inside}', '{lazy weekends,warming up,cool evenings}'),
(27, 'Everyday', 'sunglasses', 'Sunglasses', 88, '{acetate,polymer,titanium}', '{polarised lenses,spring hinges,rubber nose pads,a wrap-around frame}', '{driving,glacier tours,beach days,running in bright light}');

-- Five ways to make a thing, each with its words.
CREATE TEMP TABLE style_list (style text, factor numeric, adjectives text[], sentences text[]);
INSERT INTO style_list VALUES
('trail', 1.10, '{Trail,All-Terrain,Ridge,Backcountry}', '{"Built for rough ground, mud and loose stone.","Made for trails where the tarmac ends.","Tough enough for forest, fell and mountain."}'),
('race', 1.35, '{Race,Ultralight,Carbon,Road}', '{"Stripped to the essentials for speed on the road.","Featherlight and fast, made for race day.","Every gram counts, so none is wasted."}'),
('everyday', 0.90, '{Classic,Comfort,Daily,Urban}', '{"Comfortable from morning to night.","An easy choice for every day in town.","Simple, soft and made to last."}'),
('eco', 1.05, '{Recycled,Organic,Earth,Renew}', '{"Made from recycled and plant-based materials.","Low impact from fibre to parcel, and repairable.","Certified organic and free of harmful dyes."}'),
('pro', 1.60, '{Pro,Elite,Expedition,Summit}', '{"Professional grade, tested by guides.","The best we make, for those who depend on it.","Developed with athletes for the hardest conditions."}');

CREATE TEMP TABLE brand_list (brand_id int, brand text, style text);
INSERT INTO brand_list VALUES
(0, 'Norvik', 'trail'), (1, 'Tarn', 'trail'), (2, 'Stonecairn', 'trail'), (3, 'Aerion', 'race'), (4, 'Pacewell', 'race'),
(5, 'Brightmile', 'race'), (6, 'Calder', 'everyday'), (7, 'Lumo', 'everyday'), (8, 'Oakline', 'everyday'), (9, 'Hartwell', 'everyday'),
(10, 'Greenloom', 'eco'), (11, 'Fernway', 'eco'), (12, 'Mosswood', 'eco'), (13, 'Kestrel', 'pro'), (14, 'Halden', 'pro'), (15, 'Summit Forge', 'pro');

CREATE TABLE products (
    id          bigint PRIMARY KEY,
    title       text NOT NULL,
    description text NOT NULL,
    brand       text NOT NULL,
    category    text NOT NULL,
    type        text NOT NULL,
    style       text NOT NULL,
    color       text NOT NULL,
    material    text NOT NULL,
    price       numeric(8, 2) NOT NULL,
    released    date NOT NULL
);

-- 28 types, 72 products each. A brand keeps to its own style two times in three.
INSERT INTO products
SELECT id,
    concat_ws(' ', brand, pg_temp.pick(id, 11, '{Falcon,Meridian,Drift,Summit,Harbour,Vector,Aurora,Cedar,Pulse,Atlas,Willow,Comet,Fjord,Ember,Juniper,Nomad,Solstice,Heron,Basalt,Zephyr}'),
        pg_temp.pick(id, 12, adjectives), noun),
    format('%s With %s and %s, in %s %s. Good for %s.',
        pg_temp.pick(id, 13, sentences), features[1 + f], features[1 + (f + 1 + pg_temp.roll(id, 15, cardinality(features) - 1)) % cardinality(features)],
        color, material, pg_temp.pick(id, 16, uses)),
    brand, category, type, style, color, material,
    round(base * factor * (80 + pg_temp.roll(id, 17, 41)) / 100, 0) - 0.05,
    date '2025-09-30' - pg_temp.roll(id, 18, 900)
FROM (
    SELECT n + 1 AS id, t.*, b.brand, s.*, pg_temp.roll(n + 1, 14, cardinality(t.features)) AS f,
        pg_temp.pick(n + 1, 3, '{black,white,grey,navy,blue,green,olive,red,orange,pink,sand,teal}') AS color,
        pg_temp.pick(n + 1, 4, t.materials) AS material
    FROM generate_series(0, 28 * 72 - 1) n
    JOIN type_list t ON t.type_id = n % 28
    JOIN brand_list b ON b.brand_id = pg_temp.roll(n + 1, 1, 16)
    JOIN style_list s ON s.style = CASE WHEN pg_temp.roll(n + 1, 2, 3) < 2 THEN b.style ELSE pg_temp.pick(n + 1, 5, '{trail,race,everyday,eco,pro}') END
) made
ORDER BY id;

CREATE TABLE shoppers (
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    style   text NOT NULL,      -- what the shopper really likes
    brands  text[] NOT NULL,
    color   text NOT NULL,
    types   text[] NOT NULL,    -- what the shopper looks for
    device  text NOT NULL,
    country text NOT NULL
);
INSERT INTO shoppers VALUES
(1, 'Ada', 'trail', '{Norvik,Tarn}', 'green', '{running shoes,hydration vest,rain jacket,head torch}', 'mobile', 'GB'),
(2, 'Ben', 'race', '{Aerion,Pacewell}', 'white', '{running shoes,running shorts,sports watch,cycling jersey}', 'desktop', 'US');
INSERT INTO shoppers
SELECT s, 'Shopper ' || s, style,
    ARRAY(SELECT brand FROM brand_list b WHERE b.style = picked.style ORDER BY pg_temp.roll(s * 100 + brand_id, 21, 1000), brand LIMIT 2),
    pg_temp.pick(s, 22, '{black,white,grey,navy,blue,green,olive,red,orange,pink,sand,teal}'),
    ARRAY(SELECT type FROM type_list t ORDER BY pg_temp.roll(s * 100 + type_id, 23, 1000), type LIMIT 4),
    pg_temp.pick(s, 24, '{mobile,mobile,desktop,tablet}'), pg_temp.pick(s, 25, '{GB,US,IE,CA,AU}')
FROM (SELECT s, pg_temp.pick(s, 20, '{trail,race,everyday,eco,pro}') AS style FROM generate_series(3, 500) s) picked;

CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint NOT NULL,
    product_id bigint REFERENCES products ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT now(),
    kind       text NOT NULL,
    query      text,
    session    text,
    device     text,
    country    text
);

-- Sessions of one type and one query each; within a session a shopper goes for the brand six times in ten, for the style
-- twice, for the colour once, and else takes whatever comes. A session may end in a cart or a purchase.
CREATE TEMP TABLE shelf AS
SELECT 'brand ' || brand AS shelf, type, array_agg(id ORDER BY id) AS ids FROM products GROUP BY 1, 2
UNION ALL SELECT 'style ' || style, type, array_agg(id ORDER BY id) FROM products GROUP BY 1, 2
UNION ALL SELECT 'color ' || color, type, array_agg(id ORDER BY id) FROM products GROUP BY 1, 2
UNION ALL SELECT 'any', type, array_agg(id ORDER BY id) FROM products GROUP BY 1, 2;
CREATE INDEX ON shelf (shelf, type);

INSERT INTO events (user_id, product_id, at, kind, query, session, device, country)
SELECT user_id,
    ids[1 + pg_temp.roll(row, 31, cardinality(ids))],
    at,
    CASE WHEN step < steps THEN pg_temp.pick(row, 32, '{view,view,view,click}') ELSE pg_temp.pick(row, 33, '{view,cart,purchase,purchase}') END,
    type, 's' || user_id || '-' || visit, device, country
FROM (
    SELECT s.id AS user_id, visit, step, steps, s.device, s.country, wanted.type, row,
        timestamptz '2025-06-30 06:00+00' + (visit * 90.0 / visits) * interval '1 day'
            + pg_temp.roll(s.id * 100 + visit, 34, 960) * interval '1 minute' + step * interval '40 seconds' AS at,
        CASE WHEN roll < 6 THEN 'brand ' || s.brands[1 + pg_temp.roll(row, 35, 2)]
             WHEN roll < 8 THEN 'style ' || s.style
             WHEN roll < 9 THEN 'color ' || s.color ELSE 'any' END AS shelf
    FROM shoppers s
    CROSS JOIN LATERAL (SELECT 6 + pg_temp.roll(s.id, 36, 10) AS visits) v
    CROSS JOIN LATERAL generate_series(1, visits) visit
    CROSS JOIN LATERAL (SELECT s.types[1 + pg_temp.roll(s.id * 100 + visit, 37, 4)] AS type, 3 + pg_temp.roll(s.id * 100 + visit, 38, 5) AS steps) wanted
    CROSS JOIN LATERAL generate_series(1, steps) step
    CROSS JOIN LATERAL (SELECT (s.id * 100 + visit) * 10 + step AS row) r
    CROSS JOIN LATERAL (SELECT pg_temp.roll(row, 30, 10) AS roll) o
) chosen
JOIN LATERAL (
    SELECT ids FROM shelf l WHERE l.type = chosen.type AND l.shelf IN (chosen.shelf, 'any') ORDER BY l.shelf = 'any' LIMIT 1
) l ON true
ORDER BY at, user_id, step;

-- A few searches that led nowhere: an event without an item.
INSERT INTO events (user_id, product_id, at, kind, query, session, device, country)
SELECT id, NULL, timestamptz '2025-09-01 12:00+00' + id * interval '37 minutes', 'search',
    pg_temp.pick(id, 41, '{kayak paddle,ski goggles,surf wax,climbing rope}'), 's' || id || '-x', device, country
FROM shoppers WHERE id % 5 = 0 ORDER BY id;

CREATE INDEX ON events (user_id, at);
CREATE INDEX ON events (product_id, at);
ANALYZE products, shoppers, events;
