//! What search and recommend share: reading a call, ranking, and the caller's rows for what was ranked.

use super::super::history::timestamp;
use super::super::identity;
use super::super::interrupt::Backend;
use super::super::json::JsonB;
use super::super::spi::{self, Arg, Mode};
use super::super::store::{self, PgStore, aside};
use super::super::{catalog, companion, ranker, session, understand};
use crate::arrange::Arrangement;
use crate::catalog::filter::Filter;
use crate::catalog::options::{Exclude, Key, SearchOptions};
use crate::catalog::rule::{Occasion, Rule, Surface, text};
use crate::control::Control;
use crate::embed::Role;
use crate::error::{Error, Result};
use crate::parts::Parts;
use crate::random::Random;
use crate::recommend;
use crate::search::{self, Question, Ranked, Request};
use crate::store::Scope;
use pgrx::prelude::*;
use pgrx::{AnyElement, FromDatum};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The context of a call, as the caller passes it.
#[derive(Default)]
pub struct Context {
    /// A moment to search as of, in seconds since 1970-01-01 UTC; `None` is now.
    pub at: Option<f64>,
    /// The session that is being served.
    pub session: Option<String>,
    /// Values of context columns, as text.
    pub values: Vec<(String, String)>,
    /// All of it, as it was passed.
    pub given: Map<String, Value>,
}

impl Context {
    /// Reads a context; unknown keys are refused with the known ones.
    pub fn read(context: Option<&JsonB>, catalog: &catalog::Catalog) -> Result<Context> {
        let empty = Map::new();
        let map = match context.map(|c| &c.0) {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(map)) => map,
            Some(_) => return Err(Error::Options { place: "context".into(), reason: "it has to be an object".into() }),
        };
        let mut known = vec!["at".to_owned(), "session".to_owned(), "segment".to_owned()];
        known.extend(catalog.events.iter().flat_map(|e| e.context.iter().cloned()));
        if let Some(key) = map.keys().find(|key| !known.contains(key)) {
            return Err(Error::UnknownKey { place: "context".into(), key: key.clone(), known });
        }
        let at = match map.get("at") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(moment(text)?),
            Some(_) => {
                return Err(Error::InvalidValue {
                    place: "context".into(),
                    key: "at".into(),
                    reason: "it is a timestamp with time zone, as text".into(),
                });
            }
        };
        let session = map.get("session").filter(|v| !v.is_null()).map(text);
        let ours = |key: &str| key == "at" || key == "session";
        let values = map.iter().filter(|(key, v)| !ours(key) && !v.is_null()).map(|(key, v)| (key.clone(), text(v)));
        Ok(Context { at, session, values: values.collect(), given: map.clone() })
    }

    /// Of values of context columns.
    pub fn of(values: &[(String, String)]) -> Context {
        let given = values.iter().map(|(column, value)| (column.clone(), Value::from(value.as_str()))).collect();
        Context { values: values.to_vec(), given, ..Context::default() }
    }
}

fn moment(at: &str) -> Result<f64> {
    let sql = "SELECT pg_catalog.date_part('epoch', $1::pg_catalog.text::pg_catalog.timestamptz)";
    let found = spi::first(Mode::Read, sql, &[Arg::of(at)], |row| row.need::<f64>(1))?.filter(|at| at.is_finite());
    found.ok_or_else(|| Error::NotFinite { what: format!("context \"at\" ({at})") })
}

/// A row found: what was asked of `i`, its parts, its sources.
pub struct Found<T> {
    pub shown: T,
    pub position: i32,
    pub parts: Parts,
    pub source: String,
}

/// What a list begins at.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// The query; without one, as in browsing, the shopper.
    Query,
    /// The shopper.
    Shopper,
    /// An item, for what is like it.
    Similar(Anchor<'a>),
    /// An item, for what goes with it in one basket.
    Basket(Anchor<'a>),
    /// Of late: so many hours.
    Trending(f64),
}

impl Start<'_> {
    /// The list that rules may ask for.
    fn surface(self, request: &Request) -> Surface {
        match self {
            Start::Query if request.query.is_none() => Surface::Recommend,
            Start::Shopper => Surface::Recommend,
            Start::Query => Surface::Search,
            Start::Similar(_) => Surface::Similar,
            Start::Basket(_) => Surface::BoughtTogether,
            Start::Trending(_) => Surface::Trending,
        }
    }
}

/// What a call knows before it sees an item, and by which ranker it ranks.
pub fn question(
    store: &PgStore,
    catalog: &catalog::Catalog,
    request: &Request,
    context: &Context,
    vector: Option<Arc<[f32]>>,
) -> Result<Question> {
    let mut question = Question::ask(store, request, vector)?;
    if question.takes_ranker(request)
        && let Some(ranker) = ranker::to_rank_by(catalog, request.options.ranker)?
    {
        question = question.rank_by(store, ranker, request, &context.values)?;
    }
    question.set_segments(store, &context.values, request)?;
    Ok(question)
}

