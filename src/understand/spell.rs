//! Spelling: what was meant, by the catalog's own words.
//!
//! A noisy channel (Kernighan, Church and Gale, 1990): a word that nobody knows becomes the one that is likeliest to be
//! meant and to be mistyped so. Candidates come from a Levenshtein automaton over the lexicon's words; how they are
//! mistyped is a weighted distance (neighbouring keys, swapped, doubled and left-out letters cost less, the first letter
//! more); how likely they are is their count and what stands beside them in titles. What the catalog, the shoppers or
//! the language know is left alone, and so are model numbers, numbers and short words.

use super::lexicon::{Lexicon, Word};
use super::normalize::{Form, Token, form};
use levenshtein_automata::LevenshteinAutomatonBuilder;
use serde::Serialize;
use std::sync::OnceLock;

/// What was changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Correction {
    /// As it was typed.
    pub from: String,
    /// What is searched.
    pub to: String,
    /// How it came about.
    pub kind: Kind,
}

/// How a correction came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Another spelling of one word.
    Spelling,
    /// One word that should be two.
    Split,
    /// Two words that should be one.
    Join,
}

/// Letters up to which nothing is corrected.
const SHORTEST: usize = 4;
/// Letters from which two slips are corrected.
const LONG: usize = 7;
/// What a unit of distance costs against a unit of the logarithm of a count.
const SLIP: f64 = 4.0;
/// What a neighbour seen in titles is worth, per unit of its count's logarithm.
const BESIDE: f64 = 1.2;
/// Items of each of two words, from which a word that nobody knows may be the two of them run together.
const SEEN: u32 = 5;
/// A known word of one item is taken for a slip of one letter from a word so many times as frequent.
const RARE: u32 = 60;

fn automata() -> &'static [LevenshteinAutomatonBuilder; 2] {
    static AUTOMATA: OnceLock<[LevenshteinAutomatonBuilder; 2]> = OnceLock::new();
    AUTOMATA.get_or_init(|| [LevenshteinAutomatonBuilder::new(1, true), LevenshteinAutomatonBuilder::new(2, true)])
}

/// Corrects the words of a query; tokens for which `keep` says so stay. `floor` is the least count of items that may show.
pub fn correct(
    lexicon: &Lexicon,
    tokens: Vec<Token>,
    floor: u32,
    keep: impl Fn(&Token) -> bool,
) -> (Vec<Token>, Vec<Correction>) {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut changes = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let next = rest.peek().filter(|n| n.start == token.end + 1 && !n.minus && !keep(n));
        if let Some(next) = next
            && !keep(&token)
            && let Some(joined) = join(lexicon, &token, next, floor)
        {
            changes.push(Correction {
                from: format!("{} {}", token.text, next.text),
                to: joined.clone(),
                kind: Kind::Join,
            });
            let end = next.end;
            out.push(Token { text: joined, end, corrected: true, ..token });
            rest.next();
            continue;
        }
        if keep(&token) || token.form != Form::Word || is_known(lexicon, &token.text, floor) {
            out.push(token);
            continue;
        }
        let before = out.last().map(|t| t.text.clone());
        let after = rest.peek().map(|t| t.text.clone());
        match best(lexicon, &token.text, before.as_deref(), after.as_deref(), floor) {
            Some(words) => {
                let kind = if words.len() > 1 { Kind::Split } else { Kind::Spelling };
                changes.push(Correction { from: token.text.clone(), to: words.join(" "), kind });
                out.extend(words.into_iter().map(|text| Token {
                    form: form(&text),
                    text,
                    corrected: true,
                    ..token.clone()
                }));
            }
            None => out.push(token),
        }
    }
    (out, changes)
}

fn count(word: Option<Word>, floor: u32) -> u32 {
    word.map_or(0, |w| w.shown.max(w.anywhere / 4)).max(1)
        * u32::from(word.is_some_and(|w| w.shown.max(w.anywhere) >= floor.max(1)))
}

