//! Building a lexicon: items and queries are counted within a bound of memory, and packed.

use super::behaviour::Behaviour;
use super::intent::Classifier;
use super::lexicon::{Asked, Column, Header, LONGEST_VALUE, MAGIC, Value, Word};
use super::normalize::{self, Form};
use fst::MapBuilder;
use std::collections::HashMap;

/// Values, pairs of words, and words that are kept: the most frequent.
const MOST_VALUES: usize = 60_000;
const MOST_PAIRS: usize = 120_000;
const MOST_WORDS: usize = 400_000;

/// An item as the lexicon reads it.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// The title.
    pub title: String,
    /// The body's columns.
    pub body: String,
    /// Values by column index.
    pub values: Vec<(u16, String)>,
}

/// What was logged of a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logged {
    /// How many shoppers asked it.
    pub shoppers: u32,
    /// What they did then.
    pub behaviour: Behaviour,
    /// The category that most of them went to, where one stands out.
    pub category: Option<String>,
}

/// Counts items into a lexicon.
#[derive(Default)]
pub struct Builder {
    items: u32,
    columns: Vec<Column>,
    words: HashMap<String, Word>,
    pairs: HashMap<String, u32>,
    values: HashMap<(u16, String), u32>,
    queries: Vec<(String, Logged)>,
    /// Entries of a map before the rare ones are forgotten.
    most: usize,
    intent: Option<Classifier>,
}

impl Builder {
    /// A builder that keeps to about `memory` bytes.
    pub fn new(memory: usize) -> Builder {
        // An entry takes some 100 bytes with its text; three maps share the memory.
        Builder { most: (memory / 300).max(10_000), ..Builder::default() }
    }

    /// The place of a column, made where it is new; `None` once there are too many.
    pub fn column(&mut self, column: Column) -> Option<u16> {
        let at = self.columns.iter().position(|c| c.name == column.name && c.key == column.key);
        let at = at.unwrap_or_else(|| {
            self.columns.push(column);
            self.columns.len() - 1
        });
        u16::try_from(at).ok()
    }

    /// Counts an item.
    pub fn add(&mut self, fields: &Fields) {
        self.items += 1;
        let title = normalize::texts(&fields.title);
        let mut seen: HashMap<String, bool> = HashMap::new();
        for word in parts(&title) {
            seen.insert(word, true);
        }
        for pair in title.windows(2) {
            if pair[0].len() + pair[1].len() <= 40 {
                *self.pairs.entry(format!("{} {}", pair[0], pair[1])).or_default() += 1;
            }
        }
        let mut held: Vec<(u16, &str)> = Vec::new();
        for (column, value) in &fields.values {
            let value = value.trim();
            for word in parts(&normalize::texts(value)) {
                seen.insert(word, true);
            }
            if !value.is_empty() && value.len() <= 80 && !held.contains(&(*column, value)) {
                held.push((*column, value));
            }
        }
        for (column, value) in held {
            *self.values.entry((column, value.to_owned())).or_default() += 1;
        }
        for word in parts(&normalize::texts(&fields.body)) {
            seen.entry(word).or_insert(false);
        }
        for (word, shown) in seen {
            if word.len() <= 40 {
                let count = self.words.entry(word).or_default();
                count.anywhere += 1;
                count.shown += u32::from(shown);
            }
        }
        if self.pairs.len() > self.most {
            forget(&mut self.pairs, |n| *n);
        }
        if self.values.len() > self.most {
            forget(&mut self.values, |n| *n);
        }
        if self.words.len() > self.most {
            forget(&mut self.words, |w| w.anywhere);
        }
    }

    /// Adds a logged query: how many shoppers asked it, and the category they went to.
    pub fn query(&mut self, query: &str, logged: Logged) {
        let (normalized, tokens) = normalize::normalize(query);
        if normalized.is_empty() || normalized.len() > 100 {
            return;
        }
        // What led somewhere is spelt as shoppers spell it; what led nowhere may be a slip.
        if logged.behaviour.answered > 0.0 {
            for token in tokens {
                let word = self.words.entry(token.text).or_default();
                word.shown += logged.shoppers;
                word.anywhere += logged.shoppers;
            }
        }
        self.queries.push((normalized, logged));
    }

