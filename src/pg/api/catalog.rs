//! `persona.create_catalog`, `persona.drop_catalog`.

use super::super::companion::{self, Column, Shape, TABLES, Upkeep, column, columns, ident};
use super::super::error::door;
use super::super::identity::{self, Acting};
use super::super::json::JsonB;
use super::super::schedule::Schedule;
use super::super::spi::{self, Arg, Mode};
use super::super::zone::Zone;
use super::super::{adapter, catalog, session, vector, worker};
use crate::catalog::companion::name;
use crate::catalog::options::{Exclude, from_object};
use crate::embed::Role;
use crate::error::{Error, Result};
use crate::tune::Task;
use crate::understand::Intent;
use crate::understand::intent::CLASSES;
use pgrx::prelude::*;
use serde::Deserialize;
use std::rc::Rc;

/// Options of `create_catalog`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// The unique column that names an item; default: the one-column primary key.
    key: Option<String>,
    /// The text search configuration of the item's words; default: `default_text_search_config`.
    text_search: Option<String>,
    /// Fewest shoppers of a pair that is kept; default: 5 where row-level security guards the events, else 1.
    min_shoppers: Option<u32>,
    /// What recommendations leave out of a shopper's past: `seen` (default), `owned`, `nothing`.
    exclude: Exclude,
    /// Whether the background worker keeps it fresh; default: true.
    worker: Option<bool>,
    /// How often the background worker trains a ranker; default: never.
    train: Option<serde_json::Value>,
    /// A classifier made by `fine_tune('classify')` whose labels are intents; default: the one that ships.
    intents: Option<String>,
    /// A tagger made by `fine_tune('tag')`, whose spans join the entities of a query.
    tags: Option<String>,
    /// The time zone whose hours and weekdays rankers learn; default: UTC.
    time_zone: Option<String>,
    /// The column that says whether an item can be bought: a boolean, or a number above 0.
    stock: Option<String>,
}

impl Options {
    /// Refuses adapters that are none, or made for something else, and a schedule that is none.
    fn check(&self) -> Result<()> {
        self.train.as_ref().map(Schedule::read).transpose()?;
        self.time_zone.as_deref().map(Zone::read).transpose()?;
        if let Some(name) = &self.intents {
            let loaded = adapter::need(name, &[Task::Classify])?;
            if Intent::of_labels(&loaded.labels, &[]).is_none() {
                let known: Vec<&str> = CLASSES.iter().map(|class| class.name()).collect();
                return Err(Error::InvalidValue {
                    place: "options".into(),
                    key: "intents".into(),
                    reason: format!("no label of \"{name}\" is an intent ({})", known.join(", ")),
                });
            }
        }
        if let Some(name) = &self.tags {
            adapter::need(name, &[Task::Tag])?;
        }
        Ok(())
    }
}

/// What an item relation is.
struct Items {
    oid: pg_sys::Oid,
    shown: String,
    schema: String,
    name: String,
    kind: String,
    owner: pg_sys::Oid,
    temporary: bool,
}

fn items(oid: pg_sys::Oid) -> Result<Items> {
    let sql = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, c.relowner,
            c.oid::pg_catalog.regclass::pg_catalog.text, c.relpersistence OPERATOR(pg_catalog.=) 't'
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE c.oid OPERATOR(pg_catalog.=) $1";
    let found = spi::first(Mode::Read, sql, &[Arg::of(oid)], |row| {
        Ok(Items {
            oid,
            schema: row.need(1)?,
            name: row.need(2)?,
            kind: row.need(3)?,
            owner: row.need(4)?,
            shown: row.need(5)?,
            temporary: row.need(6)?,
        })
    })?;
    let items = found.ok_or_else(|| Error::NoRelation { oid: oid.to_u32() })?;
    let refused = match items.kind.as_str() {
        _ if items.temporary => Some("a temporary table"),
        "r" | "p" | "v" | "m" | "f" => None,
        "i" | "I" => Some("an index"),
        "S" => Some("a sequence"),
        "c" => Some("a composite type"),
        _ => Some("no table"),
    };
    match refused {
        Some(found) => {
            Err(Error::RelationKind { relation: items.shown, found: found.into(), wanted: "a catalog".into() })
        }
        None => Ok(items),
    }
}

