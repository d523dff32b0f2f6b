//! The shopper, as a live read of the behaviour tables: what was taken lately, and what goes with it.
//!
//! There is no profile: a shopper is the latest events, newest first. The item taken last counts 1, the one before
//! 1/√2, and so on, each times what its event says. Taste is attention over the vectors of what was taken (the
//! candidate asks, the history answers), so that somebody who reads thrillers and repairs bicycles has both tastes
//! instead of their mean. Vectors are compared from the catalog's mean: what all items share says nothing of a taste.

pub mod sequence;

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
    /// What its event says, without its age.
    says: f64,
    /// When it was taken last, in seconds since 1970.
    at: f64,
    /// From the catalog's mean, of length 1.
    vector: Option<Vec<f32>>,
    /// The vector's product with the mean.
    offset: f64,
}

/// How an item goes with a history, seen in four ways: the sums give newer items of the history more or much more weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Together {
    /// The pairs' weights, each by what its item of the history counts.
    pub sum: f64,
    /// The same, with 1 / place in place of 1 / √place.
    pub near: f64,
    /// The pair with the newest item alone.
    pub last: f64,
    /// The strongest pair.
    pub most: f64,
}

/// How near an item is to a history: cosines from the catalog's mean.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Nearness {
    /// By attention, as `Shopper::taste` has it.
    pub soft: f64,
    /// By attention of a third of the temperature: the nearest items decide.
    pub sharp: f64,
    /// To the nearest item.
    pub most: f64,
    /// To the newest item.
    pub last: f64,
    /// Without attention.
    pub mean: f64,
    /// By attention to what is near the candidate and near the query.
    pub asked: f64,
}

/// A shopper's own record with one item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Before {
    /// What its events say, added up.
    pub weight: f64,
    /// The newest, in seconds since 1970.
    pub at: f64,
}

/// A shopper at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shopper {
    taken: Vec<Taken>,
    session: Vec<Taken>,
    together: HashMap<i64, Together>,
    taken_before: HashMap<i64, Before>,
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
            let before = shopper.taken_before.entry(event.item).or_insert(Before { weight: 0.0, at: event.at });
            before.weight += event.weight;
            before.at = before.at.max(event.at);
            let add = |list: &mut Vec<Taken>| {
                let recency = ((list.len() + 1) as f64).sqrt().recip();
                if let Some(known) = list.iter_mut().find(|t| t.item == event.item) {
                    known.weight = known.weight.max(event.weight * recency);
                } else if list.len() < settings.compared {
                    let weight = event.weight * recency;
                    let (item, says, at) = (event.item, event.weight, event.at);
                    list.push(Taken { item, weight, says, at, vector: None, offset: 0.0 });
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
        for (place, taken) in self.taken.iter().enumerate() {
            let near = taken.says / (place + 1) as f64;
            for (other, weight) in pairs.get(&taken.item).into_iter().flatten() {
                let weight = f64::from(*weight);
                let together = self.together.entry(*other).or_default();
                together.sum += taken.weight * weight;
                together.near += near * weight;
                together.most = together.most.max(weight);
                if place == 0 {
                    together.last = weight;
                }
            }
        }
    }

    /// How much an item goes with the history, from 0 up.
    pub fn together(&self, item: i64) -> f64 {
        self.with(item).sum
    }

    /// The same in every way that is known.
    pub fn with(&self, item: i64) -> Together {
        self.together.get(&item).copied().unwrap_or_default()
    }

    /// The shopper's own record with an item.
    pub fn before(&self, item: i64) -> Option<Before> {
        self.taken_before.get(&item).copied()
    }

    /// Items of this session that count.
    pub fn in_session(&self) -> usize {
        self.session.len()
    }

    /// When the newest item of the history was taken, in seconds since 1970.
    pub fn newest(&self) -> Option<f64> {
        self.taken.first().map(|t| t.at)
    }

    /// The items that go with the history, the strongest first.
    pub fn neighbours(&self) -> Vec<i64> {
        let mut items: Vec<(i64, f64)> = self.together.iter().map(|(item, t)| (*item, t.sum)).collect();
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

    /// How near a vector is to what was taken, in every way that is known; `closeness` is that of the query to each item
    /// of the history, from `closeness`, or empty.
    pub fn near(&self, vector: &[f32], closeness: &[f64]) -> Nearness {
        self.nearness(&self.taken, vector, closeness)
    }

    /// The same for this session.
    pub fn near_session(&self, vector: &[f32]) -> Nearness {
        self.nearness(&self.session, vector, &[])
    }

    /// The cosine of a vector with each item of the history; 0 where an item has no vector.
    pub fn closeness(&self, vector: &[f32]) -> Vec<f64> {
        let length = self.length(vector);
        let cosine =
            |t: &Taken| t.vector.as_ref().map_or(0.0, |other| (f64::from(dot(vector, other)) - t.offset) / length);
        self.taken.iter().map(cosine).collect()
    }

    fn nearness(&self, taken: &[Taken], vector: &[f32], closeness: &[f64]) -> Nearness {
        let length = self.length(vector);
        let mut near = Nearness::default();
        // Soft, sharp, mean, asked: sums of cosines by their weights, and of the weights.
        let mut sums = [(0.0, 0.0); 4];
        let mut first = true;
        for (place, item) in taken.iter().enumerate() {
            let Some(other) = &item.vector else { continue };
            let cosine = (f64::from(dot(vector, other)) - item.offset) / length;
            let soft = ((cosine - 1.0) / self.temperature).exp();
            let asked = closeness.get(place).map_or(1.0, |c| ((c - 1.0) / self.temperature).exp());
            for (sum, factor) in sums.iter_mut().zip([soft, soft * soft * soft, 1.0, soft * asked]) {
                sum.0 += item.weight * factor * cosine;
                sum.1 += item.weight * factor;
            }
            if place == 0 {
                near.last = cosine;
            }
            near.most = if first { cosine } else { near.most.max(cosine) };
            first = false;
        }
        let [soft, sharp, mean, asked] = sums.map(|(sum, total)| if total > 0.0 { sum / total } else { 0.0 });
        Nearness { soft, sharp, mean, asked, ..near }
    }

    /// |v − m| without making v − m.
    fn length(&self, vector: &[f32]) -> f64 {
        let square = dot(vector, vector) - 2.0 * dot(vector, &self.mean) + dot(&self.mean, &self.mean);
        f64::from(square.max(1e-12)).sqrt()
    }

    /// The mean of the cosines with each item, weighted by the item's weight and by exp(cosine / temperature).
    fn attention(&self, taken: &[Taken], vector: &[f32]) -> f64 {
        if taken.is_empty() {
            return 0.0;
        }
        let length = self.length(vector);
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