/// Whether a word is one: of the catalog, the shoppers, or the language. A part of a hyphenated word counts for it.
fn is_known(lexicon: &Lexicon, text: &str, floor: u32) -> bool {
    let whole = |text: &str| {
        let word = lexicon.word(text);
        word.is_some_and(|w| w.language || w.anywhere > 1) && (word.is_some_and(|w| w.language) || count(word, floor) > 0)
            // What stands in one item only is a word of its own, unless it is one letter off a much more frequent one.
            || word.is_some_and(|w| w.anywhere == 1)
                && floor <= 1
                && nearest_count(lexicon, text) < RARE
                && most_together(lexicon, text) < RARE
    };
    let mut letters = text.chars();
    letters.clone().count() < SHORTEST
        || letters.any(|c| !c.is_alphabetic() && !matches!(c, '-' | '.' | '\''))
        || !text.chars().all(|c| c.is_ascii() || (c.is_alphabetic() && super::segment::script(c).is_none()))
        || whole(text)
        || (text.contains('-') && text.split('-').filter(|p| !p.is_empty()).all(|p| p.len() < SHORTEST || whole(p)))
        || text.strip_suffix("'s").or_else(|| text.strip_suffix('s')).is_some_and(whole)
}

/// The count of the most frequent word one slip away.
fn nearest_count(lexicon: &Lexicon, text: &str) -> u32 {
    let mut most = 0;
    if text.chars().count() > SHORTEST {
        lexicon.words_like(automata()[0].build_dfa(text), |candidate, word| {
            if candidate != text && form(candidate) == Form::Word {
                most = most.max(word.shown);
            }
        });
    }
    most
}

/// In how many titles the two words stand side by side that a word may be run together of.
fn most_together(lexicon: &Lexicon, text: &str) -> u32 {
    let places = text.char_indices().map(|(at, _)| at).skip(2);
    places.map(|at| lexicon.pair(&text[..at], &text[at..])).max().unwrap_or(0)
}

/// The likeliest reading of a word that nobody knows; `None` where nothing is near enough.
fn best(lexicon: &Lexicon, text: &str, before: Option<&str>, after: Option<&str>, floor: u32) -> Option<Vec<String>> {
    let length = text.chars().count();
    let beside = |first: &str, last: &str| {
        let left = before.map_or(0, |b| lexicon.pair(b, first));
        let right = after.map_or(0, |a| lexicon.pair(last, a));
        BESIDE * (f64::from(left).ln_1p() + f64::from(right).ln_1p())
    };
    let mut found: Option<(f64, Vec<String>)> = None;
    let mut offer = |score: f64, words: Vec<String>| {
        let better = found.as_ref().is_none_or(|(best, kept)| score > *best || (score == *best && words < *kept));
        if better {
            found = Some((score, words));
        }
    };
    let slips = usize::from(length >= LONG);
    lexicon.words_like(automata()[slips].build_dfa(text), |candidate, word| {
        let count = count(Some(word), floor);
        if count == 0 || word.shown == 0 || form(candidate) != Form::Word || candidate.chars().count() < SHORTEST - 1 {
            return;
        }
        let cost = distance(text, candidate);
        offer(f64::from(count).ln_1p() + beside(candidate, candidate) - SLIP * cost, vec![candidate.to_owned()]);
    });
    for (at, _) in text.char_indices().skip(2) {
        let (first, last) = text.split_at(at);
        if last.chars().count() < 2 {
            continue;
        }
        let (one, two) = (count(lexicon.word(first), floor), count(lexicon.word(last), floor));
        let together = lexicon.pair(first, last);
        let both = one.min(two);
        // Two short words side by side by chance are no reading: titles have to say so.
        let long = first.len() >= SHORTEST && last.len() >= SHORTEST;
        if together >= floor.max(2) || both >= if long { SEEN } else { 4 * SEEN } && first.len().min(last.len()) > 2 {
            let score = f64::from(together.max(both / 20)).ln_1p() + beside(first, last) - SLIP * 0.6;
            offer(score, vec![first.to_owned(), last.to_owned()]);
        }
    }
    found.map(|(_, words)| words)
}

/// Two words that titles write as one.
fn join(lexicon: &Lexicon, first: &Token, second: &Token, floor: u32) -> Option<String> {
    if first.form != Form::Word || second.form != Form::Word {
        return None;
    }
    let text = format!("{}{}", first.text, second.text);
    if !text.is_ascii() || text.len() < 6 {
        return None;
    }
    let joined = lexicon.word(&text).filter(|w| w.shown >= floor.max(2))?;
    let apart = lexicon.pair(&first.text, &second.text);
    let known = |t: &Token| lexicon.word(&t.text).is_some_and(|w| w.anywhere > 1 || w.language);
    let need = if known(first) && known(second) { 10 * (apart + 1) } else { apart + 1 };
    (joined.shown >= need).then_some(text)
}

