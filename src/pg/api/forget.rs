//! `persona.forget`: a shopper leaves the behaviour tables and everything that was counted from them.

use super::super::activity::Shown;
use super::super::catalog::Catalog;
use super::super::companion::ident;
use super::super::error::door;
use super::super::identity::{self, Acting};
use super::super::refresh::{Refresh, Step};
use super::super::spi::{self, Arg, Mode};
use super::super::{catalog, history};
use crate::error::{Error, Result};
use pgrx::prelude::*;

/// What happened to a relation.
struct Line {
    relation: String,
    rows: i64,
    note: String,
}

/// Deletes a shopper's rows as the caller, counts statistics anew, and names the rankers that learnt from the rows.
#[pg_extern(name = "_forget", volatile)]
pub fn forget(
    items: Option<pg_sys::Oid>,
    user_id: Option<&str>,
) -> TableIterator<'static, (name!(relation, String), name!(rows, i64), name!(note, String))> {
    let lines = door(|| {
        let user_id = user_id.ok_or_else(|| Error::InvalidValue {
            place: "argument".into(),
            key: "user_id".into(),
            reason: "it is NULL".into(),
        })?;
        let items = catalog::given(items)?;
        let catalog = catalog::need(items)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        let _shown = Shown::new("forget", items);
        let refresh = Refresh::new(&catalog)?;
        let mut lines = Vec::new();
        let mut first: Option<f64> = None;
        for source in &catalog.events {
            source.check()?;
            let (rows, since) = delete(source, user_id)?;
            first = [first, since].into_iter().flatten().min_by(f64::total_cmp);
            lines.push(Line { relation: source.name.clone(), rows, note: "deleted".into() });
        }
        if first.is_some() {
            let again = |relation: &str, step: Step| {
                let note = "counted again without the shopper".to_owned();
                Line { relation: relation.to_owned(), rows: step.rows, note }
            };
            lines.push(again(&catalog.stats, refresh.step("stats", Refresh::stats)?));
            lines.push(again(&catalog.pairs, refresh.step("pairs", Refresh::pairs)?));
            if let Some(baskets) = &catalog.baskets {
                lines.push(again(baskets, refresh.step("baskets", Refresh::baskets)?));
            }
            if let Some(segments) = &catalog.segments {
                lines.push(again(segments, refresh.step("segments", Refresh::segments)?));
            }
            if let Some(queries) = &catalog.queries {
                lines.push(again(queries, refresh.step("queries", Refresh::queries)?));
            }
            if let Some(lexicon) = &catalog.lexicon {
                lines.push(again(lexicon, refresh.step("lexicon", Refresh::lexicon)?));
            }
            lines.extend(rankers(&catalog, first)?);
            lines.extend(adapters(&catalog, first)?);
            // A training that persona.work is at begins anew.
            let _owner = Acting::as_owner(identity::extension_owner()?);
            spi::run("DELETE FROM persona.tuning WHERE task = 'train' AND source = $1", &[Arg::of(items)])?;
        }
        Ok(lines)
    });
    TableIterator::new(lines.into_iter().map(|line| (line.relation, line.rows, line.note)))
}

/// Deletes a shopper's rows of one table: how many, and the time of the first.
fn delete(source: &catalog::Events, user_id: &str) -> Result<(i64, Option<f64>)> {
    if !history::fits(user_id, &source.user_type) {
        return Ok((0, None)); // no row of this table can be this shopper's
    }
    let sql = format!(
        "WITH gone AS (
            DELETE FROM {events} e WHERE e.{user} OPERATOR(pg_catalog.=) $1::pg_catalog.text::{user_type} RETURNING e.{at} AS at)
         SELECT pg_catalog.count(*), pg_catalog.date_part('epoch', pg_catalog.min(g.at::pg_catalog.timestamptz)) FROM gone g",
        events = source.name,
        user = ident(&source.user_id),
        user_type = source.user_type,
        at = ident(&source.at),
    );
    let found = spi::first(Mode::Write, &sql, &[Arg::of(user_id)], |row| Ok((row.need(1)?, row.get(2))))?;
    Ok(found.unwrap_or((0, None)))
}

/// The rankers whose data reach to the shopper's first row or beyond.
fn rankers(catalog: &Catalog, first: Option<f64>) -> Result<Vec<Line>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "SELECT r.ranker, r.deployed FROM persona.ranker r
        WHERE r.items = $1 AND date_part('epoch', (r.data->>'to')::timestamptz) >= $2 ORDER BY r.ranker";
    let args = [Arg::of(pg_sys::Oid::from(catalog.items)), Arg::of(first)];
    spi::query(Mode::Write, sql, &args, |row| {
        let (number, deployed): (i64, bool) = (row.need(1)?, row.need(2)?);
        let rank = if deployed { ", which ranks now," } else { "" };
        let note = format!(
            "ranker {number}{rank} has learnt from the rows among all others: train anew from nothing to unlearn them"
        );
        Ok(Line { relation: "persona.ranker".into(), rows: 1, note })
    })
}

/// The adapters that were made from the items, whose queries they may have learnt, or from a behaviour table, since the
/// shopper's first row.
fn adapters(catalog: &Catalog, first: Option<f64>) -> Result<Vec<Line>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sources = std::iter::once(&catalog.name).chain(catalog.events.iter().map(|e| &e.name)).cloned();
    let sql = "SELECT a.name FROM persona.adapter a
        WHERE a.metrics->>'source' = ANY ($1) AND date_part('epoch', a.created) >= $2 ORDER BY a.name";
    let args = [Arg::of(sources.collect::<Vec<String>>()), Arg::of(first)];
    spi::query(Mode::Write, sql, &args, |row| {
        let note = format!(
            "adapter \"{}\" may have learnt from the rows: fine-tune anew to unlearn them",
            row.need::<String>(1)?
        );
        Ok(Line { relation: "persona.adapter".into(), rows: 1, note })
    })
}
