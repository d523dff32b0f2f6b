//! What a query does not want: `without cable`, `not red`, `-red`, `不要红色`.

use super::normalize::{Form, Token};
use std::ops::Range;

/// A part of the query that excludes.
#[derive(Debug, Clone, PartialEq)]
pub struct Negation {
    /// Tokens that it takes, the word that negates among them.
    pub span: Range<usize>,
    /// Tokens of what is not wanted.
    pub what: Range<usize>,
}

/// Words that negate what follows. `no` and `not` do so before a word of a value only: see `find`.
const WITHOUT: &[&str] =
    &["without", "excluding", "except", "w/o", "minus", "不要", "不带", "除了", "不含", "没有", "非"];
const NOT: &[&str] = &["not", "no", "non"];
/// Words that end what is not wanted.
const ENDS: &[&str] = &[
    "for", "with", "and", "or", "but", "in", "of", "to", "under", "over", "below", "above", "from", "by", "的", "和",
    "但", "than",
];
const FILLERS: &[&str] = &["a", "an", "the", "any"];

/// What is excluded. `value` says how many tokens from a place on are one value of the catalog, 0 for none.
pub fn find(tokens: &[Token], value: impl Fn(usize) -> usize) -> Vec<Negation> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let text = token.text.as_str();
        if token.minus && at > 0 {
            found.push(Negation { span: at..at + 1, what: at..at + 1 });
            at += 1;
            continue;
        }
        let without = WITHOUT.contains(&text);
        let mut next = at + 1;
        while tokens.get(next).is_some_and(|t| FILLERS.contains(&t.text.as_str())) {
            next += 1;
        }
        let good = tokens.get(next).is_some_and(|t| t.form != Form::Mark && !ENDS.contains(&t.text.as_str()));
        // "no" is part of many names ("no name", "no 5"): it negates what the catalog knows as a value, and something
        // has to be wanted beside it.
        let negates = without || (NOT.contains(&text) && value(next) > 0 && at > 0);
        if negates && good && tokens.len() > next - at {
            let end = next + value(next).max(1);
            let end = end.min(tokens.len());
            found.push(Negation { span: at..end, what: next..end });
            at = end;
            // "without cable and battery": what is joined on is not wanted either.
            while at + 1 < tokens.len()
                && matches!(tokens[at].text.as_str(), "or" | "and" | "和")
                && without
                && value(at + 1) > 0
            {
                let end = (at + 1 + value(at + 1)).min(tokens.len());
                found.push(Negation { span: at..end, what: at + 1..end });
                at = end;
            }
            continue;
        }
        at += 1;
    }
    // A query that only excludes asks for nothing: then it means its words.
    let excluded: usize = found.iter().map(|n| n.span.len()).sum();
    if excluded == tokens.len() { Vec::new() } else { found }
}

#[cfg(test)]
mod tests {
    use super::super::normalize::normalize;
    use super::*;

    fn excluded(text: &str, values: &[&str]) -> Vec<String> {
        let tokens = normalize(text).1;
        let value = |at: usize| usize::from(tokens.get(at).is_some_and(|t| values.contains(&t.text.as_str())));
        find(&tokens, value)
            .into_iter()
            .map(|n| tokens[n.what].iter().map(|t| t.text.clone()).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn what_is_not_wanted() {
        assert_eq!(excluded("running shoes not red", &["red"]), ["red"]);
        assert_eq!(excluded("keyboard without numpad", &[]), ["numpad"]);
        assert_eq!(excluded("shoes -red", &[]), ["red"]);
        assert_eq!(excluded("手机壳 不要红色", &[]), ["红色"]);
        assert_eq!(excluded("phone without a cable for mac", &[]), ["cable"]);
        assert_eq!(excluded("shoes without red or blue", &["red", "blue"]), ["red", "blue"]);
    }

    #[test]
    fn names_are_not_negations() {
        assert_eq!(excluded("chanel no 5", &[]), [""; 0]);
        assert_eq!(excluded("without", &[]), [""; 0]);
        assert_eq!(excluded("wi-fi tp-link", &[]), [""; 0]);
        assert_eq!(excluded("-red", &[]), [""; 0]);
    }
}
