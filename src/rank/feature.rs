//! What a ranker sees of an item, by dimension, and of the call.
//!
//! Every feature is 0 where nothing is known, and none depends on the other candidates: an item has the same score alone
//! as among a thousand. One function makes them, for training and for search alike.

use super::weights;
use crate::linear::dot;
use crate::parts::Dimension;
use crate::retrieve::lexical::{Bm25, K1};
use crate::shopper::Shopper;
use crate::store::{Item, Whole};

/// The features of an item: to which dimension each belongs, and its name. A ranker's weights name those they were made for.
pub const ITEM: [(Dimension, &str); 31] = [
    (Dimension::Relevance, "lexical"),
    (Dimension::Relevance, "covered"),
    (Dimension::Relevance, "cosine"),
    (Dimension::Relevance, "uncovered_cosine"),
    (Dimension::Taste, "near"),
    (Dimension::Taste, "near_sharp"),
    (Dimension::Taste, "near_most"),
    (Dimension::Taste, "near_last"),
    (Dimension::Taste, "near_mean"),
    (Dimension::Taste, "near_asked"),
    (Dimension::Taste, "taken"),
    (Dimension::Taste, "taken_times"),
    (Dimension::Taste, "taken_lately"),
    (Dimension::Taste, "sequence"),
    (Dimension::Taste, "sequence_most"),
    (Dimension::Taste, "sequence_near"),
    (Dimension::Session, "near_session"),
    (Dimension::Session, "near_session_last"),
    (Dimension::Popularity, "popularity"),
    (Dimension::Popularity, "shoppers"),
    (Dimension::Popularity, "learnt"),
    (Dimension::Together, "together"),
    (Dimension::Together, "together_log"),
    (Dimension::Together, "together_fine"),
    (Dimension::Together, "newer"),
    (Dimension::Together, "newer_log"),
    (Dimension::Together, "last"),
    (Dimension::Together, "last_log"),
    (Dimension::Together, "most"),
    (Dimension::Together, "most_log"),
    (Dimension::Context, "moment"),
];

/// The features of an item, in the order of [`ITEM`].
pub type Features = [f32; ITEM.len()];

/// What a gate sees of a call.
pub const CALL: [&str; 7] = ["asked", "words", "rare", "history", "unknown", "session", "near_query"];

/// The features of a call, in the order of [`CALL`].
pub type Call = [f32; CALL.len()];

/// What a call knows before it sees an item.
pub struct Known<'a> {
    /// The query's words; none while browsing.
    pub words: &'a Bm25,
    /// The query's vector.
    pub vector: Option<&'a [f32]>,
    /// Whose call it is.
    pub shopper: &'a Shopper,
    /// The query's closeness to each item of the history, from `Shopper::closeness`.
    pub closeness: &'a [f64],
    /// The catalog.
    pub whole: &'a Whole,
    /// The moment, in seconds since 1970.
    pub at: f64,
}

/// What the encoder of a ranker says of an item.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Learnt {
    /// The shopper's vector by the item's.
    pub sequence: f32,
    /// The nearest of the history by the item.
    pub most: f32,
    /// The history by the item, by attention.
    pub near: f32,
    /// What the item is worth to anybody.
    pub bias: f32,
    /// The moment's vector by the item's.
    pub moment: f32,
}

/// The same call without its query.
pub fn unasked(call: &Call) -> Call {
    let of_query = |name: &str| matches!(name, "asked" | "words" | "rare" | "near_query");
    let mut unasked = *call;
    unasked.iter_mut().zip(CALL).filter(|(_, name)| of_query(name)).for_each(|(x, _)| *x = 0.0);
    unasked
}

fn log(value: f64) -> f32 {
    value.ln_1p() as f32
}

/// The features of an item.
pub fn of(known: &Known, item: &Item, learnt: Learnt) -> Features {
    let mut features = [0.0; ITEM.len()];
    let mut next = features.iter_mut();
    let mut put = |values: &[f32]| next.by_ref().zip(values).for_each(|(to, value)| *to = *value);
    put(&relevance(known, item));
    put(&taste(known, item, &learnt));
    let session = item.vector.as_deref().map(|v| known.shopper.near_session(v)).unwrap_or_default();
    put(&[session.soft as f32, session.last as f32]);
    put(&popularity(known.whole, item, learnt.bias));
    put(&together(known.shopper, item));
    put(&[learnt.moment]);
    features
}

fn relevance(known: &Known, item: &Item) -> [f32; 4] {
    let total = known.words.total();
    let (lexical, covered) =
        if total > 0.0 { (item.words.score / (total * (K1 + 1.0)), item.words.covered / total) } else { (0.0, 0.0) };
    let cosine = match (known.vector, &item.vector) {
        (Some(one), Some(other)) => f64::from(dot(one, other)).max(0.0),
        _ => 0.0,
    };
    [lexical as f32, covered as f32, cosine as f32, (cosine * (1.0 - covered)) as f32]
}

fn taste(known: &Known, item: &Item, learnt: &Learnt) -> [f32; 12] {
    let near = item.vector.as_deref().map(|v| known.shopper.near(v, known.closeness)).unwrap_or_default();
    let near = [near.soft, near.sharp, near.most, near.last, near.mean, near.asked].map(|n| n as f32);
    let before = known.shopper.before(item.id);
    let days = before.map_or(0.0, |b| (known.at - b.at).max(0.0) / 86_400.0);
    let [soft, sharp, most, last, mean, asked] = near;
    let taken = f32::from(before.is_some());
    let times = before.map_or(0.0, |b| log(b.weight));
    let lately = before.map_or(0.0, |_| (-days / weights::POPULARITY_DAYS).exp() as f32);
    [soft, sharp, most, last, mean, asked, taken, times, lately, learnt.sequence, learnt.most, learnt.near]
}

fn popularity(whole: &Whole, item: &Item, bias: f32) -> [f32; 3] {
    let share = |value: f64, most: f64| if most > 0.0 { (value.ln_1p() / most.ln_1p()) as f32 } else { 0.0 };
    [share(item.popularity, whole.popularity), share(item.shoppers, whole.shoppers), bias]
}

fn together(shopper: &Shopper, item: &Item) -> [f32; 9] {
    let with = shopper.with(item.id);
    let half = |value: f64| (value / (value + weights::TOGETHER_HALF)) as f32;
    [
        half(with.sum),
        log(100.0 * with.sum),
        log(3000.0 * with.sum),
        half(with.near),
        log(100.0 * with.near),
        half(with.last),
        log(100.0 * with.last),
        half(with.most),
        log(100.0 * with.most),
    ]
}

/// The features of a call.
pub fn call(known: &Known) -> Call {
    let count = known.words.terms.len();
    let asked = f32::from(count > 0 || known.vector.is_some());
    let words = if count > 0 { (count as f32).sqrt().recip() } else { 0.0 };
    let rare = if count > 0 { (known.words.total() / count as f64 / 10.0) as f32 } else { 0.0 };
    let near = known.closeness.iter().copied().fold(0.0, f64::max) as f32;
    [
        asked,
        words,
        rare,
        log(known.shopper.seen() as f64) / 4.0,
        f32::from(known.shopper.is_unknown()),
        log(known.shopper.in_session() as f64) / 4.0,
        near,
    ]
}