/// The column that names an item: the one asked for, or the one-column primary key.
fn key<'a>(items: &Items, all: &'a [Column], asked: Option<&str>) -> Result<&'a Column> {
    let unique = "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index x
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) x.indrelid AND a.attnum OPERATOR(pg_catalog.=) x.indkey[0]
        WHERE x.indrelid OPERATOR(pg_catalog.=) $1 AND x.indnkeyatts OPERATOR(pg_catalog.=) 1 AND x.indpred IS NULL AND x.indisvalid
          AND CASE WHEN $2 IS NULL THEN x.indisprimary ELSE x.indisunique AND a.attname OPERATOR(pg_catalog.=) $2 END";
    if let Some(name) = asked {
        let found = column(all, &items.shown, name)?;
        let is_table = matches!(items.kind.as_str(), "r" | "p");
        let there: Vec<String> =
            spi::query(Mode::Read, unique, &[Arg::of(items.oid), Arg::of(name)], |row| row.need(1))?;
        if is_table && there.is_empty() {
            return Err(Error::InvalidValue {
                place: "options".into(),
                key: "key".into(),
                reason: format!("column \"{name}\" of {} has no unique index", items.shown),
            });
        }
        return Ok(found);
    }
    let there: Vec<String> =
        spi::query(Mode::Read, unique, &[Arg::of(items.oid), Arg::of(None::<&str>)], |row| row.need(1))?;
    match there.first() {
        Some(name) => column(all, &items.shown, name),
        None => Err(Error::NoKey { relation: items.shown.clone() }),
    }
}

/// A text search configuration by its qualified name, as the caller's search path finds it.
fn text_search(name: &str) -> Result<String> {
    let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.cfgname) FROM pg_catalog.pg_ts_config c
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.cfgnamespace
        WHERE c.cfgname::pg_catalog.text OPERATOR(pg_catalog.=) $1 AND pg_catalog.pg_ts_config_is_visible(c.oid)
           OR pg_catalog.format('%I.%I', n.nspname, c.cfgname) OPERATOR(pg_catalog.=) $1";
    spi::first(Mode::Read, sql, &[Arg::of(name)], |row| row.need::<String>(1))?.ok_or_else(|| Error::InvalidValue {
        place: "options".into(),
        key: "text_search".into(),
        reason: format!("text search configuration \"{name}\" does not exist"),
    })
}

/// What the caller asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Wanted {
    title: Option<String>,
    body: Option<Vec<String>>,
    attributes: Option<Vec<String>>,
    brand: Option<String>,
    category: Option<String>,
    price: Option<String>,
    image: Option<String>,
    model: Option<String>,
    options: serde_json::Value,
}

/// The body of `persona.create_catalog`; `wanted` is its arguments by name.
#[pg_extern(name = "_create_catalog", volatile)]
fn create_catalog(items: pg_sys::Oid, wanted: JsonB) {
    door(|| {
        let wanted: Wanted = serde_json::from_value(wanted.0)
            .map_err(|error| Error::Options { place: "arguments".into(), reason: error.to_string() })?;
        create(items, &wanted)
    });
}

