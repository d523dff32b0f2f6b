//! Entities: which parts of a query name a value of the catalog, a model, a measure, a target.
//!
//! A gazetteer of the catalog's own values is matched longest first. What a span may be besides is kept: *apple* is a brand
//! and a fruit, each with its share of the items. Where a tagger is trained, its spans join these (fine_tune('tag')).

use super::lexicon::{LONGEST_VALUE, Lexicon};
use super::normalize::{self, Form, Token};
use serde_json::{Value as Json, json};
use std::ops::Range;

/// What a span of the query may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Tokens that it takes.
    pub span: Range<usize>,
    /// brand, category, color, size, material, model, measure, target, or the name of the column that has the value.
    pub kind: String,
    /// The value as the items have it.
    pub value: String,
    /// 0 to 1: this reading's share among the readings of the span.
    pub confidence: f64,
    /// A condition in the grammar of `filter`, where the value is one of a column.
    pub filter: Option<(String, Json)>,
}

/// How much a column of a role tells, against any attribute's.
fn weight(kind: &str) -> f64 {
    match kind {
        "brand" => 8.0,
        "category" => 6.0,
        "color" | "type" => 4.0,
        "size" | "material" => 3.0,
        _ => 1.0,
    }
}

/// Words that name no value by themselves, whatever some item says.
const EMPTY: &[&str] = &[
    "a", "an", "and", "the", "for", "with", "of", "to", "in", "on", "or", "yes", "no", "not", "without", "from",
    "under", "over", "by", "at", "is", "it", "my", "what", "how", "which", "new", "good", "best", "other", "的", "和",
    "是",
];

/// The longest value that begins at a token: how many tokens it takes, and its folded form.
pub fn longest(lexicon: &Lexicon, tokens: &[Token], from: usize, floor: u32) -> Option<(usize, String)> {
    let mut folded = String::new();
    let mut found = None;
    for (n, token) in tokens.iter().skip(from).take(LONGEST_VALUE).enumerate() {
        if token.form == Form::Mark || (n > 0 && token.minus) {
            break;
        }
        if n > 0 {
            folded.push(' ');
        }
        folded.push_str(&normalize::fold(&token.text));
        let alone = n == 0 && EMPTY.contains(&token.text.as_str());
        if !alone && lexicon.values(&folded).iter().any(|v| v.items >= floor.max(1)) {
            found = Some((n + 1, folded.clone()));
        }
        if !lexicon.begins_value(&folded) {
            break;
        }
    }
    found
}

/// The entities of a query, in order; the readings of one span follow each other, the likeliest first.
pub fn find(lexicon: &Lexicon, tokens: &[Token], taken: &[Range<usize>], floor: u32) -> Vec<Entity> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(range) = taken.iter().find(|r| r.contains(&at)) {
            at = range.end;
            continue;
        }
        let token = &tokens[at];
        if let Some((length, folded)) = longest(lexicon, tokens, at, floor) {
            let span = at..at + length;
            let after_size = at > 0 && matches!(tokens[at - 1].text.as_str(), "size" | "码" | "尺码" | "号");
            let readings = readings(lexicon, &folded, floor, token.form == Form::Number && length == 1, after_size);
            if !readings.is_empty() {
                found.extend(readings.into_iter().map(|(kind, value, confidence, filter)| Entity {
                    span: span.clone(),
                    kind,
                    value,
                    confidence,
                    filter,
                }));
                at += length;
                continue;
            }
        }
        if let Some(entity) = pattern(lexicon, tokens, at) {
            at = entity.span.end;
            found.push(entity);
            continue;
        }
        at += 1;
    }
    found.extend(target(tokens, taken));
    found
}

/// A span that a tagger found, with the value of its kind that it spells, if it spells one.
pub fn tagged(
    lexicon: &Lexicon,
    words: &[Token],
    span: Range<usize>,
    kind: String,
    confidence: f64,
    floor: u32,
) -> Entity {
    let folded: Vec<String> = words.iter().map(|t| normalize::fold(&t.text)).collect();
    let known = readings(lexicon, &folded.join(" "), floor, false, false).into_iter().find(|r| r.0 == kind);
    let (value, filter) = known.map_or((String::new(), None), |(_, value, _, filter)| (value, filter));
    Entity { span, kind, value, confidence, filter }
}

