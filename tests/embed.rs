//! The encoder against the reference frameworks and against itself.
//!
//! The bundles and the numbers in `tests/fixtures` come from `tests/fixtures/make.py`. The tests on the real model want
//! `PERSONA_MODEL_DIR`, a folder that holds `all-MiniLM-L6-v2`; without it they say so and pass.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::path::{Path, PathBuf};

use pg_persona::control::{Control, Free};
use pg_persona::embed::reference::Reference;
use pg_persona::embed::{Cache, Encoder, Precision, Reranker, Role, Scratch};
use pg_persona::error::{Error, Result};

const MODEL: &str = "all-MiniLM-L6-v2";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn models() -> Option<PathBuf> {
    let folder = std::env::var_os("PERSONA_MODEL_DIR").map(PathBuf::from).filter(|f| f.join(MODEL).is_dir());
    if folder.is_none() {
        eprintln!("skipped: PERSONA_MODEL_DIR names no folder with {MODEL}");
    }
    folder
}

fn load(folder: &Path, bundle: &str, precision: Precision) -> Encoder {
    Encoder::load(folder, bundle, precision, &Free).unwrap()
}

fn embed(encoder: &Encoder, texts: &[&str], role: Role) -> Vec<f32> {
    encoder.embed(texts, role, &mut Scratch::new(), &Free).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn strings(value: &serde_json::Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<f32> {
    let rows: Vec<Vec<f32>> = serde_json::from_value(value.clone()).unwrap();
    rows.concat()
}

fn distance(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max)
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |l: &[f32], r: &[f32]| l.iter().zip(r).map(|(l, r)| f64::from(*l) * f64::from(*r)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

const FAMILIES: [&str; 5] = ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert"];

#[test]
fn every_family_agrees_with_pytorch() {
    for family in FAMILIES {
        let encoder = load(&fixtures(), family, Precision::F32);
        assert_eq!(encoder.info().architecture.name(), family);
        let expected = json(&fixtures().join(family).join("expected.json"));
        let texts = strings(&expected["texts"]);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for (role, key) in [(Role::Query, "query"), (Role::Document, "document")] {
            let (got, want) = (embed(&encoder, &texts, role), numbers(&expected[key]));
            let scale = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let off = distance(&got, &want) / scale;
            assert!(off < 1e-5, "{family} {key}: {off}");
        }
    }
}

#[test]
fn int8_is_close_in_every_family() {
    for family in FAMILIES {
        let (float, bytes) = (load(&fixtures(), family, Precision::F32), load(&fixtures(), family, Precision::Int8));
        assert_eq!(float.info().hash, bytes.info().hash);
        let texts = ["laser printer", "Ink cartridge, BLACK", "", "a red ball for the dog and a mouse"];
        let (left, right) = (embed(&float, &texts, Role::Query), embed(&bytes, &texts, Role::Query));
        assert_ne!(left, right, "{family}: int8 did not run");
        for (l, r) in left.chunks(float.info().dimension).zip(right.chunks(float.info().dimension)) {
            let cosine = cosine(l, r);
            // Random networks of 32 dimensions amplify rounding; trained ones are held to .98 below.
            assert!(cosine > 0.97, "{family}: {cosine}");
        }
    }
}

#[test]
fn candle_agrees() {
    let texts = ["laser printer", "", "a red ball for the dog and a board game for two players"];
    for family in ["bert", "roberta", "xlm-roberta"] {
        let reference = Reference::load(&fixtures(), family, &candle_core::Device::Cpu, &Free).unwrap();
        let want = reference.embed(&texts, Role::Document, &Free).unwrap();
        let got = embed(&load(&fixtures(), family, Precision::F32), &texts, Role::Document);
        let scale = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        assert!(distance(&got, &want) / scale < 1e-5, "{family}: {}", distance(&got, &want));
    }
}

#[test]
fn a_cross_encoder_agrees_with_sentence_transformers() {
    let expected = json(&fixtures().join("cross-encoder/expected.json"));
    let reranker = Reranker::load(&fixtures(), "cross-encoder", Precision::F32, &Free).unwrap();
    let pairs: Vec<(String, String)> = serde_json::from_value(expected["pairs"].clone()).unwrap();
    let scores: Vec<f32> = serde_json::from_value(expected["scores"].clone()).unwrap();
    let mut scratch = Scratch::new();
    for ((query, document), score) in pairs.iter().zip(&scores) {
        let got = reranker.rerank(query, &[document], &mut scratch, &Free).unwrap();
        assert!((got[0] - score).abs() < 1e-5, "{query} / {document}: {} {score}", got[0]);
    }
    let all = reranker.rerank("laser printer", &["mouse", "a laser printer for the office", ""], &mut scratch, &Free);
    let one = reranker.rerank("laser printer", &["a laser printer for the office"], &mut scratch, &Free);
    assert_eq!(all.unwrap()[1].to_bits(), one.unwrap()[0].to_bits());
    // A bundle that makes vectors is no cross-encoder.
    let wrong = Reranker::load(&fixtures(), "bert", Precision::F32, &Free).err();
    assert!(matches!(wrong, Some(Error::BundleUnsupported { .. })), "{wrong:?}");
}

#[test]
fn a_text_has_the_same_bits_in_any_batch_position_and_thread() {
    let folder = models().unwrap_or_else(fixtures);
    let bundle = if folder == fixtures() { "bert" } else { MODEL };
    for precision in [Precision::F32, Precision::Int8] {
        let encoder = load(&folder, bundle, precision);
        let owned: Vec<String> =
            (0..70).map(|i| format!("{} game {i}", "a board and a printer, black, ".repeat(i * 7 % 11))).collect();
        let texts: Vec<&str> = owned.iter().map(String::as_str).collect();
        let dimension = encoder.info().dimension;
        let alone: Vec<Vec<f32>> = texts.iter().map(|text| embed(&encoder, &[text], Role::Query)).collect();
        let mut scratch = Scratch::new();
        for threads in [1, 2, 5] {
            scratch.set_threads(threads);
            for skip in [0, 1, 13] {
                let together = encoder.embed(&texts[skip..], Role::Query, &mut scratch, &Free).unwrap();
                for (alone, together) in alone[skip..].iter().zip(together.chunks(dimension)) {
                    assert!(alone.iter().zip(together).all(|(a, t)| a.to_bits() == t.to_bits()));
                }
            }
        }
        let mut reversed = texts.clone();
        reversed.reverse();
        let together = embed(&encoder, &reversed, Role::Query);
        for (alone, together) in alone.iter().rev().zip(together.chunks(dimension)) {
            assert_eq!(alone.as_slice(), together);
        }
    }
}

#[test]
fn minilm_agrees_with_sentence_transformers() {
    let Some(folder) = models() else { return };
    let expected = json(&fixtures().join("minilm.json"));
    let texts = strings(&expected["texts"]);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert!(texts.len() >= 20);
    let got = embed(&load(&folder, MODEL, Precision::F32), &texts, Role::Document);
    let off = distance(&got, &numbers(&expected["vectors"]));
    assert!(off < 1e-5, "{off}");
    let bytes = embed(&load(&folder, MODEL, Precision::Int8), &texts, Role::Query);
    let cosines: Vec<f64> = got.chunks(384).zip(bytes.chunks(384)).map(|(l, r)| cosine(l, r)).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    assert!(mean > 0.995 && cosines.iter().all(|c| *c > 0.98), "{cosines:?}");
    let reference = Reference::load(&folder, MODEL, &candle_core::Device::Cpu, &Free).unwrap();
    let off = distance(&got, &reference.embed(&texts, Role::Document, &Free).unwrap());
    assert!(off < 1e-5, "{off}");
}

#[test]
fn prompts_follow_the_role() {
    let encoder = load(&fixtures(), "roberta", Precision::F32);
    let (query, document) = (embed(&encoder, &["mouse"], Role::Query), embed(&encoder, &["mouse"], Role::Document));
    assert!(distance(&query, &document) > 1e-3);
}

#[test]
fn long_texts_are_read_as_far_as_they_count() {
    let encoder = load(&fixtures(), "bert", Precision::F32);
    let short = "printer ".repeat(40);
    let long = "printer ".repeat(2_000_000);
    assert_eq!(embed(&encoder, &[&short], Role::Query), embed(&encoder, &[&long], Role::Query));
    // A run of spaces before the words is longer than what is read at first.
    let spaces = format!("{}mouse", " ".repeat(20_000));
    assert_eq!(embed(&encoder, &[&spaces], Role::Query), embed(&encoder, &["mouse"], Role::Query));
    let spaces = format!("ball{}mouse", " ".repeat(20_000));
    assert_eq!(embed(&encoder, &[&spaces], Role::Query), embed(&encoder, &["ball mouse"], Role::Query));
    let huge = "x".repeat(65 << 20);
    let refused = encoder.embed(&[&huge], Role::Query, &mut Scratch::new(), &Free);
    assert!(matches!(refused, Err(Error::TextTooLong { .. })));
    for odd in ["\u{0}", "\u{feff}", "☕☕☕", "𝔘𝔫𝔦", "a\u{301}", " \t\n"] {
        assert!(embed(&encoder, &[odd], Role::Query).iter().all(|x| x.is_finite()));
    }
    assert!(embed(&encoder, &[], Role::Query).is_empty());
}

/// Lets `left` steps pass.
struct Limited {
    left: Cell<u64>,
    asked: Cell<u64>,
}

impl Limited {
    fn new(left: u64) -> Self {
        Self { left: Cell::new(left), asked: Cell::new(0) }
    }
}

impl Control for Limited {
    fn check(&self) -> Result<()> {
        self.asked.set(self.asked.get() + 1);
        if self.left.get() == 0 {
            return Err(Error::Cancelled);
        }
        self.left.set(self.left.get() - 1);
        Ok(())
    }
}

#[test]
fn a_cancel_takes_effect_at_any_step_and_leaves_the_scratch_usable() {
    let encoder = load(&fixtures(), "bert", Precision::F32);
    let owned: Vec<String> = (0..200).map(|i| format!("board game {i}")).collect();
    let texts: Vec<&str> = owned.iter().map(String::as_str).collect();
    let mut scratch = Scratch::new();
    let counted = Limited::new(u64::MAX);
    let want = encoder.embed(&texts, Role::Query, &mut scratch, &counted).unwrap();
    let steps = counted.asked.get();
    assert!(steps > 200);
    for threads in [1, 3] {
        scratch.set_threads(threads);
        for left in (0..steps / 2).step_by(37) {
            let got = encoder.embed(&texts, Role::Query, &mut scratch, &Limited::new(left));
            assert!(got.is_err() || threads > 1, "{left} of {steps}");
        }
        assert_eq!(encoder.embed(&texts, Role::Query, &mut scratch, &Free).unwrap(), want);
    }
}

#[test]
fn a_control_that_unwinds_stops_the_threads() {
    struct Panics;
    impl Control for Panics {
        fn check(&self) -> Result<()> {
            panic!("as an interrupt inside the server does")
        }
    }
    let encoder = load(&fixtures(), "bert", Precision::F32);
    let texts = vec!["board game"; 500];
    let mut scratch = Scratch::new();
    scratch.set_threads(2);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = encoder.embed(&texts, Role::Query, &mut scratch, &Panics);
    }));
    assert!(caught.is_err());
    assert_eq!(encoder.embed(&texts, Role::Query, &mut scratch, &Free).unwrap().len(), 500 * 40);
}

