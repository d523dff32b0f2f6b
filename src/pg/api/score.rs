//! `persona.score`: the score that `search` would give, for the rows of any SELECT.

use super::super::error::door;
use super::super::json::JsonB;
use super::super::store::PgStore;
use super::super::{catalog, identity, session, understand};
use super::found::{Context, column_name, key_of, question, rules};
use crate::arrange::rules::added;
use crate::catalog::filter::Filter;
use crate::catalog::options::SearchOptions;
use crate::catalog::rule::{Rule, Surface};
use crate::embed::Role;
use crate::error::Result;
use crate::parts::Dimension;
use crate::search::{Question, Request};
use crate::store::Item;
use pgrx::prelude::*;
use pgrx::{AnyElement, PgMemoryContexts};
use serde_json::Value;
use std::rc::Rc;

/// What one statement asks, read once and kept until the statement's memory goes.
struct Asked {
    arguments: Arguments,
    snapshot: (u64, u32, u32, u32),
    catalog: Rc<catalog::Catalog>,
    identity: String,
    /// Whether some items are hidden from the caller: then each row is asked for.
    guarded: bool,
    question: Question,
    /// A tsquery of what the query excludes.
    unwanted: Option<String>,
    rules: Vec<Rule>,
    /// The factor of the part `rules`.
    factor: f64,
    key: std::ffi::CString,
}

#[derive(Debug, Clone, PartialEq)]
struct Arguments {
    row_type: pg_sys::Oid,
    caller: pg_sys::Oid,
    query: Option<String>,
    user_id: Option<String>,
    context: Option<Value>,
    options: Option<Value>,
}

/// What tells one state of the database from the next: a plpgsql loop keeps its expressions over many statements.
fn snapshot() -> (u64, u32, u32, u32) {
    // SAFETY: a function call has an active snapshot.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        ((*snapshot).snapXactCompletionCount, (*snapshot).curcid, (*snapshot).xmin.into(), (*snapshot).xmax.into())
    }
}

fn ask(arguments: &Arguments, snapshot: (u64, u32, u32, u32)) -> Result<Asked> {
    let relation = catalog::relation_of_type(arguments.row_type)?;
    let catalog = catalog::need(relation)?;
    // A row can be forged: what is looked up by its key must be the caller's to see, columns and row.
    identity::need_select(relation, &catalog.asked.name, &catalog.used())?;
    let null = Value::Null;
    let options = SearchOptions::read(arguments.options.as_ref().unwrap_or(&null))?;
    let context = arguments.context.clone().map(JsonB);
    let context = Context::read(context.as_ref(), &catalog)?;
    let query = arguments.query.as_deref();
    let encoder = session::encoder(&catalog.model, Role::Query)?;
    let identity = session::identity(&encoder);
    let mut store = PgStore::new(&catalog, &Filter::default(), &identity)?;
    let guarded = store.is_guarded();
    let (understanding, vector) = understand::ask(&store, &encoder, query, &options)?;
    let unwanted = understanding.as_ref().map_or(Ok(None), |read| store.exclude(&read.unwanted()))?;
    let request = Request {
        query,
        user_id: arguments.user_id.as_deref(),
        at: context.at,
        session: context.session.as_deref(),
        k: 1,
        options,
        understanding,
    };
    let factor = request.options.factor(Dimension::Rules);
    let question = question(&store, &catalog, &request, &context, vector)?;
    let surface = if query.is_none() { Surface::Recommend } else { Surface::Search };
    let mut rules = rules(&store, &catalog, &request, &question, &Filter::default(), surface, &context)?;
    rules.retain(|rule| factor > 0.0 && rule.adds() != 0.0);
    drop(store);
    let key = column_name(&catalog.key)?;
    Ok(Asked {
        arguments: arguments.clone(),
        snapshot,
        catalog,
        identity,
        guarded,
        question,
        unwanted,
        rules,
        factor,
        key,
    })
}

/// The score of a row; NULL for a NULL row.
#[pg_extern(sql = "CREATE FUNCTION persona.score(item anyelement, query text DEFAULT NULL, user_id text DEFAULT NULL,
    context jsonb DEFAULT '{}', options jsonb DEFAULT '{}') RETURNS real
    STABLE PARALLEL RESTRICTED COST 1000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn score(
    item: Option<AnyElement>,
    query: Option<&str>,
    user_id: Option<&str>,
    context: Option<JsonB>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Option<f32> {
    let item = item?;
    door(|| {
        // SAFETY: the call's own expression knows the type of its first argument.
        let (row_type, caller, flinfo) = unsafe {
            let flinfo = (*fcinfo).flinfo;
            (pg_sys::get_fn_expr_argtype(flinfo, 0), pg_sys::GetUserId(), flinfo)
        };
        let arguments = Arguments {
            row_type,
            caller,
            query: query.map(str::to_owned),
            user_id: user_id.map(str::to_owned),
            context: context.map(|c| c.0),
            options: options.map(|o| o.0),
        };
        let now = snapshot();
        // SAFETY: fn_extra is ours alone: it holds an `Asked` of this call's expression, or nothing.
        let known = unsafe { (*flinfo).fn_extra.cast::<Asked>().as_mut() };
        let asked = match known {
            Some(asked) if asked.arguments == arguments && asked.snapshot == now => asked,
            // A loop keeps its expression over many statements: the place is used again.
            Some(place) => {
                *place = ask(&arguments, now)?;
                place
            }
            None => {
                let asked = ask(&arguments, now)?;
                // SAFETY: fn_mcxt outlives the expression; the context drops the value when it goes.
                unsafe {
                    let place = PgMemoryContexts::For((*flinfo).fn_mcxt).leak_and_drop_on_delete(asked);
                    (*flinfo).fn_extra = place.cast();
                    &mut *place
                }
            }
        };
        // SAFETY: the argument is a row.
        let key = unsafe { key_of(item.datum(), &asked.key) };
        let store = PgStore::again(&asked.catalog, &asked.identity, asked.guarded, asked.unwanted.clone());
        let mut known = key.map(|key| store.item(key, asked.question.words())).transpose()?.flatten();
        // What the query excludes is no answer: it counts as an item that nothing is known of.
        if asked.unwanted.is_some()
            && let Some(item) = known.take()
        {
            known = (!store.without_unwanted(vec![item.id])?.is_empty()).then_some(item);
        }
        if let Some(item) = &mut known {
            asked.question.learn(&store, item)?;
        }
        let mut parts = asked.question.parts(known.as_ref().unwrap_or(&Item { id: -1, ..Item::default() }));
        if let (Some(item), false) = (&known, asked.rules.is_empty()) {
            let more = added(&store, &asked.rules, &[item.id])?.get(&item.id).copied().unwrap_or_default();
            parts.set(Dimension::Rules, more * asked.factor);
        }
        Ok(Some(parts.score()))
    })
}