/// Adds a tagger's span; one whose value nobody knows is worth what `said` of it. A reading that is there already is the
/// surer of the two; another of the same span shares it; a longer or shorter one has to be surer than what it displaces.
pub fn join(entities: &mut Vec<Entity>, mut new: Entity, said: String) {
    if new.value.is_empty() {
        new.value = said;
    }
    if let Some(same) = entities.iter_mut().find(|e| e.span == new.span && e.kind == new.kind) {
        same.confidence = same.confidence.max(new.confidence);
        return;
    }
    let meets = |e: &Entity| e.span != new.span && e.span.start < new.span.end && new.span.start < e.span.end;
    if entities.iter().any(|e| meets(e) && e.confidence >= new.confidence) {
        return;
    }
    entities.retain(|e| !meets(e));
    let span = new.span.clone();
    entities.push(new);
    let whole: f64 = entities.iter().filter(|e| e.span == span).map(|e| e.confidence).sum();
    if whole > 1.0 {
        entities.iter_mut().filter(|e| e.span == span).for_each(|e| e.confidence /= whole);
    }
    entities.sort_by(|a, b| a.span.start.cmp(&b.span.start).then(b.confidence.total_cmp(&a.confidence)));
}

type Reading = (String, String, f64, Option<(String, Json)>);

/// What a folded form may be: one reading a kind, by its share of the items.
fn readings(lexicon: &Lexicon, folded: &str, floor: u32, bare_number: bool, after_size: bool) -> Vec<Reading> {
    let mut by_kind: Vec<(Reading, bool)> = Vec::new();
    let mut total = 0.0;
    for value in lexicon.values(folded) {
        let Some(column) = lexicon.column(value.column) else { continue };
        if value.items < floor.max(1) || (bare_number && !(after_size && column.kind == "size")) {
            continue;
        }
        // A value of the jsonb column weighs less than one of a column of its own.
        let own = column.key.is_none();
        let score = weight(&column.kind) * f64::from(value.items).ln_1p() * if own { 2.0 } else { 1.0 };
        let condition = match (&column.key, column.array) {
            (Some(key), _) => json!({"contains": {key: value.text}}),
            (None, true) => json!({"contains": [value.text]}),
            (None, false) => json!(value.text),
        };
        let filter = Some((column.name.clone(), condition));
        total += score;
        match by_kind.iter_mut().find(|(r, _)| r.0 == column.kind) {
            Some((reading, is_own)) => {
                reading.2 += score;
                if own && !*is_own {
                    (reading.1, reading.3, *is_own) = (value.text, filter, own);
                }
            }
            None => by_kind.push(((column.kind.clone(), value.text, score, filter), own)),
        }
    }
    let mut readings: Vec<Reading> = by_kind.into_iter().map(|(r, _)| r).collect();
    readings.iter_mut().for_each(|r| r.2 /= total);
    readings.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    readings.retain(|r| r.2 >= 0.05);
    readings
}

/// A model number or a measure, by its form.
fn pattern(lexicon: &Lexicon, tokens: &[Token], at: usize) -> Option<Entity> {
    let token = &tokens[at];
    let entity = |end: usize, kind: &str, value: String, confidence: f64| Entity {
        span: at..end,
        kind: kind.to_owned(),
        value,
        confidence,
        filter: None,
    };
    let measured = |number: &str, unit: &str| format!("{number} {unit}");
    match token.form {
        Form::Model if token.text.chars().count() >= 3 => {
            let known = lexicon.word(&token.text).is_some_and(|w| w.shown > 0);
            // `3d`, `mp3` and `1080p` are features: what many items hold is no model's number.
            let common = lexicon.word(&token.text).is_some_and(|w| w.shown > 20 + lexicon.items() / 500);
            (!common).then(|| entity(at + 1, "model", token.text.clone(), if known { 0.95 } else { 0.7 }))
        }
        Form::Measure => {
            let (number, unit) = normalize::measure(&token.text)?;
            Some(entity(at + 1, "measure", measured(&number.to_string(), unit), 0.9))
        }
        Form::Number => {
            let unit = normalize::unit(&tokens.get(at + 1)?.text)?;
            let adjacent = !tokens.get(at + 1)?.minus;
            adjacent.then(|| entity(at + 2, "measure", measured(&token.text, unit), 0.9))
        }
        Form::Word | Form::Mark | Form::Model => None,
    }
}

