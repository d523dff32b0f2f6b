//! What the catalog's own words and values are: to correct a query, to find entities in it, to complete it.
//!
//! Built by refresh from the items and the logged queries, kept as one row of bytes beside the item table, and read by a
//! backend as it is: three finite-state maps need no building and little memory (a catalog of 19,406 items: see README).
//! Counts go along everywhere, since what fewer items hold than a caller may learn of must not show.

use fst::{Automaton, IntoStreamer, Map, MapBuilder, Streamer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use super::intent::Classifier;
use super::normalize::{self, Form};

/// Words of a value that are matched.
pub const LONGEST_VALUE: usize = 6;
/// Values of jsonb keys, pairs of words, and words that are kept: the most frequent.
const MOST_VALUES: usize = 60_000;
const MOST_PAIRS: usize = 120_000;
const MOST_WORDS: usize = 400_000;

/// A column, or a key of a jsonb column, whose values are entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The item table's column.
    pub name: String,
    /// The jsonb key, where the column is jsonb.
    pub key: Option<String>,
    /// What its values are: brand, category, color, size, material, or the column's own name.
    pub kind: String,
    /// Whether the column is an array, so that a filter has to say `contains`.
    pub array: bool,
}

impl Column {
    /// A column with the kind that its name says.
    pub fn new(name: &str, key: Option<&str>, role: Option<&str>, array: bool) -> Column {
        let kind = role.map_or_else(|| kind(key.unwrap_or(name)), str::to_owned);
        Column { name: name.to_owned(), key: key.map(str::to_owned), kind, array }
    }
}

/// What values of a column are, by its name.
fn kind(name: &str) -> String {
    let lower = name.to_lowercase();
    let any = |names: &[&str]| names.iter().any(|n| lower.contains(n));
    let known = if any(&["color", "colour", "颜色", "farbe"]) {
        "color"
    } else if any(&["material", "fabric", "材质", "材料", "面料"]) {
        "material"
    } else if lower == "size" || lower.ends_with("_size") || any(&["尺码", "尺寸"]) {
        "size"
    } else if any(&["brand", "manufacturer", "品牌"]) {
        "brand"
    } else if matches!(lower.as_str(), "type" | "product_type" | "类型") {
        "type"
    } else if any(&["category", "department", "类目", "分类"]) {
        "category"
    } else {
        return lower;
    };
    known.to_owned()
}

/// What a span of a query may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Index of its column.
    pub column: u16,
    /// As the items have it.
    pub text: String,
    /// How many items have it.
    pub items: u32,
}

/// A word of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// Items whose title or values hold it; shoppers' queries count too.
    pub shown: u32,
    /// Items that hold it anywhere.
    pub anywhere: u32,
    /// Whether the language model's vocabulary has it as a whole word.
    pub language: bool,
}

impl Word {
    fn pack(self) -> u64 {
        u64::from(self.shown.min((1 << 31) - 1)) << 32
            | u64::from(self.anywhere.min((1 << 31) - 1)) << 1
            | u64::from(self.language)
    }

    fn unpack(value: u64) -> Word {
        Word { shown: (value >> 32) as u32, anywhere: (value as u32) >> 1, language: value & 1 == 1 }
    }
}

/// A logged query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// By how many shoppers.
    pub shoppers: u32,
    /// The category that shoppers went to, as a place in `Lexicon::categories` from 1; 0 where none stands out.
    pub category: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Header {
    items: u32,
    columns: Vec<Column>,
    categories: Vec<String>,
    /// Lengths of words, values, entries, pairs, queries, intent.
    sections: [usize; 6],
}

type Bytes = Vec<u8>;

/// A catalog's lexicon, ready to be asked.
#[derive(Default)]
pub struct Lexicon {
    header: Header,
    words: Map<Bytes>,
    values: Map<Bytes>,
    entries: Bytes,
    pairs: Map<Bytes>,
    queries: Map<Bytes>,
    intent: Option<Classifier>,
}

