//! What the catalog's own words and values are: to correct a query, to find entities in it, to complete it.
//!
//! Built by refresh from the items and the logged queries, kept as one row of bytes beside the item table, and read by a
//! backend as it is: three finite-state maps need no building and little memory (a catalog of 19,406 items: see README).
//! Counts go along everywhere, since what fewer items hold than a caller may learn of must not show.

use fst::{Automaton, IntoStreamer, Map, Streamer};
use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;
use super::intent::Classifier;

/// Words of a value that are matched.
pub const LONGEST_VALUE: usize = 6;

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
    pub(super) fn pack(self) -> u64 {
        u64::from(self.shown.min((1 << 31) - 1)) << 32
            | u64::from(self.anywhere.min((1 << 31) - 1)) << 1
            | u64::from(self.language)
    }

    fn unpack(value: u64) -> Word {
        Word { shown: (value >> 32) as u32, anywhere: (value as u32) >> 1, language: value & 1 == 1 }
    }
}

/// A logged query.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Asked {
    /// By how many shoppers.
    pub shoppers: u32,
    /// The category that shoppers went to, as a place in `Lexicon::categories` from 1; 0 where none stands out.
    pub category: u32,
    /// What shoppers did then.
    pub behaviour: Behaviour,
}

impl Asked {
    /// Shoppers, then the category, then the behaviour, in 16 bits each: a shop with more categories does without some.
    pub(super) fn pack(self) -> u64 {
        let category = u16::try_from(self.category).unwrap_or(0);
        u64::from(self.shoppers) << 32 | u64::from(category) << 16 | self.behaviour.pack()
    }

    fn unpack(bits: u64) -> Asked {
        Asked {
            shoppers: (bits >> 32) as u32,
            category: bits as u32 >> 16,
            behaviour: Behaviour::unpack(bits & 0xFFFF),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Header {
    pub items: u32,
    pub columns: Vec<Column>,
    pub categories: Vec<String>,
    /// Lengths of words, values, entries, pairs, queries, intent.
    pub sections: [usize; 6],
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
        // A checksum of its own: a map whose states were altered would be walked astray.
        let map = |bytes: Bytes| Map::new(bytes).ok().filter(|map| map.as_fst().verify().is_ok());
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
        self.queries.get(normalized).map(Asked::unpack)
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
        stream(&self.queries, &mut |text, value| each(text, Completion::Query(Asked::unpack(value).shoppers)));
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

/// What the bytes begin with.
pub(super) const MAGIC: &[u8] = b"persona lexicon 2\n";

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
