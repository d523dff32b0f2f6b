//! The shopper, as a live read of the behaviour tables: what was taken lately, and what goes with it.
//!
//! There is no profile: a shopper is the latest events, newest first, each with how much it counts today. Taste is
//! attention over the vectors of what was taken (the candidate asks, the history answers), so that somebody who reads
//! thrillers and repairs bicycles has both tastes instead of their mean.

use crate::event::{Event, Kind};
use crate::linear::dot;
use std::collections::{HashMap, HashSet};

/// How a history is weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// An event counts half after so many later ones.
    pub half_rank: f64,
    /// An event counts half after so many days.
    pub half_days: f64,
    /// How sharply attention turns to the nearest item of the history.
    pub sharpness: f64,
    /// Items of the history that are compared with each candidate.
    pub compared: usize,
}

/// One item of the history.
#[derive(Debug, Clone, PartialEq)]
struct Taken {
    item: i64,
    weight: f64,
    vector: Option<Vec<f32>>,
}

/// A shopper at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shopper {
    taken: Vec<Taken>,
    session: Vec<Taken>,
    together: HashMap<i64, f64>,
    seen: HashSet<i64>,
    sharpness: f64,
}

/// Seconds in a day.
const DAY: f64 = 86_400.0;

impl Shopper {
    /// Reads events, newest first. `now` is what decay counts from, in seconds since 1970.
    pub fn new(events: &[Event], now: f64, settings: &Settings) -> Shopper {
        let mut shopper = Shopper { sharpness: settings.sharpness, ..Shopper::default() };
        let mut sent_back = HashSet::new();
        for (rank, event) in events.iter().enumerate() {
            shopper.seen.insert(event.item);
            if event.kind == Kind::Return {
                sent_back.insert(event.item);
            }
            if event.weight <= 0.0 || sent_back.contains(&event.item) {
                continue;
            }
            let days = ((now - event.at) / DAY).max(0.0);
            let decay = 0.5f64.powf(rank as f64 / settings.half_rank + days / settings.half_days);
            let list = if event.in_session { &mut shopper.session } else { &mut shopper.taken };
            let weight = event.weight * decay;
            if let Some(known) = list.iter_mut().find(|t| t.item == event.item) {
                known.weight = known.weight.max(weight);
            } else if list.len() < settings.compared {
                list.push(Taken { item: event.item, weight, vector: None });
            }
        }
        shopper
    }

    /// The items that matter, of history and session.
    pub fn items(&self) -> Vec<i64> {
        self.taken.iter().chain(&self.session).map(|t| t.item).collect()
    }

    /// Whether an item is anywhere in the history.
    pub fn has_seen(&self, item: i64) -> bool {
        self.seen.contains(&item)
    }

    /// How many items the history holds.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.taken.is_empty() && self.session.is_empty()
    }

    /// Fills in the vectors of the history's items.
    pub fn set_vectors(&mut self, mut vectors: HashMap<i64, Vec<f32>>) {
        for taken in self.taken.iter_mut().chain(&mut self.session) {
            taken.vector = vectors.remove(&taken.item);
        }
    }

    /// Adds up what goes with the history: each neighbour by the item's share of the history and the pair's weight.
    pub fn set_pairs(&mut self, pairs: &HashMap<i64, Vec<(i64, f32)>>) {
        for taken in self.taken.iter().chain(&self.session) {
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

    /// How near a vector is to what was taken before: a cosine, 0 where nothing is known.
    pub fn taste(&self, vector: &[f32]) -> f64 {
        attention(&self.taken, vector, self.sharpness)
    }

    /// How near a vector is to what this session looked at.
    pub fn session(&self, vector: &[f32]) -> f64 {
        attention(&self.session, vector, self.sharpness)
    }

    /// The history as one vector of length 1, for retrieval; `None` where nothing is known.
    pub fn vector(&self) -> Option<Vec<f32>> {
        let mut sum: Vec<f32> = Vec::new();
        for taken in self.taken.iter().chain(&self.session) {
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

/// Softmax attention of a candidate over items: the mean of the cosines, weighted by the items' weights and by
/// exp(sharpness · cosine).
fn attention(taken: &[Taken], vector: &[f32], sharpness: f64) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for item in taken {
        let Some(other) = &item.vector else { continue };
        let cosine = f64::from(dot(other, vector));
        let weight = item.weight * (sharpness * (cosine - 1.0)).exp();
        sum += weight * cosine;
        total += weight;
    }
    if total > 0.0 { sum / total } else { 0.0 }
}
