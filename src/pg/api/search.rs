//! `persona.search`: the caller's own rows, best first, each score explained.

use super::super::error::door;
use super::super::json::JsonB;
use super::found::{Call, Start, named, typed};
use pgrx::AnyElement;
use pgrx::prelude::*;

/// `persona.search` for a row type.
#[pg_extern(
    sql = "CREATE FUNCTION persona.search(items anyelement, query text, user_id text DEFAULT NULL, context jsonb DEFAULT '{}',
    filter jsonb DEFAULT '{}', k int DEFAULT 20, options jsonb DEFAULT '{}')
    RETURNS TABLE (item anyelement, score real, \"position\" int, source text, parts jsonb)
    STABLE PARALLEL RESTRICTED COST 10000 ROWS 20 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn search_rows(
    _items: Option<AnyElement>,
    query: Option<&str>,
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
    door(|| typed(fcinfo, &Call { start: Start::Query, query, user_id, context, filter, k, options }))
}

/// `persona.search` for a table's name: rows as jsonb.
#[pg_extern(name = "_search", stable, parallel_restricted, cost = 10000)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn search_json(
    items: Option<pg_sys::Oid>,
    query: Option<&str>,
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
    door(|| named(items, &Call { start: Start::Query, query, user_id, context, filter, k, options }))
}
