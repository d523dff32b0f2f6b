//! What is fuzzed: bytes that anybody may send, through everything that reads them first. A panic is a finding.

use pg_persona::catalog::filter::Filter;
use pg_persona::catalog::options::SearchOptions;
use pg_persona::catalog::rule::Rule;
use pg_persona::tune::{Adapter, Options};
use pg_persona::understand::build::{Builder, Fields};
use pg_persona::understand::lexicon::Column;
use pg_persona::understand::suggest::{Taste, suggest};
use pg_persona::understand::{Lexicon, Settings, normalize, read};
use std::sync::OnceLock;

/// What is done with the bytes.
pub type Target = fn(&[u8]);

/// A target by its name, which is that of its folder in `corpus`.
pub const ALL: [(&str, Target); 4] = [("filter", filter), ("options", options), ("query", query), ("bytes", bytes)];

/// The argument `filter`, and the row of a rule, which holds one.
pub fn filter(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    if let Ok(filter) = Filter::read(&value) {
        assert!(!format!("{filter:?}").is_empty());
    }
    let _ = Rule::read(&value);
}

/// The arguments `options` of search and of fine_tune.
pub fn options(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    if let Ok(options) = SearchOptions::read(&value) {
        assert!((0.0..=1.0).contains(&options.diversity) && (0.0..=1.0).contains(&options.explore));
    }
    let _ = Options::read(&value);
}

/// A query: what is read of it lies in it, and reading twice says the same.
pub fn query(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (clean, tokens) = normalize::normalize(&text);
    assert!(tokens.iter().all(|token| clean.get(token.start..token.end).is_some()));
    let settings = Settings { correct: true, floor: 1, language: "en", keep: &[] };
    let mut understood = read(lexicon(), &text, &settings);
    assert_eq!(understood, read(lexicon(), &text, &settings));
    understood.classify(lexicon(), 1, None);
    assert!(understood.to_json(Some("price")).is_object());
    suggest(lexicon(), &text, &Taste::default(), 1, 1, 5);
}

/// Bytes that were kept in a table, where somebody may have altered them.
pub fn bytes(data: &[u8]) {
    if let Some(lexicon) = Lexicon::read(data) {
        read(
            &lexicon,
            "wireless hp printr under 100",
            &Settings { correct: true, floor: 1, language: "en", keep: &[] },
        );
    }
    let _ = Adapter::read(data);
}

/// A lexicon as a shop's: brands, categories, colours, and a query that was asked.
fn lexicon() -> &'static Lexicon {
    static LEXICON: OnceLock<Lexicon> = OnceLock::new();
    LEXICON.get_or_init(|| Lexicon::read(&packed()).unwrap_or_default())
}

/// The same as bytes.
pub fn packed() -> Vec<u8> {
    let mut builder = Builder::new(1 << 20);
    let columns = [("brand", Some("brand")), ("category", Some("category")), ("color", None)];
    let places: Vec<u16> =
        columns.iter().filter_map(|(name, role)| builder.column(Column::new(name, None, *role, false))).collect();
    for n in 0..60 {
        let (brand, thing, color) =
            (["HP", "Canon", "Corvo"][n % 3], ["printer", "phone case"][n % 2], ["red", "black"][n / 2 % 2]);
        let title = format!("{brand} wireless {color} {thing} X{n}00 17\"");
        let values = places.iter().copied().zip([brand, thing, color].map(str::to_owned)).collect();
        builder.add(&Fields { title, values, ..Fields::default() });
    }
    builder.finish()
}
