//! The port: every question that the engine asks the database.
//!
//! Items are known by a number that the catalog gave them. A store answers with one state of the database for the
//! whole call, under the caller's rights: what the caller may not see does not come back.

use crate::catalog::filter::Filter;
use crate::error::Result;
use crate::event::Event;
use crate::retrieve::lexical::{Answer, Bm25};
use crate::retrieve::trend::Buckets;
use crate::retrieve::variant::Naming;
use crate::shopper::sequence::{Own, Wide};
use std::collections::HashMap;

/// Which items may come back: all of them, or those that pass a filter and the caller's row-level security.
#[derive(Debug, Clone, PartialEq)]
pub enum Scope {
    /// Every item of the catalog.
    All,
    /// These items, each known.
    Only(Vec<i64>),
    /// Too many to name: the store checks each batch of candidates.
    Wide,
}

/// What is known of the catalog as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Whole {
    /// The largest popularity of an item.
    pub popularity: f64,
    /// How many shoppers there are.
    pub shoppers: f64,
    /// The mean of the items' vectors; empty where none is kept.
    pub mean: Vec<f32>,
    /// The newest event, in seconds since 1970-01-01 UTC; `None` without events.
    pub newest: Option<f64>,
    /// When this statement's transaction began, in seconds since 1970-01-01 UTC.
    pub now: f64,
}

/// An item as ranking sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Item {
    /// Its number in the catalog.
    pub id: i64,
    /// How its words answer the query.
    pub words: Answer,
    /// Its vector, of length 1; `None` until refreshed.
    pub vector: Option<Vec<f32>>,
    /// Its popularity, as refreshed: kind-weighted shoppers, newer ones counting more.
    pub popularity: f64,
    /// How many shoppers its events are of.
    pub shoppers: f64,
    /// What a ranker has learnt of it, where it was asked for.
    pub own: Option<Box<Own>>,
}

/// An item's events by age.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trend {
    /// Its number.
    pub id: i64,
    /// Its own events.
    pub own: Buckets,
    /// Those of its whole category, or of the catalog where it has none.
    pub kin: Buckets,
}

/// How often an item was shown, and how often it was taken then.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Record {
    /// Times shown: impressions where the shop logs them, else views.
    pub shown: f64,
    /// Times taken: clicked where the shop logs that, else bought or put into the cart.
    pub taken: f64,
}

/// The number under which the record of the whole catalog is kept.
pub const WHOLE: i64 = 0;

/// Answers the engine's questions.
pub trait Store {
    /// The query's words with their rarity.
    fn words(&self, query: &str) -> Result<Bm25>;
    /// What is known of the whole catalog.
    fn whole(&self) -> Result<Whole>;
    /// The shopper's latest events that say something, newest first, before `at` (seconds since 1970) where it is given;
    /// empty for somebody nobody knows.
    fn history(&self, user_id: &str, at: Option<f64>, session: Option<&str>) -> Result<Vec<Event>>;
    /// Vectors of items; those without one are left out.
    fn vectors(&self, items: &[i64]) -> Result<HashMap<i64, Vec<f32>>>;
    /// What goes with each of the items: others with their weight, 0 to 1.
    fn pairs(&self, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>>;
    /// What goes with each of the items in one basket: others with their weight, 0 to 1.
    fn baskets(&self, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>>;
    /// The words of an item as a query: at most `n`, the rarest that any other item holds.
    fn own_words(&self, item: i64, n: usize) -> Result<Bm25>;
    /// The words of titles and attributes, by item.
    fn namings(&self, items: &[i64]) -> Result<HashMap<i64, Naming>>;
    /// The values of item columns as text, by item: as many as columns were asked for, as the caller sees them.
    fn values(&self, items: &[i64], columns: &[String]) -> Result<HashMap<i64, Vec<Option<String>>>>;
    /// At most `n` items, the newest of the catalog first.
    fn newest(&self, n: usize, scope: &Scope) -> Result<Vec<i64>>;
    /// At most `n` items of the item's category, the most popular first; none where the catalog has no categories.
    fn category(&self, items: &[i64], n: usize, scope: &Scope) -> Result<Vec<i64>>;
    /// What the shoppers of a segment take, 0 to 1, the strongest first: those whose events bear the value in the context column.
    fn segment(&self, column: &str, value: &str) -> Result<Vec<(i64, f32)>>;
    /// Items with an event within so many hours before the newest one, with their events by age, and their category's.
    fn trends(&self, hours: f64) -> Result<Vec<Trend>>;
    /// Those of the items that pass a filter of the catalog's owner.
    fn passing(&self, filter: &Filter, among: &[i64]) -> Result<Vec<i64>>;
    /// At most `n` items in scope that pass a filter of the catalog's owner.
    fn matching(&self, filter: &Filter, n: usize, scope: &Scope) -> Result<Vec<i64>>;
    /// What is known of items, and of [`WHOLE`].
    fn records(&self, items: &[i64]) -> Result<HashMap<i64, Record>>;
    /// At most `n` items that hold a word of the query: the best by BM25 plus `prior` times the logarithm of popularity.
    fn lexical(&self, words: &Bm25, prior: f64, n: usize, scope: &Scope) -> Result<Vec<i64>>;
    /// At most `n` items, the nearest to the vector first.
    fn dense(&self, vector: &[f32], n: usize, scope: &Scope) -> Result<Vec<i64>>;
    /// At most `n` items that somebody took, the most popular first.
    fn popular(&self, n: usize, scope: &Scope) -> Result<Vec<i64>>;
    /// Those of the items that are in scope, in order.
    fn within(&self, items: &[i64], scope: &Scope) -> Result<Vec<i64>>;
    /// A moment as the catalog's own clock shows it, both in seconds since 1970; a shop that names no time zone has UTC.
    fn local(&self, at: f64) -> f64 {
        at
    }
    /// What a ranker has learnt of items; of those that it never saw, nothing.
    fn learned(&self, ranker: i64, items: &[i64]) -> Result<HashMap<i64, Own>> {
        let _ = (ranker, items);
        Ok(HashMap::new())
    }
    /// At most `n` items that a ranker's shopper vector brings, the strongest first.
    fn wanted(&self, ranker: i64, shopper: &Wide, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let _ = (ranker, shopper, n, scope);
        Ok(Vec::new())
    }
    /// The items as ranking sees them; what is gone is left out.
    fn items(&self, items: &[i64], words: &Bm25) -> Result<Vec<Item>>;
}
