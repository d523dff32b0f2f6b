//! `persona.understand`, `persona.suggest`, `persona.unanswered`: what a query means, what it may become, what was asked in vain.

use super::super::companion::ident;
use super::super::error::door;
use super::super::identity::{self, Owner};
use super::super::json::JsonB;
use super::super::spi::{self, Arg, Mode};
use super::super::store::{PgStore, aside};
use super::super::{catalog, history, lexicon, session, understand as reading};
use crate::catalog::filter::Filter;
use crate::embed::Role;
use crate::error::{Error, Result};
use crate::store::{Scope, Store};
use crate::understand::suggest::{Taste, suggest as complete};
use crate::understand::{Category, normalize, segment};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::rc::Rc;

/// A text with spaces between the words of scripts that have none.
#[pg_extern(sql = "CREATE FUNCTION persona._segment(content text) RETURNS text
    IMMUTABLE STRICT PARALLEL SAFE COST 5 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
pub fn segment(content: &str) -> String {
    door(|| Ok(segment::segment(content).into_owned()))
}

/// The catalog, once the caller may read what its lexicon is made of; and whether rows are hidden from the caller.
fn readable(items: Option<pg_sys::Oid>) -> Result<(Rc<catalog::Catalog>, bool)> {
    let items = catalog::given(items)?;
    let catalog = catalog::need(items)?;
    identity::need_select(items, &catalog.asked.name, &catalog.used())?;
    let guarded = catalog.is_view() || identity::rows_hidden(catalog.asked())?;
    Ok((catalog, guarded))
}

/// Items whose categories are asked where no word names one.
const NEAREST: usize = 20;

/// What a query means; NULL for NULL.
#[pg_extern(name = "_understand", stable, parallel_restricted, cost = 1000)]
pub fn understand(items: Option<pg_sys::Oid>, query: Option<&str>, embed: Option<bool>) -> Option<JsonB> {
    let query = query?;
    // Its understanding says the query back: of a pasted page, no more than is read.
    let query = normalize::head(query);
    door(|| {
        let (catalog, guarded) = readable(items)?;
        let store = PgStore::new(&catalog, &Filter::default(), "")?;
        let (mut understood, lexicon) = reading::read(&store, query, true)?;
        if understood.query.is_empty() {
            return Ok(Some(JsonB(understood.to_json(catalog.price.as_deref()))));
        }
        understood.dropped = reading::dropped(&store, &understood)?;
        if embed.unwrap_or(true) {
            let encoder = session::encoder(&catalog.model, Role::Query)?;
            let vector = session::embed_query(&encoder, &understood.text)?;
            reading::classify(&store, &lexicon, &mut understood, &vector)?;
            reading::tag(&store, &lexicon, &mut understood)?;
            if understood.category.is_none() {
                understood.category = nearest(&catalog, &session::identity(&encoder), &vector)?;
            }
        } else {
            understood.classify(&lexicon, reading::floor(&catalog, guarded), None);
        }
        Ok(Some(JsonB(understood.to_json(catalog.price.as_deref()))))
    })
}

/// The category that most of the nearest items have, of those that the caller may see.
fn nearest(catalog: &catalog::Catalog, identity: &str, vector: &[f32]) -> Result<Option<Category>> {
    let Some(column) = &catalog.category else { return Ok(None) };
    let store = PgStore::new(catalog, &Filter::default(), identity)?;
    let found = aside::near(&store, vector, NEAREST, column)?;
    let total = found.len();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for category in found.into_iter().flatten() {
        *counts.entry(category).or_default() += 1;
    }
    let best = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
    // Fewer than a fifth is no guess.
    Ok(best.filter(|(_, n)| n * 5 >= total).map(|(value, n)| Category {
        value,
        from: "nearest",
        confidence: n as f64 / total.max(1) as f64,
    }))
}

/// Items of the history that lift suggestions.
const TAKEN: usize = 20;

