//! The port's Postgres side: the engine's questions as SQL.
//!
//! Behaviour and items are read as the caller; companion tables as their owner. What the caller may see of the items
//! (the filter, row-level security, a partition) is asked of the items themselves, under the caller's id, inside every
//! source's limit.

pub mod aside;
mod row;
pub mod rules;
pub mod wording;

use super::catalog::Catalog;
use super::companion::{columns, ident};
use super::history::{self, seconds};
use super::identity::{self, Acting, Owner};
use super::spi::{self, Arg, Mode};
use super::{companion, filter, learned, vector};
use crate::catalog::filter::Filter;
use crate::error::Result;
use crate::event::Event;
use crate::retrieve::lexical::{self, Bm25, K1, Term};
use crate::retrieve::variant::Naming;
use crate::shopper::sequence::{Own, Wide};
use crate::store::{Item, Record, Scope, Store, Trend, Whole};
use pgrx::pg_sys;
use std::collections::{HashMap, HashSet};

/// Up to so many items are named one by one; a wider filter is checked batch by batch.
const NAMED: i64 = 20_000;

/// Answers questions about one catalog for one call.
pub struct PgStore<'a> {
    catalog: &'a Catalog,
    /// Conditions of the filter on `i`, and what they bind from `$2` on.
    filter: (String, Vec<Arg>),
    /// The identity that vectors have to bear.
    identity: String,
    /// Whether the caller may not see every item.
    guarded: bool,
    /// What the query does not want, as a tsquery.
    unwanted: Option<String>,
}

