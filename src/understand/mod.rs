//! Understanding the query: what the shopper wants, as data for ranking, filter and page.
//!
//! Floor 2, and pure: a query and a [`Lexicon`] make an [`Understanding`]. In order: one form for one meaning
//! (`normalize`, `segment`, `language`); what was meant (`spell`); what it must cost (`price`) and what it must not be
//! (`negate`); what its parts name (`entity`) and which of them is the head; what it is about (`intent`, once the query
//! has a vector). Nothing here changes what a precise query finds: what is known is left alone, what is understood
//! is offered. `suggest` completes what is being typed.

pub mod behaviour;
pub mod build;
pub mod entity;
pub mod intent;
pub mod language;
pub mod lexicon;
pub mod negate;
pub mod normalize;
pub mod price;
pub mod segment;
mod show;
pub mod spell;
pub mod suggest;
mod surface;

pub use behaviour::Behaviour;
pub use entity::Entity;
pub use intent::{Class, Classifier, Intent};
pub use lexicon::Lexicon;
pub use price::Price;
pub use spell::Correction;

use negate::Negation;
use normalize::{Form, Token};
use std::ops::Range;

/// How a query is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings<'a> {
    /// Whether spelling is corrected.
    pub correct: bool,
    /// Least count of items of what may correct, and be found: more than 1 where items are hidden from the caller.
    pub floor: u32,
    /// The catalog's language, for queries too short to tell.
    pub language: &'a str,
    /// Words that are left as they are typed: of items newer than the lexicon.
    pub keep: &'a [String],
}

/// A query, understood.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Understanding {
    /// The query as it was typed, trimmed.
    pub query: String,
    /// Its normal form.
    pub normalized: String,
    /// What is searched: corrected, without price bounds and what is not wanted; the query itself where nothing changed.
    pub text: String,
    /// What was changed.
    pub corrections: Vec<Correction>,
    /// ISO 639-1.
    pub language: String,
    /// Its tokens, corrected.
    pub tokens: Vec<Token>,
    /// What its parts name; readings of one span follow each other.
    pub entities: Vec<Entity>,
    /// Price bounds, and the tokens that say them.
    pub price: Option<(Price, Range<usize>)>,
    /// What is not wanted.
    pub negations: Vec<Negation>,
    /// The place of the head noun.
    pub head: Option<usize>,
    /// The category that shoppers who asked this went to, and whether that is known or read from the words.
    pub category: Option<Category>,
    /// What the shopper is about; `None` where nothing was trained.
    pub intent: Option<Intent>,
    /// What shoppers did after this query, as far as enough of them asked it.
    pub behaviour: Option<Behaviour>,
    /// Words that had to go before an item held all the others; empty where one holds every word, or nobody has asked.
    pub dropped: Vec<String>,
}

/// A guess at the category.
#[derive(Debug, Clone, PartialEq)]
pub struct Category {
    /// Its value.
    pub value: String,
    /// `behaviour`, `words` or `nearest`.
    pub from: &'static str,
    /// 0 to 1.
    pub confidence: f64,
}

