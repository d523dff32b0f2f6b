//! The score before anything is trained, from what a call knows and the fixed weights.

use super::feature::Known;
use super::weights;
use crate::linear::dot;
use crate::parts::{DIMENSIONS, Dimension, Parts};
use crate::retrieve::lexical::K1;
use crate::shopper::Shopper;
use crate::store::{Item, Whole};

/// The weight of each dimension for a query that leaves so much room (`None` is no query), times the caller's factor.
pub fn gates(room: Option<f64>, factor: impl Fn(Dimension) -> f64) -> [f64; DIMENSIONS.len()] {
    DIMENSIONS.map(|d| weights::gate(d, room) * factor(d))
}

/// An item's popularity, 0 to 1.
pub fn popularity(whole: &Whole, item: &Item) -> f64 {
    if whole.popularity > 0.0 { item.popularity.ln_1p() / whole.popularity.ln_1p() } else { 0.0 }
}

/// The score of an item by dimension.
pub fn parts(known: &Known, item: &Item, gates: &[f64; DIMENSIONS.len()]) -> Parts {
    let mut parts = Parts::default();
    let total = known.words.total();
    let cosine = match (known.vector, &item.vector) {
        (Some(one), Some(other)) => f64::from(dot(one, other)).max(0.0),
        _ => 0.0,
    };
    let (lexical, covered) =
        if total > 0.0 { (item.words.score / (total * (K1 + 1.0)), item.words.covered / total) } else { (0.0, 0.0) };
    let near = |f: fn(&Shopper, &[f32]) -> f64| item.vector.as_deref().map_or(0.0, |v| f(known.shopper, v));
    let together = known.shopper.together(item.id);
    for (dimension, weight) in DIMENSIONS.into_iter().zip(gates) {
        let value = match dimension {
            Dimension::Relevance => {
                weights::LEXICAL * lexical
                    + weights::COVERED * covered
                    + cosine * (weights::DENSE + weights::UNCOVERED * (1.0 - covered))
            }
            Dimension::Taste => near(Shopper::taste),
            Dimension::Session => near(Shopper::session),
            Dimension::Popularity => popularity(known.whole, item),
            Dimension::Together => together / (together + weights::TOGETHER_HALF),
            Dimension::Context | Dimension::Rules => 0.0,
        };
        parts.set(dimension, weight * value);
    }
    parts
}
