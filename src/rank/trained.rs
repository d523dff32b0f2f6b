//! A ranker at work on one call: its gates are open, and the history is read.

use super::feature::{self, Known, Learnt};
use super::network::{Head, Ranker};
use crate::parts::{DIMENSIONS, Dimension, Parts};
use crate::shopper::sequence::{Own, Reading};
use crate::store::Item;
use std::sync::Arc;

/// A ranker, and what it makes of the call.
pub struct Trained {
    ranker: Arc<Ranker>,
    /// The gate of each dimension, times the caller's factor.
    gates: [f32; DIMENSIONS.len()],
    /// The query's closeness to each item of the history.
    closeness: Vec<f64>,
    /// What the encoder makes of the history and the moment.
    reading: Reading,
    /// The moment from which decay counts, in seconds since 1970.
    at: f64,
}

impl Trained {
    /// Opens the gates; `known.closeness` may be empty, and `room` is what the query leaves.
    pub fn open(
        ranker: Arc<Ranker>,
        known: &Known,
        head: Head,
        reading: Reading,
        room: f64,
        factor: impl Fn(Dimension) -> f64,
    ) -> Trained {
        let closeness = known.vector.map(|v| known.shopper.closeness(v)).unwrap_or_default();
        let call = feature::call(&Known { closeness: &closeness, ..*known });
        let mut gates = match head {
            Head::Answer => ranker.blended(&call, ranker.blend * room as f32),
            Head::Want => ranker.gates(head, &call),
        };
        for (gate, dimension) in gates.iter_mut().zip(DIMENSIONS) {
            *gate *= factor(dimension) as f32;
        }
        Trained { ranker, gates, closeness, reading, at: known.at }
    }

    /// Which ranker.
    pub fn number(&self) -> i64 {
        self.ranker.number
    }

    /// What the encoder makes of the history and the moment.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The score of an item: the terms of the ranker's sum.
    pub fn parts(&self, known: &Known, item: &Item) -> Parts {
        let known = Known { closeness: &self.closeness, at: self.at, ..*known };
        let values = self.ranker.values(&feature::of(&known, item, self.learnt(&known, item)));
        let mut parts = Parts::default();
        for ((dimension, value), gate) in DIMENSIONS.into_iter().zip(values).zip(self.gates) {
            parts.set(dimension, f64::from(gate * value));
        }
        parts
    }

    fn learnt(&self, known: &Known, item: &Item) -> Learnt {
        let Some(encoder) = &self.ranker.encoder else { return Learnt::default() };
        match (&item.own, &item.vector) {
            (Some(own), _) => learnt(&self.reading, own),
            // Never seen in training: its text speaks for it.
            (None, Some(vector)) if vector.len() == encoder.text => {
                learnt(&self.reading, &encoder.by_text(vector, &known.whole.mean))
            }
            _ => Learnt::default(),
        }
    }
}

/// What a reading says of an item.
pub fn learnt(reading: &Reading, own: &Own) -> Learnt {
    let (sequence, moment, most, near) = reading.of(own);
    Learnt { sequence, most, near, bias: own.bias, moment }
}