/// Completes what is being typed.
#[pg_extern(name = "_suggest", stable, parallel_restricted, cost = 1000)]
pub fn suggest(
    items: Option<pg_sys::Oid>,
    prefix: Option<&str>,
    user_id: Option<&str>,
    k: Option<i32>,
) -> TableIterator<'static, (name!(suggestion, String), name!(score, f32))> {
    let found = door(|| {
        let k = k.unwrap_or(10);
        if !(1..=100).contains(&k) {
            return Err(Error::InvalidValue {
                place: "argument".into(),
                key: "k".into(),
                reason: "it has to be from 1 to 100".into(),
            });
        }
        let (catalog, guarded) = readable(items)?;
        let lexicon = lexicon::of(&catalog)?;
        let taste = user_id.map_or(Ok(Taste::default()), |user| taste(&catalog, user))?;
        let asked = catalog.min_shoppers.unwrap_or(5);
        let floor = reading::floor(&catalog, guarded);
        Ok(complete(&lexicon, prefix.unwrap_or(""), &taste, floor, asked, k as usize))
    });
    TableIterator::new(found.into_iter().map(|s| (s.text, s.score as f32)))
}

/// Words of what a shopper took lately, as the caller sees the items, and what the shopper asked.
fn taste(catalog: &catalog::Catalog, user_id: &str) -> Result<Taste> {
    let events = history::read(catalog, user_id, None, None)?;
    let mut ids: Vec<i64> = Vec::new();
    for event in events.iter().filter(|e| e.weight > 0.0) {
        if ids.len() < TAKEN && !ids.contains(&event.item) {
            ids.push(event.item);
        }
    }
    let mut taste = Taste { asked: history::asked(catalog, user_id)?, ..Taste::default() };
    if ids.is_empty() {
        return Ok(taste);
    }
    let store = PgStore::new(catalog, &Filter::default(), "")?;
    let ids = store.within(&ids, &Scope::Wide)?;
    let columns = std::iter::once(&catalog.title).chain(&catalog.brand).chain(&catalog.category);
    let shown: Vec<String> = columns.map(|name| format!("i.{}::pg_catalog.text", ident(name))).collect();
    let shown = format!("pg_catalog.concat_ws(' ', {})", shown.join(", "));
    let texts = store.rows(&ids, &shown, |_, row| row.need::<String>(1))?;
    for (place, text) in texts.iter().enumerate() {
        let weight = ((place + 1) as f64).sqrt().recip() * 0.5;
        let mut words = normalize::texts(text);
        words.sort();
        words.dedup();
        for word in words.into_iter().filter(|w| w.chars().count() > 1) {
            let known = taste.words.entry(word).or_default();
            *known = (*known + weight).min(1.0);
        }
    }
    Ok(taste)
}

/// Queries that led to nothing, of the catalogs that the caller manages.
#[pg_extern(name = "_unanswered", stable, parallel_restricted, cost = 1000)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
pub fn unanswered() -> TableIterator<
    'static,
    (
        name!(items, pg_sys::Oid),
        name!(query, String),
        name!(asked, i64),
        name!(shoppers, i64),
        name!(last, Option<TimestampWithTimeZone>),
    ),
> {
    let rows = door(|| {
        let sql = "SELECT c.items::pg_catalog.oid FROM persona.catalogs c
            JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) c.items
            WHERE pg_catalog.pg_has_role(r.relowner, 'USAGE')";
        let mut rows = Vec::new();
        for items in spi::query(Mode::Read, sql, &[], |row| row.need::<pg_sys::Oid>(1))? {
            let Some(catalog) = catalog::find(items)? else { continue };
            let Some(table) = &catalog.queries else { continue };
            let _owner = Owner::of(catalog.owner());
            let sql = format!(
                "SELECT q.query, q.asked, q.shoppers, q.last FROM {table} q WHERE q.answered OPERATOR(pg_catalog.=) 0 ORDER BY q.asked DESC, q.query LIMIT $1"
            );
            rows.extend(spi::query(Mode::Read, &sql, &[Arg::of(10_000i64)], |row| {
                Ok((items, row.need::<String>(1)?, row.need::<i64>(2)?, row.need::<i64>(3)?, row.get(4)))
            })?);
        }
        Ok(rows)
    });
    TableIterator::new(rows)
}