    /// Adds a word that the language model knows as a whole: no slip of the pen, whatever the catalog says.
    pub fn vocabulary(&mut self, word: &str) {
        self.words.entry(word.to_owned()).or_default().language = true;
    }

    /// Adds the intent classifier of the catalog's model.
    pub fn intent(&mut self, classifier: Classifier) {
        self.intent = Some(classifier);
    }

    /// How many words of items and queries it holds.
    pub fn words(&self) -> usize {
        self.words.values().filter(|word| word.anywhere > 0).count()
    }

    /// The bytes that `Lexicon::read` reads. The same counts make the same bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut words: Vec<(String, Word)> = self
            .words
            .into_iter()
            // A rare word of descriptions alone is as likely a slip as a word.
            .filter(|(text, w)| w.language || w.shown > 0 || (w.anywhere > 2 && normalize::form(text) == Form::Word))
            .collect();
        words.sort_unstable_by(|a, b| {
            b.1.shown.cmp(&a.1.shown).then(b.1.anywhere.cmp(&a.1.anywhere)).then_with(|| a.0.cmp(&b.0))
        });
        words.truncate(MOST_WORDS);
        let mut pairs: Vec<(String, u32)> = self.pairs.into_iter().filter(|(_, n)| *n > 1).collect();
        pairs.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        pairs.truncate(MOST_PAIRS);
        let (values, entries) = values(&self.columns, self.values);
        let mut categories: Vec<String> =
            self.queries.iter().filter_map(|(_, logged)| logged.category.clone()).collect();
        categories.sort();
        categories.dedup();
        let queries = self.queries.into_iter().map(|(query, logged)| {
            let category =
                logged.category.and_then(|c| categories.binary_search(&c).ok()).map_or(0, |at| at as u32 + 1);
            (query, Asked { shoppers: logged.shoppers, category, behaviour: logged.behaviour }.pack())
        });
        let sections = [
            map(words.into_iter().map(|(text, w)| (text, w.pack()))),
            map(values.into_iter()),
            entries,
            map(pairs.into_iter().map(|(text, n)| (text, u64::from(n)))),
            map(queries),
            self.intent.map(|c| c.to_bytes()).unwrap_or_default(),
        ];
        let lengths = [0, 1, 2, 3, 4, 5].map(|n| sections.get(n).map_or(0, Vec::len));
        let header = Header { items: self.items, columns: self.columns, categories, sections: lengths };
        let header = serde_json::to_vec(&header).unwrap_or_default();
        let mut out = MAGIC.to_vec();
        out.extend((header.len() as u32).to_le_bytes());
        out.extend(header);
        sections.iter().for_each(|s| out.extend(s));
        out
    }
}

/// Words and the parts of those that a hyphen or a point joins: shoppers write `startech.com` in one, two and three ways.
fn parts(texts: &[String]) -> Vec<String> {
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        if text.contains(['-', '.']) && normalize::form(text) == Form::Word {
            all.extend(text.split(['-', '.']).filter(|p| !p.is_empty()).map(str::to_owned));
        }
        all.push(text.clone());
    }
    all
}

/// Drops the rarer half.
fn forget<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, count: impl Fn(&V) -> u32) {
    let mut counts: Vec<u32> = map.values().map(&count).collect();
    let middle = counts.len() / 2;
    let (_, floor, _) = counts.select_nth_unstable(middle);
    let floor = *floor;
    map.retain(|_, v| count(v) > floor);
}

/// Values by their folded words, and the entries that they point at.
fn values(columns: &[Column], counted: HashMap<(u16, String), u32>) -> (Vec<(String, u64)>, Vec<u8>) {
    let mut all: Vec<(String, Value)> = Vec::new();
    for ((column, text), items) in counted {
        let Some(of) = columns.get(usize::from(column)) else { continue };
        // A jsonb key's value of one item is a remark, not a choice.
        if items < 2 && of.key.is_some() {
            continue;
        }
        if let Some(folded) = folded(&text, &of.kind) {
            all.push((folded, Value { column, text, items }));
        }
    }
    all.sort_unstable_by(|a, b| {
        b.1.items.cmp(&a.1.items).then_with(|| (a.1.column, &a.1.text).cmp(&(b.1.column, &b.1.text)))
    });
    all.truncate(MOST_VALUES);
    let mut by_key: HashMap<String, Vec<Value>> = HashMap::new();
    for (key, value) in all {
        by_key.entry(key).or_default().push(value);
    }
    let mut keys: Vec<(String, Vec<Value>)> = by_key.into_iter().collect();
    keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut entries = Vec::new();
    let mut places = Vec::with_capacity(keys.len());
    for (key, mut values) in keys {
        values.truncate(32);
        places.push((key, entries.len() as u64));
        entries.extend((values.len() as u16).to_le_bytes());
        for value in values {
            entries.extend(value.column.to_le_bytes());
            entries.extend(value.items.to_le_bytes());
            entries.extend((value.text.len() as u16).to_le_bytes());
            entries.extend(value.text.as_bytes());
        }
    }
    (places, entries)
}

