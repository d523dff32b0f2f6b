//! An in-memory shop: the port's plain twin, for tests of the engine without a server.
#![allow(dead_code, clippy::unwrap_used)]

use pg_persona::catalog::filter::Filter;
use pg_persona::error::Result;
use pg_persona::event::{Event, Kind};
use pg_persona::linear::dot;
use pg_persona::rank::weights;
use pg_persona::retrieve::lexical::{self, Bm25, Term};
use pg_persona::retrieve::together::Pairs;
use pg_persona::retrieve::variant::Naming;
use pg_persona::store::{Item, Record, Scope, Store, Trend, Whole};
use std::collections::{BTreeMap, HashMap};

/// An item of the shop.
pub struct Product {
    pub title: String,
    pub vector: Vec<f32>,
}

/// A shop in memory. Items are numbered from 1.
#[derive(Default)]
pub struct Shop {
    pub products: Vec<Product>,
    /// By shopper, oldest first.
    pub events: BTreeMap<String, Vec<Event>>,
    pairs: HashMap<i64, Vec<(i64, f32)>>,
    baskets: HashMap<i64, Vec<(i64, f32)>>,
    popularity: HashMap<i64, f64>,
    /// Columns of the items, by name.
    pub columns: HashMap<String, Vec<Option<String>>>,
    /// What the shoppers of a context take, by column and value.
    pub segments: HashMap<(String, String), Vec<(i64, f32)>>,
    /// Events by age.
    pub trends: Vec<Trend>,
    /// What exploration knows.
    pub records: HashMap<i64, Record>,
    /// The column that is the category.
    pub category: Option<String>,
}

fn lexemes(text: &str) -> Vec<String> {
    text.to_lowercase().split_whitespace().map(|w| w.trim_end_matches('s').to_owned()).collect()
}

impl Shop {
    pub fn add(&mut self, title: &str, vector: &[f32]) -> i64 {
        let length = dot(vector, vector).sqrt().max(1e-9);
        self.products.push(Product { title: title.into(), vector: vector.iter().map(|x| x / length).collect() });
        self.products.len() as i64
    }

    pub fn buy(&mut self, shopper: &str, item: i64, day: f64) {
        let event = Event { item, at: day * 86_400.0, kind: Kind::Purchase, weight: 1.0, in_session: false };
        self.events.entry(shopper.into()).or_default().push(event);
    }

    /// What `refresh` does with events.
    pub fn refresh(&mut self) {
        let mut pairs = Pairs::new(weights::PAIRS);
        self.popularity.clear();
        for events in self.events.values() {
            pairs.add(&events.iter().map(|e| (e.item, e.weight)).collect::<Vec<_>>());
            for event in events {
                *self.popularity.entry(event.item).or_default() += event.weight;
            }
        }
        let mut baskets = Pairs::new(weights::BASKETS);
        for events in self.events.values() {
            baskets.next_shopper();
            for basket in events.chunk_by(|a, b| a.at == b.at) {
                baskets.add_basket(&basket.iter().map(|e| e.item).collect::<Vec<_>>(), 1.0);
            }
        }
        self.baskets = baskets.finish(&pg_persona::control::Free).unwrap().into_iter().collect();
        self.pairs = pairs.finish(&pg_persona::control::Free).unwrap().into_iter().collect();
    }

    pub fn ids(&self) -> Vec<i64> {
        (1..=self.products.len() as i64).collect()
    }

    fn known<'a>(&'a self, items: &'a [i64]) -> impl Iterator<Item = i64> + 'a {
        items.iter().copied().filter(|id| (1..=self.products.len() as i64).contains(id))
    }

    fn product(&self, id: i64) -> &Product {
        &self.products[id as usize - 1]
    }

    fn score(&self, id: i64, words: &Bm25) -> lexical::Answer {
        let held = lexemes(&self.product(id).title);
        let count = |lexeme: &str| {
            let n = held.iter().filter(|l| *l == lexeme).count() as u32;
            (n > 0).then_some([0, 0, 0, n])
        };
        words.score(count, lexical::weighted([0, 0, 0, held.len() as u32]))
    }

    fn best(&self, n: usize, scope: &Scope, score: impl Fn(i64) -> Option<f64>) -> Vec<i64> {
        let mut found: Vec<(i64, f64)> =
            self.within(&self.ids(), scope).unwrap().into_iter().filter_map(|id| Some((id, score(id)?))).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.into_iter().take(n).map(|(id, _)| id).collect()
    }
}

impl Store for Shop {
    fn words(&self, query: &str) -> Result<Bm25> {
        let total = self.products.len() as f64;
        let length: usize = self.products.iter().map(|p| lexemes(&p.title).len()).sum();
        let mut distinct = lexemes(query);
        distinct.sort();
        distinct.dedup();
        let term = |lexeme: String| {
            let held = self.products.iter().filter(|p| lexemes(&p.title).contains(&lexeme)).count() as f64;
            Term { idf: lexical::idf(held, total), lexeme, also: Vec::new() }
        };
        let average = lexical::weighted([0, 0, 0, 1]) * length as f64 / total.max(1.0);
        Ok(Bm25 { terms: distinct.into_iter().map(term).collect(), average })
    }

    fn whole(&self) -> Result<Whole> {
        let newest = self.events.values().flatten().map(|e| e.at).fold(f64::NEG_INFINITY, f64::max);
        let popularity = self.popularity.values().copied().fold(0.0, f64::max);
        let width = self.products.first().map_or(0, |p| p.vector.len());
        let count = self.products.len() as f32;
        let mean = (0..width).map(|d| self.products.iter().map(|p| p.vector[d]).sum::<f32>() / count).collect();
        let shoppers = self.events.len() as f64;
        Ok(Whole { popularity, shoppers, mean, newest: newest.is_finite().then_some(newest), ..Whole::default() })
    }