/// Reads a query. Its intent follows with [`Understanding::classify`], once its vector is there.
pub fn read(lexicon: &Lexicon, query: &str, settings: &Settings) -> Understanding {
    let query = query.trim();
    let (normalized, tokens) = normalize::normalize(query);
    let language = language::language(&normalized, settings.language);
    let plain = Understanding {
        query: query.to_owned(),
        text: query.to_owned(),
        normalized,
        language,
        ..Understanding::default()
    };
    // A pasted page is searched, and understood no further.
    if tokens.len() > normalize::MOST_TOKENS || normalize::head(query).len() < query.len() {
        return plain;
    }
    let floor = settings.floor;
    let (tokens, corrections) = if settings.correct {
        // What shoppers asked before, and were answered, is spelt well; a price's words are no words of the catalog.
        let money = price::find(&tokens).map(|(_, range)| tokens[range].iter().map(|t| t.start).collect::<Vec<_>>());
        let known = lexicon.asked(&plain.normalized).is_some_and(|a| a.shoppers >= floor.max(2));
        let keep =
            |t: &Token| known || money.iter().flatten().any(|at| *at == t.start) || settings.keep.contains(&t.text);
        spell::correct(lexicon, tokens, floor, keep)
    } else {
        (tokens, Vec::new())
    };
    let price = price::find(&tokens);
    let mut taken: Vec<Range<usize>> = price.iter().map(|(_, range)| range.clone()).collect();
    let negations = negate::find(&tokens, |at| entity::longest(lexicon, &tokens, at, floor).map_or(0, |(n, _)| n));
    let negations: Vec<Negation> =
        negations.into_iter().filter(|n| !taken.iter().any(|t| t.start < n.span.end && n.span.start < t.end)).collect();
    taken.extend(negations.iter().map(|n| n.span.clone()));
    let entities = entity::find(lexicon, &tokens, &taken, floor);
    let head = head(&tokens, &taken, &entities);
    let mut understanding = Understanding { corrections, tokens, entities, price, negations, head, ..plain };
    understanding.text = understanding.searched();
    understanding.category = understanding.guess(lexicon, floor);
    understanding
}

/// Words that end the part of a query that names the thing: what follows only qualifies it.
const ENDS: &[&str] = &[
    "for", "with", "without", "from", "in", "of", "to", "under", "over", "below", "above", "on", "by", "that",
    "between", "and", "or", "not",
];

/// The head noun: in English the last noun of the part before a preposition (a *phone case* is a case), else what names a
/// category.
fn head(tokens: &[Token], taken: &[Range<usize>], entities: &[Entity]) -> Option<usize> {
    let free = |at: &usize| !taken.iter().any(|r| r.contains(at));
    let named = |at: usize, kinds: &[&str]| {
        entities.iter().any(|e| e.span.contains(&at) && e.confidence >= 0.5 && kinds.contains(&e.kind.as_str()))
    };
    let noun = |at: &usize| tokens[*at].form == Form::Word && !ENDS.contains(&tokens[*at].text.as_str()) && free(at);
    let first = (0..tokens.len()).find(noun)?;
    let end = (first..tokens.len()).find(|at| ENDS.contains(&tokens[*at].text.as_str())).unwrap_or(tokens.len());
    let part: Vec<usize> = (first..end).filter(noun).collect();
    let thing = |at: &&usize| !named(**at, &["brand", "color", "material", "size", "measure"]);
    let category = part.iter().rev().find(|at| named(**at, &["category", "type"]));
    // A category is the head where nothing but what qualifies follows it.
    part.iter().rev().find(thing).or(category).or(part.last()).copied()
}

impl Understanding {
    /// The tokens that are searched, as one text; the query itself where that would change nothing.
    fn searched(&self) -> String {
        if self.corrections.is_empty() && self.negations.is_empty() && self.price.is_none() {
            return self.query.clone();
        }
        let said = (0..self.tokens.len()).filter(|at| !self.is_apart(*at));
        let said: Vec<&str> = said.map(|at| self.said(at)).collect();
        if said.is_empty() { self.query.clone() } else { said.join(" ") }
    }

    /// A token as it stands in the query, or as it was corrected.
    pub fn said(&self, at: usize) -> &str {
        let token = &self.tokens[at];
        if token.corrected { &token.text } else { self.normalized.get(token.start..token.end).unwrap_or(&token.text) }
    }

    /// Some tokens as one text.
    pub fn phrase(&self, span: &Range<usize>) -> String {
        span.clone().filter(|at| *at < self.tokens.len()).map(|at| self.said(at)).collect::<Vec<_>>().join(" ")
    }

    /// The corrected query with everything that it says.
    pub fn corrected(&self) -> String {
        if self.corrections.is_empty() { self.normalized.clone() } else { self.phrase(&(0..self.tokens.len())) }
    }

