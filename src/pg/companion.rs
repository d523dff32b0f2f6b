//! Companion tables: what is ours beside an item table, and the SQL that keeps their words.

use super::catalog::Catalog;
use super::spi::{self, Arg, Mode};
use crate::error::{Error, Result};
use crate::shopper::sequence;
use pgrx::pg_sys;

/// Quotes an identifier.
pub fn ident(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}

/// Quotes a literal.
pub fn literal(text: &str) -> String {
    pgrx::spi::quote_literal(text)
}

/// A relation's column.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// As `format_type` shows it, without a modifier.
    pub shown: String,
    pub oid: pg_sys::Oid,
    /// The base type where it is a domain, else the type.
    pub base: pg_sys::Oid,
    pub array: bool,
}

/// The columns of a relation.
pub fn columns(relation: pg_sys::Oid) -> Result<Vec<Column>> {
    let sql = "SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, -1), a.atttypid,
            CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, t.typcategory OPERATOR(pg_catalog.=) 'A'
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
        WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
        ORDER BY a.attnum";
    spi::query(Mode::Read, sql, &[Arg::of(relation)], |row| {
        Ok(Column {
            name: row.need(1)?,
            shown: row.need(2)?,
            oid: row.need(3)?,
            base: row.need(4)?,
            array: row.need(5)?,
        })
    })
}

/// A column by name.
pub fn column<'a>(columns: &'a [Column], relation: &str, name: &str) -> Result<&'a Column> {
    columns
        .iter()
        .find(|column| column.name == name)
        .ok_or_else(|| Error::NoColumn { relation: relation.to_owned(), column: name.to_owned() })
}

/// Longest text of a column, and of a field, that is read, in characters: a tsvector holds 1 MB for its four fields.
const LONGEST: usize = 40_000;

/// SQL of a text without the punctuation that the parser of `to_tsvector` would take for a path, an entity or an address.
pub fn plain(text: &str) -> String {
    const MARKS: &str = "!\"#$%&()*+,/:;<=>?@[\\]^`{|}~_®™©";
    format!("translate({text}, {}, {})", literal(MARKS), literal(&" ".repeat(MARKS.chars().count())))
}

/// A column's words as one SQL text: arrays by element, json by its strings.
pub fn words(column: &Column) -> String {
    let name = format!("i.{}", ident(&column.name));
    let text = match column.base {
        pg_sys::JSONBOID => format!(
            "(SELECT string_agg(v #>> '{{}}', ' ') FROM jsonb_path_query({name}, \
             'strict $.** ? (@.type() == \"string\")') v)"
        ),
        _ if column.array => format!("array_to_string({name}, ' ')"),
        _ => format!("{name}::text"),
    };
    format!("left({text}, {LONGEST})")
}

/// SQL of an item's words, its text for the model, and that text's hash: `key, lexemes, document, hash` from `items i`.
pub struct Document {
    /// `tsvector` with title A, brand and category B, body C, attributes D.
    pub lexemes: String,
    /// The text that is embedded.
    pub text: String,
    /// 16 bytes of its SHA-256.
    pub hash: String,
}

impl Document {
    /// The expressions for a catalog's columns.
    pub fn of(catalog: &Catalog) -> Result<Document> {
        let all = columns(pg_sys::Oid::from(catalog.items))?;
        let sql = |name: &String| column(&all, &catalog.name, name).map(words);
        let list = |names: Vec<&String>| names.into_iter().map(sql).collect::<Result<Vec<_>>>();
        let title = list(vec![&catalog.title])?;
        let named = list(catalog.brand.iter().chain(&catalog.category).collect())?;
        let body = list(catalog.body.iter().collect())?;
        let attributes = list(catalog.attributes.iter().collect())?;
        let config = literal(&catalog.text_search);
        let mut lexemes = Vec::new();
        for (label, parts) in [("A", &title), ("B", &named), ("C", &body), ("D", &attributes)] {
            if !parts.is_empty() {
                let text = plain(&format!("persona._segment(left(concat_ws(' ', {}), {LONGEST}))", parts.join(", ")));
                lexemes.push(format!("setweight(to_tsvector({config}::regconfig, {text}), '{label}')"));
            }
        }
        // Brand and attributes are matched as words; in the text they would only dilute what it means.
        let embedded: Vec<String> =
            title.iter().chain(&body).map(|part| format!("NULLIF(btrim({part}), '')")).collect();
        let text = format!("concat_ws(E'\\n', {})", embedded.join(", "));
        let hash = format!("substr(sha256(convert_to({text}, 'UTF8')), 1, 16)");
        Ok(Document { lexemes: lexemes.join(" || "), text, hash })
    }
}

