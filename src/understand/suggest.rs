//! Suggestions: what somebody who types this may be about to ask.
//!
//! From what shoppers asked, and from the catalog: brands, categories, pairs of words of titles, words. What was asked
//! counts most, then what many items have; what the shopper took lately lifts what shares its words.

use super::lexicon::{Completion, Lexicon};
use super::normalize;
use std::collections::{HashMap, HashSet};

/// A completion of each sort that is looked at, at most: a bound on the time, not on the quality of longer prefixes.
const LOOKED_AT: usize = 4000;

/// A suggestion.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// What to offer.
    pub text: String,
    /// Larger is better.
    pub score: f64,
}

/// What is known of the shopper.
#[derive(Debug, Clone, Default)]
pub struct Taste {
    /// Words of the items taken lately, with their weight, at most 1.
    pub words: HashMap<String, f64>,
    /// What the shopper asked lately, newest first.
    pub asked: Vec<String>,
}

/// Completes a prefix: the best `k`. `floor` is the least count of items, `asked` that of shoppers, that may show.
pub fn suggest(lexicon: &Lexicon, typed: &str, taste: &Taste, floor: u32, asked: u32, k: usize) -> Vec<Suggestion> {
    let (prefix, _) = normalize::normalize(typed);
    if prefix.is_empty() {
        return Vec::new();
    }
    let open = typed.ends_with(char::is_whitespace);
    let prefix = if open { format!("{prefix} ") } else { prefix };
    let mut found: HashMap<String, f64> = HashMap::new();
    for (place, query) in taste.asked.iter().enumerate() {
        if query.starts_with(&prefix) {
            offer(&mut found, query, 6.0 / (1.0 + place as f64 / 10.0), taste);
        }
    }
    complete(lexicon, &prefix, "", floor, asked, taste, &mut found);
    // The words before the last one may be new together: its pair with the one before completes it.
    if let Some(at) = prefix.trim_end().rfind(' ') {
        let last_two = prefix[..at].rfind(' ').map_or(0, |n| n + 1);
        if last_two > 0 {
            complete(lexicon, &prefix[last_two..], &prefix[..last_two], floor, asked, taste, &mut found);
        }
        if found.len() < k {
            complete(lexicon, &prefix[at + 1..], &prefix[..=at], floor, asked, taste, &mut found);
        }
    }
    let mut best: Vec<Suggestion> = found.into_iter().map(|(text, score)| Suggestion { text, score }).collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.text.cmp(&b.text)));
    // Singular and plural are one suggestion.
    let mut seen = HashSet::new();
    best.retain(|s| seen.insert(s.text.split(' ').map(normalize::fold).collect::<Vec<_>>().join(" ")));
    best.truncate(k);
    best
}

fn complete(
    lexicon: &Lexicon,
    prefix: &str,
    before: &str,
    floor: u32,
    asked: u32,
    taste: &Taste,
    found: &mut HashMap<String, f64>,
) {
    let floor = floor.max(1);
    lexicon.completions(prefix, LOOKED_AT, |text, completion| {
        let (text, score) = match completion {
            Completion::Query(shoppers) if shoppers >= asked => (text.to_owned(), 3.0 + f64::from(shoppers).ln_1p()),
            Completion::Value(value) if value.items >= floor => {
                let kind = lexicon.column(value.column).map_or("", |c| c.kind.as_str());
                let extra = match kind {
                    "category" => 1.5,
                    "brand" | "type" => 1.0,
                    _ => return,
                };
                (value.text.to_lowercase(), extra + f64::from(value.items).ln_1p() * 0.7)
            }
            Completion::Pair(titles) if titles >= floor.max(3) => (text.to_owned(), f64::from(titles).ln_1p() * 0.6),
            Completion::Word(word) if word.shown >= floor.max(2) => {
                (text.to_owned(), f64::from(word.shown).ln_1p() * 0.55)
            }
            _ => return,
        };
        let ends_well = text.chars().next_back().is_some_and(char::is_alphanumeric);
        let last = text.rsplit(' ').next().unwrap_or("");
        if ends_well && text.chars().any(char::is_alphabetic) && !(text.contains(' ') && super::ENDS.contains(&last)) {
            let less = if before.is_empty() { 0.0 } else { 1.0 };
            offer(found, &format!("{before}{text}"), score - less, taste);
        }
    });
}

fn offer(found: &mut HashMap<String, f64>, text: &str, score: f64, taste: &Taste) {
    let lift: f64 = text.split(' ').filter_map(|w| taste.words.get(w)).sum();
    let score = score + 2.0 * lift.min(1.5);
    let known = found.entry(text.to_owned()).or_insert(f64::NEG_INFINITY);
    *known = known.max(score);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::build::{Builder, Fields, Logged};
    use super::super::lexicon::Column;
    use super::*;

    fn lexicon() -> Lexicon {
        let mut builder = Builder::new(1 << 20);
        let brand = builder.column(Column::new("brand", None, Some("brand"), false)).unwrap();
        for n in 0..20 {
            let title = ["Wireless mouse", "Wireless keyboard", "Wired mouse", "Red wine"][n % 4];
            builder.add(&Fields { title: title.into(), values: vec![(brand, "Wirex".into())], ..Fields::default() });
        }
        let asked = |shoppers| Logged { shoppers, ..Logged::default() };
        builder.query("wireless charger", asked(9));
        builder.query("wireless secret", asked(1));
        Lexicon::read(&builder.finish()).unwrap()
    }

    fn texts(typed: &str, taste: &Taste, floor: u32) -> Vec<String> {
        suggest(&lexicon(), typed, taste, floor, 5, 10).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn from_queries_and_catalog() {
        let found = texts("wirel", &Taste::default(), 1);
        assert_eq!(found[0], "wireless charger");
        assert!(
            found.contains(&"wireless mouse".to_owned()) && !found.contains(&"wireless secret".to_owned()),
            "{found:?}"
        );
        assert!(texts("wire", &Taste::default(), 1).contains(&"wirex".to_owned()));
        assert!(texts("best wireless m", &Taste::default(), 1).contains(&"best wireless mouse".to_owned()));
        assert!(texts("", &Taste::default(), 1).is_empty());
    }

    #[test]
    fn what_was_taken_lifts_and_what_few_hold_hides() {
        let taste = Taste { words: HashMap::from([("keyboard".to_owned(), 1.0)]), asked: vec!["wireless desk".into()] };
        let found = texts("wireless ", &taste, 1);
        let place = |text: &str| found.iter().position(|t| t == text).unwrap();
        assert!(place("wireless keyboard") < place("wireless mouse"));
        assert_eq!(found[0], "wireless desk");
        assert!(!texts("wireless ", &Taste::default(), 6).contains(&"wireless mouse".to_owned()));
    }
}
