//! `persona.recommend`: what the shopper would want, without a query.

use super::super::error::door;
use super::super::json::JsonB;
use super::found::{Call, Start, named, typed};
use pgrx::AnyElement;
use pgrx::prelude::*;

/// `persona.recommend` for a row type.
#[pg_extern(
    sql = "CREATE FUNCTION persona.recommend(items anyelement, user_id text DEFAULT NULL, context jsonb DEFAULT '{}',
    filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
    RETURNS TABLE (item anyelement, score real, \"position\" int, source text, parts jsonb)
    STABLE PARALLEL RESTRICTED COST 10000 ROWS 20 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn recommend_rows(
    _items: Option<AnyElement>,
    user_id: Option<&str>,
    context: Option<JsonB>,
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
    door(|| typed(fcinfo, &Call { start: Start::Shopper, query: None, user_id, context, filter, k, options }))
}

/// `persona.recommend` for a table's name: rows as jsonb.
#[pg_extern(name = "_recommend", stable, parallel_restricted, cost = 10000)]
#[allow(clippy::type_complexity)] // as above
fn recommend_json(
    items: Option<pg_sys::Oid>,
    user_id: Option<&str>,
    context: Option<JsonB>,
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
    door(|| named(items, &Call { start: Start::Shopper, query: None, user_id, context, filter, k, options }))
}