    fn history(&self, user_id: &str, at: Option<f64>, _session: Option<&str>) -> Result<Vec<Event>> {
        let mut events: Vec<Event> =
            self.events.get(user_id).into_iter().flatten().filter(|e| at.is_none_or(|at| e.at < at)).cloned().collect();
        events.reverse();
        Ok(events)
    }

    fn vectors(&self, items: &[i64]) -> Result<HashMap<i64, Vec<f32>>> {
        Ok(self.known(items).map(|id| (id, self.product(id).vector.clone())).collect())
    }

    fn pairs(&self, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>> {
        Ok(items.iter().filter_map(|id| Some((*id, self.pairs.get(id)?.clone()))).collect())
    }

    fn baskets(&self, items: &[i64]) -> Result<HashMap<i64, Vec<(i64, f32)>>> {
        Ok(items.iter().filter_map(|id| Some((*id, self.baskets.get(id)?.clone()))).collect())
    }

    fn own_words(&self, item: i64, n: usize) -> Result<Bm25> {
        let mut words = self.words(&self.product(item).title)?;
        words.terms.sort_by(|a, b| b.idf.total_cmp(&a.idf).then_with(|| a.lexeme.cmp(&b.lexeme)));
        words.terms.truncate(n);
        Ok(words)
    }

    fn namings(&self, items: &[i64]) -> Result<HashMap<i64, Naming>> {
        let attributes = |id: i64| {
            let values = self.columns.values().filter_map(|column| column[id as usize - 1].as_deref());
            values.flat_map(lexemes).collect()
        };
        let naming = |id: i64| Naming {
            title: lexemes(&self.product(id).title).into_iter().collect(),
            attributes: attributes(id),
        };
        Ok(self.known(items).map(|id| (id, naming(id))).collect())
    }

    fn values(&self, items: &[i64], columns: &[String]) -> Result<HashMap<i64, Vec<Option<String>>>> {
        let of = |id: i64| columns.iter().map(|name| self.columns[name][id as usize - 1].clone()).collect();
        Ok(self.known(items).map(|id| (id, of(id))).collect())
    }

    fn newest(&self, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        Ok(self.best(n, scope, |id| Some(id as f64)))
    }

    fn category(&self, items: &[i64], n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let Some(name) = &self.category else { return Ok(Vec::new()) };
        let of = |id: i64| self.columns[name][id as usize - 1].as_ref();
        let wanted: Vec<&String> = self.known(items).filter_map(of).collect();
        let popularity = |id: i64| self.popularity.get(&id).copied().unwrap_or_default();
        Ok(self.best(n, scope, |id| of(id).is_some_and(|c| wanted.contains(&c)).then(|| popularity(id))))
    }

    fn segment(&self, column: &str, value: &str) -> Result<Vec<(i64, f32)>> {
        Ok(self.segments.get(&(column.to_owned(), value.to_owned())).cloned().unwrap_or_default())
    }

    fn trends(&self, _hours: f64) -> Result<Vec<Trend>> {
        Ok(self.trends.clone())
    }

    fn passing(&self, filter: &Filter, among: &[i64]) -> Result<Vec<i64>> {
        let passes = |id: i64| {
            filter.conditions.iter().all(|condition| {
                let value = self.columns[&condition.column][id as usize - 1].as_deref();
                match &condition.value {
                    serde_json::Value::Array(any) => any.iter().any(|v| v.as_str() == value),
                    one => one.as_str() == value,
                }
            })
        };
        Ok(self.known(among).filter(|id| passes(*id)).collect())
    }

    fn matching(&self, filter: &Filter, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        let mut found = self.within(&self.passing(filter, &self.ids())?, scope)?;
        found.truncate(n);
        Ok(found)
    }

    fn records(&self, items: &[i64]) -> Result<HashMap<i64, Record>> {
        Ok(items.iter().filter_map(|id| Some((*id, *self.records.get(id)?))).collect())
    }

    fn lexical(&self, words: &Bm25, _prior: f64, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        Ok(self.best(n, scope, |id| Some(self.score(id, words).score).filter(|s| *s > 0.0)))
    }

    fn dense(&self, vector: &[f32], n: usize, scope: &Scope) -> Result<Vec<i64>> {
        Ok(self.best(n, scope, |id| Some(f64::from(dot(vector, &self.product(id).vector)))))
    }

    fn popular(&self, n: usize, scope: &Scope) -> Result<Vec<i64>> {
        Ok(self.best(n, scope, |id| Some(self.popularity.get(&id).copied().unwrap_or_default())))
    }

    fn within(&self, items: &[i64], scope: &Scope) -> Result<Vec<i64>> {
        Ok(match scope {
            Scope::Only(ids) => items.iter().copied().filter(|id| ids.contains(id)).collect(),
            Scope::All | Scope::Wide => items.to_vec(),
        })
    }

    fn items(&self, items: &[i64], words: &Bm25) -> Result<Vec<Item>> {
        let item = |id: &i64| Item {
            id: *id,
            words: self.score(*id, words),
            vector: Some(self.product(*id).vector.clone()),
            popularity: self.popularity.get(id).copied().unwrap_or_default(),
            shoppers: self.events.values().filter(|events| events.iter().any(|e| e.item == *id)).count() as f64,
            ..Item::default()
        };
        Ok(items.iter().map(item).collect())
    }
}
