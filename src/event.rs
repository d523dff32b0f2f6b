//! Events: what shoppers did, as the engine sees a row of a behaviour table.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The item was shown.
    Impression,
    /// A query was typed; without an item it led nowhere.
    Search,
    /// The item's page was seen.
    View,
    /// The item was clicked in a list.
    Click,
    /// The item was put into the cart.
    Cart,
    /// The item was bought.
    Purchase,
    /// The item was sent back.
    Return,
}

impl Kind {
    /// Every kind, in the order of the manual.
    pub const ALL: [Kind; 7] =
        [Kind::Impression, Kind::Search, Kind::View, Kind::Click, Kind::Cart, Kind::Purchase, Kind::Return];

    /// The kind's word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Impression => "impression",
            Kind::Search => "search",
            Kind::View => "view",
            Kind::Click => "click",
            Kind::Cart => "cart",
            Kind::Purchase => "purchase",
            Kind::Return => "return",
        }
    }

    /// How much the event says that the shopper wants the item, before a catalog sets its own: a purchase is 1.
    ///
    /// What is shown or typed says nothing by itself, and what is sent back is no taste.
    pub fn weight(self) -> f64 {
        match self {
            Kind::Impression | Kind::Search | Kind::Return => 0.0,
            Kind::View => 0.25,
            Kind::Click => 0.35,
            Kind::Cart => 0.7,
            Kind::Purchase => 1.0,
        }
    }

    fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(word))
    }
}

/// How a behaviour table's own words map to kinds and weights.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kinds {
    words: BTreeMap<String, (Kind, f64)>,
}

impl Kinds {
    /// Reads `options.kinds`: `{"bought": "purchase", "seen": {"kind": "view", "weight": 0.1}}`.
    pub fn read(options: &serde_json::Value) -> Result<Kinds> {
        let mut kinds = Kinds::default();
        let Some(map) = options.get("kinds") else { return Ok(kinds) };
        let invalid = |key: &str, reason: &str| Error::InvalidValue {
            place: "options.kinds".into(),
            key: key.into(),
            reason: reason.into(),
        };
        let map = map.as_object().ok_or_else(|| invalid("kinds", "it has to be an object"))?;
        for (word, value) in map {
            let (name, weight) = match value {
                serde_json::Value::String(name) => (Some(name.as_str()), None),
                serde_json::Value::Object(o) => {
                    if let Some(key) = o.keys().find(|k| *k != "kind" && *k != "weight") {
                        return Err(invalid(word, &format!("unknown key \"{key}\"; known are kind, weight")));
                    }
                    (o.get("kind").and_then(|v| v.as_str()), o.get("weight").map(|w| w.as_f64()))
                }
                _ => (None, None),
            };
            let kind = name.and_then(Kind::parse).ok_or_else(|| {
                let known = Kind::ALL.map(Kind::name).join(", ");
                invalid(word, &format!("a kind is one of {known}"))
            })?;
            let weight = match weight {
                None => kind.weight(),
                Some(Some(w)) if (-10.0..=10.0).contains(&w) => w,
                Some(_) => return Err(invalid(word, "a weight is a number from -10 to 10")),
            };
            kinds.words.insert(word.clone(), (kind, weight));
        }
        Ok(kinds)
    }

    /// A table's word as a kind and its weight; a word that nobody mapped counts as a view.
    pub fn of(&self, word: &str) -> (Kind, f64) {
        if let Some(known) = self.words.get(word) {
            return *known;
        }
        let kind = Kind::parse(word).unwrap_or(Kind::View);
        (kind, kind.weight())
    }

    /// The words, in lower case, of events that say nothing of the shopper's wishes and are no return.
    pub fn mute(&self) -> Vec<String> {
        let ours = Kind::ALL.into_iter().filter(|kind| !self.words.contains_key(kind.name()));
        let ours = ours.map(|kind| (kind.name().to_owned(), kind, kind.weight()));
        let own = self.words.iter().map(|(word, (kind, weight))| (word.to_lowercase(), *kind, *weight));
        own.chain(ours)
            .filter(|(_, kind, weight)| *weight == 0.0 && *kind != Kind::Return)
            .map(|(word, ..)| word)
            .collect()
    }

    /// The words that this mapping names.
    pub fn words(&self) -> impl Iterator<Item = (&str, Kind, f64)> {
        self.words.iter().map(|(word, (kind, weight))| (word.as_str(), *kind, *weight))
    }
}

/// One event of one shopper.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The item, by its number in the catalog.
    pub item: i64,
    /// Seconds since 1970-01-01 UTC.
    pub at: f64,
    /// What happened.
    pub kind: Kind,
    /// How much it says, from the kind or the catalog.
    pub weight: f64,
    /// Whether it belongs to the session that is being served.
    pub in_session: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn own_words_map_to_kinds_and_weights() {
        let kinds =
            Kinds::read(&json!({"kinds": {"bought": "purchase", "seen": {"kind": "view", "weight": 0.1}}})).unwrap();
        assert_eq!(kinds.of("bought"), (Kind::Purchase, 1.0));
        assert_eq!(kinds.of("seen"), (Kind::View, 0.1));
        assert_eq!(kinds.of("Cart"), (Kind::Cart, 0.7));
        assert_eq!(kinds.of("hovered").0, Kind::View);
    }

    #[test]
    fn what_was_only_shown_or_typed_is_mute() {
        assert_eq!(Kinds::default().mute(), ["impression", "search"]);
        let kinds =
            Kinds::read(&json!({"kinds": {"Seen": "impression", "view": {"kind": "view", "weight": 0}}})).unwrap();
        assert_eq!(kinds.mute(), ["seen", "view", "impression", "search"]);
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let error = Kinds::read(&json!({"kinds": {"bought": "acquisition"}})).unwrap_err();
        assert!(error.to_string().contains("impression, search, view"), "{error}");
    }
}