/// A value's words as a query would spell them; `None` for what is no name: too long, or a bare number.
pub fn folded(text: &str, kind: &str) -> Option<String> {
    let (_, tokens) = normalize::normalize(text);
    let named =
        tokens.iter().any(|t| matches!(t.form, Form::Word | Form::Model) && t.text.chars().any(char::is_alphabetic));
    if tokens.is_empty() || tokens.len() > LONGEST_VALUE || !(named || kind == "size") {
        return None;
    }
    let words: Vec<String> = tokens.iter().filter(|t| t.form != Form::Mark).map(|t| normalize::fold(&t.text)).collect();
    Some(words.join(" "))
}

fn map(entries: impl Iterator<Item = (String, u64)>) -> Vec<u8> {
    let mut sorted: Vec<(String, u64)> = entries.collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    sorted.dedup_by(|a, b| a.0 == b.0);
    let mut builder = MapBuilder::memory();
    for (key, value) in sorted {
        // Sorted and distinct: an insertion cannot fail.
        let _ = builder.insert(key, value);
    }
    builder.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lexicon::Lexicon;
    use super::*;

    pub fn small() -> Lexicon {
        let mut builder = Builder::new(1 << 20);
        let brand = builder.column(Column::new("brand", None, Some("brand"), false)).unwrap();
        let color = builder.column(Column::new("attributes", Some("product_colour"), None, false)).unwrap();
        for n in 0..6 {
            builder.add(&Fields {
                title: format!("Wireless Mouse M{n}00"),
                body: "a mouse".into(),
                values: vec![(brand, "HP".into()), (color, if n % 2 == 0 { "Red" } else { "Black" }.into())],
            });
        }
        let behaviour = Behaviour { answered: 0.5, focus: 0.25, breadth: 2.0, beside: 0.0 };
        builder.query("wireless mice", Logged { shoppers: 7, behaviour, category: Some("Mice".into()) });
        Lexicon::read(&builder.finish()).unwrap()
    }

    #[test]
    fn what_is_counted_is_found() {
        let lexicon = small();
        assert_eq!(lexicon.word("wireless").unwrap().shown, 13);
        assert_eq!(lexicon.word("printer"), None);
        assert_eq!(lexicon.pair("wireless", "mouse"), 6);
        let values = lexicon.values("red");
        assert_eq!((values[0].text.as_str(), values[0].items), ("Red", 3));
        assert_eq!(lexicon.column(values[0].column).unwrap().kind, "color");
        let asked = lexicon.asked("wireless mice").unwrap();
        assert_eq!((asked.shoppers, lexicon.category(asked.category)), (7, Some("Mice")));
        assert!((asked.behaviour.answered - 0.5).abs() < 0.04, "{asked:?}");
    }

    #[test]
    fn the_same_items_make_the_same_bytes_and_others_are_refused() {
        let make = || {
            let mut builder = Builder::new(1 << 20);
            for n in 0..50 {
                builder.add(&Fields { title: format!("thing number {n}"), ..Fields::default() });
            }
            builder.finish()
        };
        let bytes = make();
        assert_eq!(bytes, make());
        assert!(Lexicon::read(&bytes[..bytes.len() - 1]).is_none());
        assert!(Lexicon::read(b"something else").is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut builder = Builder::new(0);
        for n in 0..30_000 {
            builder.add(&Fields { title: format!("word{n}x common"), ..Fields::default() });
        }
        assert!(builder.words() <= 10_001);
        assert!(Lexicon::read(&builder.finish()).unwrap().word("common").is_some());
    }
}
