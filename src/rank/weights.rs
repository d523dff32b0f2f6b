//! The score before anything is trained: fixed weights over normalised features, relevance first.
//!
//! Every normaliser depends on the query, the history and the catalog, never on the other candidates: an item has the
//! same score alone as among a thousand.

use crate::parts::Dimension;
use crate::retrieve::together;
use crate::shopper;

/// BM25 as a share of its bound, in `relevance`.
pub const LEXICAL: f64 = 1.0;
/// Cosine of query and item, in `relevance`.
pub const DENSE: f64 = 1.0;
/// How much popularity counts among what the lexical source keeps.
pub const PRIOR: f64 = 0.3;
/// Popularity halves in so many days.
pub const POPULARITY_DAYS: f64 = 90.0;

/// How a history is weighed.
pub const SHOPPER: shopper::Settings =
    shopper::Settings { half_rank: 8.0, half_days: 90.0, sharpness: 8.0, compared: 50 };

/// How pairs are counted.
pub const PAIRS: together::Settings = together::Settings {
    half_distance: 8.0,
    window: 50,
    shrink: 1.0,
    power: 0.5,
    keep: 100,
    min_shoppers: 1,
    most: 8_000_000,
};

/// A dimension's weight.
pub fn of(dimension: Dimension) -> f64 {
    match dimension {
        Dimension::Relevance => 1.0,
        Dimension::Taste => 0.4,
        Dimension::Session => 0.3,
        Dimension::Popularity => 0.35,
        Dimension::Together => 0.8,
    }
}
