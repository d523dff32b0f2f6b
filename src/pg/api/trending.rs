//! `persona.trending`: what is taken more often of late than its own past has it.

use super::super::error::door;
use super::super::json::JsonB;
use super::found::{Call, Start, named, typed};
use crate::error::{Error, Result};
use pgrx::AnyElement;
use pgrx::datum::Interval;
use pgrx::prelude::*;

/// A window in hours; NULL is seven days.
fn hours(window: Option<Interval>) -> Result<f64> {
    let Some(window) = window else { return Ok(7.0 * 24.0) };
    let days = f64::from(window.months()) * 30.0 + f64::from(window.days());
    let hours = days * 24.0 + window.micros() as f64 / 3.6e9;
    if (1.0..=24.0 * 366.0).contains(&hours) {
        Ok(hours)
    } else {
        Err(Error::InvalidValue {
            place: "argument".into(),
            key: "window".into(),
            reason: "it has to be from an hour to a year".into(),
        })
    }
}

/// `persona.trending` for a row type.
#[pg_extern(
    sql = "CREATE FUNCTION persona.trending(items anyelement, \"window\" interval DEFAULT '7 days', filter jsonb DEFAULT '{}',
    k int DEFAULT 20, options jsonb DEFAULT '{}')
    RETURNS TABLE (item anyelement, score real, \"position\" int, source text, parts jsonb)
    STABLE PARALLEL RESTRICTED COST 10000 ROWS 20 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn trending_rows(
    _items: Option<AnyElement>,
    window: Option<Interval>,
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
    door(|| {
        let start = Start::Trending(hours(window)?);
        typed(fcinfo, &Call { start, query: None, user_id: None, context: None, filter, k, options })
    })
}

/// `persona.trending` for a table's name: rows as jsonb.
#[pg_extern(name = "_trending", stable, parallel_restricted, cost = 10000)]
#[allow(clippy::type_complexity)] // as above
fn trending_json(
    items: Option<pg_sys::Oid>,
    window: Option<Interval>,
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
    door(|| {
        let start = Start::Trending(hours(window)?);
        named(items, &Call { start, query: None, user_id: None, context: None, filter, k, options })
    })
}
