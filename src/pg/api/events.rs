//! `persona.add_events`, `persona.drop_events`.

use super::super::catalog;
use super::super::companion::{Column, column, columns, ident};
use super::super::error::door;
use super::super::identity::{self, Acting};
use super::super::json::JsonB;
use super::super::spi::{self, Arg, Mode};
use crate::error::{Error, Result};
use crate::event::Kinds;
use pgrx::prelude::*;
use serde::Deserialize;

/// What the caller asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Wanted {
    user_id: Option<String>,
    item_id: Option<String>,
    at: Option<String>,
    kind: Option<String>,
    kind_value: Option<String>,
    query: Option<String>,
    session: Option<String>,
    position: Option<String>,
    dwell_ms: Option<String>,
    context: Option<Vec<String>>,
    options: serde_json::Value,
}

/// The body of `persona.add_events`; `wanted` is its arguments by name.
#[pg_extern(name = "_add_events", volatile)]
fn add_events(items: pg_sys::Oid, events: pg_sys::Oid, wanted: JsonB) {
    door(|| {
        let wanted: Wanted = serde_json::from_value(wanted.0)
            .map_err(|error| Error::Options { place: "arguments".into(), reason: error.to_string() })?;
        add(items, events, &wanted)
    });
}

fn add(items: pg_sys::Oid, events: pg_sys::Oid, wanted: &Wanted) -> Result<()> {
    let catalog = catalog::need(items)?;
    identity::need_owner(catalog.owner(), &catalog.name)?;
    let shown = catalog::shown(events)?;
    let all = columns(events)?;
    if all.is_empty() {
        return Err(Error::RelationKind {
            relation: shown,
            found: "without columns".into(),
            wanted: "a behaviour table".into(),
        });
    }
    let needed = |name: &Option<String>, key: &str| {
        name.clone().ok_or_else(|| Error::InvalidValue {
            place: "argument".into(),
            key: key.into(),
            reason: "it is NULL".into(),
        })
    };
    let user_id = needed(&wanted.user_id, "user_id")?;
    let item_id = needed(&wanted.item_id, "item_id")?;
    let at = needed(&wanted.at, "at")?;
    const KNOWN: [&str; 3] = ["kinds", "propensity", "debias"];
    if let Some(key) = wanted.options.as_object().and_then(|o| o.keys().find(|k| !KNOWN.contains(&k.as_str()))) {
        let known = KNOWN.map(str::to_owned).to_vec();
        return Err(Error::UnknownKey { place: "options".into(), key: key.clone(), known });
    }
    let propensity = match wanted.options.get("propensity") {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(name)) => Some(name.clone()),
        Some(_) => {
            return Err(Error::InvalidValue {
                place: "options".into(),
                key: "propensity".into(),
                reason: "it is the name of a column".into(),
            });
        }
    };
    if wanted.options.get("debias").is_some_and(|value| !value.is_boolean()) {
        return Err(Error::InvalidValue {
            place: "options".into(),
            key: "debias".into(),
            reason: "it is true or false".into(),
        });
    }
    Kinds::read(&wanted.options)?;
    column(&all, &shown, &user_id)?;
    check_item(&catalog, column(&all, &shown, &item_id)?, &shown)?;
    check_type(
        column(&all, &shown, &at)?,
        &shown,
        &[pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID],
        "a time is needed",
    )?;
    let numbers =
        [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::NUMERICOID, pg_sys::FLOAT4OID, pg_sys::FLOAT8OID];
    for name in [&wanted.position, &wanted.dwell_ms, &propensity].into_iter().flatten() {
        check_type(column(&all, &shown, name)?, &shown, &numbers, "a number is needed")?;
    }
    let context = wanted.context.clone().unwrap_or_default();
    for name in [&wanted.kind, &wanted.query, &wanted.session].into_iter().flatten().chain(&context) {
        column(&all, &shown, name)?;
    }
    if wanted.kind.is_some() && wanted.kind_value.is_some() {
        return Err(Error::InvalidValue {
            place: "argument".into(),
            key: "kind_value".into(),
            reason: "give either the column kind or one kind_value for all rows".into(),
        });
    }
    let columns: Vec<&str> = [Some(&user_id), Some(&item_id), Some(&at), wanted.kind.as_ref(), wanted.session.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    identity::need_select(events, &shown, &columns)?;
    {
        // The catalog's statistics are built with its owner's view of the behaviour.
        let owner = catalog.owner();
        let sql = "SELECT pg_catalog.has_table_privilege($1, $2, 'SELECT')";
        if spi::first(Mode::Read, sql, &[Arg::of(owner), Arg::of(events)], |row| row.need::<bool>(1))? != Some(true) {
            return Err(Error::NoRight { relation: shown, columns: columns.join(", ") });
        }
    }
    {
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "INSERT INTO persona.event_source
                (items, events, user_id, item_id, at, kind, kind_value, query, session, position, dwell_ms, context, options)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (items, events) DO UPDATE SET user_id = EXCLUDED.user_id, item_id = EXCLUDED.item_id, at = EXCLUDED.at,
                kind = EXCLUDED.kind, kind_value = EXCLUDED.kind_value, query = EXCLUDED.query, session = EXCLUDED.session,
                position = EXCLUDED.position, dwell_ms = EXCLUDED.dwell_ms, context = EXCLUDED.context, options = EXCLUDED.options";
        let args = [
            Arg::of(pg_sys::Oid::from(catalog.items)),
            Arg::of(events),
            Arg::of(user_id.as_str()),
            Arg::of(item_id.as_str()),
            Arg::of(at.as_str()),
            Arg::of(wanted.kind.as_deref()),
            Arg::of(wanted.kind_value.as_deref()),
            Arg::of(wanted.query.as_deref()),
            Arg::of(wanted.session.as_deref()),
            Arg::of(wanted.position.as_deref()),
            Arg::of(wanted.dwell_ms.as_deref()),
            Arg::of(context),
            Arg::of(JsonB(wanted.options.clone())),
        ];
        spi::run(sql, &args)?;
    }
    catalog::changed(pg_sys::Oid::from(catalog.items));
    name_missing_index(events, &shown, &user_id, &at)
}