impl<'a> PgStore<'a> {
    /// A store for one call; refuses a filter that does not fit the columns.
    pub fn new(catalog: &'a Catalog, wanted: &Filter, identity: &str) -> Result<PgStore<'a>> {
        let filter = if wanted.is_empty() {
            ("true".to_owned(), Vec::new())
        } else {
            filter::sql(wanted, &columns(catalog.asked())?, &catalog.asked.name, 2)?
        };
        let guarded = catalog.is_view() || identity::rows_hidden(catalog.asked())?;
        Ok(PgStore { catalog, filter, identity: identity.to_owned(), guarded, unwanted: None })
    }

    /// A store for another row of the same statement: nothing is asked again. `unwanted` is what `exclude` made.
    pub fn again(catalog: &'a Catalog, identity: &str, guarded: bool, unwanted: Option<String>) -> PgStore<'a> {
        PgStore { catalog, filter: ("true".to_owned(), Vec::new()), identity: identity.to_owned(), guarded, unwanted }
    }

    /// The catalog that is asked.
    pub fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// Whether the caller may not see every item.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    fn owner(&self) -> Acting {
        Acting::as_owner(self.catalog.owner())
    }

    /// What the caller's filter and rights leave of the items.
    pub fn scope(&self) -> Result<Scope> {
        if self.filter.0 == "true" && !self.catalog.is_part() && !self.guarded {
            return Ok(Scope::All);
        }
        self.scope_of(&self.filter)
    }

    /// The items that pass conditions on `i`, which bind from `$2` on, as the caller sees them.
    fn scope_of(&self, (condition, bound): &(String, Vec<Arg>)) -> Result<Scope> {
        let catalog = self.catalog;
        // The keys travel as the array that they are: no conversion, whatever their type.
        let keys_type = pg_sys::Oid::from(catalog.key_array);
        let sql = format!(
            "SELECT pg_catalog.array_agg(s.k), pg_catalog.count(*) FROM (SELECT i.{} AS k FROM {} i WHERE {condition} LIMIT $1) s",
            ident(&catalog.key),
            catalog.asked.name,
        );
        let mut args = vec![Arg::of(NAMED + 1)];
        args.extend(bound);
        let found = spi::first(Mode::ReadCustom, &sql, &args, |row| {
            row.check(1, keys_type)?;
            Ok((row.keep(1), row.need::<i64>(2)?))
        })?;
        Ok(match found {
            Some((_, count)) if count > NAMED => Scope::Wide,
            Some((Some(keys), _)) => Scope::Only(self.ids_of(keys)?),
            _ => Scope::Only(Vec::new()),
        })
    }

    /// The numbers of items by an array of their keys.
    fn ids_of(&self, keys: pg_sys::Datum) -> Result<Vec<i64>> {
        let _owner = self.owner();
        let sql =
            format!("SELECT c.id FROM {} c WHERE c.key {} ANY ($1)", self.catalog.companion, self.catalog.key_equal);
        let keys = Arg::raw(pg_sys::Oid::from(self.catalog.key_array), Some(keys));
        spi::query(Mode::ReadCustom, &sql, &[keys], |row| row.need(1))
    }

    /// The item with a key as ranking sees it; `None` where the catalog does not know it yet.
    ///
    /// Called for each row of a SELECT, so it only changes the user: every name in it is qualified.
    pub fn item(&self, key: pg_sys::Datum, words: &Bm25) -> Result<Option<Item>> {
        if self.guarded || self.catalog.is_part() {
            let sql = format!(
                "SELECT 1 FROM {} i WHERE i.{} {} $1",
                self.catalog.asked.name,
                ident(&self.catalog.key),
                self.catalog.key_equal
            );
            let key = Arg::raw(pg_sys::Oid::from(self.catalog.key_oid), Some(key));
            if spi::first(Mode::Read, &sql, &[key], |_| Ok(()))?.is_none() {
                return Ok(None);
            }
        }
        let _owner = Owner::of(self.catalog.owner());
        let sql = format!(
            "SELECT c.id, c.lexemes, c.length, c.embedding, s.popularity, c.model, s.shoppers
             FROM {} c LEFT JOIN {} s ON s.id OPERATOR(pg_catalog.=) c.id WHERE c.key {} $1",
            self.catalog.companion, self.catalog.stats, self.catalog.key_equal
        );
        let key = Arg::raw(pg_sys::Oid::from(self.catalog.key_oid), Some(key));
        let halfvec = vector::types()?.halfvec;
        spi::first(Mode::Read, &sql, &[key], |row| self.read_item(row, halfvec, words))
    }

    /// Runs `row` on the items' rows, as the caller sees them, in the order of the numbers: `(number, datum of i)`.
    pub fn rows<T>(
        &self,
        ids: &[i64],
        shown: &str,
        mut row: impl FnMut(i64, &spi::Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let keys_type = pg_sys::Oid::from(self.catalog.key_array);
        let key = ident(&self.catalog.key);
        let sql = format!("SELECT c.key, c.id FROM {} c WHERE c.id = ANY ($1)", self.catalog.companion);
        let sql = format!(
            "SELECT pg_catalog.array_agg(s.key ORDER BY o.n), pg_catalog.array_agg(s.id ORDER BY o.n)
             FROM pg_catalog.unnest($1) WITH ORDINALITY o(id, n) JOIN ({sql}) s USING (id)"
        );
        let owner = self.owner();
        let found = spi::first(Mode::Read, &sql, &[Arg::of(ids.to_vec())], |row| {
            row.check(1, keys_type)?;
            Ok((row.keep(1), row.keep(2)))
        })?;
        drop(owner);
        let Some((Some(keys), Some(ids))) = found else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {shown}, k.id FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY k(key, id, n)
             JOIN {} i ON i.{key} {} k.key ORDER BY k.n",
            self.catalog.asked.name, self.catalog.key_equal
        );
        let args = [
            Arg::raw(pg_sys::Oid::from(self.catalog.key_array), Some(keys)),
            Arg::raw(pg_sys::INT8ARRAYOID, Some(ids)),
        ];
        spi::query(Mode::Read, &sql, &args, |found| row(found.need(2)?, found))
    }

    /// What a table of pairs says of items.
    fn neighbours(&self, table: &str, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>> {
        let _owner = self.owner();
        let sql = format!("SELECT p.id, p.others, p.weights FROM {table} p WHERE p.id = ANY ($1)");
        let rows = spi::query(Mode::Read, &sql, &[Arg::of(items.to_vec())], |row| {
            let (others, weights): (Vec<i64>, Vec<f32>) = (row.need(2)?, row.need(3)?);
            Ok((row.need(1)?, others.into_iter().zip(weights).collect()))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// The numbers that a statement gives, read as the owner: `$1` is how many, `$2` the scope's items.
    fn ids(&self, sql: &str, n: usize, limits: impl IntoIterator<Item = Arg>) -> Result<Vec<i64>> {
        let _owner = self.owner();
        let mut args = vec![Arg::of(n as i64)];
        args.extend(limits);
        spi::query(Mode::ReadCustom, sql, &args, |row| row.need(1))
    }

    /// The first `n` items in scope of a source that gives its best `m` for any `m`.
    fn filtered(&self, n: usize, scope: &Scope, source: impl Fn(usize) -> Result<Vec<i64>>) -> Result<Vec<i64>> {
        if *scope != Scope::Wide {
            return source(n);
        }
        let mut asked = n.saturating_mul(2);
        loop {
            let all = source(asked)?;
            let mut within = self.within(&all, scope)?;
            if within.len() >= n || all.len() < asked {
                within.truncate(n);
                return Ok(within);
            }
            asked = asked.saturating_mul(4);
        }
    }
}

impl Store for PgStore<'_> {
    fn words(&self, query: &str) -> Result<Bm25> {
        let _owner = self.owner();
        let sql = format!(
            "SELECT q.lexeme, COALESCE(t.documents, 0), w.documents, w.length
             FROM unnest(to_tsvector($1::regconfig, {})) q(lexeme)
             LEFT JOIN {terms} t ON t.lexeme = q.lexeme LEFT JOIN {terms} w ON w.lexeme = ''",
            companion::plain("persona._segment(left($2, 10000))"),
            terms = self.catalog.terms
        );
        let read = |config: &str| {
            spi::query(Mode::Read, &sql, &[Arg::of(config), Arg::of(query)], |row| {
                let lexeme: String = row.need(1)?;
                Ok((lexeme, row.need::<i64>(2)?, row.get::<i64>(3).unwrap_or(0), row.get::<f64>(4).unwrap_or(0.0)))
            })
        };
        // Items keep their stop words where the catalog's configuration is persona's; a query drops them, unless it has
        // nothing else ("The Who").
        // How rare a word is must not tell a caller of items that are hidden: below the least number, all are alike.
        let floor = if self.guarded { i64::from(self.catalog.min_shoppers.unwrap_or(5)) } else { 0 };
        let own = self.catalog.text_search.as_str();
        let mut rows = if own == "persona.english" { read("pg_catalog.english")? } else { Vec::new() };
        if rows.is_empty() {
            rows = read(own)?;
        }
        let average = rows.first().map_or(0.0, |(_, _, total, length)| length / (*total).max(1) as f64);
        let mut terms: Vec<Term> = rows
            .into_iter()
            .map(|(lexeme, documents, total, _)| Term {
                lexeme,
                idf: lexical::idf(documents.max(floor) as f64, total as f64),
                also: Vec::new(),
            })
            .collect();
        self.synonyms(query, &mut terms)?;
        // A pasted page is a query too: its rarest words say what it is about.
        if terms.len() > lexical::MOST_TERMS {
            terms.sort_by(|a, b| b.idf.total_cmp(&a.idf).then_with(|| a.lexeme.cmp(&b.lexeme)));
            terms.truncate(lexical::MOST_TERMS);
        }
        Ok(Bm25 { terms, average })
    }

    fn whole(&self) -> Result<Whole> {
        let _owner = self.owner();
        let sql = format!(
            "SELECT s.popularity, s.last, s.mean, s.shoppers, date_part('epoch', now()) FROM {} s WHERE s.id = 0",
            self.catalog.stats
        );
        let whole = spi::first(Mode::Read, &sql, &[], |row| {
            Ok(Whole {
                popularity: f64::from(row.need::<f32>(1)?),
                newest: row.get(2).map(seconds),
                mean: row.get(3).unwrap_or_default(),
                shoppers: row.need::<i64>(4)? as f64,
                now: row.need(5)?,
            })
        })?;
        Ok(whole.unwrap_or_default())
    }

    fn history(&self, user_id: &str, at: Option<f64>, session: Option<&str>) -> Result<Vec<Event>> {
        history::read(self.catalog, user_id, at, session)
    }

    fn vectors(&self, items: &[i64]) -> Result<HashMap<i64, Vec<f32>>> {
        let _owner = self.owner();
        let sql = format!(
            "SELECT c.id, c.embedding FROM {} c WHERE c.id = ANY ($1) AND c.model = $2 AND c.embedding IS NOT NULL",
            self.catalog.companion
        );
        let args = [Arg::of(items.to_vec()), Arg::of(self.identity.as_str())];
        let halfvec = vector::types()?.halfvec;
        let rows = spi::query(Mode::Read, &sql, &args, |row| {
            row.check(2, halfvec)?;
            // SAFETY: the column is a halfvec.
            Ok((row.need(1)?, row.datum(2).map(|d| unsafe { vector::read_halfvec(d) }).unwrap_or_default()))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn pairs(&self, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>> {
        self.neighbours(&self.catalog.pairs, items)
    }

    fn baskets(&self, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>> {
        // A catalog of an earlier release has none until it is refreshed.
        self.catalog.baskets.as_ref().map_or(Ok(HashMap::new()), |table| self.neighbours(table, items))
    }

    fn own_words(&self, item: i64, n: usize) -> Result<Bm25> {
        aside::own_words(self, item, n)
    }

    fn namings(&self, items: &[i64]) -> Result<HashMap<i64, Naming>> {
        aside::namings(self, items)
    }

    fn values(&self, items: &[i64], columns: &[String]) -> Result<HashMap<i64, Vec<Option<String>>>> {
        aside::values(self, items, columns)
    }

    fn newest(&self, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let (condition, limits) = self.limits(scope, 2);
        let sql =
            format!("SELECT c.id FROM {} c WHERE {condition} ORDER BY c.id DESC LIMIT $1", self.catalog.companion);
        self.filtered(n, scope, |m| self.ids(&sql, m, limits.clone()))
    }

    fn segment(&self, column: &str, value: &str) -> Result<Vec<(i64, f32)>> {
        aside::segment(self, column, value)
    }

    fn trends(&self, hours: f64) -> Result<Vec<Trend>> {
        aside::trends(self, hours)
    }

    fn passing(&self, filter: &Filter, among: &[i64]) -> Result<Vec<i64>> {
        rules::passing(self, filter, among)
    }

    fn matching(&self, filter: &Filter, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        rules::matching(self, filter, n, scope)
    }

    fn records(&self, items: &[i64]) -> Result<HashMap<i64, Record>> {
        rules::records(self, items)
    }

    fn category(&self, items: &[i64], n: usize, scope: &Scope) -> Result<Vec<i64>> {
        aside::category(self, items, n, scope)
    }

    fn lexical(&self, words: &Bm25, prior: f64, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let (condition, limits) = self.limits(scope, 5);
        // Any word makes a match; which matches are kept, the score decides.
        let query = words.terms.iter().map(wording::term).collect::<Vec<_>>().join(" | ");
        let sql = format!(
            "SELECT c.id FROM {} c LEFT JOIN {} s ON s.id = c.id
             WHERE c.lexemes @@ $1::tsquery AND {condition}
             ORDER BY persona._bm25(c.lexemes, c.length, $2) + $3 * ln(1 + COALESCE(s.popularity, 0)) DESC, c.id LIMIT $4",
            self.catalog.companion, self.catalog.stats
        );
        let packed = words.to_bytes();
        let most = self.whole()?.popularity.ln_1p();
        let prior = if most > 0.0 { prior * words.total() * (K1 + 1.0) / most } else { 0.0 };
        self.filtered(n, scope, |m| {
            let owner = self.owner();
            // The planner takes reading every row for cheap, since it does not count what matching a tsvector costs.
            owner.set(c"enable_seqscan", "off");
            let mut args = vec![Arg::of(query.as_str()), Arg::of(packed.as_slice()), Arg::of(prior), Arg::of(m as i64)];
            args.extend(&limits);
            spi::query(Mode::ReadCustom, &sql, &args, |row| row.need(1))
        })
    }

    fn dense(&self, vector: &[f32], n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let types = vector::types()?;
        let (condition, limits) = self.limits(scope, 4);
        // Where the items are named, every one of them is compared: an index would stop before the last of them.
        let exact = if matches!(scope, Scope::Only(_)) { " + 0" } else { "" };
        let sql = format!(
            "SELECT c.id FROM {} c WHERE c.embedding IS NOT NULL AND c.model = $2 AND {condition}
             ORDER BY (c.embedding OPERATOR({}.<=>) $1){exact} LIMIT $3",
            self.catalog.companion, types.schema
        );
        let found = self.filtered(n, scope, |m| {
            let owner = self.owner();
            owner.set(c"hnsw.ef_search", &m.clamp(100, 1000).to_string());
            owner.set(c"hnsw.iterative_scan", "strict_order");
            owner.set(c"hnsw.max_scan_tuples", "100000");
            let mut args =
                vec![vector::halfvec_arg(vector, &types), Arg::of(self.identity.as_str()), Arg::of(m as i64)];
            args.extend(&limits);
            spi::query(Mode::ReadCustom, &sql, &args, |row| row.need(1))
        })?;
        if found.is_empty() {
            self.need_identity()?;
        }
        Ok(found)
    }

    fn popular(&self, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let (c, s) = (&self.catalog.companion, &self.catalog.stats);
        let (condition, limits) = self.limits(scope, 2);
        if let Scope::Only(_) = scope {
            let sql = format!(
                "SELECT c.id FROM {c} c JOIN {s} s ON s.id = c.id WHERE s.popularity > 0 AND {condition}
                 ORDER BY s.popularity DESC, c.id LIMIT $1"
            );
            return self.ids(&sql, n, limits);
        }
        let sql = format!(
            "SELECT s.id FROM {s} s WHERE s.id > 0 AND s.popularity > 0 AND EXISTS (SELECT FROM {c} c WHERE c.id = s.id AND {condition})
             ORDER BY s.popularity DESC, s.id LIMIT $1"
        );
        self.filtered(n, scope, |m| self.ids(&sql, m, limits.clone()))
    }

    fn within(&self, items: &[i64], scope: &Scope) -> Result<Vec<i64>> {
        let seen: HashSet<i64> = match scope {
            Scope::All => return self.without_unwanted(items.to_vec()),
            Scope::Only(ids) => ids.iter().copied().collect(),
            Scope::Wide => {
                let keys_type = pg_sys::Oid::from(self.catalog.key_array);
                let (condition, bound) = &self.filter;
                let owner = self.owner();
                let sql = format!("SELECT array_agg(c.key) FROM {} c WHERE c.id = ANY ($1)", self.catalog.companion);
                let keys = spi::first(Mode::Read, &sql, &[Arg::of(items.to_vec())], |row| {
                    row.check(1, keys_type)?;
                    Ok(row.keep(1))
                })?
                .flatten();
                drop(owner);
                let sql = format!(
                    "SELECT pg_catalog.array_agg(i.{key}) FROM {} i WHERE i.{key} {} ANY ($1) AND {condition}",
                    self.catalog.asked.name,
                    self.catalog.key_equal,
                    key = ident(&self.catalog.key),
                );
                let mut args = vec![Arg::raw(pg_sys::Oid::from(self.catalog.key_array), keys)];
                args.extend(bound);
                let passed = spi::first(Mode::ReadCustom, &sql, &args, |row| {
                    row.check(1, keys_type)?;
                    Ok(row.keep(1))
                })?
                .flatten();
                passed.map_or(Ok(Vec::new()), |keys| self.ids_of(keys))?.into_iter().collect()
            }
        };
        self.without_unwanted(items.iter().copied().filter(|id| seen.contains(id)).collect())
    }

    fn local(&self, at: f64) -> f64 {
        at + self.catalog.zone().map_or(0.0, |zone| zone.offset(at))
    }

    fn learned(&self, ranker: i64, items: &[i64]) -> Result<HashMap<i64, Own>> {
        learned::of(self.catalog, ranker, items)
    }

    fn wanted(&self, ranker: i64, shopper: &Wide, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let found = self.filtered(n, scope, |m| learned::wanted(self.catalog, ranker, shopper, m, scope))?;
        self.without_unwanted(found)
    }

    fn items(&self, items: &[i64], words: &Bm25) -> Result<Vec<Item>> {
        let _owner = self.owner();
        let sql = format!(
            "SELECT c.id, c.lexemes, c.length, c.embedding, s.popularity, c.model, s.shoppers
             FROM {} c LEFT JOIN {} s ON s.id = c.id WHERE c.id = ANY ($1)",
            self.catalog.companion, self.catalog.stats
        );
        let halfvec = vector::types()?.halfvec;
        spi::query(Mode::Read, &sql, &[Arg::of(items.to_vec())], |row| self.read_item(row, halfvec, words))
    }
}
