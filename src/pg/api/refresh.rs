//! `persona.refresh` and the steps of `persona.work`.

use super::super::activity::Shown;
use super::super::error::door;
use super::super::json::{JsonB, given};
use super::super::refresh::{Options, Refresh, Step};
use super::super::training::{self, Training};
use super::super::{catalog, identity, steps};
use super::catalog::complete;
use crate::catalog::options::from_object;
use crate::error::{Error, Result};
use pgrx::prelude::*;
use serde_json::Value;

/// All steps in one transaction: everything or nothing.
#[pg_extern(name = "_refresh", volatile)]
fn refresh(
    items: Option<pg_sys::Oid>,
    options: Option<JsonB>,
) -> TableIterator<'static, (name!(step, String), name!(rows, i64), name!(seconds, f64))> {
    let steps = door(|| {
        read(&given(options))?;
        let items = catalog::given(items)?;
        let catalog = catalog::need(items)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        let catalog = complete(catalog)?;
        let _shown = Shown::new("refresh", items);
        let refresh = Refresh::new(&catalog)?;
        Ok([
            // The index before the vectors: once rows are locked, asking for the table's lock could deadlock with a shop's
            // writer. `work` has a transaction for each step, and builds it after them, which is faster.
            refresh.step("index", Refresh::index)?,
            refresh.step("words", Refresh::words)?,
            refresh.step("vectors", Refresh::vectors_at_once)?,
            refresh.step("terms", Refresh::terms)?,
            refresh.step("stats", Refresh::stats)?,
            refresh.step("pairs", Refresh::pairs)?,
            refresh.step("baskets", Refresh::baskets)?,
            refresh.step("segments", Refresh::segments)?,
            refresh.step("queries", Refresh::queries)?,
            refresh.step("synonyms", Refresh::synonyms)?,
            refresh.step("lexicon", Refresh::lexicon)?,
        ])
    });
    TableIterator::new(steps.into_iter().map(|Step { name, rows, seconds }| (name.to_owned(), rows, seconds)))
}

fn read(options: &Value) -> Result<Options> {
    let read: Options = from_object("options", options)?;
    if (1..=100_000).contains(&read.batch) {
        Ok(read)
    } else {
        Err(Error::InvalidValue {
            place: "options".into(),
            key: "batch".into(),
            reason: "it has to be from 1 to 100000".into(),
        })
    }
}

/// One bounded step of a task; the number of the next, NULL when all is done.
#[pg_extern(name = "_work", volatile)]
fn work(task: Option<&str>, source: Option<pg_sys::Oid>, options: Option<JsonB>, step: Option<i32>) -> Option<i32> {
    door(|| {
        let source = catalog::given(source)?;
        let (task, options, step) = (task.unwrap_or_default(), given(options), step.unwrap_or(0));
        if task == "fine_tune" {
            let _shown = Shown::new(task, source);
            return Ok(super::tune::work(source, JsonB(options))?.then_some(step + 1));
        }
        if task == "train" {
            let catalog = super::train::catalog(source)?;
            let _shown = Shown::new(task, source);
            return Ok(Training::new(&catalog, training::Options::read(&options)?)?.step()?.then_some(step + 1));
        }
        if task != "refresh" {
            return Err(Error::InvalidValue {
                place: "argument".into(),
                key: "task".into(),
                reason: "known tasks: refresh, train, fine_tune".into(),
            });
        }
        let batch = read(&options)?.batch;
        let catalog = catalog::need(source)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        let catalog = complete(catalog)?;
        let _shown = Shown::new(task, source);
        let refresh = Refresh::new(&catalog)?;
        steps::run(&refresh, step, batch)
    })
}
