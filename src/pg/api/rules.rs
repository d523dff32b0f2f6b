//! `persona.rules`: what is checked when a rule is written.

use super::super::error::door;
use super::super::json::JsonB;
use super::super::{catalog, store};
use crate::catalog::filter::Filter;
use pgrx::prelude::*;

/// Refuses a filter that does not fit the columns of an item table.
#[pg_extern(name = "_check_rule", stable, parallel_restricted)]
fn check_rule(items: pg_sys::Oid, filter: JsonB) {
    door(|| store::rules::check(items, &Filter::read(&filter.0)?, &catalog::shown(items)?));
}