/// Whom or what it is for: what follows `for`, up to the next word that ends a phrase.
fn target(tokens: &[Token], taken: &[Range<usize>]) -> Option<Entity> {
    let at = tokens.iter().position(|t| matches!(t.text.as_str(), "for" | "compatible"))?;
    let from = at + 1 + usize::from(tokens.get(at + 1).is_some_and(|t| t.text == "with"));
    let from =
        from + usize::from(tokens.get(from).is_some_and(|t| matches!(t.text.as_str(), "a" | "an" | "the" | "my")));
    let ends = ["with", "without", "under", "over", "below", "in", "and", "or", "from", "to", "by", "that", "not"];
    let free = |at: usize| !taken.iter().any(|r| r.contains(&at));
    let end =
        (from..tokens.len()).find(|n| ends.contains(&tokens[*n].text.as_str()) || !free(*n)).unwrap_or(tokens.len());
    let end = end.min(from + 4);
    if end <= from || tokens[from].form == Form::Number {
        return None;
    }
    let value = tokens[from..end].iter().map(|t| t.text.as_str()).collect::<Vec<_>>().join(" ");
    Some(Entity { span: from..end, kind: "target".into(), value, confidence: 0.8, filter: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::build::{Builder, Fields};
    use super::super::lexicon::Column;
    use super::super::normalize::normalize;
    use super::*;

    fn lexicon() -> Lexicon {
        let mut builder = Builder::new(1 << 20);
        let brand = builder.column(Column::new("brand", None, Some("brand"), false)).unwrap();
        let category = builder.column(Column::new("type", None, Some("category"), false)).unwrap();
        let color = builder.column(Column::new("attributes", Some("color"), None, false)).unwrap();
        let tags = builder.column(Column::new("tags", None, None, true)).unwrap();
        for n in 0..20 {
            builder.add(&Fields {
                title: "MacBook".into(),
                values: vec![
                    (brand, "Apple".into()),
                    (category, "Notebooks".into()),
                    (color, "Space grey".into()),
                    (tags, "laptop".into()),
                ],
                ..Fields::default()
            });
            if n % 4 == 0 {
                builder.add(&Fields {
                    title: "Granny".into(),
                    values: vec![(category, "Apple".into())],
                    ..Fields::default()
                });
            }
        }
        Lexicon::read(&builder.finish()).unwrap()
    }

    fn entities(text: &str) -> Vec<(String, String)> {
        find(&lexicon(), &normalize(text).1, &[], 1).into_iter().map(|e| (e.kind, e.value)).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_longest_value_wins_and_plurals_are_one() {
        assert_eq!(entities("space grey notebook"), pairs(&[("color", "Space grey"), ("category", "Notebooks")]));
    }

    #[test]
    fn ambiguity_is_kept() {
        let found = find(&lexicon(), &normalize("apple").1, &[], 1);
        assert_eq!(found.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["brand", "category"]);
        assert!((found.iter().map(|e| e.confidence).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(found[0].filter, Some(("brand".into(), json!("Apple"))));
    }

    #[test]
    fn filters_are_of_the_columns_kind() {
        let found = find(&lexicon(), &normalize("laptop space grey").1, &[], 1);
        assert_eq!(found[0].filter, Some(("tags".into(), json!({"contains": ["laptop"]}))));
        assert_eq!(found[1].filter, Some(("attributes".into(), json!({"contains": {"color": "Space grey"}}))));
    }

    #[test]
    fn models_measures_and_targets() {
        assert_eq!(
            entities("charger 65w ct16g4sfra32a 4 gb for my macbook under 20"),
            pairs(&[("measure", "65 w"), ("model", "ct16g4sfra32a"), ("measure", "4 gb"), ("target", "macbook")])
        );
    }

    #[test]
    fn what_few_items_hold_does_not_show() {
        assert_eq!(find(&lexicon(), &normalize("apple").1, &[], 6).len(), 1);
    }
}
