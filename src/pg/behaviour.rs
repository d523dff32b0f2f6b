//! All behaviour with everything that its tables say, for training.

use super::catalog::{Catalog, Events};
use super::companion::{self, ident};
use super::refresh::{Said, said};
use crate::error::Result;

/// SQL of all behaviour, to be read as the catalog's owner; `None` without tables.
///
/// Columns: id (NULL where the catalog does not know the item), shopper, at, kind, weight, item (whether the row names one),
/// query, session, position, dwell (seconds), context (jsonb: the values of the context columns as text, by name).
pub fn all(catalog: &Catalog) -> Result<Option<String>> {
    let parts = catalog.events.iter().map(|source| one(catalog, source)).collect::<Result<Vec<_>>>()?;
    Ok(if parts.is_empty() { None } else { Some(parts.join(" UNION ALL ")) })
}

fn one(catalog: &Catalog, source: &Events) -> Result<String> {
    source.check()?;
    let Said { word, kind, weight } = said(source)?;
    let column = |name: &Option<String>, cast: &str| {
        name.as_ref().map_or_else(|| format!("NULL::{cast}"), |n| format!("e.{}::{cast}", ident(n)))
    };
    let context = source.context.iter().map(|n| format!("{}, e.{}::text", companion::literal(n), ident(n)));
    Ok(format!(
        "SELECT c.id, e.{user}::text AS shopper, e.{at}::timestamptz AS at, {kind} AS kind, {weight} AS weight,
            e.{item} IS NOT NULL AS item, {query} AS query, {session} AS session, {position} AS position,
            {dwell} / 1000 AS dwell, jsonb_strip_nulls(jsonb_build_object({context})) AS context
         FROM {events} e LEFT JOIN {companion} c ON c.key {equal} e.{item}
         CROSS JOIN LATERAL (SELECT {word}) w(word)
         WHERE isfinite(e.{at}) AND e.{user} IS NOT NULL",
        user = ident(&source.user_id),
        at = ident(&source.at),
        item = ident(&source.item_id),
        query = column(&source.query, "text"),
        session = column(&source.session, "text"),
        position = column(&source.position, "int"),
        dwell = column(&source.dwell_ms, "float8"),
        context = context.collect::<Vec<_>>().join(", "),
        events = source.name,
        companion = catalog.companion,
        equal = catalog.key_equal,
    ))
}
