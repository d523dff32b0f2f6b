//! The shopper, as a live read of the behaviour tables: what was taken lately, and what goes with it.
//!
//! There is no profile: a shopper is the latest events, newest first. The item taken last counts 1, the one before
//! 1/√2, and so on, each times what its event says. Taste is attention over the vectors of what was taken (the
//! candidate asks, the history answers), so that somebody who reads thrillers and repairs bicycles has both tastes
//! instead of their mean. Vectors are compared from the catalog's mean: what all items share says nothing of a taste.

use crate::event::{Event, Kind};
use crate::linear::dot;
use std::collections::{HashMap, HashSet};

/// How a history is weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Of the softmax over the history: the smaller, the more the nearest item decides.
    pub temperature: f64,
    /// Items of the history that are compared with each candidate.
    pub compared: usize,
}

/// One item of the history.
#[derive(Debug, Clone, PartialEq)]
struct Taken {
    item: i64,
    weight: f64,
    /// From the catalog's mean, of length 1.
    vector: Option<Vec<f32>>,
    /// The vector's product with the mean.
    offset: f64,
}

/// A shopper at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shopper {
    taken: Vec<Taken>,
    session: Vec<Taken>,
    together: HashMap<i64, f64>,
    seen: HashSet<i64>,
    owned: HashSet<i64>,
    mean: Vec<f32>,
    temperature: f64,
}

impl Shopper {
    /// Reads events, newest first.
    pub fn new(events: &[Event], settings: &Settings) -> Shopper {
        let mut shopper = Shopper { temperature: settings.temperature, ..Shopper::default() };
        let mut sent_back = HashSet::new();
        for event in events {
            shopper.seen.insert(event.item);
            if event.kind == Kind::Return {
                sent_back.insert(event.item);
            }
            if event.kind == Kind::Purchase && !sent_back.contains(&event.item) {
                shopper.owned.insert(event.item);
            }
            if event.weight <= 0.0 || sent_back.contains(&event.item) {
                continue;
            }
            let add = |list: &mut Vec<Taken>| {
                let recency = ((list.len() + 1) as f64).sqrt().recip();
                if let Some(known) = list.iter_mut().find(|t| t.item == event.item) {
                    known.weight = known.weight.max(event.weight * recency);
                } else if list.len() < settings.compared {
                    list.push(Taken { item: event.item, weight: event.weight * recency, vector: None, offset: 0.0 });
                }
            };
            if event.in_session {
                add(&mut shopper.session);
            }
            add(&mut shopper.taken);
        }
        shopper
    }

    /// The items that matter.
    pub fn items(&self) -> Vec<i64> {
        self.taken.iter().map(|t| t.item).collect()
    }

    /// The items that matter, with what each counts.
    pub fn weighted(&self) -> Vec<(i64, f64)> {
        self.taken.iter().map(|t| (t.item, t.weight)).collect()
    }

    /// Whether an item is anywhere in the history.
    pub fn has_seen(&self, item: i64) -> bool {
        self.seen.contains(&item)
    }

    /// Whether an item was bought and not sent back.
    pub fn owns(&self, item: i64) -> bool {
        self.owned.contains(&item)
    }

    /// How many items the history holds.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.taken.is_empty()
    }

    /// Fills in the vectors of the history's items; `mean` is the catalog's, or empty.
    pub fn set_vectors(&mut self, vectors: &HashMap<i64, Vec<f32>>, mean: &[f32]) {
        self.mean = mean.to_vec();
        for taken in self.taken.iter_mut().chain(&mut self.session) {
            let Some(vector) = vectors.get(&taken.item) else { continue };
            let mut from_mean = vector.clone();
            for (value, mean) in from_mean.iter_mut().zip(mean) {
                *value -= mean;
            }
            let length = dot(&from_mean, &from_mean).sqrt();
            if length > 0.0 {
                from_mean.iter_mut().for_each(|value| *value /= length);
                taken.offset = f64::from(dot(&from_mean, mean));
                taken.vector = Some(from_mean);
            }
        }
    }

    /// Adds up what goes with the history: each neighbour by the item's weight and the pair's.
    pub fn set_pairs(&mut self, pairs: &HashMap<i64, Vec<(i64, f32)>>) {
        for taken in &self.taken {
            for (other, weight) in pairs.get(&taken.item).into_iter().flatten() {
                *self.together.entry(*other).or_default() += taken.weight * f64::from(*weight);
            }
        }
    }

    /// How much an item goes with the history, from 0 up.
    pub fn together(&self, item: i64) -> f64 {
        self.together.get(&item).copied().unwrap_or_default()
    }

    /// The items that go with the history, the strongest first.
    pub fn neighbours(&self) -> Vec<i64> {
        let mut items: Vec<(i64, f64)> = self.together.iter().map(|(item, weight)| (*item, *weight)).collect();
        items.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        items.into_iter().map(|(item, _)| item).collect()
    }

    /// How near a vector is to what was taken: a cosine from the catalog's mean, 0 where nothing is known.
    pub fn taste(&self, vector: &[f32]) -> f64 {
        self.attention(&self.taken, vector)
    }

    /// How near a vector is to what this session looked at.
    pub fn session(&self, vector: &[f32]) -> f64 {
        self.attention(&self.session, vector)
    }

    /// The mean of the cosines with each item, weighted by the item's weight and by exp(cosine / temperature).
    fn attention(&self, taken: &[Taken], vector: &[f32]) -> f64 {
        if taken.is_empty() {
            return 0.0;
        }
        // |v − m| without making v − m.
        let square = dot(vector, vector) - 2.0 * dot(vector, &self.mean) + dot(&self.mean, &self.mean);
        let length = f64::from(square.max(1e-12)).sqrt();
        let (mut sum, mut total) = (0.0, 0.0);
        for item in taken {
            let Some(other) = &item.vector else { continue };
            let cosine = (f64::from(dot(vector, other)) - item.offset) / length;
            let weight = item.weight * ((cosine - 1.0) / self.temperature).exp();
            sum += weight * cosine;
            total += weight;
        }
        if total > 0.0 { sum / total } else { 0.0 }
    }

    /// The history as one vector of length 1, for retrieval; `None` where nothing is known.
    pub fn vector(&self) -> Option<Vec<f32>> {
        let mut sum: Vec<f32> = Vec::new();
        for taken in &self.taken {
            let Some(vector) = &taken.vector else { continue };
            sum.resize(vector.len(), 0.0);
            for (total, value) in sum.iter_mut().zip(vector) {
                *total += value * taken.weight as f32;
            }
        }
        let length = dot(&sum, &sum).sqrt();
        (length > 0.0).then(|| sum.iter().map(|value| value / length).collect())
    }
}
