//! What lists that begin at an item ask of the database: its words, its names, its columns, its category.

use super::{PgStore, ident};
use crate::catalog::filter::{Condition, Filter, Operator};
use crate::catalog::options::Key;
use crate::error::Result;
use crate::pg::companion::{column, columns};
use crate::pg::filter;
use crate::pg::spi::{self, Arg, Mode};
use crate::pg::tsvector::TsVector;
use crate::pg::vector;
use crate::retrieve::lexical::{self, Bm25, Term};
use crate::retrieve::variant::Naming;
use crate::store::{Scope, Store, Trend};
use pgrx::pg_sys;
use std::collections::HashMap;

/// See `Store::own_words`.
pub fn own_words(store: &PgStore, item: i64, n: usize) -> Result<Bm25> {
    let _owner = store.owner();
    let c = store.catalog;
    // What hidden items say must not show: below the least number, all words are equally rare.
    let floor = if store.guarded { i64::from(c.min_shoppers.unwrap_or(5)) } else { 2 };
    let sql = format!(
        "SELECT u.lexeme, greatest(t.documents, $3), w.documents, w.length
         FROM {} c CROSS JOIN LATERAL unnest(c.lexemes) u
         JOIN {terms} t ON t.lexeme = u.lexeme LEFT JOIN {terms} w ON w.lexeme = ''
         WHERE c.id = $1 AND u.weights && '{{A,B,D}}' AND (t.documents > 1 OR $3 > 2)
         ORDER BY greatest(t.documents, $3), u.lexeme LIMIT $2",
        c.companion,
        terms = c.terms
    );
    let mut average = 0.0;
    let terms = spi::query(Mode::Read, &sql, &[Arg::of(item), Arg::of(n as i64), Arg::of(floor)], |row| {
        let total = row.get::<i64>(3).unwrap_or(0);
        average = row.get::<f64>(4).unwrap_or(0.0) / total.max(1) as f64;
        Ok(Term { lexeme: row.need(1)?, idf: lexical::idf(row.need::<i64>(2)? as f64, total as f64), also: Vec::new() })
    })?;
    Ok(Bm25 { terms, average })
}

/// See `Store::namings`.
pub fn namings(store: &PgStore, items: &[i64]) -> Result<HashMap<i64, Naming>> {
    let _owner = store.owner();
    let sql = format!("SELECT c.id, c.lexemes FROM {} c WHERE c.id = ANY ($1)", store.catalog.companion);
    let rows = spi::query(Mode::Read, &sql, &[Arg::of(items.to_vec())], |row| {
        row.check(2, pg_sys::TSVECTOROID)?;
        let mut naming = Naming::default();
        if let Some(datum) = row.datum(2) {
            // SAFETY: the column is a tsvector, and the row lives as long as this call.
            let lexemes = unsafe { TsVector::open(datum) };
            for (word, [attributes, _, _, title]) in lexemes.words() {
                let word = String::from_utf8_lossy(word);
                if attributes > 0 {
                    naming.attributes.insert(word.clone().into_owned());
                }
                if title > 0 {
                    naming.title.insert(word.into_owned());
                }
            }
        }
        Ok((row.need(1)?, naming))
    })?;
    Ok(rows.into_iter().collect())
}

/// See `Store::values`.
pub fn values(store: &PgStore, items: &[i64], names: &[String]) -> Result<HashMap<i64, Vec<Option<String>>>> {
    if names.is_empty() || items.is_empty() {
        return Ok(items.iter().map(|id| (*id, Vec::new())).collect());
    }
    let all = columns(store.catalog.asked())?;
    let mut shown = Vec::new();
    for name in names {
        column(&all, &store.catalog.asked.name, name)?;
        shown.push(format!("i.{}::pg_catalog.text", ident(name)));
    }
    let shown = format!("ARRAY[{}]", shown.join(", "));
    Ok(store.rows(items, &shown, |id, row| Ok((id, row.need::<Vec<Option<String>>>(1)?)))?.into_iter().collect())
}

/// See `Store::category`.
pub fn category(store: &PgStore, items: &[i64], n: usize, scope: &Scope) -> Result<Vec<i64>> {
    let Some(name) = &store.catalog.category else { return Ok(Vec::new()) };
    let mut wanted: Vec<String> = values(store, items, std::slice::from_ref(name))?
        .into_values()
        .filter_map(|mut values| values.pop().flatten())
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let all = columns(store.catalog.asked())?;
    let condition = Condition { column: name.clone(), operator: Operator::In, value: wanted.into() };
    let own = Filter { conditions: vec![condition] };
    let (condition, bound) = filter::sql(&own, &all, &store.catalog.asked.name, 2 + store.filter.1.len())?;
    let both = format!("{} AND {condition}", store.filter.0);
    let mut args = store.filter.1.clone();
    args.extend(bound);
    match store.scope_of(&(both, args))? {
        Scope::Only(ids) => store.popular(n, &Scope::Only(ids)),
        // A category of very many items: what is popular anyway stands for it.
        _ => store.popular(n, scope),
    }
}

