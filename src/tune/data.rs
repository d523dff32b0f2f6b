//! What a run learns from, as the source's rows say it.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::options::Task;
use crate::random::Random;

/// A query and an item that answers it, or (with `rank`) how well it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The query.
    pub query: String,
    /// The item's text.
    pub item: String,
    /// How well it answers; larger is better.
    pub grade: f32,
}

/// An item of a shop without behaviour: what stands for a query of it, and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its title.
    pub title: String,
    /// Its text, as it is embedded.
    pub text: String,
    /// Its brand, category and attributes.
    pub names: Vec<String>,
}

impl Item {
    /// All that is said of it: whatever query's words stand here, it might answer.
    pub(super) fn said(&self) -> String {
        format!("{}\n{}", self.text, self.names.join(" "))
    }
}

/// A text and the spans of it that bear a label, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tagged {
    /// The text.
    pub text: String,
    /// Where, and what.
    pub spans: Vec<(Range<usize>, String)>,
}

impl Tagged {
    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.text.len() + 64 * self.spans.len()
    }
}

/// A text in which names are found: an item's title with its own names, or a query with those of the items that were taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    text: String,
    /// Where a name stands, which kind of name it is (the order in which the kinds came), and for how many items.
    found: Vec<(Range<usize>, usize, usize)>,
    kinds: Vec<String>,
}

impl Named {
    /// A text in which nothing was looked for yet.
    pub fn of(text: String) -> Named {
        Named { text, found: Vec::new(), kinds: Vec::new() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Looks for the names of one item: kind and value.
    pub fn add<'a>(&mut self, names: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut mine: BTreeSet<(usize, usize, usize)> = BTreeSet::new();
        for (kind, value) in names {
            let place = self.kinds.iter().position(|known| known == kind).unwrap_or_else(|| {
                self.kinds.push(kind.to_owned());
                self.kinds.len() - 1
            });
            if let Some(at) = stands_in(&self.text, value) {
                mine.insert((at.start, at.end, place));
            }
        }
        for (start, end, kind) in mine {
            match self.found.iter_mut().find(|(at, known, _)| *at == (start..end) && *known == kind) {
                Some((.., items)) => *items += 1,
                None => self.found.push((start..end, kind, 1)),
            }
        }
    }

    /// The names that do not overlap: those of most items first, then the longest, then by kind.
    pub fn tagged(mut self) -> Tagged {
        self.found.sort_by(|(a, kind, items), (b, other, count)| {
            count.cmp(items).then(b.len().cmp(&a.len())).then(kind.cmp(other)).then(a.start.cmp(&b.start))
        });
        let mut spans: Vec<(Range<usize>, String)> = Vec::new();
        for (at, kind, _) in self.found {
            if !spans.iter().any(|(other, _)| other.start < at.end && at.start < other.end) {
                spans.push((at, self.kinds[kind].clone()));
            }
        }
        spans.sort_by_key(|(at, _)| at.start);
        Tagged { text: self.text, spans }
    }
}

/// The rows of a source.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Texts, each with its label.
    Labelled(Vec<(String, String)>),
    /// Queries and items that answer them.
    Pairs(Vec<Pair>),
    /// Queries and items with grades.
    Graded(Vec<Pair>),
    /// Items alone.
    Items(Vec<Item>),
    /// Texts with spans.
    Tagged(Vec<Tagged>),
}

impl Data {
    /// Brings the rows into an order that does not depend on how the database returned them.
    pub fn sorted(mut self) -> Data {
        match &mut self {
            Data::Labelled(rows) => rows.sort(),
            Data::Pairs(rows) | Data::Graded(rows) => {
                rows.sort_by(|a, b| (&a.query, &a.item).cmp(&(&b.query, &b.item)).then(a.grade.total_cmp(&b.grade)))
            }
            Data::Items(rows) => rows.sort_by(|a, b| (&a.title, &a.text, &a.names).cmp(&(&b.title, &b.text, &b.names))),
            Data::Tagged(rows) => rows.sort_by(|a, b| {
                let spans = |t: &Tagged| t.spans.iter().map(|(r, l)| (r.start, r.end, l.clone())).collect::<Vec<_>>();
                a.text.cmp(&b.text).then_with(|| spans(a).cmp(&spans(b)))
            }),
        }
        self
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Data::Labelled(rows) => rows.len(),
            Data::Pairs(rows) | Data::Graded(rows) => rows.len(),
            Data::Items(rows) => rows.len(),
            Data::Tagged(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The task that it is for.
    pub fn task(&self) -> Task {
        match self {
            Data::Labelled(_) => Task::Classify,
            Data::Pairs(_) | Data::Items(_) => Task::Embed,
            Data::Graded(_) => Task::Rank,
            Data::Tagged(_) => Task::Tag,
        }
    }

    /// What tells these rows from others: a run goes on only over the rows that it began with.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut put = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        match self {
            Data::Labelled(rows) => rows.iter().for_each(|(text, label)| {
                put(text);
                put(label);
            }),
            Data::Pairs(rows) | Data::Graded(rows) => rows.iter().for_each(|row| {
                put(&row.query);
                put(&row.item);
                put(&row.grade.to_string());
            }),
            Data::Items(rows) => rows.iter().for_each(|row| {
                put(&row.title);
                put(&row.text);
                row.names.iter().for_each(|name| put(name));
            }),
            Data::Tagged(rows) => rows.iter().for_each(|row| {
                put(&row.text);
                row.spans.iter().for_each(|(at, label)| put(&format!("{} {} {label}", at.start, at.end)));
            }),
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Where a value stands in a text as whole words, whatever its case; the bytes of its first place.
pub fn stands_in(text: &str, value: &str) -> Option<Range<usize>> {
    let value = value.trim();
    if value.chars().count() < 2 {
        return None;
    }
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.char_indices().map(|(at, _)| at).find_map(|at| {
        if !edge(text[..at].chars().next_back()) {
            return None;
        }
        let mut rest = text[at..].char_indices();
        for wanted in value.chars() {
            let (_, found) = rest.next()?;
            if found != wanted && !found.to_lowercase().eq(wanted.to_lowercase()) {
                return None;
            }
        }
        let end = at + rest.next().map_or(text.len() - at, |(end, _)| end);
        edge(text[end..].chars().next()).then_some(at..end)
    })
}

/// The words of a text, hashed.
pub(super) fn words(text: &str) -> HashSet<u64> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let mut hasher = DefaultHasher::new();
            word.to_lowercase().hash(&mut hasher);
            hasher.finish()
        })
        .collect()
}

