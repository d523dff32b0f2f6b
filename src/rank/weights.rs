//! The score before anything is trained: fixed weights over normalised features, relevance first.
//!
//! Every normaliser depends on the query, the history and the catalog, never on the other candidates: an item has the
//! same score alone as among a thousand. The constants were found together on three shops' public data (consumer
//! electronics with judged queries, video games with purchase histories, a gift shop's orders), on parts that the
//! figures in the README leave out: one set for all, since a new shop has nothing yet to tune on.

use crate::parts::Dimension;
use crate::retrieve::together;
use crate::shopper;

/// In `relevance`: BM25 as a share of its bound.
pub const LEXICAL: f64 = 0.75;
/// In `relevance`: the share of the query's idf that the item's words cover.
pub const COVERED: f64 = 6.0;
/// In `relevance`: the cosine of query and item, whatever the words say.
pub const DENSE: f64 = 0.25;
/// In `relevance`: the cosine's further weight where the item's words cover nothing. What words cannot say, meaning must.
pub const UNCOVERED: f64 = 5.0;
/// Popularity among what the lexical source keeps, against BM25 as a share of its bound.
pub const PRIOR: f64 = 1.0;
/// A shopper's part in an item's popularity halves in so many days.
pub const POPULARITY_DAYS: f64 = 30.0;
/// Half of the strength of `together` is reached at this sum of pair weights.
pub const TOGETHER_HALF: f64 = 0.1;

/// How a history is weighed.
pub const SHOPPER: shopper::Settings = shopper::Settings { temperature: 0.15, compared: 100 };

/// How pairs are counted.
pub const PAIRS: together::Settings =
    together::Settings { window: 200, shrink: 10.0, keep: 400, min_shoppers: 1, most: 8_000_000 };

/// How pairs within baskets are counted.
pub const BASKETS: together::Settings =
    together::Settings { window: 200, shrink: 5.0, keep: 200, min_shoppers: 1, most: 8_000_000 };
/// A basket counts half after so many days: what goes together changes with the season.
pub const BASKET_DAYS: f64 = 60.0;
/// Events of a shopper further apart than this many seconds are two baskets, where no session says.
pub const BASKET_GAP: f64 = 3600.0;

/// In `bought_together`: half of the strength of `together` is reached at this sum of pair weights.
pub const BASKET_HALF: f64 = 0.2;
/// In `bought_together`: what is popular and what the shopper likes decide among what goes together alike.
pub const BASKET: [(Dimension, f64); 4] =
    [(Dimension::Together, 2.0), (Dimension::Popularity, 0.25), (Dimension::Taste, 0.25), (Dimension::Session, 0.125)];
/// In `similar`: what it says and is comes first, then what the same shoppers take, then who asks.
pub const SIMILAR: [(Dimension, f64); 5] = [
    (Dimension::Relevance, 1.0),
    (Dimension::Together, 1.0),
    (Dimension::Popularity, 0.25),
    (Dimension::Taste, 0.25),
    (Dimension::Session, 0.125),
];
/// In the relevance of `similar`: the cosine of the two vectors.
pub const SIMILAR_DENSE: f64 = 3.0;
/// In the relevance of `similar`: the share of the item's telling words, by idf, that the other holds.
pub const SIMILAR_COVERED: f64 = 1.0;
/// Words of an item that are looked for in others: its rarest.
pub const SIMILAR_WORDS: usize = 16;
/// In `similar` and `bought_together`: of the item's category, where that is all there is to say. More than popularity has.
pub const SAME_CATEGORY: f64 = 0.5;
/// For somebody unknown: the weight of what the shoppers of the same segment take, in the part `context`.
pub const SEGMENT: f64 = 1.0;
/// Items of a category, a segment, or new ones, that stand in where nothing else is known.
pub const FALLBACK_CAP: usize = 200;

/// Candidates that the dense source brings.
pub const DENSE_CAP: usize = 100;
/// Candidates that the history brings to a search.
pub const TOGETHER_CAP: usize = 200;
/// Candidates that the history brings where there is no query.
pub const BROWSE_CAP: usize = 400;

/// The weight of a dimension for a query of so many distinct words; `None` is no query.
///
/// A precise query leaves little room for taste, a broad one much: everything but relevance counts 1/√words.
pub fn gate(dimension: Dimension, words: Option<usize>) -> f64 {
    let Some(words) = words else {
        return match dimension {
            Dimension::Relevance => 0.0,
            Dimension::Taste => 0.75,
            Dimension::Session | Dimension::Popularity => 0.5,
            Dimension::Together => 2.0,
            Dimension::Context | Dimension::Rules => 0.0,
        };
    };
    let room = (words.max(1) as f64).sqrt().recip();
    match dimension {
        Dimension::Relevance => 1.0,
        Dimension::Taste => 1.5 * room,
        Dimension::Session => 0.5 * room,
        Dimension::Popularity => room,
        Dimension::Together => 2.0 * room,
        Dimension::Context | Dimension::Rules => 0.0,
    }
}
