//! The query as tokens: one form for one meaning.
//!
//! NFKC makes full-width letters, ligatures and composed accents plain; case goes; marks that only decorate go. A token
//! is a word, a number, a unit, a model number or one of the marks that say something (`$`, `-` before a word). What is
//! counted into the lexicon passes through here too, so that query and catalog are told apart by nothing but words.

use super::segment::{self, Script};
use unicode_normalization::UnicodeNormalization;

/// Tokens of a query that are read; the rest is searched, and understood no further.
pub const MOST_TOKENS: usize = 64;
/// Characters of a text that are read.
const LONGEST: usize = 10_000;

/// What a token is by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Letters.
    Word,
    /// Digits, with a point at most.
    Number,
    /// A number and its unit in one: `4gb`, `17"`.
    Measure,
    /// Letters and digits mixed, or a long number: `106r03623`.
    Model,
    /// A mark: a currency, a percent sign.
    Mark,
}

/// A token with its place in the normalised query.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its text.
    pub text: String,
    /// Where it begins in the normalised text, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Its form.
    pub form: Form,
    /// Whether a minus stands before it, as in `-red`.
    pub minus: bool,
    /// Whether `text` is a correction of what stands there.
    pub corrected: bool,
}

/// What of a text is read.
pub fn head(text: &str) -> &str {
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

/// The normalised text and its tokens, all of them.
pub fn normalize(text: &str) -> (String, Vec<Token>) {
    let mut clean = String::with_capacity(text.len().min(4 * LONGEST));
    let mut gap = true;
    // Before NFKC, which makes two primes of it.
    let inch = |c: char| if c == '\u{2033}' { '"' } else { c };
    for c in head(text).chars().map(inch).nfkc().flat_map(char::to_lowercase) {
        let c = match c {
            '\u{2018}' | '\u{2019}' | '\u{02BC}' | '`' | '´' => '\'',
            '\u{201C}' | '\u{201D}' => '"',
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            '®' | '™' | '©' | '\u{200B}'..='\u{200D}' | '\u{FEFF}' | '\u{00AD}' => continue,
            c if c.is_control() => ' ',
            c => c,
        };
        if c.is_whitespace() {
            if !gap {
                clean.push(' ');
            }
            gap = true;
        } else {
            clean.push(c);
            gap = false;
        }
    }
    clean.truncate(clean.trim_end().len());
    let tokens = tokens(&clean);
    (clean, tokens)
}

/// The token texts of a value or a title: what the lexicon's forms are made of.
pub fn texts(text: &str) -> Vec<String> {
    normalize(text).1.into_iter().filter(|t| t.form != Form::Mark).map(|t| t.text).collect()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else { break };
        let before = text[..at].chars().next_back();
        if let Some(kind) = segment::script(c) {
            let end =
                rest.char_indices().find(|(_, c)| segment::script(*c) != Some(kind)).map_or(rest.len(), |(e, _)| e);
            let pieces = if kind == Script::Han { segment::chinese(&rest[..end]) } else { vec![(0, end)] };
            let minus = before == Some('-') && is_apart(&text[..at - 1]);
            for (start, stop) in pieces {
                found.push(Token {
                    text: rest[start..stop].to_owned(),
                    start: at + start,
                    end: at + stop,
                    form: Form::Word,
                    minus: minus && start == 0,
                    corrected: false,
                });
            }
            at += end;
        } else if c.is_alphanumeric() {
            let end = word_end(rest);
            let minus = before == Some('-') && is_apart(&text[..at - 1]);
            push_word(&rest[..end], at, minus, &mut found);
            at += end;
        } else {
            if matches!(c, '$' | '€' | '£' | '¥' | '₹' | '₩' | '%') {
                let end = at + c.len_utf8();
                found.push(Token {
                    text: c.to_string(),
                    start: at,
                    end,
                    form: Form::Mark,
                    minus: false,
                    corrected: false,
                });
            } else if c == '"'
                && let Some(last) = found.last_mut().filter(|t| t.end == at && t.form == Form::Number)
            {
                // An inch, not a quotation: it follows a number at once.
                last.text.push_str("inch");
                last.end = at + 1;
                last.form = Form::Measure;
            }
            at += c.len_utf8();
        }
    }
    found
}

/// Whether what comes next begins a word of its own.
fn is_apart(before: &str) -> bool {
    before.chars().next_back().is_none_or(char::is_whitespace)
}

/// The end of a word: letters, digits, and the marks that join them (`wi-fi`, `o'reilly`, `6.5`, `startech.com`).
fn word_end(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if segment::script(c).is_some() {
            return at;
        }
        if c.is_alphanumeric() || is_accent(c) {
            continue;
        }
        let joins = matches!(c, '-' | '.' | '\'' | ',' | '+');
        let next = chars.peek().map(|(_, n)| *n);
        let digits = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let inside = next.is_some_and(|n| n.is_alphanumeric() && segment::script(n).is_none());
        let good = match c {
            ',' => digits(text[..at].chars().next_back()) && digits(next),
            '+' => false,
            _ => inside,
        };
        if !(joins && good) {
            return at;
        }
    }
    text.len()
}

fn is_accent(c: char) -> bool {
    matches!(u32::from(c), 0x300..=0x36F | 0x0900..=0x0DFF)
}

