//! Rules: what a shop lays down by hand, one row of `persona.rules` each.

use super::filter::{Filter, Operator};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a rule does to the items that its filter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They stand at the slot, and behind it in the order of their scores.
    Pin,
    /// They score higher by the strength.
    Boost,
    /// They score lower by the strength.
    Bury,
    /// They do not come back.
    Block,
    /// The best of those that were found anyway take up to `positions` places from the slot on.
    Sponsor,
}

/// Which list a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// `persona.search`, and `persona.score` with a query.
    Search,
    /// `persona.recommend`, and `persona.score` without a query.
    Recommend,
    /// `persona.similar`.
    Similar,
    /// `persona.bought_together`.
    BoughtTogether,
    /// `persona.trending`.
    Trending,
}

/// One rule whose time, words and pattern fit the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its number: of two rules of one priority, the older comes first.
    pub id: i64,
    /// What it does.
    pub action: Action,
    /// To which items.
    pub filter: Filter,
    /// The first place, from 1.
    pub slot: usize,
    /// How many places.
    pub positions: usize,
    /// How much is added to the score, or taken from it.
    pub strength: f64,
    when: When,
}

/// The conditions that the engine decides.
#[derive(Debug, Clone, PartialEq, Default)]
struct When {
    surfaces: Option<Vec<Surface>>,
    brand: Option<String>,
    category: Option<String>,
    context: Map<String, Value>,
    /// Whether it asks for a query: such a rule is for searches only.
    asks: bool,
}

/// What a call is about, as far as rules may ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Occasion {
    /// The list.
    pub surface: Surface,
    /// The call's context.
    pub context: Map<String, Value>,
    /// Brands that the call's filter or its query names.
    pub brands: Vec<String>,
    /// Categories, alike.
    pub categories: Vec<String>,
}

impl Occasion {
    /// The values that a filter wants of a column.
    pub fn named(filter: &Filter, column: Option<&str>) -> Vec<String> {
        let of = filter.conditions.iter().filter(|c| Some(c.column.as_str()) == column);
        let values = of.flat_map(|condition| match (&condition.operator, &condition.value) {
            (Operator::Eq, value) => vec![text(value)],
            (Operator::In, Value::Array(values)) => values.iter().map(text).collect(),
            _ => Vec::new(),
        });
        values.collect()
    }
}

/// A value as text: a string as it is, anything else as JSON writes it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A row of the table.
#[derive(Deserialize)]
struct Row {
    id: i64,
    action: Action,
    filter: Value,
    slot: Option<usize>,
    positions: usize,
    strength: f64,
    surfaces: Option<Vec<Surface>>,
    brand: Option<String>,
    category: Option<String>,
    context: Map<String, Value>,
    query: Option<String>,
    pattern: Option<String>,
}

impl Rule {
    /// Reads a row as JSON.
    pub fn read(row: &Value) -> Result<Rule> {
        let row = Row::deserialize(row).map_err(|e| Error::Options { place: "rule".into(), reason: e.to_string() })?;
        let when = When {
            surfaces: row.surfaces,
            brand: row.brand,
            category: row.category,
            context: row.context,
            asks: row.query.is_some() || row.pattern.is_some(),
        };
        Ok(Rule {
            id: row.id,
            action: row.action,
            filter: Filter::read(&row.filter)?,
            slot: row.slot.unwrap_or(1).max(1),
            positions: row.positions,
            strength: row.strength,
            when,
        })
    }

    /// Whether it is for this call: every condition that it has must hold.
    pub fn applies(&self, occasion: &Occasion) -> bool {
        let when = &self.when;
        let among = |wanted: &Option<String>, named: &[String]| {
            wanted.as_ref().is_none_or(|w| named.iter().any(|n| n.to_lowercase() == w.to_lowercase()))
        };
        let same = |key: &String, wanted: &Value| {
            let given = occasion.context.get(key).filter(|v| !v.is_null()).map(text);
            given.is_some_and(|given| match wanted {
                Value::Array(any) => any.iter().any(|value| text(value) == given),
                one => text(one) == given,
            })
        };
        when.surfaces.as_ref().is_none_or(|all| all.contains(&occasion.surface))
            && (!when.asks || occasion.surface == Surface::Search)
            && among(&when.brand, &occasion.brands)
            && among(&when.category, &occasion.categories)
            && when.context.iter().all(|(key, wanted)| same(key, wanted))
    }

    /// What it adds to the score of an item that its filter names.
    pub fn adds(&self) -> f64 {
        match self.action {
            Action::Boost => self.strength,
            Action::Bury => -self.strength,
            Action::Pin | Action::Block | Action::Sponsor => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn rule(more: Value) -> Rule {
        let mut row = json!({"id": 1, "items": 7, "action": "boost", "filter": {"brand": "Tarn"}, "slot": null, "positions": 1,
            "strength": 1.5, "surfaces": null, "brand": null, "category": null, "context": {}, "query": null, "pattern": null});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Rule::read(&row).unwrap()
    }

    fn occasion(surface: Surface, context: Value, categories: &[&str]) -> Occasion {
        let categories = categories.iter().map(|c| (*c).to_owned()).collect();
        Occasion { surface, context: context.as_object().unwrap().clone(), brands: Vec::new(), categories }
    }

    #[test]
    fn every_condition_must_hold() {
        let all = rule(
            json!({"surfaces": ["search"], "category": "Shoes", "context": {"country": ["FR", "BE"], "members": true}}),
        );
        let fits = json!({"country": "FR", "members": true});
        assert!(all.applies(&occasion(Surface::Search, fits.clone(), &["shoes"])));
        assert!(!all.applies(&occasion(Surface::Recommend, fits.clone(), &["shoes"])));
        assert!(!all.applies(&occasion(Surface::Search, fits, &["hats"])));
        assert!(!all.applies(&occasion(Surface::Search, json!({"country": "DE", "members": true}), &["shoes"])));
        assert!(!all.applies(&occasion(Surface::Search, json!({"country": "FR"}), &["shoes"])));
        assert!(rule(json!({})).applies(&occasion(Surface::Trending, json!({}), &[])));
    }

    #[test]
    fn a_rule_of_a_query_is_for_searches() {
        let about = rule(json!({"query": "tent"}));
        assert!(about.applies(&occasion(Surface::Search, json!({}), &[])));
        assert!(!about.applies(&occasion(Surface::Recommend, json!({}), &[])));
    }

    #[test]
    fn boost_adds_and_bury_takes() {
        assert_eq!(rule(json!({})).adds(), 1.5);
        assert_eq!(rule(json!({"action": "bury"})).adds(), -1.5);
        assert_eq!(rule(json!({"action": "pin"})).adds(), 0.0);
    }

    #[test]
    fn what_a_filter_names_counts_as_named() {
        let filter = Filter::read(&json!({"brand": ["HP", "Canon"], "price": {"lt": 3}, "kind": "ink"})).unwrap();
        assert_eq!(Occasion::named(&filter, Some("brand")), ["HP", "Canon"]);
        assert_eq!(Occasion::named(&filter, Some("kind")), ["ink"]);
        assert!(Occasion::named(&filter, Some("price")).is_empty() && Occasion::named(&filter, None).is_empty());
    }
}
