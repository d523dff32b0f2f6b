//! The behaviour tables of a catalog as one relation.

use super::catalog::{Catalog, Events};
use super::companion::{ident, literal};
use crate::catalog::rule::text;
use crate::error::{Error, Result};
use crate::event::Kind;
use serde_json::Value;

/// Rows that are wanted beside those that name a shopper and an item of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rows {
    /// Sessions of nobody known.
    pub nobody: bool,
    /// Rows without an item, or with one that the catalog does not know: their id is NULL.
    pub no_item: bool,
}

/// SQL of all behaviour, to be read as the catalog's owner; `None` without tables.
///
/// Columns: id, item (whether the row names one), shopper, session, at, kind (one of ours), weight, query, position, dwell
/// (seconds), context (jsonb of the context columns), propensity, place (the position, where clicks are to be weighed by it).
/// What a statement does not ask for costs it nothing.
pub fn sql(catalog: &Catalog, rows: Rows) -> Result<Option<String>> {
    let mut parts = Vec::new();
    for source in &catalog.events {
        source.check()?;
        let kinds = source.kinds()?;
        let column = |name: Option<&str>, cast: &str| {
            name.map_or(format!("NULL::{cast}"), |name| format!("e.{}::{cast}", ident(name)))
        };
        let word = match &source.kind {
            Some(kind) => column(Some(kind), "text"),
            None => format!("{}::text", literal(source.kind_value.as_deref().unwrap_or("purchase"))),
        };
        // The shop's own words first, then ours; what nobody mapped counts as a view, as in `Kinds::of`.
        let (mut names, mut weights) = (String::new(), String::new());
        let own = kinds.words().map(|(word, kind, weight)| (literal(word), kind, weight));
        let ours = Kind::ALL.into_iter().map(|kind| (literal(kind.name()), kind, kind.weight()));
        for (word, kind, weight) in own.chain(ours) {
            names.push_str(&format!(" WHEN {word} THEN '{}'", kind.name()));
            weights.push_str(&format!(" WHEN {word} THEN {weight:?}"));
        }
        let session = column(source.session.as_deref(), "text");
        let context: Vec<String> =
            source.context.iter().map(|name| format!("{}, e.{}", literal(name), ident(name))).collect();
        let nobody = if rows.nobody { format!("{session} IS NOT NULL") } else { "false".into() };
        parts.push(format!(
            "SELECT c.id, e.{item} IS NOT NULL AS item, e.{user}::text AS shopper, {session} AS session, e.{at}::timestamptz AS at,
                CASE w.word {names} ELSE CASE lower(w.word) {names} ELSE 'view' END END AS kind,
                (CASE w.word {weights} ELSE CASE lower(w.word) {weights} ELSE {view:?} END END)::float8 AS weight,
                {query} AS query, {position} AS position, {dwell} / 1000 AS dwell,
                jsonb_strip_nulls(jsonb_build_object({context})) AS context, {propensity} AS propensity,
                {place} AS place
             FROM {events} e {join} {companion} c ON c.key {equal} e.{item}
             CROSS JOIN LATERAL (SELECT {word}) w(word)
             WHERE isfinite(e.{at}) AND (e.{user} IS NOT NULL OR {nobody})",
            item = ident(&source.item_id),
            user = ident(&source.user_id),
            at = ident(&source.at),
            view = Kind::View.weight(),
            query = column(source.query.as_deref(), "text"),
            position = column(source.position.as_deref(), "int"),
            dwell = column(source.dwell_ms.as_deref(), "float8"),
            context = context.join(", "),
            propensity = column(propensity(source)?, "float8"),
            place = column(source.place(), "int"),
            events = source.name,
            join = if rows.no_item { "LEFT JOIN" } else { "JOIN" },
            companion = catalog.companion,
            equal = catalog.key_equal,
        ));
    }
    Ok(if parts.is_empty() { None } else { Some(parts.join(" UNION ALL ")) })
}

/// The values of a row's context columns, by column.
pub fn values(context: Option<pgrx::JsonB>) -> Vec<(String, String)> {
    let Some(Value::Object(columns)) = context.map(|c| c.0) else { return Vec::new() };
    columns.into_iter().map(|(column, value)| (column, text(&value))).collect()
}

/// The column that holds the chance with which a shown item stood at its place: `options.propensity`.
fn propensity(source: &Events) -> Result<Option<&str>> {
    match source.options.get("propensity").and_then(|name| name.as_str()) {
        Some(name) if !source.known.iter().any(|known| known == name) => {
            Err(Error::NoColumn { relation: source.name.clone(), column: name.to_owned() })
        }
        name => Ok(name),
    }
}