fn push_word(word: &str, at: usize, minus: bool, found: &mut Vec<Token>) {
    let form = form(word);
    let text = if form == Form::Number { word.replace(',', "") } else { word.to_owned() };
    found.push(Token { text, start: at, end: at + word.len(), form, minus, corrected: false });
}

/// The form of a word.
pub fn form(word: &str) -> Form {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    if digits == 0 {
        return Form::Word;
    }
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    if letters == 0 {
        let plain = !word.contains(['-', '\'']) && word.matches('.').count() <= 1;
        return if plain && digits < 6 { Form::Number } else { Form::Model };
    }
    if measure(word).is_some() {
        return Form::Measure;
    }
    Form::Model
}

/// Units as they are written, each with its canonical name.
const UNITS: &[(&str, &[&str])] = &[
    ("inch", &["inch", "inches", "in", "''", "zoll", "寸", "英寸"]),
    ("cm", &["cm", "centimeter", "centimeters", "centimetre", "centimetres", "厘米"]),
    ("mm", &["mm", "millimeter", "millimeters", "millimetre", "毫米"]),
    ("m", &["m", "meter", "meters", "metre", "metres", "米"]),
    ("ft", &["ft", "feet", "foot"]),
    ("kb", &["kb"]),
    ("mb", &["mb"]),
    ("gb", &["gb", "gigabyte", "gigabytes"]),
    ("tb", &["tb", "terabyte", "terabytes"]),
    ("mhz", &["mhz"]),
    ("ghz", &["ghz"]),
    ("hz", &["hz"]),
    ("w", &["w", "watt", "watts", "瓦"]),
    ("kw", &["kw"]),
    ("v", &["v", "volt", "volts", "伏"]),
    ("a", &["amp", "amps"]),
    ("mah", &["mah", "毫安"]),
    ("va", &["va"]),
    ("g", &["g", "gram", "grams", "克"]),
    ("kg", &["kg", "kilo", "kilos", "kilogram", "kilograms", "公斤", "千克"]),
    ("oz", &["oz", "ounce", "ounces"]),
    ("lb", &["lb", "lbs", "pound", "pounds"]),
    ("ml", &["ml", "millilitre", "millilitres", "milliliter", "毫升"]),
    ("l", &["l", "litre", "litres", "liter", "liters", "升"]),
    ("mp", &["mp", "megapixel", "megapixels"]),
    ("dpi", &["dpi"]),
    ("rpm", &["rpm"]),
    ("pcs", &["pc(s)", "pcs", "pieces", "piece", "pack", "packs", "件", "个", "只", "包", "片"]),
];

/// The canonical name of a unit.
pub fn unit(word: &str) -> Option<&'static str> {
    UNITS.iter().find(|(_, written)| written.contains(&word)).map(|(name, _)| *name)
}

/// A number and its unit in one word.
pub fn measure(word: &str) -> Option<(f64, &'static str)> {
    let at = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = word.split_at(at);
    Some((number.parse().ok()?, unit(rest.trim_start_matches('-'))?))
}

/// A word's singular, for words of catalogs and queries alike: a fold, not grammar.
pub fn fold(word: &str) -> String {
    let n = word.len();
    if !word.is_ascii() || n < 4 || word.contains(|c: char| c.is_ascii_digit()) {
        return word.to_owned();
    }
    for (ending, kept) in [("sses", "ss"), ("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")] {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() >= 2
        {
            return format!("{stem}{kept}");
        }
    }
    match word.strip_suffix('s') {
        Some(stem) if !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_form_for_one_meaning() {
        assert_eq!(normalize("  ＨＰ　Laser\u{2013}Jet® 17″ ").0, "hp laser-jet 17\"");
        assert_eq!(texts("Wi\u{2011}Fi Café 1,440 x 900"), ["wi-fi", "café", "1440", "x", "900"]);
        assert_eq!(texts("iPhone15手机壳"), ["iphone15", "手机", "壳"]);
    }

    #[test]
    fn forms() {
        for (word, wanted) in [
            ("printer", Form::Word),
            ("42", Form::Number),
            ("43.2", Form::Number),
            ("4gb", Form::Measure),
            ("106r03623", Form::Model),
            ("tn-2420", Form::Model),
            ("3920564", Form::Model),
        ] {
            assert_eq!(form(word), wanted, "{word}");
        }
        let tokens = normalize("17\" $99 -red").1;
        let seen: Vec<(&str, Form, bool)> = tokens.iter().map(|t| (t.text.as_str(), t.form, t.minus)).collect();
        assert_eq!(
            seen,
            [
                ("17inch", Form::Measure, false),
                ("$", Form::Mark, false),
                ("99", Form::Number, false),
                ("red", Form::Word, true)
            ]
        );
    }

    #[test]
    fn plurals_fold() {
        for (word, wanted) in [
            ("notebooks", "notebook"),
            ("batteries", "battery"),
            ("boxes", "box"),
            ("glass", "glass"),
            ("watches", "watch"),
            ("plus", "plus"),
        ] {
            assert_eq!(fold(word), wanted);
        }
    }

    proptest! {
        #[test]
        fn tokens_lie_in_the_text(text in "\\PC{0,40}") {
            let (clean, tokens) = normalize(&text);
            for token in &tokens {
                prop_assert!(clean.get(token.start..token.end).is_some());
            }
            prop_assert!(tokens.windows(2).all(|w| w[0].end <= w[1].start));
        }
    }
}