fn create(oid: pg_sys::Oid, wanted: &Wanted) -> Result<()> {
    let items = items(oid)?;
    identity::need_owner(items.owner, &items.shown)?;
    let options: Options = from_object("options", &wanted.options)?;
    options.check()?;
    let all = columns(oid)?;
    let title = wanted.title.as_deref().ok_or_else(|| Error::InvalidValue {
        place: "argument".into(),
        key: "title".into(),
        reason: "it is NULL".into(),
    })?;
    let (body, attributes) = (wanted.body.clone().unwrap_or_default(), wanted.attributes.clone().unwrap_or_default());
    let single = [&wanted.brand, &wanted.category, &wanted.price, &wanted.image];
    for name in body.iter().chain(&attributes).chain(single.into_iter().flatten()) {
        column(&all, &items.shown, name)?;
    }
    column(&all, &items.shown, title)?;
    if let Some(name) = &options.stock {
        let found = column(&all, &items.shown, name)?;
        let fits = matches!(
            found.base,
            pg_sys::BOOLOID
                | pg_sys::INT2OID
                | pg_sys::INT4OID
                | pg_sys::INT8OID
                | pg_sys::NUMERICOID
                | pg_sys::FLOAT4OID
                | pg_sys::FLOAT8OID
        );
        if !fits {
            return Err(Error::ColumnType {
                relation: items.shown,
                column: found.name.clone(),
                found: found.shown.clone(),
                wanted: "a stock is a boolean or a number".into(),
            });
        }
    }
    let key = key(&items, &all, options.key.as_deref())?;
    let model = wanted.model.clone().map_or_else(session::default_model, Ok)?;
    let encoder = session::encoder(&model, Role::Document)?;
    let dimension = encoder.info().dimension as i32;
    let text_search = match &options.text_search {
        Some(name) => text_search(name)?,
        None => text_search(&default_text_search()?)?,
    };

    if !has_equality(key)? {
        return Err(Error::ColumnType {
            relation: items.shown,
            column: key.name.clone(),
            found: key.shown.clone(),
            wanted: "a key needs a type with a btree operator class".into(),
        });
    }
    let before = catalog::find(oid)?;
    if let Some(known) = &before
        && known.items != oid.to_u32()
    {
        return Err(Error::RelationKind {
            relation: items.shown,
            found: format!("a partition of {}", known.name),
            wanted: "a catalog of its own".into(),
        });
    }
    if let Some(known) = &before
        && (known.key != key.name || known.kept_key_oid != key.oid.to_u32() || known.dimension != dimension)
    {
        // Another key or another width: nothing of the companion tables can stay.
        drop_companions(known)?;
        return create_fresh(&items, wanted, title, &body, &attributes, key, &model, dimension, &text_search);
    }
    if let Some(known) = &before {
        // Searches go on with the model that the vectors are of, until all of another's are there.
        let (now, later) = if model != known.model && has_vectors(known)? {
            (known.model.as_str(), Some(model.as_str()))
        } else {
            (model.as_str(), None)
        };
        write_row(&items, wanted, title, &body, &attributes, &key.name, now, dimension, &text_search, None)?;
        let _owner = Acting::as_owner(identity::extension_owner()?);
        spi::run("UPDATE persona.catalog SET wanted = $2 WHERE items = $1", &[Arg::of(oid), Arg::of(later)])?;
        drop(_owner);
        if let Some(later) = later {
            pgrx::notice!("{} changes to model \"{later}\" at its next refresh", known.name);
        }
        return fill(oid, true);
    }
    create_fresh(&items, wanted, title, &body, &attributes, key, &model, dimension, &text_search)
}

/// Whether a catalog has vectors that searches go by.
fn has_vectors(catalog: &catalog::Catalog) -> Result<bool> {
    let _owner = Acting::as_owner(catalog.owner());
    let sql = format!("SELECT 1 FROM {} c WHERE c.embedding IS NOT NULL LIMIT 1", catalog.companion);
    Ok(spi::first(Mode::Write, &sql, &[], |_| Ok(()))?.is_some())
}

fn has_equality(key: &Column) -> Result<bool> {
    let sql = "SELECT persona._equality($1)";
    Ok(spi::first(Mode::Read, sql, &[Arg::of(key.base)], |row| Ok(row.get::<String>(1)))?.flatten().is_some())
}

fn default_text_search() -> Result<String> {
    let sql = "SELECT pg_catalog.current_setting('default_text_search_config')";
    let name = spi::first(Mode::Read, sql, &[], |row| row.need::<String>(1))?.unwrap_or_default();
    if name == "pg_catalog.english" {
        return Ok("persona.english".into());
    }
    if name == "pg_catalog.simple" {
        pgrx::notice!(
            "words are matched without stemming, as default_text_search_config is simple; \
            name a configuration to change that: options => '{{\"text_search\": \"persona.english\"}}'"
        );
    }
    Ok(name)
}