/// The item column has to hold keys of the catalog: the same type, or integers of another width.
fn check_item(catalog: &catalog::Catalog, column: &Column, shown: &str) -> Result<()> {
    let sql = "SELECT $1 OPERATOR(pg_catalog.=) k.base
          OR ($1 = ANY ('{21,23,20}'::pg_catalog.oid[]) AND k.base = ANY ('{21,23,20}'::pg_catalog.oid[]))
          OR ($1 = ANY ('{25,1043}'::pg_catalog.oid[]) AND k.base = ANY ('{25,1043}'::pg_catalog.oid[]))
        FROM (SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) $2) k(base)";
    let key = pg_sys::Oid::from(catalog.key_oid);
    let same = spi::first(Mode::Read, sql, &[Arg::of(column.base), Arg::of(key)], |row| row.need::<bool>(1))?;
    if same == Some(true) {
        return Ok(());
    }
    Err(Error::ColumnType {
        relation: shown.to_owned(),
        column: column.name.clone(),
        found: column.shown.clone(),
        wanted: format!("the key \"{}\" of {} is of type {}", catalog.key, catalog.name, catalog.key_type),
    })
}

fn check_type(column: &Column, shown: &str, types: &[pg_sys::Oid], wanted: &str) -> Result<()> {
    if types.contains(&column.base) {
        return Ok(());
    }
    Err(Error::ColumnType {
        relation: shown.to_owned(),
        column: column.name.clone(),
        found: column.shown.clone(),
        wanted: wanted.to_owned(),
    })
}

/// A history is one index look-up, if there is an index: without one, every search reads the whole table.
fn name_missing_index(events: pg_sys::Oid, shown: &str, user_id: &str, at: &str) -> Result<()> {
    let sql = "SELECT 1 FROM pg_catalog.pg_index x
        JOIN pg_catalog.pg_attribute u ON u.attrelid OPERATOR(pg_catalog.=) $1 AND u.attname OPERATOR(pg_catalog.=) $2
            AND u.attnum OPERATOR(pg_catalog.=) x.indkey[0]
        JOIN pg_catalog.pg_attribute t ON t.attrelid OPERATOR(pg_catalog.=) $1 AND t.attname OPERATOR(pg_catalog.=) $3
            AND t.attnum OPERATOR(pg_catalog.=) x.indkey[1]
        WHERE x.indrelid OPERATOR(pg_catalog.=) $1 AND x.indisvalid AND x.indpred IS NULL";
    let there =
        spi::first(Mode::Read, sql, &[Arg::of(events), Arg::of(user_id), Arg::of(at)], |row| row.need::<i32>(1))?;
    if there.is_none() {
        let statement = format!("CREATE INDEX ON {shown} ({}, {})", ident(user_id), ident(at));
        pgrx::notice!(
            "a search reads a shopper's latest events from {shown}, which has no index for that: {statement}"
        );
    }
    Ok(())
}

/// Forgets that a table holds a catalog's behaviour. The table stays; the next refresh leaves it out.
#[pg_extern(name = "_drop_events", volatile)]
fn drop_events(items: pg_sys::Oid, events: pg_sys::Oid) {
    door(|| {
        let catalog = catalog::need(items)?;
        identity::need_owner(catalog.owner(), &catalog.name)?;
        let owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "DELETE FROM persona.event_source WHERE items = $1 AND events = $2 RETURNING 1";
        let gone =
            spi::query(Mode::Write, sql, &[Arg::of(pg_sys::Oid::from(catalog.items)), Arg::of(events)], |_| Ok(()))?;
        drop(owner);
        if gone.is_empty() {
            return Err(Error::NoEvents { relation: catalog::shown(events)?, items: catalog.name.clone() });
        }
        catalog::changed(pg_sys::Oid::from(catalog.items));
        Ok(())
    });
}
