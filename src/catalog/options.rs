//! Options of a search and the context of a call: each key with its default and its range beside it.

use crate::error::{Error, Result};
use crate::parts::Dimension;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where candidates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The query's words.
    Lexical,
    /// The query's meaning.
    Dense,
    /// What goes with the shopper's history.
    Together,
}

/// Options of `search` and `score`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchOptions {
    /// Leave out what is in the shopper's history. Default: false.
    pub exclude_seen: bool,
    /// Leave out what the shopper bought and did not send back. Default: false.
    pub exclude_owned: bool,
    /// Dimensions that count nothing.
    pub without: Vec<Dimension>,
    /// A factor for each dimension named, 0 to 100; the others count 1.
    pub weights: BTreeMap<Dimension, f64>,
    /// The retrieval sources that are asked. Default: all.
    pub sources: Vec<Source>,
    /// How many candidates the lexical source keeps, 1 to 10,000. Default: 500.
    pub candidates: usize,
    /// How many rows of the ranking are passed over, 0 to 10,000. Default: 0.
    pub offset: usize,
    /// Whether spelling is corrected. Default: true.
    pub correct: bool,
    /// Whether the query is understood: corrected, its exclusions obeyed, ranked by its intent. Default: true.
    pub understand: bool,
    /// The ranker to rank by, 0 for the fixed weights; default: the one that is deployed.
    pub ranker: Option<i64>,
    /// In `bought_together`: keys of what else lies in the basket. Default: nothing.
    pub basket: Vec<Key>,
    /// The column whose value makes variants of one product: the best of them stands for all. Default: none.
    pub group_by: Option<String>,
    /// The most rows of one value of a column on a page of `k`, by column, each from 1. Default: none.
    pub caps: BTreeMap<String, usize>,
    /// How much likeness to what stands above costs, 0 to 1. Default: 0.
    pub diversity: f64,
    /// How much the page's categories follow the shopper's history, 0 to 1. Default: 0.
    pub calibration: f64,
    /// In a search: the share of places for what is recommended, 0 to 1; none in an exact query. Default: what shoppers who
    /// asked this took besides, as far as it browses.
    pub blend: Option<f64>,
    /// The share of places that exploration may take, 0 to 1. Default: 0.
    pub explore: f64,
    /// Of what is left to chance. Default: another one for each session, or for each statement outside of sessions.
    pub seed: Option<i64>,
}

/// What a catalog's recommendations leave out of a shopper's past, where the call does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exclude {
    /// Everything in the history.
    #[default]
    Seen,
    /// What was bought and not sent back: what was looked at may come again.
    Owned,
    /// Nothing: what is bought is bought again.
    Nothing,
}

/// An item's key, as JSON may have it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Key {
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Key::Number(number) => number.fmt(f),
            Key::Text(text) => text.fmt(f),
        }
    }
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions {
            exclude_seen: false,
            exclude_owned: false,
            without: Vec::new(),
            weights: BTreeMap::new(),
            sources: vec![Source::Lexical, Source::Dense, Source::Together],
            candidates: 500,
            offset: 0,
            correct: true,
            understand: true,
            ranker: None,
            basket: Vec::new(),
            group_by: None,
            caps: BTreeMap::new(),
            diversity: 0.0,
            calibration: 0.0,
            blend: None,
            explore: 0.0,
            seed: None,
        }
    }
}

impl SearchOptions {
    /// Reads options; an unknown key or a value out of range is an error.
    pub fn read(options: &Value) -> Result<SearchOptions> {
        let read: SearchOptions = from_object("options", options)?;
        let range = |key: &str, ok: bool, range: &str| -> Result<()> {
            if ok { Ok(()) } else { Err(invalid("options", key, &format!("it has to be {range}"))) }
        };
        range("candidates", (1..=10_000).contains(&read.candidates), "from 1 to 10000")?;
        range("offset", read.offset <= 10_000, "from 0 to 10000")?;
        range("basket", read.basket.len() <= 100, "at most 100 keys")?;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        range("diversity", share(read.diversity), "from 0 to 1")?;
        range("calibration", share(read.calibration), "from 0 to 1")?;
        range("blend", share(read.blend.unwrap_or(0.0)), "from 0 to 1")?;
        range("explore", share(read.explore), "from 0 to 1")?;
        range(
            "caps",
            read.caps.len() <= 8 && read.caps.values().all(|cap| *cap >= 1),
            "at most 8 columns, each from 1",
        )?;
        range("sources", !read.sources.is_empty(), "at least one of lexical, dense, together")?;
        for (dimension, weight) in &read.weights {
            range(&format!("weights.{}", dimension.name()), (0.0..=100.0).contains(weight), "from 0 to 100")?;
        }
        Ok(read)
    }

    /// The factor by which the caller scales a dimension.
    pub fn factor(&self, dimension: Dimension) -> f64 {
        if self.without.contains(&dimension) { 0.0 } else { self.weights.get(&dimension).copied().unwrap_or(1.0) }
    }

    /// Whether a source is asked.
    pub fn asks(&self, source: Source) -> bool {
        self.sources.contains(&source)
    }
}

/// Reads any options struct from a JSON object; serde's own message lists the known keys.
pub fn from_object<T: serde::de::DeserializeOwned + Default>(place: &str, value: &Value) -> Result<T> {
    match value {
        Value::Null => Ok(T::default()),
        Value::Object(_) => T::deserialize(value)
            .map_err(|error| Error::Options { place: place.into(), reason: error.to_string().replace('`', "\"") }),
        _ => Err(Error::Options { place: place.into(), reason: "it has to be an object".into() }),
    }
}

fn invalid(place: &str, key: &str, reason: &str) -> Error {
    Error::InvalidValue { place: place.into(), key: key.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_key_lists_the_known_ones() {
        let message = SearchOptions::read(&json!({"exclude": true})).unwrap_err().to_string();
        assert!(message.contains("exclude_seen") && message.contains("offset"), "{message}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for bad in [
            json!({"candidates": 0}),
            json!({"offset": -1}),
            json!({"sources": []}),
            json!({"sources": ["words"]}),
            json!({"weights": {"taste": -1}}),
            json!({"weights": {"colour": 1}}),
            json!({"without": ["colour"]}),
            json!([1]),
        ] {
            assert!(SearchOptions::read(&bad).is_err(), "{bad} passed");
        }
    }

    #[test]
    fn without_beats_weights() {
        let options =
            SearchOptions::read(&json!({"without": ["taste"], "weights": {"taste": 3, "together": 2}})).unwrap();
        assert_eq!(options.factor(Dimension::Taste), 0.0);
        assert_eq!(options.factor(Dimension::Together), 2.0);
        assert_eq!(options.factor(Dimension::Relevance), 1.0);
    }
}