/// Candidates that the index keeps while it looks for neighbours that only vote: one that it misses changes no majority.
const VOTING: &str = "40";

/// What the `n` items nearest to a vector have in a column, of those that the caller may see.
pub fn near(store: &PgStore, vector: &[f32], n: usize, name: &str) -> Result<Vec<Option<String>>> {
    let c = store.catalog;
    let value = format!("i.{}::pg_catalog.text", ident(name));
    let scope = store.scope()?;
    if scope != Scope::All {
        return store.rows(&store.dense(vector, n, &scope)?, &value, |_, row| Ok(row.get(1)));
    }
    let types = vector::types()?;
    let keys_type = pg_sys::Oid::from(c.key_array);
    let sql = format!(
        "SELECT array_agg(s.key) FROM (SELECT c.key FROM {} c WHERE c.embedding IS NOT NULL AND c.model = $2
         ORDER BY c.embedding OPERATOR({}.<=>) $1 LIMIT $3) s",
        c.companion, types.schema
    );
    let owner = store.owner();
    owner.set(c"hnsw.ef_search", VOTING);
    let args = [vector::halfvec_arg(vector, &types), Arg::of(store.identity.as_str()), Arg::of(n as i64)];
    let keys = spi::first(Mode::ReadCustom, &sql, &args, |row| {
        row.check(1, keys_type)?;
        Ok(row.keep(1))
    })?;
    drop(owner);
    let Some(keys) = keys.flatten() else {
        store.need_identity()?;
        return Ok(Vec::new());
    };
    let sql =
        format!("SELECT {value} FROM {} i WHERE i.{key} {} ANY ($1)", c.asked.name, c.key_equal, key = ident(&c.key));
    spi::query(Mode::Read, &sql, &[Arg::raw(keys_type, Some(keys))], |row| Ok(row.get(1)))
}

/// See `Store::segment`.
pub fn segment(store: &PgStore, column: &str, value: &str) -> Result<Vec<(i64, f32)>> {
    let Some(table) = &store.catalog.segments else { return Ok(Vec::new()) };
    let _owner = store.owner();
    let sql = format!("SELECT s.others, s.weights FROM {table} s WHERE s.name = $1 AND s.value = $2");
    let found = spi::first(Mode::Read, &sql, &[Arg::of(column), Arg::of(value)], |row| {
        let (others, weights): (Vec<i64>, Vec<f32>) = (row.need(1)?, row.need(2)?);
        Ok(others.into_iter().zip(weights).collect())
    })?;
    Ok(found.unwrap_or_default())
}

/// Most items whose trend is looked at: of more, the most popular.
const TRENDS: i64 = 20_000;

/// See `Store::trends`.
pub fn trends(store: &PgStore, hours: f64) -> Result<Vec<Trend>> {
    // A catalog of 0.1.0 keeps no ages until it is refreshed.
    if store.catalog.segments.is_none() {
        return Ok(Vec::new());
    }
    let _owner = store.owner();
    let sql = format!(
        "SELECT s.id, s.buckets, s.counts, s.kin_buckets, s.kin FROM {stats} s
         WHERE s.id > 0 AND s.buckets IS NOT NULL
           AND s.last > (SELECT w.last FROM {stats} w WHERE w.id = 0) - $1 * interval '1 hour'
         ORDER BY s.popularity DESC, s.id LIMIT $2",
        stats = store.catalog.stats
    );
    spi::query(Mode::ReadCustom, &sql, &[Arg::of(hours), Arg::of(TRENDS)], |row| {
        let buckets = |at: i32| -> Vec<(i16, f32)> {
            let (ages, counts) = (row.get::<Vec<i16>>(at), row.get::<Vec<f32>>(at + 1));
            ages.unwrap_or_default().into_iter().zip(counts.unwrap_or_default()).collect()
        };
        Ok(Trend { id: row.need(1)?, own: buckets(2), kin: buckets(4) })
    })
}

/// The number of the item with a key, where the caller may see it; `None` where the catalog does not know it.
pub fn number(store: &PgStore, key: pg_sys::Datum) -> Result<Option<i64>> {
    Ok(store.item(key, &Bm25::default())?.map(|item| item.id))
}

/// The numbers of items by their keys as text, where the caller may see them; what nobody knows is left out.
pub fn numbers(store: &PgStore, keys: &[Key]) -> Result<Vec<i64>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<String> = keys.iter().map(Key::to_string).collect();
    let c = store.catalog;
    let sql = format!(
        "SELECT pg_catalog.array_agg(i.{key}) FROM {} i WHERE i.{key} {} ANY ($1::pg_catalog.text[]::{}[])",
        c.asked.name,
        c.key_equal,
        c.key_type,
        key = ident(&c.key),
    );
    let keys_type = pg_sys::Oid::from(c.key_array);
    let found = spi::first(Mode::Read, &sql, &[Arg::of(keys)], |row| {
        row.check(1, keys_type)?;
        Ok(row.keep(1))
    })?;
    found.flatten().map_or(Ok(Vec::new()), |keys| store.ids_of(keys))
}