/// What was taken before is not recommended again, as far as the catalog says, unless the call does.
fn recommending(mut options: SearchOptions, call: &Call, catalog: &catalog::Catalog) -> SearchOptions {
    let says = |key: &str| call.options.as_ref().is_some_and(|given| given.0.get(key).is_some());
    if !says("exclude_seen") && !says("exclude_owned") {
        options.exclude_seen = catalog.exclude == Exclude::Seen;
        options.exclude_owned = catalog.exclude == Exclude::Owned;
    }
    options
}

/// The rules that apply to a call.
pub fn rules(
    store: &PgStore,
    catalog: &catalog::Catalog,
    request: &Request,
    question: &Question,
    filter: &Filter,
    surface: Surface,
    context: &Context,
) -> Result<Vec<Rule>> {
    let at = request.at.map(timestamp).transpose()?;
    let mut rules = store::rules::rules(store, request.query, question.words(), at)?;
    if !rules.is_empty() {
        let named = |column: &Option<String>| Occasion::named(filter, column.as_deref());
        let (brands, categories) = (named(&catalog.brand), named(&catalog.category));
        let occasion = Occasion { surface, context: context.given.clone(), brands, categories };
        rules.retain(|rule| rule.applies(&occasion));
    }
    Ok(rules)
}

/// What chance begins with: the caller's seed, else the session's, else this statement's.
fn seed(request: &Request) -> u64 {
    let given = request.options.seed.map(|seed| seed as u64);
    given.unwrap_or_else(|| {
        // SAFETY: plain backend state.
        let moment = unsafe { pg_sys::GetCurrentStatementStartTimestamp() } as u64;
        let moment = if request.session.is_some() { 0 } else { moment ^ (u64::from(std::process::id()) << 40) };
        let who = [request.user_id, request.session, request.query].map(Option::unwrap_or_default).join("\n");
        Random::named(moment, &who).bits()
    })
}

/// How an item is named.
#[derive(Clone, Copy)]
pub enum Anchor<'a> {
    /// By a row of the caller's; `None` is a NULL row.
    Row(Option<pg_sys::Datum>),
    /// By its key as text.
    Id(&'a str),
}

impl Anchor<'_> {
    /// The item's number; one that nothing is kept under where the catalog does not know it.
    fn number(self, store: &PgStore, catalog: &catalog::Catalog) -> Result<i64> {
        let found = match self {
            Anchor::Row(None) => None,
            Anchor::Row(Some(row)) => {
                let name = column_name(&catalog.key)?;
                // SAFETY: the door's argument is a row.
                let key = unsafe { key_of(row, &name) };
                key.map(|key| aside::number(store, key)).transpose()?.flatten()
            }
            Anchor::Id(id) => aside::numbers(store, &[Key::Text(id.to_owned())])?.pop(),
        };
        Ok(found.unwrap_or(-1))
    }
}

/// The arguments that every overload has.
pub struct Call<'a> {
    pub start: Start<'a>,
    pub query: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub context: Option<JsonB>,
    pub filter: Option<JsonB>,
    pub k: Option<i32>,
    pub options: Option<JsonB>,
}

/// Ranks, and reads the rows that the caller may see: `shown` is an expression over the row `i`.
pub fn find<T>(
    relation: pg_sys::Oid,
    call: &Call,
    shown: &str,
    mut read: impl FnMut(&spi::Row) -> Result<T>,
) -> Result<Vec<Found<T>>> {
    let k = call.k.unwrap_or(20);
    if !(1..=10_000).contains(&k) {
        return Err(Error::InvalidValue {
            place: "argument".into(),
            key: "k".into(),
            reason: "it has to be from 1 to 10000".into(),
        });
    }
    let k = k as usize;
    let catalog = catalog::need(relation)?;
    let null = Value::Null;
    let options = SearchOptions::read(call.options.as_ref().map_or(&null, |o| &o.0))?;
    let options = if matches!(call.start, Start::Shopper) { recommending(options, call, &catalog) } else { options };
    let filter = Filter::read(call.filter.as_ref().map_or(&null, |f| &f.0))?;
    let context = Context::read(call.context.as_ref(), &catalog)?;
    let columns = companion::columns(relation)?;
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    identity::need_select(relation, &catalog.asked.name, &names)?;
    let encoder = session::encoder(&catalog.model, Role::Query)?;
    let identity = session::identity(&encoder);
    let mut store = PgStore::new(&catalog, &filter, &identity)?;
    let (understanding, vector) = understand::ask(&store, &encoder, call.query, &options)?;
    if let Some(understanding) = &understanding {
        store.exclude(&understanding.unwanted())?;
    }
    let request = Request {
        query: call.query,
        user_id: call.user_id,
        at: context.at,
        session: context.session.as_deref(),
        k,
        options,
        understanding,
    };
    let control = Backend;
    let question = question(&store, &catalog, &request, &context, vector)?;
    let scope = store.scope()?;
    let ranked = ranked(&store, &catalog, call, &request, &question, &scope, &control)?;
    let rules = rules(&store, &catalog, &request, &question, &filter, call.start.surface(&request), &context)?;
    let arrangement = Arrangement {
        store: &store,
        request: &request,
        question: &question,
        scope: &scope,
        rules: &rules,
        brand: catalog.brand.as_deref(),
        category: catalog.category.as_deref(),
        seed: seed(&request),
    };
    let ranked = arrangement.arrange(ranked, &control)?;
    // Rows are fetched until k are there: one may have gone since its words were kept (a view's, say).
    let mut found = Vec::with_capacity(k);
    let mut rest = ranked.get(request.options.offset..).unwrap_or(&[]);
    while found.len() < k && !rest.is_empty() {
        control.check()?;
        let (now, later) = rest.split_at(rest.len().min(k - found.len()));
        rest = later;
        let ids: Vec<i64> = now.iter().map(|r| r.id).collect();
        let rows = store.rows(&ids, shown, |id, row| Ok((id, read(row)?)))?;
        let mut rows = rows.into_iter().peekable();
        for ranked in now {
            if let Some((_, shown)) = rows.next_if(|(id, _)| *id == ranked.id) {
                let position = (request.options.offset + found.len() + 1) as i32;
                found.push(Found { shown, position, parts: ranked.parts, source: ranked.source.clone() });
            }
        }
    }
    Ok(found)
}

