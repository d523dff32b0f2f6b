//! What is fuzzed: bytes that anybody may send, through everything that reads them first. A panic is a finding.

use pg_persona::catalog::filter::Filter;
use pg_persona::catalog::options::SearchOptions;
use pg_persona::catalog::rule::Rule;
use pg_persona::control::Free;
use pg_persona::embed::{Encoder, Precision, Role, Scratch};
use pg_persona::tune::{Adapter, Options};
use pg_persona::understand::build::{Builder, Fields};
use pg_persona::understand::lexicon::Column;
use pg_persona::understand::suggest::{Taste, suggest};
use pg_persona::understand::{Lexicon, Settings, normalize, read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is done with the bytes.
pub type Target = fn(&[u8]);

/// A target by its name, which is that of its folder in `corpus`.
pub const ALL: [(&str, Target); 5] =
    [("filter", filter), ("options", options), ("query", query), ("bytes", bytes), ("bundle", bundle)];

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

/// What of a bundle the first byte says that the rest replaces.
const FILES: [&str; 6] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
];

/// A file of a model bundle; of the weights the header, whose length is put before it and the fixture's numbers behind it.
pub fn bundle(data: &[u8]) {
    let Some((which, content)) = data.split_first() else { return };
    let file = FILES[usize::from(*which) % FILES.len()];
    let Some(folder) = folder() else { return };
    let (path, kept) = (folder.join("m").join(file), fixture().join(file));
    let Ok(good) = std::fs::read(&kept) else { return };
    let bytes = if file == "model.safetensors" {
        let length = good.first_chunk().map_or(0, |length| u64::from_le_bytes(*length)) as usize;
        [&(content.len() as u64).to_le_bytes(), content, good.get(8 + length..).unwrap_or_default()].concat()
    } else {
        content.to_vec()
    };
    if std::fs::write(&path, bytes).is_ok() {
        let found = Encoder::load(folder, "m", Precision::F32, &Free)
            .and_then(|encoder| encoder.embed(&["a red ball", ""], Role::Document, &mut Scratch::new(), &Free));
        let _ = std::fs::write(&path, good);
        assert!(found.is_err() || found.is_ok_and(|vectors| vectors.iter().all(|x| x.is_finite())));
    }
}

/// The bundle that is altered: one of the fixtures, wherever this is built.
fn fixture() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = here.join("tests/fixtures/bert");
    if inside.exists() { inside } else { here.join("../fixtures/bert") }
}

/// A folder of this process with a copy of the fixture, named m.
fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("pg_persona_fuzz_{}", std::process::id()));
        std::fs::create_dir_all(folder.join("m/1_Pooling")).ok()?;
        for file in FILES {
            std::fs::copy(fixture().join(file), folder.join("m").join(file)).ok()?;
        }
        Some(folder)
    });
    made.as_deref()
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
