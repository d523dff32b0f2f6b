//! `persona.evaluate`: how good the search is on behaviour that it has not seen.

use super::super::activity::Shown;
use super::super::error::door;
use super::super::json::{JsonB, given};
use super::super::{catalog, evaluate as judge, identity};
use crate::measure::report::Row;
use pgrx::prelude::*;

/// Rows of figures: variant, metric, slice.
#[pg_extern(name = "_evaluate", volatile)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
pub fn evaluate(
    items: Option<pg_sys::Oid>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(variant, String),
        name!(metric, String),
        name!(slice, String),
        name!(value, f64),
        name!(low, f64),
        name!(high, f64),
        name!(queries, i64),
    ),
> {
    let rows = door(|| {
        let items = catalog::given(items)?;
        let options = judge::Options::read(&given(options))?;
        let catalog = catalog::need(items)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        let _shown = Shown::new("evaluate", items);
        judge::run(&catalog, &options)
    });
    TableIterator::new(rows.into_iter().map(|Row { variant, metric, slice, figure, searches }| {
        (variant, metric, slice, figure.value, figure.low, figure.high, searches as i64)
    }))
}