/// What a shopper might type for an item: one to four words of its title that stand together, its names, or both. Short,
/// as queries are; the item's text is the answer.
pub(super) fn asked(item: &Item, random: &mut Random) -> String {
    let title: Vec<&str> = item.title.split_whitespace().collect();
    let mut span = || -> String {
        if title.is_empty() {
            return String::new();
        }
        let length = 1 + random.below(4.min(title.len()));
        let first = random.below(title.len() - length + 1);
        title.get(first..first + length).unwrap_or_default().join(" ")
    };
    let span = span();
    let name = |random: &mut Random| item.names.get(random.below(item.names.len())).cloned().unwrap_or_default();
    match random.below(4) {
        _ if item.names.is_empty() => span,
        0 => name(random),
        1 => format!("{} {}", name(random), name(random)),
        2 => format!("{} {span}", name(random)),
        _ => span,
    }
}

/// What is shown of an item to answer a query made of it: nine times in ten without its title, whose words the query
/// repeats, so that meaning has to be learnt and not wording (the inverse cloze task, Lee et al. 2019,
/// <https://arxiv.org/abs/1906.00300>).
pub(super) fn shown<'a>(item: &'a Item, random: &mut Random) -> &'a str {
    let rest = item.text.strip_prefix(item.title.trim()).map(str::trim).unwrap_or_default();
    let enough = rest.split_whitespace().nth(2).is_some();
    if random.uniform() < 0.9 && enough { rest } else { &item.text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_titles_as_words() {
        assert_eq!(stands_in("Red Canvas Shoe", "canvas"), Some(4..10));
        assert_eq!(stands_in("Red Canvas Shoe", "can"), None);
        assert_eq!(stands_in("Café CRÈME, 5", "café crème"), Some(0..12));
        assert_eq!(stands_in("a HP", "hp"), Some(2..4));
        assert_eq!(stands_in("a", "a"), None);
    }

    #[test]
    fn names_stand_where_taken_items_bear_them() {
        let mut query = Named::of("apple phone case".into());
        query.add(
            [("brand", "Apple"), ("category", "Phone Case"), ("model", "phone"), ("material", "leather")].into_iter(),
        );
        query.add(
            [("brand", "Cover & Co"), ("category", "phone case"), ("flavor", "apple"), ("flavor", "apple")].into_iter(),
        );
        query.add([("brand", "apple")].into_iter());
        let spans = query.tagged().spans;
        assert_eq!(spans, [(0..5, "brand".to_owned()), (6..16, "category".to_owned())]);
        assert!(Named::of("warm and dry".into()).tagged().spans.is_empty());
    }

    #[test]
    fn queries_are_made_of_the_item() {
        let item = Item {
            title: "Red Canvas Shoe 42".into(),
            text: "Red Canvas Shoe 42\nfor summer".into(),
            names: vec!["Alba".into(), "Shoes".into()],
        };
        let (mut random, mut seen) = (Random::named(1, "asked"), HashSet::new());
        for _ in 0..200 {
            let query = asked(&item, &mut random);
            assert!(!query.trim().is_empty() && query.split_whitespace().count() <= 5, "{query:?}");
            seen.insert(query);
        }
        assert!(seen.contains("Alba") && seen.contains("Canvas Shoe") && seen.len() > 20, "{seen:?}");
    }

    #[test]
    fn the_order_of_rows_says_nothing() {
        let rows = [("b", "x"), ("a", "y"), ("a", "x")].map(|(t, l)| (t.to_owned(), l.to_owned()));
        let (one, mut turned) = (rows.to_vec(), rows.to_vec());
        turned.reverse();
        assert_eq!(Data::Labelled(one).sorted().digest(), Data::Labelled(turned).sorted().digest());
    }
}
