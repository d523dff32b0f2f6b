//! A shopper's history: one indexed read of each behaviour table, under the caller's rights.

use super::catalog::Catalog;
use super::companion::ident;
use super::guc;
use super::identity::{self, Acting};
use super::spi::{self, Arg, Mode};
use crate::error::{Error, Result};
use crate::event::Event;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use std::collections::HashMap;

/// The shopper's latest events that say something, newest first; see `Store::history`.
pub fn read(catalog: &Catalog, user_id: &str, at: Option<f64>, session: Option<&str>) -> Result<Vec<Event>> {
    let limit = guc::HISTORY_LIMIT.get();
    let at = at.map(timestamp).transpose()?;
    let mut events: Vec<Event> = Vec::new();
    for source in &catalog.events {
        source.check()?;
        identity::need_select(pg_sys::Oid::from(source.relation), &source.name, &source.columns())?;
        if !fits(user_id, &source.user_type) {
            continue; // no row of this table can be this shopper's
        }
        let kinds = source.kinds()?;
        let column = |name: &Option<String>| name.as_ref().map_or("NULL".to_owned(), |n| format!("e.{}", ident(n)));
        // What says nothing (what was only shown) must not push out what does, and the limit comes after it.
        let mute: Vec<String> = kinds.mute();
        let telling = match &source.kind {
            Some(kind) => {
                format!("pg_catalog.lower(e.{}::pg_catalog.text) OPERATOR(pg_catalog.<>) ALL ($4)", ident(kind))
            }
            None => "$4 IS NOT NULL".to_owned(),
        };
        // A moment is a bound only where the caller names one: an event of this very transaction counts.
        let sql = format!(
                "SELECT e.{item}::pg_catalog.text, e.{at}::pg_catalog.timestamptz, {kind}::pg_catalog.text, {session}::pg_catalog.text
                 FROM {events} e
                 WHERE e.{user} OPERATOR(pg_catalog.=) $1::pg_catalog.text::{user_type}
                   AND e.{at} OPERATOR(pg_catalog.<) COALESCE($2, 'infinity'::pg_catalog.timestamptz)
                   AND e.{item} IS NOT NULL AND ({telling}) IS NOT FALSE
                 ORDER BY e.{at} DESC, e.{item} LIMIT $3",
                item = ident(&source.item_id),
                at = ident(&source.at),
                kind = column(&source.kind),
                session = column(&source.session),
                events = source.name,
                user = ident(&source.user_id),
                user_type = source.user_type,
            );
        let fixed = source.kind_value.clone().unwrap_or_else(|| "purchase".into());
        let args = [Arg::of(user_id), Arg::of(at), Arg::of(i64::from(limit)), Arg::of(mute)];
        let found = spi::query(Mode::Read, &sql, &args, |row| {
            let word: Option<String> = row.get(3);
            let (kind, weight) = kinds.of(word.as_deref().unwrap_or(&fixed));
            let own: Option<String> = row.get(4);
            let in_session = session.is_some() && own.as_deref() == session;
            let event = Event { item: 0, at: seconds(row.need(2)?), kind, weight, in_session };
            Ok((row.need::<String>(1)?, event))
        })?;
        let keys: Vec<String> = found.iter().map(|(key, _)| key.clone()).collect();
        let numbers = numbers(catalog, &keys, &source.item_type)?;
        let known = |(key, event): (String, Event)| numbers.get(&key).map(|id| Event { item: *id, ..event });
        events.extend(found.into_iter().filter_map(known));
    }
    events.sort_by(|a, b| b.at.total_cmp(&a.at));
    events.truncate(limit.max(0) as usize);
    Ok(events)
}

/// The numbers of items by their keys as text.
fn numbers(catalog: &Catalog, keys: &[String], item_type: &str) -> Result<HashMap<String, i64>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let _owner = Acting::as_owner(catalog.owner());
    let sql = format!(
        "SELECT c.key::text, c.id FROM {} c WHERE c.key {} ANY ($1::text[]::{item_type}[])",
        catalog.companion, catalog.key_equal
    );
    Ok(spi::query(Mode::Read, &sql, &[Arg::of(keys.to_vec())], |row| Ok((row.need(1)?, row.need(2)?)))?
        .into_iter()
        .collect())
}

/// Whether a text can be a value of a column's type at all, so that looking for it is no error.
fn fits(text: &str, shown: &str) -> bool {
    let text = text.trim();
    match shown {
        "smallint" => text.parse::<i16>().is_ok(),
        "integer" => text.parse::<i32>().is_ok(),
        "bigint" => text.parse::<i64>().is_ok(),
        "numeric" => text.parse::<f64>().is_ok_and(f64::is_finite),
        "uuid" => text.chars().filter(char::is_ascii_hexdigit).count() == 32 && text.len() <= 38,
        _ => true,
    }
}

/// Seconds since 1970-01-01 UTC.
pub fn seconds(at: TimestampWithTimeZone) -> f64 {
    // Postgres counts microseconds from 2000-01-01.
    i64::from(at) as f64 / 1e6 + 946_684_800.0
}

/// Seconds since 1970-01-01 UTC as Postgres has them.
pub fn timestamp(seconds: f64) -> Result<TimestampWithTimeZone> {
    // Rounded: a double holds microseconds of this age to a quarter, and truncation would lose an event of this very moment.
    let micros = ((seconds - 946_684_800.0) * 1e6).round() as i64;
    TimestampWithTimeZone::try_from(micros).map_err(|_| Error::NotFinite { what: "the time".into() })
}