/// Statements that keep the companion's words; `$1` is a key.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// Writes the words of the item with the key, if they changed.
    pub mark: String,
    /// Drops the companion row of a key that no item has.
    pub unmark: String,
}

impl Upkeep {
    /// The statements of a catalog.
    pub fn of(catalog: &Catalog) -> Result<Upkeep> {
        let key = ident(&catalog.key);
        let from = format!("FROM {} i WHERE i.{key} {} $1", catalog.name, catalog.key_equal);
        Ok(Upkeep {
            mark: upsert(catalog, &from)?,
            unmark: format!(
                "DELETE FROM {} c WHERE c.key {} $1 AND NOT EXISTS (SELECT {from})",
                catalog.companion, catalog.key_equal
            ),
        })
    }
}

/// The statement that writes the words of the items that `from` selects as `i`, where they changed.
pub fn upsert(catalog: &Catalog, from: &str) -> Result<String> {
    let document = Document::of(catalog)?;
    Ok(format!(
        "INSERT INTO {companion} AS c (key, lexemes, length, hash)
         SELECT d.key, d.lexemes, persona._length(d.lexemes), d.hash
         FROM (SELECT {distinct} i.{key} AS key, {lexemes} AS lexemes, {hash} AS hash {from}) d WHERE d.key IS NOT NULL
           AND NOT EXISTS (SELECT FROM {companion} x WHERE x.key {equal} d.key AND x.hash = d.hash AND x.lexemes = d.lexemes)
         ON CONFLICT (key) DO UPDATE SET lexemes = EXCLUDED.lexemes, length = EXCLUDED.length, hash = EXCLUDED.hash
         WHERE c.hash <> EXCLUDED.hash OR c.lexemes <> EXCLUDED.lexemes",
        companion = catalog.companion,
        // Without a unique index a key may stand twice: one of its rows is the item.
        distinct =
            if catalog.is_triggered() { String::new() } else { format!("DISTINCT ON (i.{})", ident(&catalog.key)) },
        equal = catalog.key_equal,
        key = ident(&catalog.key),
        lexemes = document.lexemes,
        hash = document.hash,
    ))
}

/// The companion tables of a catalog: the column of `persona.catalog` that names each, and the ending of its name.
pub const TABLES: [(&str, &str); 10] = [
    ("companion", "persona"),
    ("stats", "persona_stats"),
    ("pairs", "persona_pairs"),
    ("terms", "persona_terms"),
    ("lexicon", "persona_lexicon"),
    ("queries", "persona_queries"),
    ("baskets", "persona_baskets"),
    ("learned", "persona_learned"),
    ("segments", "persona_segments"),
    ("incoming", "persona_incoming"),
];

/// What the DDL of a companion table depends on.
pub struct Shape<'a> {
    /// The item table as a user would type it.
    pub shown: &'a str,
    pub key_type: &'a str,
    pub dimension: i32,
    /// pgvector's type, qualified.
    pub halfvec: &'a str,
}

/// Columns and index of the statistics that a catalog of 0.1.0 lacks.
pub fn newer_stats(stats: &str) -> [String; 2] {
    let columns = [
        "impressions bigint NOT NULL DEFAULT 0",
        "buckets smallint[]",
        "counts real[]",
        "kin_buckets smallint[]",
        "kin real[]",
    ];
    let columns = columns.map(|column| format!("ADD COLUMN {column}")).join(", ");
    [format!("ALTER TABLE {stats} {columns}"), popular(stats)]
}

/// The index that gives the most popular items first.
fn popular(stats: &str) -> String {
    format!("CREATE INDEX ON {stats} (popularity DESC, id)")
}

