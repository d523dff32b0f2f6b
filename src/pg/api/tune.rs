//! `persona.fine_tune` and what uses its adapters: classify, tag, label_next, drop_adapter, export_adapter.

use super::super::activity::Shown;
use super::super::error::door;
use super::super::interrupt::Backend;
use super::super::json::JsonB;
use super::super::spi::{self, Mode};
use super::super::tune::{self, Wanted};
use super::super::{adapter, companion, session};
use crate::error::{Error, Result};
use crate::tune::{Task, select};
use pgrx::prelude::*;
use std::time::Duration;

fn null(key: &str) -> Error {
    Error::InvalidValue { place: "argument".into(), key: key.into(), reason: "it is NULL".into() }
}

/// A run in one transaction: a row for each epoch, the base model's first.
#[pg_extern(name = "_fine_tune", volatile)]
#[allow(clippy::type_complexity)]
fn fine_tune(
    task: Option<&str>,
    source: Option<pg_sys::Oid>,
    options: JsonB,
) -> TableIterator<
    'static,
    (
        name!(epoch, i32),
        name!(loss, Option<f64>),
        name!(metric, String),
        name!(value, Option<f64>),
        name!(seconds, f64),
    ),
> {
    let told = door(|| {
        let source = adapter::relation(source)?;
        let wanted = Wanted::read(task.ok_or_else(|| null("task"))?, source, options.0)?;
        let _shown = Shown::new("fine_tune", source);
        let (told, verdict) = wanted.tune()?;
        tune::tell(&wanted.options.name, &verdict);
        Ok(told)
    });
    TableIterator::new(told.into_iter().map(|t| (t.epoch as i32, t.loss, t.metric, t.value, t.seconds)))
}

/// One bounded step of `persona.work('fine_tune', …)`: the options name the task, too.
pub fn work(source: pg_sys::Oid, options: JsonB) -> Result<bool> {
    let mut options = options.0;
    let task = options.as_object_mut().and_then(|o| o.shift_remove("task"));
    let task = task.as_ref().and_then(|t| t.as_str()).ok_or_else(|| Error::InvalidValue {
        place: "options".into(),
        key: "task".into(),
        reason: format!("work needs to know it; known tasks: {}", Task::ALL.map(Task::name).join(", ")),
    })?;
    let seconds = options.as_object_mut().and_then(|o| o.shift_remove("seconds"));
    let seconds = match &seconds {
        None => 10.0,
        Some(value) => value.as_f64().filter(|s| (0.0..=3600.0).contains(s)).ok_or_else(|| Error::InvalidValue {
            place: "options".into(),
            key: "seconds".into(),
            reason: "it has to be from 0 to 3600".into(),
        })?,
    };
    Wanted::read(task, source, options)?.step(Duration::from_secs_f64(seconds))
}

/// Every label of an adapter with its share, the likeliest first.
#[pg_extern(name = "_classify", stable, parallel_safe, cost = 100000)]
fn classify(
    content: Option<&str>,
    model: Option<&str>,
) -> TableIterator<'static, (name!(label, String), name!(score, f32))> {
    let rows = door(|| {
        let Some(content) = content else { return Ok(Vec::new()) };
        let loaded = adapter::need(model.ok_or_else(|| null("model"))?, &[Task::Classify])?;
        session::usable()?;
        let vector = session::embed_query(&loaded.encoder, content)?;
        let mut rows: Vec<(String, f32)> = loaded.labels.iter().cloned().zip(loaded.shares(&vector)).collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(rows)
    });
    TableIterator::new(rows)
}

/// The spans of a text that an adapter's labels apply to; places in characters from 0.
#[pg_extern(name = "_tag", stable, parallel_safe, cost = 100000)]
#[allow(clippy::type_complexity)]
fn tag(
    content: Option<&str>,
    model: Option<&str>,
) -> TableIterator<
    'static,
    (name!(label, String), name!(value, String), name!(start, i32), name!(end, i32), name!(score, f32)),
> {
    let rows = door(|| {
        let Some(content) = content else { return Ok(Vec::new()) };
        let loaded = adapter::need(model.ok_or_else(|| null("model"))?, &[Task::Tag])?;
        session::usable()?;
        let spans = session::with_scratch(|scratch| loaded.tag(content, scratch, &Backend))?;
        let characters = |bytes: usize| content.get(..bytes).map_or(0, |front| front.chars().count()) as i32;
        Ok(spans
            .into_iter()
            .map(|(at, label, score)| {
                let value = content.get(at.clone()).unwrap_or_default().to_owned();
                (label, value, characters(at.start), characters(at.end), score)
            })
            .collect())
    });
    TableIterator::new(rows)
}

/// The texts of a relation whose label would teach the most, best first.
#[pg_extern(name = "_label_next", stable)]
fn label_next(
    model: Option<&str>,
    pool: Option<pg_sys::Oid>,
    content: Option<&str>,
    k: Option<i32>,
) -> TableIterator<'static, (name!(content, String), name!(uncertainty, f32))> {
    let rows = door(|| {
        let pool = adapter::relation(pool)?;
        let loaded = adapter::need(model.ok_or_else(|| null("model"))?, &[Task::Classify])?;
        let k = k.unwrap_or(20);
        if !(1..=10_000).contains(&k) {
            let reason = "it has to be from 1 to 10000".to_owned();
            return Err(Error::InvalidValue { place: "argument".into(), key: "k".into(), reason });
        }
        session::usable()?;
        let texts = distinct(pool, content.ok_or_else(|| null("content"))?)?;
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (shares, vectors) = session::with_scratch(|scratch| loaded.judge(&borrowed, scratch, &Backend))?;
        let next = select::next(&shares, &vectors, k as usize, &Backend)?;
        Ok(next.into_iter().filter_map(|(place, doubt)| Some((texts.get(place)?.clone(), doubt))).collect::<Vec<_>>())
    });
    TableIterator::new(rows)
}

/// The different texts of a column, as the caller may read it.
fn distinct(relation: pg_sys::Oid, content: &str) -> Result<Vec<String>> {
    let columns = companion::columns(relation)?;
    let shown = super::super::catalog::shown(relation)?;
    let column = companion::ident(&companion::column(&columns, &shown, content)?.name);
    let name = spi::first(Mode::Read, "SELECT persona._qualified($1)", &[spi::Arg::of(relation)], |row| {
        row.need::<String>(1)
    })?;
    let sql = format!(
        "SELECT DISTINCT s.{column}::pg_catalog.text COLLATE \"C\" FROM {} s WHERE s.{column} IS NOT NULL ORDER BY 1",
        name.unwrap_or_default()
    );
    spi::query(Mode::Read, &sql, &[], |row| row.need(1))
}

/// Drops an adapter.
#[pg_extern(name = "_drop_adapter", volatile)]
fn drop_adapter(name: Option<&str>) {
    door(|| adapter::drop(name.ok_or_else(|| null("name"))?));
}

/// The files of an adapter's merged model. Who may read the adapter's weights: its owner, or a superuser.
#[pg_extern(name = "_export_adapter", stable)]
fn export_adapter(name: Option<&str>) -> TableIterator<'static, (name!(path, String), name!(content, Vec<u8>))> {
    let files = door(|| adapter::export(name.ok_or_else(|| null("name"))?));
    TableIterator::new(files)
}
