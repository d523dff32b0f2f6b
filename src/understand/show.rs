//! An understanding as `persona.understand` shows it.

use super::intent::CLASSES;
use super::normalize::Form;
use super::{Entity, Understanding};
use serde_json::{Map, Value, json};

/// Kinds that make a condition; another attribute's word is a word first.
const CONDITIONS: &[&str] = &["brand", "category", "color", "size", "material", "type"];

impl Understanding {
    /// As jsonb; `price` is the catalog's price column.
    pub fn to_json(&self, price: Option<&str>) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("query", json!(self.query));
        put("normalized", json!(self.normalized));
        put("corrected", json!(self.corrected()));
        put("corrections", json!(self.corrections));
        put("search", json!(self.text));
        put("language", json!(self.language));
        put("tokens", Value::Array((0..self.tokens.len()).map(|at| self.token(at)).collect()));
        put("entities", Value::Array(self.entities.iter().map(|e| self.entity(e)).collect()));
        put("price", self.price.as_ref().map_or(Value::Null, |(p, _)| json!(p)));
        put("filter", self.filter(price));
        put("without", json!(self.unwanted()));
        put("dropped", json!(self.dropped));
        put(
            "category",
            self.category.as_ref().map_or(
                Value::Null,
                |c| json!({"value": c.value, "from": c.from, "confidence": rounded(c.confidence)}),
            ),
        );
        put(
            "intent",
            self.intent.as_ref().map_or(Value::Null, |intent| {
                let (class, confidence) = intent.best();
                let all: Map<String, Value> =
                    CLASSES.into_iter().map(|c| (c.name().to_owned(), rounded(intent.of(c)))).collect();
                json!({"is": class.name(), "confidence": rounded(confidence), "classes": all})
            }),
        );
        Value::Object(map)
    }

    fn token(&self, at: usize) -> Value {
        let token = &self.tokens[at];
        json!({"text": token.text, "form": token.form, "role": self.role(at)})
    }

    /// What a token does in the query.
    fn role(&self, at: usize) -> &str {
        if self.negations.iter().any(|n| n.span.contains(&at)) {
            return "without";
        }
        if self.price.as_ref().is_some_and(|(_, r)| r.contains(&at)) {
            return "price";
        }
        if self.head == Some(at) {
            return "head";
        }
        let mut spans = self.entities.iter().filter(|e| e.span.contains(&at));
        match spans.next() {
            Some(entity) => &entity.kind,
            None if super::ENDS.contains(&self.tokens[at].text.as_str()) => "function",
            None if self.tokens[at].form == Form::Mark => "mark",
            None => "modifier",
        }
    }

    fn entity(&self, entity: &Entity) -> Value {
        let first = self.tokens.get(entity.span.start).map_or(0, |t| t.start);
        let last = self.tokens.get(entity.span.end.saturating_sub(1)).map_or(first, |t| t.end);
        let place = |bytes: usize| self.normalized.get(..bytes).map_or(0, |s| s.chars().count());
        json!({
            "text": self.phrase(&entity.span), "from": place(first), "to": place(last),
            "kind": entity.kind, "value": entity.value, "confidence": rounded(entity.confidence),
        })
    }

    /// The conditions that the query names, in the grammar of `filter`.
    pub fn filter(&self, price: Option<&str>) -> Value {
        let mut map = Map::new();
        let mut last: Option<&Entity> = None;
        for entity in &self.entities {
            // The likeliest reading of a span alone: two that exclude each other would leave nothing.
            let first = last.is_none_or(|l| l.span != entity.span);
            last = Some(entity);
            if let Some((column, condition)) = &entity.filter
                && first
                && entity.confidence >= 0.5
                && CONDITIONS.contains(&entity.kind.as_str())
            {
                add(&mut map, column, condition);
            }
        }
        if let (Some(column), Some((bounds, _))) = (price, &self.price) {
            map.insert(column.to_owned(), json!(bounds));
        }
        Value::Object(map)
    }
}

/// Adds a condition on a column: a second plain value makes a list, a second jsonb key joins the first.
fn add(map: &mut Map<String, Value>, column: &str, condition: &Value) {
    match (map.get_mut(column), condition) {
        (None, _) => {
            map.insert(column.to_owned(), condition.clone());
        }
        (Some(Value::Array(list)), Value::String(_)) => list.push(condition.clone()),
        (Some(first @ Value::String(_)), Value::String(_)) => *first = json!([first.clone(), condition]),
        (Some(Value::Object(known)), Value::Object(new)) => {
            if let (Some(Value::Object(known)), Some(Value::Object(new))) =
                (known.get_mut("contains"), new.get("contains"))
            {
                for (key, value) in new {
                    known.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        _ => {}
    }
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