/// DDL of the companion table that `column` of `persona.catalog` names; `table` is its name, qualified and quoted.
pub fn ddl(column: &str, table: &str, shape: &Shape) -> Vec<String> {
    let Shape { shown, key_type, dimension, halfvec } = shape;
    let note = literal(&format!(
        "pg_persona: what is known of the items of {shown}; written by persona.refresh and a trigger"
    ));
    let create = |columns: &str| format!("CREATE TABLE {table} ({columns})");
    let mut statements = match column {
        "companion" => {
            // A vector in the row itself is read without a detour; beyond a quarter page it goes where large values go.
            let storage = if *dimension <= 1000 { "PLAIN" } else { "EXTERNAL" };
            vec![
                create(&format!(
                    "id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
                    key {key_type} NOT NULL UNIQUE,
                    lexemes tsvector NOT NULL,
                    length real NOT NULL,
                    hash bytea NOT NULL,
                    embedded bytea,
                    model text,
                    embedding {halfvec}({dimension})"
                )),
                format!("ALTER TABLE {table} ALTER embedding SET STORAGE {storage}"),
                format!("CREATE INDEX ON {table} USING gin (lexemes) WITH (fastupdate = off)"),
                format!("CREATE INDEX ON {table} (id) WHERE embedded IS DISTINCT FROM hash"),
            ]
        }
        "stats" => vec![
            create(
            "id bigint PRIMARY KEY, shoppers bigint NOT NULL, events bigint NOT NULL, views bigint NOT NULL, clicks bigint NOT NULL,
                carts bigint NOT NULL, purchases bigint NOT NULL, returns bigint NOT NULL, popularity real NOT NULL, last timestamptz, mean real[],
                impressions bigint NOT NULL DEFAULT 0, buckets smallint[], counts real[], kin_buckets smallint[], kin real[]",
        ),
            popular(table),
        ],
        // Like pairs, but within one basket: an invoice, a session, an hour.
        "pairs" | "baskets" => vec![create("id bigint PRIMARY KEY, others bigint[] NOT NULL, weights real[] NOT NULL")],
        // What the shoppers of a context (a country, a device) take.
        "segments" => vec![create("name text COLLATE \"C\" NOT NULL, value text COLLATE \"C\" NOT NULL, others bigint[] NOT NULL, weights real[] NOT NULL, PRIMARY KEY (name, value)")],
        "terms" => {
            vec![create("lexeme text COLLATE \"C\" PRIMARY KEY, documents bigint NOT NULL, length double precision")]
        }
        // The catalog's own words and values, to correct a query and to find entities in it.
        "lexicon" => vec![
            create("id int PRIMARY KEY, hash text NOT NULL, packed bytea NOT NULL"),
            format!("ALTER TABLE {table} ALTER packed SET STORAGE EXTERNAL"), // it is compact already, and read whole
        ],
        // What shoppers asked.
        "queries" => vec![create(
            "query text COLLATE \"C\" PRIMARY KEY, asked bigint NOT NULL, shoppers bigint NOT NULL, answered bigint NOT NULL,
                focus real NOT NULL, breadth real NOT NULL, beside real NOT NULL,
                category text, last timestamptz",
        )],
        // What a ranker has learnt of each item.
        "learned" => vec![
            create(&format!(
                "ranker bigint NOT NULL, id bigint NOT NULL, into_history {halfvec}({into}) NOT NULL,
                as_candidate {halfvec}({out}) NOT NULL, PRIMARY KEY (ranker, id)",
                into = sequence::WIDTH,
                out = sequence::WIDTH + 1,
            )),
            format!("ALTER TABLE {table} ALTER into_history SET STORAGE PLAIN, ALTER as_candidate SET STORAGE PLAIN"),
        ],
        // Vectors of the model that the catalog is about to change to, until all are there.
        "incoming" => vec![create(&format!(
            "id bigint PRIMARY KEY, hash bytea NOT NULL, model text NOT NULL, embedding {halfvec}({dimension}) NOT NULL"
        ))],
        _ => Vec::new(),
    };
    statements.push(format!("COMMENT ON TABLE {table} IS {note}"));
    statements.push(format!("REVOKE ALL ON {table} FROM PUBLIC"));
    statements
}