#[test]
fn the_cache_keeps_what_was_used_last() {
    let encoder = load(&fixtures(), "bert", Precision::F32);
    let other = load(&fixtures(), "bert", Precision::Int8);
    let mut cache = Cache::new(8);
    let vector = |x: f32| -> std::sync::Arc<[f32]> { vec![x].into() };
    for i in 0..8 {
        cache.put(&encoder, Role::Query, &format!("q{i}"), vector(i as f32));
    }
    assert_eq!(cache.get(&encoder, Role::Query, "q0").unwrap()[0], 0.0);
    assert!(cache.get(&other, Role::Query, "q0").is_none());
    assert!(cache.get(&encoder, Role::Document, "q0").is_none());
    cache.put(&encoder, Role::Query, "q8", vector(8.0));
    assert!(cache.len() <= 8);
    assert!(cache.get(&encoder, Role::Query, "q1").is_none(), "the oldest went");
    assert_eq!(cache.get(&encoder, Role::Query, "q0").unwrap()[0], 0.0);
    assert_eq!(cache.get(&encoder, Role::Query, "q8").unwrap()[0], 8.0);
    cache.put(&encoder, Role::Query, &"long".repeat(1000), vector(1.0));
    assert!(cache.get(&encoder, Role::Query, &"long".repeat(1000)).is_none());
    assert_eq!(cache.counts(), (3, 3));
    let mut none = Cache::new(0);
    none.put(&encoder, Role::Query, "q", vector(1.0));
    assert!(none.is_empty());
}

#[test]
fn the_load_can_be_cancelled() {
    let error = Encoder::load(&fixtures(), "bert", Precision::F32, &Limited::new(3)).err();
    assert_eq!(error, Some(Error::Cancelled));
}
