//! The rows that a task learns from, as its caller may read them.

use super::Wanted;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::event::Kind;
use crate::pg::catalog::{self, Catalog};
use crate::pg::companion::{self, Column, Document, column, ident};
use crate::pg::interrupt::Backend;
use crate::pg::json::JsonB;
use crate::pg::spi::{self, Arg, Mode};
use crate::pg::{guc, refresh};
use crate::tune::{Data, From, Item, Named, Pair, Tagged, Task};
use pgrx::pg_sys;
use serde_json::Value;

/// Queries that led to an item from which a run learns by itself; with fewer, the items alone teach more.
const ENOUGH: usize = 500;

/// A relation and its columns.
pub(super) struct Source {
    pub(super) name: String,
    columns: Vec<Column>,
}

impl Source {
    pub(super) fn of(relation: pg_sys::Oid) -> Result<Source> {
        let sql = "SELECT persona._qualified($1)";
        let name = spi::first(Mode::Read, sql, &[Arg::of(relation)], |row| Ok(row.get::<String>(1)))?.flatten();
        let name = name.ok_or(Error::NoRelation { oid: relation.to_u32() })?;
        Ok(Source { name, columns: companion::columns(relation)? })
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.name == name)
    }

    /// A column as an expression over `s`.
    fn column(&self, name: &str) -> Result<String> {
        column(&self.columns, &self.name, name).map(|c| format!("s.{}", ident(&c.name)))
    }
}

/// Rows as `row` makes them, of as many bytes as a run may take.
fn bounded<T>(sql: &str, size: impl FnMut(&T) -> usize, mut row: impl FnMut(&spi::Row) -> Result<T>) -> Result<Vec<T>> {
    picked(sql, size, |one| row(one).map(Some))
}

/// The same, of the rows of which `row` makes something.
fn picked<T>(
    sql: &str,
    mut size: impl FnMut(&T) -> usize,
    mut row: impl FnMut(&spi::Row) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let most = guc::MAINTENANCE_MEMORY.get() as usize * 1024;
    let (mut all, mut bytes) = (Vec::new(), 0);
    spi::stream(sql, &[], 4096, |rows| {
        for one in rows {
            let Some(one) = row(one)? else { continue };
            bytes += size(&one) + size_of::<T>();
            if bytes > most {
                let what = "the rows take more than persona.maintenance_memory".to_owned();
                return Err(Error::Options { place: "source".into(), reason: what });
            }
            all.push(one);
        }
        Backend.check()
    })?;
    Ok(all)
}

/// The rows that a task learns from.
pub(super) fn read(wanted: &Wanted) -> Result<Data> {
    let source = Source::of(wanted.source)?;
    let options = &wanted.options;
    let text = |name: &str| -> Result<String> { Ok(format!("{}::pg_catalog.text", source.column(name)?)) };
    let catalog = catalog::find(wanted.source)?;
    match (wanted.task, catalog) {
        (Task::Classify, _) => {
            let (text, label) = (text(&options.text)?, text(&options.label)?);
            let sql = format!(
                "SELECT {text}, {label} FROM {} s WHERE {text} IS NOT NULL AND {label} IS NOT NULL",
                source.name
            );
            let size = |row: &(String, String)| row.0.len() + row.1.len();
            Ok(Data::Labelled(bounded(&sql, size, |row| Ok((row.need(1)?, row.need(2)?)))?))
        }
        (Task::Embed, Some(catalog)) if !source.has(&options.query) || !source.has(&options.item) => {
            let asked = if options.from == From::Items { Vec::new() } else { asked(&catalog)? };
            match options.from {
                From::Queries => Ok(Data::Pairs(asked)),
                From::Auto if asked.len() >= ENOUGH => Ok(Data::Pairs(asked)),
                _ => items(&catalog),
            }
        }
        (Task::Embed | Task::Rank, _) => {
            let (query, item) = (text(&options.query)?, text(&options.item)?);
            let graded = wanted.task == Task::Rank;
            let grade = if graded {
                format!("{}::pg_catalog.float4", source.column(&options.grade)?)
            } else {
                "1::pg_catalog.float4".into()
            };
            let sql = format!(
                "SELECT {query}, {item}, {grade} FROM {} s WHERE {query} IS NOT NULL AND {item} IS NOT NULL AND {grade} IS NOT NULL",
                source.name
            );
            let size = |pair: &Pair| pair.query.len() + pair.item.len();
            let rows =
                bounded(&sql, size, |row| Ok(Pair { query: row.need(1)?, item: row.need(2)?, grade: row.need(3)? }))?;
            if let Some(bad) = rows.iter().find(|row| !row.grade.is_finite()) {
                return Err(Error::NotFinite { what: format!("the grade of \"{}\"", bad.query) });
            }
            Ok(if graded { Data::Graded(rows) } else { Data::Pairs(rows) })
        }
        (Task::Tag, Some(catalog)) if !source.has(&options.spans) => weak_tags(&catalog, options.from),
        (Task::Tag, _) => {
            let (text, spans) = (text(&options.text)?, source.column(&options.spans)?);
            let sql =
                format!("SELECT {text}, {spans}::pg_catalog.jsonb FROM {} s WHERE {text} IS NOT NULL", source.name);
            let rows = bounded(&sql, Tagged::bytes, |row| {
                let text: String = row.need(1)?;
                let spans = row.get::<JsonB>(2).map_or(Ok(Vec::new()), |json| read_spans(&text, &json.0))?;
                Ok(Tagged { text, spans })
            })?;
            Ok(Data::Tagged(rows))
        }
    }
}