/// The whole ranking of what a call begins at.
fn ranked(
    store: &PgStore,
    catalog: &catalog::Catalog,
    call: &Call,
    request: &Request,
    question: &Question,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<Ranked>> {
    match call.start {
        Start::Query | Start::Shopper => search::search(store, request, question, scope, control),
        Start::Similar(item) => {
            recommend::similar(store, request, question, item.number(store, catalog)?, scope, control)
        }
        Start::Basket(item) => {
            let mut items = vec![item.number(store, catalog)?];
            for other in aside::numbers(store, &request.options.basket)? {
                if !items.contains(&other) {
                    items.push(other);
                }
            }
            recommend::bought_together(store, request, question, &items, scope, control)
        }
        Start::Trending(hours) => recommend::trending(store, request, question, hours, scope, control),
    }
}

/// A column's name as C has it.
pub fn column_name(name: &str) -> Result<std::ffi::CString> {
    std::ffi::CString::new(name).map_err(|_| Error::Internal("a column's name holds a zero byte".into()))
}

/// The key of a row, as its header says which column is which.
///
/// # Safety
/// The datum is a composite value.
pub unsafe fn key_of(row: pg_sys::Datum, key: &std::ffi::CStr) -> Option<pg_sys::Datum> {
    // SAFETY: a composite datum, whose header says its type; the name is one of its columns.
    unsafe {
        let header = pg_sys::pg_detoast_datum(row.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
        let mut null = false;
        let key = pg_sys::GetAttributeByName(header, key.as_ptr(), &mut null);
        (!null).then_some(key)
    }
}

/// A typed row with its place: what the functions over a row type return.
pub type Typed = TableIterator<
    'static,
    (
        name!(item, Option<AnyElement>),
        name!(score, f32),
        name!(position, i32),
        name!(source, String),
        name!(parts, JsonB),
    ),
>;

/// A row as jsonb with its place: what the functions over a table's name return.
pub type Named = TableIterator<
    'static,
    (
        name!(item_id, String),
        name!(item, JsonB),
        name!(score, f32),
        name!(position, i32),
        name!(source, String),
        name!(parts, JsonB),
    ),
>;

/// Rows of the very type that the call's first argument has, NULL though it may be.
pub fn typed(fcinfo: pg_sys::FunctionCallInfo, call: &Call) -> Result<Typed> {
    // SAFETY: the call's own expression knows the type.
    let row_type = unsafe { pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 0) };
    let relation = catalog::relation_of_type(row_type)?;
    // SAFETY: a catalog look-up.
    let rows_type = unsafe { pg_sys::get_rel_type_id(relation) };
    let found = find(relation, call, "i", |row| {
        row.check(1, rows_type)?;
        Ok(row.keep(1))
    })?;
    Ok(TableIterator::new(found.into_iter().map(|f| {
        // SAFETY: the datum is a row that was just read, kept in the call's own memory.
        let item = f.shown.and_then(|d| unsafe { AnyElement::from_polymorphic_datum(d, false, pg_sys::InvalidOid) });
        (item, f.parts.score(), f.position, f.source, JsonB(f.parts.to_json()))
    })))
}

/// Rows as jsonb, each with its key as text.
pub fn named(items: Option<pg_sys::Oid>, call: &Call) -> Result<Named> {
    let items = catalog::given(items)?;
    let key = companion::ident(&catalog::need(items)?.key);
    let shown = format!("pg_catalog.jsonb_build_array(i.{key}::pg_catalog.text, pg_catalog.to_jsonb(i))");
    let found = find(items, call, &shown, |row| row.need::<JsonB>(1))?;
    Ok(TableIterator::new(found.into_iter().map(|f| {
        let (key, item) = match f.shown.0 {
            Value::Array(mut pair) if pair.len() == 2 => {
                let item = pair.pop().unwrap_or_default();
                (pair.pop().and_then(|k| k.as_str().map(str::to_owned)).unwrap_or_default(), item)
            }
            other => (String::new(), other),
        };
        (key, JsonB(item), f.parts.score(), f.position, f.source, JsonB(f.parts.to_json()))
    })))
}