impl Lexicon {
    /// Reads what `Builder::finish` wrote; `None` for anything else.
    pub fn read(bytes: &[u8]) -> Option<Lexicon> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (header, mut rest) = rest.split_at_checked(length)?;
        let header: Header = serde_json::from_slice(header).ok()?;
        let mut take = |n: usize| -> Option<Bytes> {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head.to_vec())
        };
        let [words, values, entries, pairs, queries, intent] = header.sections;
        let map = |bytes: Bytes| Map::new(bytes).ok();
        Some(Lexicon {
            words: map(take(words)?)?,
            values: map(take(values)?)?,
            entries: take(entries)?,
            pairs: map(take(pairs)?)?,
            queries: map(take(queries)?)?,
            intent: Classifier::read(&take(intent)?),
            header,
        })
    }

    /// How many items it was built of.
    pub fn items(&self) -> u32 {
        self.header.items
    }

    /// A column of a value.
    pub fn column(&self, index: u16) -> Option<&Column> {
        self.header.columns.get(usize::from(index))
    }

    /// A word; `None` where the catalog does not have it.
    pub fn word(&self, word: &str) -> Option<Word> {
        self.words.get(word).map(Word::unpack)
    }

    /// In how many titles one word follows the other, as far as it is more than one.
    pub fn pair(&self, first: &str, second: &str) -> u32 {
        self.pairs.get(format!("{first} {second}")).unwrap_or(0) as u32
    }

    /// The values that folded words spell, those of most items first.
    pub fn values(&self, folded: &str) -> Vec<Value> {
        self.values.get(folded).map(|at| self.entries_at(at as usize)).unwrap_or_default()
    }

    /// Whether some value begins with these folded words.
    pub fn begins_value(&self, folded: &str) -> bool {
        let prefix = fst::automaton::Str::new(folded).starts_with();
        self.values.search(prefix).into_stream().next().is_some()
    }

    fn entries_at(&self, at: usize) -> Vec<Value> {
        read_entries(self.entries.get(at..).unwrap_or(&[])).unwrap_or_default()
    }

    /// A logged query.
    pub fn asked(&self, normalized: &str) -> Option<Asked> {
        self.queries.get(normalized).map(|v| Asked { shoppers: (v >> 32) as u32, category: v as u32 })
    }

    /// A category by the place that `Asked` names.
    pub fn category(&self, place: u32) -> Option<&str> {
        self.header.categories.get((place as usize).checked_sub(1)?).map(String::as_str)
    }

    /// The intent classifier, where one was trained for the catalog's model.
    pub fn intent(&self) -> Option<&Classifier> {
        self.intent.as_ref()
    }

    /// Words that an automaton accepts.
    pub fn words_like(&self, automaton: impl Automaton, mut each: impl FnMut(&str, Word)) {
        let mut stream = self.words.search(automaton).into_stream();
        while let Some((word, value)) = stream.next() {
            if let Ok(word) = std::str::from_utf8(word) {
                each(word, Word::unpack(value));
            }
        }
    }

    /// Calls `each` with what begins with `prefix`, at most `most` of each sort: logged queries, values, pairs, words.
    pub fn completions(&self, prefix: &str, most: usize, mut each: impl FnMut(&str, Completion)) {
        let stream = |map: &Map<Bytes>, each: &mut dyn FnMut(&str, u64)| {
            let mut stream = map.search(fst::automaton::Str::new(prefix).starts_with()).into_stream();
            let mut left = most;
            while let Some((text, value)) = stream.next() {
                if left == 0 {
                    break;
                }
                left -= 1;
                if let Ok(text) = std::str::from_utf8(text) {
                    each(text, value);
                }
            }
        };
        stream(&self.queries, &mut |text, value| each(text, Completion::Query((value >> 32) as u32)));
        stream(&self.values, &mut |text, at| {
            for value in self.entries_at(at as usize) {
                each(text, Completion::Value(value));
            }
        });
        stream(&self.pairs, &mut |text, value| each(text, Completion::Pair(value as u32)));
        stream(&self.words, &mut |text, value| each(text, Completion::Word(Word::unpack(value))));
    }
}

/// What completes a prefix.
#[derive(Debug, Clone, PartialEq)]
pub enum Completion {
    /// A logged query, by so many shoppers.
    Query(u32),
    /// A value.
    Value(Value),
    /// Two words, in so many titles.
    Pair(u32),
    /// A word.
    Word(Word),
}

const MAGIC: &[u8] = b"persona lexicon 1\n";

fn read_entries(mut rest: &[u8]) -> Option<Vec<Value>> {
    let mut take = |n: usize| -> Option<&[u8]> {
        let (head, tail) = rest.split_at_checked(n)?;
        rest = tail;
        Some(head)
    };
    let count = u16::from_le_bytes(take(2)?.try_into().ok()?);
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let column = u16::from_le_bytes(take(2)?.try_into().ok()?);
        let items = u32::from_le_bytes(take(4)?.try_into().ok()?);
        let length = u16::from_le_bytes(take(2)?.try_into().ok()?);
        let text = std::str::from_utf8(take(usize::from(length))?).ok()?.to_owned();
        values.push(Value { column, text, items });
    }
    Some(values)
}

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

/// Counts items into a lexicon.
#[derive(Default)]
pub struct Builder {
    items: u32,
    columns: Vec<Column>,
    words: HashMap<String, Word>,
    pairs: HashMap<String, u32>,
    values: HashMap<(u16, String), u32>,
    queries: Vec<(String, u32, Option<String>)>,
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
    pub fn query(&mut self, query: &str, shoppers: u32, answered: bool, category: Option<&str>) {
        let (normalized, tokens) = normalize::normalize(query);
        if normalized.is_empty() || normalized.len() > 100 {
            return;
        }
        // What led somewhere is spelt as shoppers spell it; what led nowhere may be a slip.
        if answered {
            for token in tokens {
                let word = self.words.entry(token.text).or_default();
                word.shown += shoppers;
                word.anywhere += shoppers;
            }
        }
        self.queries.push((normalized, shoppers, category.map(str::to_owned)));
    }

    /// Adds a word that the language model knows as a whole: no slip of the pen, whatever the catalog says.
    pub fn vocabulary(&mut self, word: &str) {
        self.words.entry(word.to_owned()).or_default().language = true;
    }

    /// Adds the intent classifier of the catalog's model.
    pub fn intent(&mut self, classifier: Classifier) {
        self.intent = Some(classifier);
    }

    /// How many words it holds.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
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
        let mut categories: Vec<String> = self.queries.iter().filter_map(|q| q.2.clone()).collect();
        categories.sort();
        categories.dedup();
        let queries = self.queries.into_iter().map(|(query, shoppers, category)| {
            let place = category.and_then(|c| categories.binary_search(&c).ok()).map_or(0, |at| at as u64 + 1);
            (query, u64::from(shoppers) << 32 | place)
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

/// Words and the parts of those that a hyphen joins.
fn parts(texts: &[String]) -> Vec<String> {
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        if text.contains('-') && normalize::form(text) == Form::Word {
            all.extend(text.split('-').filter(|p| !p.is_empty()).map(str::to_owned));
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
        builder.query("wireless mice", 7, true, Some("Mice"));
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
        assert!(builder.len() <= 10_001);
        assert!(Lexicon::read(&builder.finish()).unwrap().word("common").is_some());
    }
}
