//! Price bounds in words: `under 100`, `between $20 and $50`, `200元以下`.

use super::normalize::{Form, Token};
use serde::Serialize;
use std::ops::Range;

/// What a query says of the price.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Price {
    /// At least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ge: Option<f64>,
    /// At most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub le: Option<f64>,
    /// Less than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<f64>,
    /// More than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<f64>,
}

const LESS: &[&[&str]] = &[
    &["under"],
    &["below"],
    &["less", "than"],
    &["cheaper", "than"],
    &["lower", "than"],
    &["低于"],
    &["少于"],
    &["不到"],
];
const MOST: &[&[&str]] = &[
    &["up", "to"],
    &["max"],
    &["maximum"],
    &["at", "most"],
    &["no", "more", "than"],
    &["not", "more", "than"],
    &["within"],
    &["不超过"],
    &["最多"],
];
const MORE: &[&[&str]] = &[&["over"], &["above"], &["more", "than"], &["高于"], &["超过"]];
const LEAST: &[&[&str]] =
    &[&["at", "least"], &["from"], &["min"], &["minimum"], &["starting", "at"], &["至少"], &["不低于"]];
const AROUND: &[&[&str]] = &[&["around"], &["about"], &["approximately"], &["大约"], &["左右"]];
const CURRENCY: &[&str] = &[
    "$",
    "€",
    "£",
    "¥",
    "₹",
    "₩",
    "dollar",
    "dollars",
    "usd",
    "euro",
    "euros",
    "eur",
    "pound",
    "pounds",
    "gbp",
    "bucks",
    "yuan",
    "rmb",
    "元",
    "块",
    "块钱",
    "钱",
    "人民币",
    "yen",
    "円",
    "원",
];
const AFTER_LESS: &[&str] = &["以下", "以内", "之内", "内", "or", "max"];
const AFTER_MORE: &[&str] = &["以上", "起", "+"];

/// A price bound and the tokens that say it.
pub fn find(tokens: &[Token]) -> Option<(Price, Range<usize>)> {
    (0..tokens.len()).find_map(|at| bound(tokens, at))
}

/// An amount from a place on: its value, where it ends, and whether a currency says that it is money.
fn amount(tokens: &[Token], from: usize) -> Option<(f64, usize, bool)> {
    let mut at = from;
    let mut money = false;
    let is_currency = |at: usize| tokens.get(at).is_some_and(|t| CURRENCY.contains(&t.text.as_str()));
    if is_currency(at) {
        money = true;
        at += 1;
    }
    let token = tokens.get(at)?;
    let value = match token.form {
        Form::Number | Form::Model => token.text.parse::<f64>().ok()?,
        Form::Word => chinese(&token.text)?,
        _ => {
            // `100元` is one word where no space stands between.
            let digits: String = token.text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let rest = &token.text[digits.len()..];
            money |= CURRENCY.contains(&rest);
            (money && !digits.is_empty()).then(|| digits.parse().ok())??
        }
    };
    at += 1;
    if is_currency(at) {
        money = true;
        at += 1;
    }
    value.is_finite().then_some((value, at, money))
}

fn chinese(word: &str) -> Option<f64> {
    match word {
        "一百" | "百" => Some(100.0),
        "两百" | "二百" => Some(200.0),
        "三百" => Some(300.0),
        "五百" => Some(500.0),
        "一千" | "千" => Some(1000.0),
        "两千" | "二千" => Some(2000.0),
        "三千" => Some(3000.0),
        "五千" => Some(5000.0),
        "一万" | "万" => Some(10_000.0),
        _ => None,
    }
}

fn phrase(tokens: &[Token], at: usize, phrases: &[&[&str]]) -> Option<usize> {
    phrases
        .iter()
        .find(|p| p.iter().enumerate().all(|(n, w)| tokens.get(at + n).is_some_and(|t| t.text == *w)))
        .map(|p| at + p.len())
}

fn word(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    tokens.get(at).is_some_and(|t| words.contains(&t.text.as_str()))
}