    /// The tokens that name something: neither function words nor marks, nor what says a price or what is not wanted.
    pub fn telling(&self) -> impl Iterator<Item = usize> {
        let silent = |at: &usize| {
            let token = &self.tokens[*at];
            token.form == Form::Mark || ENDS.contains(&token.text.as_str()) || self.is_apart(*at)
        };
        (0..self.tokens.len()).filter(move |at| !silent(at))
    }

    /// Whether a token says a price, or what is not wanted: it is not searched.
    fn is_apart(&self, at: usize) -> bool {
        self.price.as_ref().is_some_and(|(_, r)| r.contains(&at)) || self.negations.iter().any(|n| n.span.contains(&at))
    }

    /// Texts of what is not wanted.
    pub fn unwanted(&self) -> Vec<String> {
        self.negations.iter().map(|n| self.phrase(&n.what)).collect()
    }

    /// What was logged of the query, as it is corrected, if so many shoppers asked it.
    fn asked(&self, lexicon: &Lexicon, floor: u32) -> Option<lexicon::Asked> {
        lexicon.asked(&self.corrected()).filter(|asked| asked.shoppers >= floor.max(1))
    }

    /// The category from behaviour, else from the words.
    fn guess(&self, lexicon: &Lexicon, floor: u32) -> Option<Category> {
        if let Some(value) = self.asked(lexicon, floor).and_then(|a| lexicon.category(a.category)) {
            return Some(Category { value: value.to_owned(), from: "behaviour", confidence: 0.9 });
        }
        let named = self.entities.iter().filter(|e| e.kind == "category");
        let best = named.max_by(|a, b| a.confidence.total_cmp(&b.confidence))?;
        Some(Category { value: best.value.clone(), from: "words", confidence: best.confidence })
    }

    /// Adds spans that a tagger found in [`Understanding::corrected`]: bytes, kind, confidence.
    pub fn add_tags(&mut self, lexicon: &Lexicon, floor: u32, spans: Vec<(Range<usize>, String, f32)>) {
        // Where each token stands in that text.
        let mut places: Vec<Range<usize>> = self.tokens.iter().map(|t| t.start..t.end).collect();
        if !self.corrections.is_empty() {
            let mut end = 0;
            for (at, place) in places.iter_mut().enumerate() {
                *place = end..end + self.said(at).len();
                end = place.end + 1;
            }
        }
        for (bytes, kind, confidence) in spans {
            let within = |place: &Range<usize>| place.start < bytes.end && bytes.start < place.end;
            let Some(first) = places.iter().position(within) else { continue };
            let Some(last) = places.iter().rposition(within) else { continue };
            if (first..=last).any(|at| self.is_apart(at)) {
                continue;
            }
            let words = &self.tokens[first..=last];
            let tagged = entity::tagged(lexicon, words, first..last + 1, kind, f64::from(confidence), floor);
            let said = self.phrase(&(first..last + 1));
            entity::join(&mut self.entities, tagged, said);
        }
        if self.category.as_ref().is_none_or(|c| c.from != "behaviour") {
            self.category = self.guess(lexicon, floor).or(self.category.take());
        }
    }

    /// Adds the intent, by the classifier that ships; `vector` is the searched text's, of length 1.
    pub fn classify(&mut self, lexicon: &Lexicon, floor: u32, vector: Option<&[f32]>) {
        let intent = lexicon.intent().map(|c| c.intent(&self.normalized, &self.tokens, vector));
        self.set_intent(lexicon, floor, intent);
    }