const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// Whether two letters lie beside each other on a keyboard.
fn beside(one: char, other: char) -> bool {
    let place = |c: char| {
        ROWS.iter()
            .enumerate()
            .find_map(|(row, keys)| keys.find(c).map(|at| (row as f64, at as f64 + row as f64 * 0.5)))
    };
    match (place(one), place(other)) {
        (Some(a), Some(b)) => (a.0 - b.0).abs() <= 1.0 && (a.1 - b.1).abs() <= 1.1,
        _ => false,
    }
}

/// The weighted distance of what was typed from what was meant.
pub fn distance(typed: &str, meant: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (typed.chars().collect(), meant.chars().collect());
    let width = b.len() + 1;
    let mut cost = vec![0.0f64; (a.len() + 1) * width];
    let vowel = |c: char| "aeiouy".contains(c);
    // A slip at the first letter is rarer (Pollock and Zamora, 1984).
    let place = |i: usize| if i == 0 { 0.4 } else { 0.0 };
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = i * width + j;
            let mut least = if i == 0 && j == 0 { 0.0 } else { f64::INFINITY };
            if i > 0 {
                // A letter too many: the one before it twice, or a neighbouring key along with it.
                let doubled = i > 1 && a[i - 1] == a[i - 2];
                least = least.min(cost[at - width] + if doubled { 0.6 } else { 0.9 } + place(i - 1));
            }
            if j > 0 {
                let doubled = j > 1 && b[j - 1] == b[j - 2];
                least = least.min(cost[at - 1] + if doubled { 0.6 } else { 0.85 } + place(j - 1));
            }
            if i > 0 && j > 0 {
                let (x, y) = (a[i - 1], b[j - 1]);
                let swap = if x == y {
                    0.0
                } else if beside(x, y) || (vowel(x) && vowel(y)) {
                    0.85 + place(i - 1)
                } else {
                    1.1 + place(i - 1)
                };
                least = least.min(cost[at - width - 1] + swap);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(cost[at - 2 * width - 2] + 0.75 + place(i - 2));
                }
            }
            cost[at] = least;
        }
    }
    cost.last().copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::build::{Builder, Fields};
    use super::super::normalize::normalize;
    use super::*;
    use proptest::prelude::*;

    fn lexicon() -> Lexicon {
        let mut builder = Builder::new(1 << 20);
        for n in 0..40 {
            for title in [
                "HP wireless printer",
                "Canon photo printer",
                "laptop notebook case",
                "painter canvas",
                "leather phone case",
            ] {
                builder.add(&Fields { title: format!("{title} {n}"), ..Fields::default() });
            }
        }
        builder.vocabulary("hammer");
        Lexicon::read(&builder.finish()).unwrap()
    }

    fn corrected(text: &str) -> String {
        let (tokens, _) = correct(&lexicon(), normalize(text).1, 1, |_| false);
        tokens.into_iter().map(|t| t.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn slips_of_each_kind() {
        for (typed, meant) in [
            ("hp printr", "hp printer"),
            ("cannon pritner", "canon printer"),
            ("wirreless printer", "wireless printer"),
            ("note book case", "notebook case"),
            ("wirelessprinter", "wireless printer"),
            ("lether case", "leather case"),
        ] {
            assert_eq!(corrected(typed), meant);
        }
    }

    #[test]
    fn what_is_known_or_a_number_stays() {
        for text in ["hammer", "hp printers", "tn-2420", "106r03623x", "xyzzyplugh", "17inch", "hq"] {
            assert_eq!(corrected(text), text);
        }
    }

    #[test]
    fn rare_words_do_not_show() {
        let mut builder = Builder::new(1 << 20);
        builder.add(&Fields { title: "secretword".into(), ..Fields::default() });
        builder.add(&Fields { title: "secretword".into(), ..Fields::default() });
        let lexicon = Lexicon::read(&builder.finish()).unwrap();
        let typed = || normalize("secretwrod").1;
        assert_eq!(correct(&lexicon, typed(), 5, |_| false).1, []);
        assert_eq!(correct(&lexicon, typed(), 1, |_| false).1.len(), 1);
    }

    proptest! {
        #[test]
        fn distance_is_nothing_only_for_the_same(a in "[a-z]{0,8}", b in "[a-z]{0,8}") {
            prop_assert_eq!(distance(&a, &b) == 0.0, a == b);
            prop_assert!(distance(&a, &b) <= 1.3 * a.len().max(b.len()) as f64 + 0.8);
        }
    }
}