/// Names of the companion tables, qualified and quoted. After a swap of tables the plain names may belong to the table
/// that has moved away: then the table's own number makes them different.
fn free_names(items: &Items, tables: &[(&str, &str)]) -> Result<Vec<String>> {
    let qualified = |base: &str| -> Vec<String> {
        let named = |(_, ending): &(&str, &str)| format!("{}.{}", ident(&items.schema), ident(&name(base, ending)));
        tables.iter().map(named).collect()
    };
    let plain = qualified(&items.name);
    let sql = "SELECT c.items IS NOT NULL FROM (SELECT to_regclass($1) AS t) n
        LEFT JOIN persona.catalog c ON n.t = ANY (persona._companions(c)) WHERE n.t IS NOT NULL";
    let _owner = Acting::as_owner(identity::extension_owner()?);
    for table in &plain {
        match spi::first(Mode::Write, sql, &[Arg::of(table.as_str())], |row| row.need::<bool>(1))? {
            None => {}
            Some(true) => return Ok(qualified(&format!("{}_{}", items.name, items.oid.to_u32()))),
            Some(false) => return Err(Error::Leftover { table: table.clone(), all: plain.clone() }),
        }
    }
    Ok(plain)
}

/// Makes companion tables, and returns their names, qualified and quoted.
fn make_companions(items: &Items, tables: &[(&str, &str)], key: pg_sys::Oid, dimension: i32) -> Result<Vec<String>> {
    let qualified = free_names(items, tables)?;
    let types = vector::types()?;
    let _owner = Acting::as_owner(items.owner);
    let halfvec = format!("{}.halfvec", types.schema);
    let shown = "SELECT format_type($1, -1)"; // as the pinned path has to call it
    let key_type = spi::first(Mode::Read, shown, &[Arg::of(key)], |row| row.need::<String>(1))?.unwrap_or_default();
    let shape = Shape { shown: &items.shown, key_type: &key_type, dimension, halfvec: &halfvec };
    for ((column, _), table) in tables.iter().zip(&qualified) {
        for statement in companion::ddl(column, table, &shape) {
            spi::execute(&statement)?;
        }
    }
    Ok(qualified)
}

/// The catalog with the companion tables that an earlier release did not have, made now where they are missing.
pub fn complete(catalog: Rc<catalog::Catalog>) -> Result<Rc<catalog::Catalog>> {
    let there = [
        ("lexicon", &catalog.lexicon),
        ("queries", &catalog.queries),
        ("baskets", &catalog.baskets),
        ("learned", &catalog.learned),
        ("segments", &catalog.segments),
        ("incoming", &catalog.incoming),
    ];
    let is_missing = |column: &str| there.iter().any(|(name, table)| *name == column && table.is_none());
    let missing: Vec<(&str, &str)> = TABLES.into_iter().filter(|(column, _)| is_missing(column)).collect();
    if missing.is_empty() {
        return Ok(catalog);
    }
    let oid = pg_sys::Oid::from(catalog.items);
    let made = make_companions(&items(oid)?, &missing, pg_sys::Oid::from(catalog.key_oid), catalog.dimension)?;
    {
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let set: Vec<String> =
            missing.iter().enumerate().map(|(n, (column, _))| format!("{column} = ${}::regclass", n + 2)).collect();
        let mut args = vec![Arg::of(oid)];
        args.extend(made.iter().map(|table| Arg::of(table.as_str())));
        spi::run(&format!("UPDATE persona.catalog SET {} WHERE items = $1", set.join(", ")), &args)?;
    }
    catalog::changed(oid);
    catalog::need(oid)
}

#[allow(clippy::too_many_arguments)]
fn create_fresh(
    items: &Items,
    wanted: &Wanted,
    title: &str,
    body: &[String],
    attributes: &[String],
    key: &Column,
    model: &str,
    dimension: i32,
    text_search: &str,
) -> Result<()> {
    let qualified = make_companions(items, &TABLES, key.oid, dimension)?;
    {
        let _owner = Acting::as_owner(items.owner);
        if matches!(items.kind.as_str(), "r" | "p") {
            let table = format!("{}.{}", ident(&items.schema), ident(&items.name));
            for statement in [
                format!(
                    "CREATE TRIGGER pg_persona_rows AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION persona._mark()"
                ),
                format!(
                    "CREATE TRIGGER pg_persona_all AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION persona._mark()"
                ),
                format!(
                    "ALTER TABLE {table} ENABLE ALWAYS TRIGGER pg_persona_rows, ENABLE ALWAYS TRIGGER pg_persona_all"
                ),
            ] {
                spi::execute(&statement)?;
            }
        }
    }
    write_row(items, wanted, title, body, attributes, &key.name, model, dimension, text_search, Some(&qualified))?;
    fill(items.oid, false)
}