    /// The intent by the words, moved by what shoppers did after this query.
    pub fn set_intent(&mut self, lexicon: &Lexicon, floor: u32, intent: Option<Intent>) {
        let asked = self.asked(lexicon, floor);
        self.behaviour = asked.map(|a| a.behaviour);
        self.intent = intent.map(|intent| asked.map_or(intent, |a| a.behaviour.moves(&intent, a.shoppers)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::build::{Builder, Fields, Logged};
    use super::lexicon::Column;
    use super::*;
    use proptest::prelude::*;

    fn lexicon() -> Lexicon {
        let mut builder = Builder::new(1 << 20);
        let brand = builder.column(Column::new("brand", None, Some("brand"), false)).unwrap();
        let category = builder.column(Column::new("category", None, Some("category"), false)).unwrap();
        let color = builder.column(Column::new("color", None, None, false)).unwrap();
        for n in 0..30 {
            let kind = ["Printers", "Cases"][n % 2];
            builder.add(&Fields {
                title: format!("{} wireless {} phone mac {n}", ["HP", "Canon"][n % 2], ["printer", "case"][n % 2]),
                values: vec![
                    (brand, ["HP", "Canon"][n % 2].into()),
                    (category, kind.into()),
                    (color, ["Red", "Black"][n % 2].into()),
                ],
                ..Fields::default()
            });
        }
        let behaviour = Behaviour { answered: 1.0, focus: 0.1, breadth: 5.0, beside: 0.4 };
        builder.query("hp ink", Logged { shoppers: 90, behaviour, category: Some("Printers".into()) });
        Lexicon::read(&builder.finish()).unwrap()
    }

    const SETTINGS: Settings = Settings { correct: true, floor: 1, language: "en", keep: &[] };

    #[test]
    fn the_issues_own_query() {
        let read = read(&lexicon(), "wireless hp printr under 100 for mac", &SETTINGS);
        assert_eq!(read.corrected(), "wireless hp printer under 100 for mac");
        assert_eq!(read.text, "wireless hp printer for mac");
        assert_eq!(read.price.as_ref().unwrap().0, Price { lt: Some(100.0), ..Price::default() });
        let kinds: Vec<(&str, &str)> = read.entities.iter().map(|e| (e.kind.as_str(), e.value.as_str())).collect();
        assert_eq!(kinds, [("brand", "HP"), ("category", "Printers"), ("target", "mac")]);
        assert_eq!(read.tokens[read.head.unwrap()].text, "printer");
    }

    #[test]
    fn a_phone_case_is_a_case() {
        for text in ["phone case", "red phone case", "phone case red", "case for phone", "canon case without phone"] {
            let read = read(&lexicon(), text, &SETTINGS);
            assert_eq!(read.tokens[read.head.unwrap()].text, "case", "{text}");
        }
    }

    #[test]
    fn a_query_that_says_nothing_special_is_searched_as_it_is() {
        let read = read(&lexicon(), "  Wireless  HP Printer ", &SETTINGS);
        assert_eq!(read.text, "Wireless  HP Printer");
        assert!(read.corrections.is_empty());
    }

    #[test]
    fn what_is_not_wanted_and_where_shoppers_went() {
        let lexicon = lexicon();
        let one = read(&lexicon, "printer not red", &SETTINGS);
        assert_eq!((one.text.as_str(), one.unwanted()), ("printer", vec!["red".to_owned()]));
        let category = read(&lexicon, "HP ink", &SETTINGS).category.unwrap();
        assert_eq!((category.value.as_str(), category.from), ("Printers", "behaviour"));
    }

    #[test]
    fn nothing_is_corrected_where_the_caller_says_so() {
        let read = read(&lexicon(), "printr", &Settings { correct: false, ..SETTINGS });
        assert_eq!((read.text.as_str(), read.corrections.len()), ("printr", 0));
    }

    #[test]
    fn a_word_that_is_newer_than_the_lexicon_is_kept() {
        let new = ["printr".to_owned()];
        let read = read(&lexicon(), "printr wirelss", &Settings { keep: &new, ..SETTINGS });
        assert_eq!(read.text, "printr wireless");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,60}") {
            let lexicon = lexicon();
            let mut read = read(&lexicon, &text, &SETTINGS);
            read.classify(&lexicon, 1, None);
            let _ = read.to_json(Some("price"));
        }
    }
}
