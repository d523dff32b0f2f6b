//! The explained score: one number for each dimension, and their sum.
//!
//! A score and its explanation are the same numbers. Every part is rounded to a multiple of 2⁻²⁰, so that the sum is
//! exact in an `f64` whatever the order of adding, and `score = (sum of parts as float8)::real` holds to the bit.

use serde_json::{Map, Number, Value};

/// What a part of a score speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// How well the item answers the query: words and meaning.
    Relevance,
    /// How near the item is to what the shopper took before.
    Taste,
    /// How near the item is to what this session looked at.
    Session,
    /// How much the catalog's shoppers take the item.
    Popularity,
    /// How often the item goes with what the shopper took.
    Together,
    /// How well the item suits the moment: hour, season, place, device.
    Context,
    /// What the shop's own rules add or take.
    Rules,
}

/// Every dimension, in the order in which parts are written.
pub const DIMENSIONS: [Dimension; 7] = [
    Dimension::Relevance,
    Dimension::Taste,
    Dimension::Session,
    Dimension::Popularity,
    Dimension::Together,
    Dimension::Context,
    Dimension::Rules,
];

impl Dimension {
    /// The name used in `parts`, `weights` and `without`.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Relevance => "relevance",
            Dimension::Taste => "taste",
            Dimension::Session => "session",
            Dimension::Popularity => "popularity",
            Dimension::Together => "together",
            Dimension::Context => "context",
            Dimension::Rules => "rules",
        }
    }
}

/// One number for each of [`DIMENSIONS`], each a multiple of 2⁻²⁰ and finite.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Parts([f64; DIMENSIONS.len()]);

impl Parts {
    const STEP: f64 = (1u32 << 20) as f64;

    /// Sets a dimension's part; what is not finite counts as nothing.
    pub fn set(&mut self, dimension: Dimension, value: f64) {
        let kept = if value.is_finite() { value.clamp(-1e9, 1e9) } else { 0.0 };
        self.0[dimension as usize] = (kept * Self::STEP).round() / Self::STEP;
    }

    /// A dimension's part.
    pub fn get(&self, dimension: Dimension) -> f64 {
        self.0[dimension as usize]
    }

    /// The sum of the parts: exact, hence independent of the order.
    pub fn score(&self) -> f32 {
        self.0.iter().sum::<f64>() as f32
    }

    /// The parts that are not nothing, by name.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        for dimension in DIMENSIONS {
            let value = self.get(dimension);
            if value != 0.0
                && let Some(number) = Number::from_f64(value)
            {
                map.insert(dimension.name().to_owned(), Value::Number(number));
            }
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_finite_counts_as_nothing() {
        let mut parts = Parts::default();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            parts.set(Dimension::Taste, value);
            assert_eq!(parts.score(), 0.0);
        }
    }

    proptest! {
        #[test]
        fn the_sum_is_the_same_in_any_order(values in proptest::array::uniform7(-50.0f64..50.0)) {
            let mut parts = Parts::default();
            for (dimension, value) in DIMENSIONS.into_iter().zip(values) {
                parts.set(dimension, value);
            }
            let json = parts.to_json();
            let shown: Vec<f64> = json.as_object().into_iter().flat_map(|m| m.values()).filter_map(Value::as_f64).collect();
            prop_assert_eq!(shown.iter().sum::<f64>() as f32, parts.score());
            prop_assert_eq!(shown.iter().rev().sum::<f64>() as f32, parts.score());
        }
    }
}
