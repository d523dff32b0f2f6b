//! `persona.train`: a ranker from the behaviour tables.

use super::super::activity::Shown;
use super::super::catalog::{self, Catalog};
use super::super::error::door;
use super::super::identity;
use super::super::json::{JsonB, given};
use super::super::training::{Options, Row, Training};
use crate::error::Result;
use pgrx::prelude::*;
use std::rc::Rc;

/// The catalog to train, whole, of a caller who may.
pub fn catalog(items: pg_sys::Oid) -> Result<Rc<Catalog>> {
    let catalog = super::catalog::complete(catalog::need(items)?)?;
    identity::need_owner(catalog.owner(), &catalog.name)?;
    Ok(catalog)
}

/// Trains in one transaction: a row for each epoch, the ranker as the last of them has it.
#[pg_extern(name = "_train", volatile)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
pub fn train(
    items: Option<pg_sys::Oid>,
    options: Option<JsonB>,
) -> TableIterator<
    'static,
    (
        name!(stage, String),
        name!(epoch, i32),
        name!(loss, f64),
        name!(pointwise, Option<f64>),
        name!(search_ndcg, Option<f64>),
        name!(recommend_ndcg, Option<f64>),
        name!(seconds, f64),
    ),
> {
    let rows = door(|| {
        let items = catalog::given(items)?;
        let options = Options::read(&given(options))?;
        let catalog = self::catalog(items)?;
        let _shown = Shown::new("train", items);
        Training::new(&catalog, options)?.run()
    });
    let row = |r: Row| (r.stage.to_owned(), r.epoch, r.loss, r.pointwise, r.search, r.recommend, r.seconds);
    TableIterator::new(rows.into_iter().map(row))
}