/// `[{"start": 0, "end": 4, "label": "brand"}]`, in characters from 0, to bytes.
fn read_spans(text: &str, spans: &Value) -> Result<Vec<(std::ops::Range<usize>, String)>> {
    let wrong =
        |reason: &str| Error::InvalidValue { place: "column".into(), key: "spans".into(), reason: reason.into() };
    let list = spans.as_array().ok_or_else(|| wrong("it is a list of {\"start\", \"end\", \"label\"}"))?;
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    list.iter()
        .map(|span| {
            let number =
                |key: &str| span.get(key).and_then(Value::as_u64).and_then(|n| starts.get(n as usize)).copied();
            let label = span.get("label").and_then(Value::as_str);
            match (number("start"), number("end"), label) {
                (Some(start), Some(end), Some(label)) if start < end => Ok((start..end, label.to_owned())),
                _ => Err(wrong("a span has a start, an end behind it within the text, and a label")),
            }
        })
        .collect()
}

/// Columns of a catalog whose values are names of an item: brand, category, attributes.
fn named(catalog: &Catalog) -> Vec<&String> {
    catalog.brand.iter().chain(&catalog.category).chain(&catalog.attributes).collect()
}

/// Values of a column as an array of texts, over `i`.
fn values(catalog: &Catalog, name: &str) -> Result<String> {
    let columns = companion::columns(pg_sys::Oid::from(catalog.items))?;
    let found = column(&columns, &catalog.name, name)?;
    let column = format!("i.{}", ident(&found.name));
    Ok(match found.base {
        pg_sys::JSONBOID => format!(
            "ARRAY(SELECT v #>> '{{}}' FROM pg_catalog.jsonb_path_query({column}, 'strict $.** ? (@.type() == \"string\")') v)"
        ),
        _ if found.array => format!("{column}::pg_catalog.text[]"),
        _ => format!("ARRAY[{column}::pg_catalog.text]"),
    })
}

/// What shoppers asked and the keys of the items that they then took, as the relation `e` (query, key): of the behaviour tables
/// that have queries, as the caller sees them. A query that fewer than `min_shoppers` asked tells of them
/// and is left out. `None` where no behaviour table has queries.
fn taken(catalog: &Catalog) -> Result<Option<String>> {
    let least = refresh::min_shoppers(catalog)?;
    let mut parts = Vec::new();
    for source in &catalog.events {
        let Some(query) = source.query.as_ref().filter(|query| source.known.contains(query)) else { continue };
        source.check()?;
        let kinds = source.kinds()?;
        let mut mute = kinds.mute();
        mute.push(Kind::Return.name().to_owned());
        mute.extend(kinds.words().filter(|(_, kind, _)| *kind == Kind::Return).map(|(word, ..)| word.to_lowercase()));
        let word = source.kind.as_ref().map_or_else(
            || companion::literal(source.kind_value.as_deref().unwrap_or("purchase")),
            |kind| format!("e.{}::pg_catalog.text", ident(kind)),
        );
        // Who asked is read only where it is counted.
        let shopper = if least > 1 { format!("e.{}", ident(&source.user_id)) } else { "NULL".to_owned() };
        parts.push(format!(
            "SELECT pg_catalog.btrim(e.{query}::pg_catalog.text) AS query, {shopper}::pg_catalog.text AS shopper, i.{key} AS key
             FROM {events} e JOIN {items} i ON i.{key} {equal} e.{item}
             WHERE pg_catalog.btrim(e.{query}::pg_catalog.text) OPERATOR(pg_catalog.<>) ''
               AND pg_catalog.lower({word}) OPERATOR(pg_catalog.<>) ALL (ARRAY[{mute}])",
            query = ident(query),
            events = source.name,
            items = catalog.name,
            key = ident(&catalog.key),
            equal = catalog.key_equal,
            item = ident(&source.item_id),
            mute = mute.iter().map(|word| companion::literal(word)).collect::<Vec<_>>().join(", "),
        ));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let enough = if least > 1 {
        format!(
            "WHERE EXISTS (SELECT FROM (SELECT pg_catalog.lower(o.query) AS query FROM events o GROUP BY 1
                HAVING pg_catalog.count(DISTINCT o.shopper) OPERATOR(pg_catalog.>=) {least}) a
             WHERE a.query OPERATOR(pg_catalog.=) pg_catalog.lower(e.query))"
        )
    } else {
        String::new()
    };
    Ok(Some(format!(
        "WITH events AS MATERIALIZED ({}), e AS (SELECT DISTINCT e.query, e.key FROM events e {enough})",
        parts.join(" UNION ALL ")
    )))
}

