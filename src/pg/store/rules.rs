//! The shop's rules, and the items that they name.

use super::super::json::JsonB;
use super::{PgStore, ident};
use crate::catalog::filter::Filter;
use crate::catalog::rule::Rule;
use crate::error::Result;
use crate::pg::companion::columns;
use crate::pg::filter;
use crate::pg::spi::{self, Arg, Mode};
use crate::retrieve::lexical::Bm25;
use crate::store::{Record, Scope, Store};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use std::collections::HashMap;

/// The rules of the catalog that hold at a moment and whose words and pattern fit the query, of higher priority first.
///
/// Read with the call's snapshot as ordinary rows: a campaign can be tried in a transaction, and rolled back.
pub fn rules(
    store: &PgStore,
    query: Option<&str>,
    words: &Bm25,
    at: Option<TimestampWithTimeZone>,
) -> Result<Vec<Rule>> {
    let c = store.catalog;
    let owner = store.owner();
    owner.set(c"row_security", "on"); // the policy shows an owner the owner's rules
    let config = if c.text_search == "persona.english" { "pg_catalog.english" } else { &c.text_search };
    // A brand or a category that the query names is a condition that holds.
    let sql = "SELECT to_jsonb(r) || jsonb_build_object(
            'brand', CASE WHEN to_tsvector($3::regconfig, r.brand) <> '' AND tsvector_to_array(to_tsvector($3::regconfig, r.brand)) <@ $4 THEN NULL ELSE r.brand END,
            'category', CASE WHEN to_tsvector($3::regconfig, r.category) <> '' AND tsvector_to_array(to_tsvector($3::regconfig, r.category)) <@ $4 THEN NULL ELSE r.category END)
        FROM persona.rules r
        WHERE r.items = $1 AND r.valid @> COALESCE($2, now())
          AND (r.query IS NULL OR tsvector_to_array(to_tsvector($3::regconfig, r.query)) <@ $4 AND to_tsvector($3::regconfig, r.query) <> '')
          AND (r.pattern IS NULL OR $5 ~* r.pattern)
        ORDER BY r.priority DESC, r.id";
    let lexemes: Vec<String> = words.terms.iter().map(|term| term.lexeme.clone()).collect();
    let args = [Arg::of(pg_sys::Oid::from(c.items)), Arg::of(at), Arg::of(config), Arg::of(lexemes), Arg::of(query)];
    let rows = spi::query(Mode::Read, sql, &args, |row| row.need::<JsonB>(1))?;
    drop(owner);
    let all = columns(pg_sys::Oid::from(c.items))?;
    let mut rules = Vec::with_capacity(rows.len());
    for row in rows {
        let rule = Rule::read(&row.0)?;
        match filter::sql(&rule.filter, &all, &c.name, 2) {
            Ok(_) => rules.push(rule),
            // A column that was dropped since must not end every search.
            Err(error) => pgrx::warning!("rule {} of {} is left out: {error}", rule.id, c.name),
        }
    }
    Ok(rules)
}

/// See `Store::passing`.
pub fn passing(store: &PgStore, wanted: &Filter, among: &[i64]) -> Result<Vec<i64>> {
    if wanted.is_empty() || among.is_empty() {
        return Ok(among.to_vec());
    }
    select(store, wanted, "c.id = ANY ($1)", Arg::of(among.to_vec()), "")
}

/// See `Store::matching`.
pub fn matching(store: &PgStore, wanted: &Filter, n: usize, scope: &Scope) -> Result<Vec<i64>> {
    // More than asked for, as the caller's own filter and rights may leave out some.
    let found = select(store, wanted, "true", Arg::of(n as i64 * 10), "ORDER BY c.id LIMIT $1")?;
    let mut found = store.within(&found, scope)?;
    found.truncate(n);
    Ok(found)
}

fn select(store: &PgStore, wanted: &Filter, condition: &str, first: Arg, rest: &str) -> Result<Vec<i64>> {
    let c = store.catalog;
    let (passes, bound) = filter::sql(wanted, &columns(pg_sys::Oid::from(c.items))?, &c.name, 2)?;
    let _owner = store.owner();
    let sql = format!(
        "SELECT c.id FROM {} c JOIN {} i ON i.{} {} c.key WHERE {condition} AND {passes} {rest}",
        c.companion,
        c.name,
        ident(&c.key),
        c.key_equal
    );
    let mut args = vec![first];
    args.extend(bound);
    spi::query(Mode::ReadCustom, &sql, &args, |row| row.need(1))
}

/// See `Store::records`.
pub fn records(store: &PgStore, items: &[i64]) -> Result<HashMap<i64, Record>> {
    let c = store.catalog;
    // A catalog of 0.1.0 has no impressions until it is refreshed.
    if c.baskets.is_none() {
        return Ok(HashMap::new());
    }
    let _owner = store.owner();
    let sql = format!(
        "SELECT s.id, CASE WHEN w.impressions > 0 THEN s.impressions WHEN w.views > 0 THEN s.views ELSE s.events END,
            CASE WHEN w.impressions > 0 AND w.clicks > 0 THEN s.clicks WHEN w.impressions > 0 THEN s.views + s.carts + s.purchases
                 WHEN w.views > 0 THEN s.carts + s.purchases ELSE 0 END
         FROM {stats} s CROSS JOIN (SELECT impressions, views, clicks FROM {stats} WHERE id = 0) w WHERE s.id = ANY ($1)",
        stats = c.stats
    );
    let rows = spi::query(Mode::Read, &sql, &[Arg::of(items.to_vec())], |row| {
        let count = |column| row.need::<i64>(column).map(|n| n as f64);
        Ok((row.need(1)?, Record { shown: count(2)?, taken: count(3)? }))
    })?;
    Ok(rows.into_iter().collect())
}

/// Refuses a filter that does not fit the columns of an item table.
pub fn check(items: pg_sys::Oid, wanted: &Filter, shown: &str) -> Result<()> {
    filter::sql(wanted, &columns(items)?, shown, 2).map(|_| ())
}
