//! `persona.similar` and `persona.bought_together`: lists that begin at an item.

use super::super::error::door;
use super::super::json::JsonB;
use super::found::{Anchor, Call, Start, named, typed};
use pgrx::AnyElement;
use pgrx::prelude::*;

/// `persona.similar` for a row.
#[pg_extern(
    sql = "CREATE FUNCTION persona.similar(item anyelement, user_id text DEFAULT NULL, filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
    RETURNS TABLE (item anyelement, score real, \"position\" int, source text, parts jsonb)
    STABLE PARALLEL RESTRICTED COST 10000 ROWS 20 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn similar_rows(
    item: Option<AnyElement>,
    user_id: Option<&str>,
    filter: Option<JsonB>,
    k: Option<i32>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(item, Option<AnyElement>),
        name!(score, f32),
        name!(position, i32),
        name!(source, String),
        name!(parts, JsonB),
    ),
> {
    let start = Start::Similar(Anchor::Row(item.map(|row| row.datum())));
    door(|| typed(fcinfo, &Call { start, query: None, user_id, context: None, filter, k, options }))
}

/// `persona.similar` for a table's name and a key: rows as jsonb.
#[pg_extern(name = "_similar", stable, parallel_restricted, cost = 10000)]
#[allow(clippy::type_complexity)] // as above
fn similar_json(
    items: Option<pg_sys::Oid>,
    item_id: Option<&str>,
    user_id: Option<&str>,
    filter: Option<JsonB>,
    k: Option<i32>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(item_id, String),
        name!(item, JsonB),
        name!(score, f32),
        name!(position, i32),
        name!(source, String),
        name!(parts, JsonB),
    ),
> {
    let start = Start::Similar(item_id.map_or(Anchor::Row(None), Anchor::Id));
    door(|| named(items, &Call { start, query: None, user_id, context: None, filter, k, options }))
}

/// `persona.bought_together` for a row.
#[pg_extern(
    sql = "CREATE FUNCTION persona.bought_together(item anyelement, user_id text DEFAULT NULL, filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
    RETURNS TABLE (item anyelement, score real, \"position\" int, source text, parts jsonb)
    STABLE PARALLEL RESTRICTED COST 10000 ROWS 20 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn together_rows(
    item: Option<AnyElement>,
    user_id: Option<&str>,
    filter: Option<JsonB>,
    k: Option<i32>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(item, Option<AnyElement>),
        name!(score, f32),
        name!(position, i32),
        name!(source, String),
        name!(parts, JsonB),
    ),
> {
    let start = Start::Basket(Anchor::Row(item.map(|row| row.datum())));
    door(|| typed(fcinfo, &Call { start, query: None, user_id, context: None, filter, k, options }))
}

/// `persona.bought_together` for a table's name and a key: rows as jsonb.
#[pg_extern(name = "_bought_together", stable, parallel_restricted, cost = 10000)]
#[allow(clippy::type_complexity)] // as above
fn together_json(
    items: Option<pg_sys::Oid>,
    item_id: Option<&str>,
    user_id: Option<&str>,
    filter: Option<JsonB>,
    k: Option<i32>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(item_id, String),
        name!(item, JsonB),
        name!(score, f32),
        name!(position, i32),
        name!(source, String),
        name!(parts, JsonB),
    ),
> {
    let start = Start::Basket(item_id.map_or(Anchor::Row(None), Anchor::Id));
    door(|| named(items, &Call { start, query: None, user_id, context: None, filter, k, options }))
}