/// What shoppers asked, and the texts of the items that they then took.
fn asked(catalog: &Catalog) -> Result<Vec<Pair>> {
    let Some(taken) = taken(catalog)? else { return Ok(Vec::new()) };
    let sql = format!(
        "{taken} SELECT DISTINCT e.query, {} FROM e JOIN {} i ON i.{} {} e.key",
        Document::of(catalog)?.text,
        catalog.name,
        ident(&catalog.key),
        catalog.key_equal
    );
    let size = |pair: &Pair| pair.query.len() + pair.item.len();
    bounded(&sql, size, |row| Ok(Pair { query: row.need(1)?, item: cut(row.need(2)?), grade: 1.0 }))
}

/// The items of a catalog: title, text, names. Of its attributes those values are names that its own title or text says:
/// what stands in no text (a "yes", a count) nobody asks for.
fn items(catalog: &Catalog) -> Result<Data> {
    let document = Document::of(catalog)?;
    let list = |names: Vec<&String>| -> Result<String> {
        let lists = names.into_iter().map(|n| values(catalog, n)).collect::<Result<Vec<_>>>()?;
        Ok(if lists.is_empty() { "'{}'::pg_catalog.text[]".to_owned() } else { lists.join(" || ") })
    };
    let (names, attributes) =
        (list(catalog.brand.iter().chain(&catalog.category).collect())?, list(catalog.attributes.iter().collect())?);
    let title = format!("i.{}::pg_catalog.text", ident(&catalog.title));
    let sql = format!(
        "SELECT {title}, {}, {names}, {attributes} FROM {} i WHERE {title} IS NOT NULL",
        document.text, catalog.name
    );
    let size = |item: &Item| item.title.len() + item.text.len() + item.names.iter().map(String::len).sum::<usize>();
    let rows = bounded(&sql, size, |row| {
        let (title, text): (String, String) = (row.need(1)?, cut(row.need(2)?));
        // A long value is no name, and neither is a number.
        let short = |name: &String| (2..=40).contains(&name.chars().count()) && name.chars().any(char::is_alphabetic);
        let texts = |column: i32| row.get::<Vec<Option<String>>>(column).unwrap_or_default().into_iter().flatten();
        let said = |name: &String| crate::tune::stands_in(&text, name).is_some();
        let mut names: Vec<String> = texts(3).filter(short).collect();
        names.extend(texts(4).filter(|name| short(name) && said(name)));
        names.dedup();
        Ok(Item { title, text, names })
    })?;
    Ok(Data::Items(rows))
}

/// No model reads more than a few hundred words.
fn cut(mut text: String) -> String {
    let mut at = text.len().min(4000);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
    text
}

/// Titles of a catalog with the values of their own brand, category and attributes that stand in them, and queries with
/// those of the items that were taken.
fn weak_tags(catalog: &Catalog, from: From) -> Result<Data> {
    let all = named(catalog);
    let columns = all.as_slice();
    let lists = columns.iter().map(|n| values(catalog, n)).collect::<Result<Vec<_>>>()?.join(", ");
    if columns.is_empty() {
        let what = "the catalog has no brand, category or attributes to find in titles and queries".to_owned();
        return Err(Error::TooFewRows { what });
    }
    let found = |row: &spi::Row| -> Vec<(String, String)> {
        let of = |place: usize| row.get::<Vec<Option<String>>>(place as i32 + 2).unwrap_or_default();
        let named = |place: usize| of(place).into_iter().flatten().map(move |value| (columns[place].clone(), value));
        (0..columns.len()).flat_map(named).collect()
    };
    let mut rows = Vec::new();
    if from != From::Queries {
        let title = format!("i.{}::pg_catalog.text", ident(&catalog.title));
        let sql = format!("SELECT {title}, {lists} FROM {} i WHERE {title} IS NOT NULL", catalog.name);
        rows = bounded(&sql, Tagged::bytes, |row| {
            let mut named = Named::of(cut(row.need(1)?));
            named.add(found(row).iter().map(|(name, value)| (name.as_str(), value.as_str())));
            Ok(named.tagged())
        })?;
    }
    if from != From::Items
        && let Some(taken) = taken(catalog)?
    {
        // The items of one query come one after the other.
        let sql = format!(
            "{taken} SELECT e.query, {lists} FROM e JOIN {} i ON i.{} {} e.key ORDER BY e.query COLLATE pg_catalog.\"C\"",
            catalog.name,
            ident(&catalog.key),
            catalog.key_equal
        );
        let mut open: Option<Named> = None;
        let queries = picked(&sql, Tagged::bytes, |row| {
            let query = cut(row.need(1)?);
            let done = open.take_if(|named| named.text() != query).map(Named::tagged);
            open.get_or_insert_with(|| Named::of(query))
                .add(found(row).iter().map(|(name, value)| (name.as_str(), value.as_str())));
            Ok(done)
        })?;
        // A query of which nothing is known would teach that its words name nothing.
        rows.extend(queries.into_iter().chain(open.map(Named::tagged)).filter(|row| !row.spans.is_empty()));
    }
    Ok(Data::Tagged(rows))
}