#[allow(clippy::too_many_arguments)]
fn write_row(
    items: &Items,
    wanted: &Wanted,
    title: &str,
    body: &[String],
    attributes: &[String],
    key: &str,
    model: &str,
    dimension: i32,
    text_search: &str,
    companions: Option<&[String]>,
) -> Result<()> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let args = [
        Arg::of(items.oid),
        Arg::of(key),
        Arg::of(title),
        Arg::of(body.to_vec()),
        Arg::of(attributes.to_vec()),
        Arg::of(wanted.brand.as_deref()),
        Arg::of(wanted.category.as_deref()),
        Arg::of(wanted.price.as_deref()),
        Arg::of(wanted.image.as_deref()),
        Arg::of(model),
        Arg::of(dimension),
        Arg::of(text_search),
        Arg::of(JsonB(wanted.options.clone())),
    ];
    match companions {
        Some(names) => {
            let columns = TABLES.map(|(column, _)| column).join(", ");
            let values = (args.len() + 1..=args.len() + names.len()).map(|n| format!("${n}::regclass"));
            let sql = format!(
                "INSERT INTO persona.catalog (items, key, title, body, attributes, brand, category, price, image, model,
                    dimension, text_search, options, {columns})
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, {})",
                values.collect::<Vec<_>>().join(", ")
            );
            let mut all = args.to_vec();
            all.extend(names.iter().map(|name| Arg::of(name.as_str())));
            spi::run(&sql, &all)?;
        }
        None => {
            let sql = "UPDATE persona.catalog SET key = $2, title = $3, body = $4, attributes = $5, brand = $6, category = $7,
                    price = $8, image = $9, model = $10, dimension = $11, text_search = $12, options = $13 WHERE items = $1";
            spi::run(sql, &args)?;
        }
    }
    catalog::changed(items.oid);
    Ok(())
}

/// Writes the words of the items that are there already, so that they can be found at once.
fn fill(oid: pg_sys::Oid, all: bool) -> Result<()> {
    worker::mark_at_commit();
    let catalog = catalog::need(oid)?;
    // Refuses columns that make no words before anybody writes a row.
    Upkeep::of(&catalog)?;
    let _owner = Acting::as_owner(catalog.owner());
    let from = format!("FROM {} i", catalog.name);
    let sql = companion::upsert(&catalog, &from)?;
    spi::run(&sql, &[])?;
    if !all {
        spi::execute(&format!("ANALYZE {}", catalog.companion))?;
    }
    Ok(())
}

fn drop_companions(catalog: &catalog::Catalog) -> Result<()> {
    {
        let _owner = Acting::as_owner(catalog.owner());
        for name in ["pg_persona_rows", "pg_persona_all"] {
            if matches!(catalog.kind.as_str(), "r" | "p") {
                spi::execute(&format!("DROP TRIGGER IF EXISTS {name} ON {}", catalog.name))?;
            }
        }
        for table in catalog.companions() {
            spi::execute(&format!("DROP TABLE IF EXISTS {table}"))?;
        }
    }
    let _owner = Acting::as_owner(identity::extension_owner()?);
    spi::run("DELETE FROM persona.catalog WHERE items = $1", &[Arg::of(pg_sys::Oid::from(catalog.items))])?;
    catalog::changed(pg_sys::Oid::from(catalog.items));
    Ok(())
}

/// Drops a catalog: its companion tables, its triggers and what is known of its behaviour tables. The items stay.
#[pg_extern(name = "_drop_catalog", volatile)]
fn drop_catalog(items: pg_sys::Oid) {
    door(|| {
        let catalog = catalog::need(items)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        drop_companions(&catalog)
    });
}