fn bound(tokens: &[Token], at: usize) -> Option<(Price, Range<usize>)> {
    let none = Price::default();
    // A unit after the number makes it a size, not a price: `under 5 kg`, `over 27 inch`.
    let sized = |end: usize| {
        tokens
            .get(end)
            .is_some_and(|t| super::normalize::unit(&t.text).is_some() && !CURRENCY.contains(&t.text.as_str()))
    };
    if word(tokens, at, &["between", "from", "介于", "从"]) {
        let (low, end, m1) = amount(tokens, at + 1)?;
        if word(tokens, end, &["and", "to", "到", "至", "和"])
            && let Some((high, end, m2)) = amount(tokens, end + 1)
            && (m1 || m2 || word(tokens, at, &["between", "介于"]))
            && low <= high
            && !sized(end)
        {
            return Some((Price { ge: Some(low), le: Some(high), ..none }, at..end));
        }
    }
    type Make = fn(f64) -> Price;
    let kinds: [(&[&[&str]], Make, bool); 5] = [
        (LESS, |v| Price { lt: Some(v), ..Price::default() }, false),
        (MOST, |v| Price { le: Some(v), ..Price::default() }, true),
        (MORE, |v| Price { gt: Some(v), ..Price::default() }, false),
        (LEAST, |v| Price { ge: Some(v), ..Price::default() }, true),
        (AROUND, |v| Price { ge: Some((v * 0.8).round()), le: Some((v * 1.2).round()), ..Price::default() }, true),
    ];
    for (phrases, make, needs_money) in kinds {
        if let Some(next) = phrase(tokens, at, phrases)
            && let Some((value, end, money)) = amount(tokens, next)
            && (money || !needs_money)
            && (money || !sized(end))
        {
            return Some((make(value), at..end));
        }
    }
    let (value, end, money) = amount(tokens, at)?;
    if money
        && word(tokens, end, &["-", "to", "到", "至"])
        && let Some((high, end, _)) = amount(tokens, end + 1)
    {
        return Some((Price { ge: Some(value), le: Some(high), ..none }, at..end));
    }
    if word(tokens, end, AFTER_LESS) && (money || !tokens[end].text.is_ascii()) {
        let or = tokens[end].text == "or";
        if or && !word(tokens, end + 1, &["less", "under", "cheaper"]) {
            return None;
        }
        return Some((Price { le: Some(value), ..none }, at..end + 1 + usize::from(or)));
    }
    if word(tokens, end, AFTER_MORE) && (money || !tokens[end].text.is_ascii()) {
        return Some((Price { ge: Some(value), ..none }, at..end + 1));
    }
    if money && word(tokens, end, &["左右"]) {
        return Some((Price { ge: Some((value * 0.8).round()), le: Some((value * 1.2).round()), ..none }, at..end + 1));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::normalize::normalize;
    use super::*;

    #[allow(clippy::type_complexity)] // two bounds with and without their own value
    fn price(text: &str) -> Option<(Option<f64>, Option<f64>, Option<f64>, Option<f64>)> {
        find(&normalize(text).1).map(|(p, _)| (p.ge, p.gt, p.le, p.lt))
    }

    #[test]
    fn bounds_in_words() {
        for (text, wanted) in [
            ("hp printer under 100", (None, None, None, Some(100.0))),
            ("headphones below $49.99", (None, None, None, Some(49.99))),
            ("laptop less than 1,000 euros", (None, None, None, Some(1000.0))),
            ("tv between 200 and 400", (Some(200.0), None, Some(400.0), None)),
            ("shoes from $20 to $50", (Some(20.0), None, Some(50.0), None)),
            ("mouse up to 30 dollars", (None, None, Some(30.0), None)),
            ("watch over 500", (None, Some(500.0), None, None)),
            ("200元以下的蓝牙耳机", (None, None, Some(200.0), None)),
            ("$50 or less keyboard", (None, None, Some(50.0), None)),
        ] {
            assert_eq!(price(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn sizes_and_names_are_no_prices() {
        for text in [
            "monitor over 27 inch",
            "under armour shirt",
            "windows 10",
            "up to 5 people tent",
            "over ear headphones",
            "from 2 to 4 years",
        ] {
            assert_eq!(price(text), None, "{text}");
        }
    }
}
