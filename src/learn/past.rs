//! What could be known of the behaviour at a moment: popularity and pairs of the rows before it, as a refresh would count them.

use super::log::Log;
use crate::control::Control;
use crate::error::Result;
use crate::rank::weights;
use crate::retrieve::together::{Pairs, Settings};
use crate::store::{Item, Whole};
use std::collections::HashMap;

/// An item's record at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Record {
    popularity: f64,
    shoppers: f64,
}

/// The behaviour before a moment.
#[derive(Debug, Clone, Default)]
pub struct Past {
    pairs: HashMap<i64, Vec<(i64, f32)>>,
    records: HashMap<i64, Record>,
    popular: Vec<i64>,
    /// The catalog as it was.
    pub whole: Whole,
}

impl Past {
    /// Counts the rows before `until`; `mean` is that of the catalog's vectors, which are no behaviour.
    pub fn new(log: &Log, until: f64, mean: &[f32], settings: Settings, control: &dyn Control) -> Result<Past> {
        let mut past = Past::default();
        let mut pairs = Pairs::new(settings);
        let newest = log.events.iter().map(|e| e.at).filter(|at| *at < until).fold(f64::NEG_INFINITY, f64::max);
        let mut history: Vec<(i64, f64)> = Vec::new();
        let mut best: HashMap<i64, f64> = HashMap::new();
        for (number, rows) in log.shoppers().into_iter().enumerate() {
            if number % 1024 == 0 {
                control.check()?;
            }
            history.clear();
            best.clear();
            for event in log.events[rows].iter().filter(|e| e.at < until && e.item != 0) {
                let weight = f64::from(event.weight);
                let age = (newest - event.at).max(0.0) / 86_400.0 / weights::POPULARITY_DAYS;
                let own = best.entry(event.item).or_default();
                *own = own.max(weight * 0.5f64.powf(age.min(100.0)));
                if weight > 0.0 {
                    history.push((event.item, weight));
                }
            }
            pairs.add(&history);
            past.whole.shoppers += f64::from(u8::from(!best.is_empty()));
            for (item, weight) in &best {
                let record = past.records.entry(*item).or_default();
                record.popularity += weight.max(0.0);
                record.shoppers += 1.0;
            }
        }
        past.pairs = pairs.finish(control)?.into_iter().collect();
        past.whole.popularity = past.records.values().map(|r| r.popularity).fold(0.0, f64::max);
        past.whole.newest = newest.is_finite().then_some(newest);
        past.whole.mean = mean.to_vec();
        past.popular = past.records.keys().copied().collect();
        let records = &past.records;
        let popularity = |item: &i64| records.get(item).map_or(0.0, |r| r.popularity);
        past.popular.sort_unstable_by(|a, b| popularity(b).total_cmp(&popularity(a)).then(a.cmp(b)));
        past.popular.truncate(weights::TOGETHER_CAP);
        Ok(past)
    }

    /// What goes with each of the items.
    pub fn pairs(&self, items: &[i64]) -> HashMap<i64, Vec<(i64, f32)>> {
        items.iter().filter_map(|item| Some((*item, self.pairs.get(item)?.clone()))).collect()
    }

    /// The most popular items.
    pub fn popular(&self) -> &[i64] {
        &self.popular
    }

    /// The item with its record as it was.
    pub fn dated(&self, item: Item) -> Item {
        let record = self.records.get(&item.id);
        Item { popularity: record.map_or(0.0, |r| r.popularity), shoppers: record.map_or(0.0, |r| r.shoppers), ..item }
    }
}
