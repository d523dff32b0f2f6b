//! Runs over the fixture bundles: the same bytes however a run is cut, memory that is bounded, and something learnt.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use pg_persona::control::{Control, Free};
use pg_persona::embed::{Encoder, Place, Precision, Reranker, Role, Scratch};
use pg_persona::error::Error;
use pg_persona::tune::{Adapter, CrossEncoder, Data, Item, Options, Pair, Run, State, Tagged};
use serde_json::json;

const PLENTY: usize = 1 << 30;

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn encoder(family: &str) -> Arc<Encoder> {
    Arc::new(Encoder::load(&fixtures(), family, Precision::F32, &Free).unwrap())
}

fn options(more: serde_json::Value) -> Options {
    let mut all = json!({"name": "mine", "rank": 4, "epochs": 3, "batch": 8, "learning_rate": 0.01, "adopt": "always"});
    more.as_object().unwrap().iter().for_each(|(key, value)| all[key] = value.clone());
    Options::read(&all).unwrap()
}

/// A run, with the teacher that its options name.
fn begin(family: &str, data: &Data, more: serde_json::Value, memory: usize) -> Run {
    begin_on(None, family, data, more, memory)
}

fn begin_on(place: Option<&Place>, family: &str, data: &Data, more: serde_json::Value, memory: usize) -> Run {
    let options = options(more);
    let load = |name: &str| Reranker::load(&fixtures(), name, Precision::F32, &Free).unwrap();
    let teacher = options.teacher.as_deref().map(|name| CrossEncoder::Bundle(Arc::new(load(name))));
    Run::new(options, encoder(family), place, teacher, data, memory, &Free).unwrap()
}

/// Texts whose label is in their words.
fn labelled() -> Data {
    let words = [("laser printer", "office"), ("red ball", "toy"), ("ink cartridge", "office"), ("board game", "toy")];
    let row = |i: usize| (format!("a {} for the {}", words[i % 4].0, i / 4), words[i % 4].1.to_owned());
    Data::Labelled((0..40).map(row).collect()).sorted()
}

fn pairs() -> Data {
    let words = ["laser printer", "red ball", "ink cartridge", "board game", "wireless mouse", "usb cable"];
    let pair = |i: usize| Pair {
        query: words[i % 6].into(),
        item: format!("a {} for {i} players", words[i % 6]),
        grade: (i % 3) as f32,
    };
    Data::Pairs((0..36).map(pair).collect()).sorted()
}

fn through(family: &str, data: &Data, more: serde_json::Value, memory: usize) -> (State, Adapter, serde_json::Value) {
    let mut run = begin(family, data, more, memory);
    let mut state = run.start(&Free).unwrap();
    run.advance(&mut state, &mut || false, &Free).unwrap();
    let (adapter, verdict) = run.finish(&state, &Free).unwrap();
    (state, adapter, verdict.metrics)
}

#[test]
fn a_run_cut_anywhere_ends_with_the_same_bytes() {
    for (data, more) in [
        (labelled(), json!({})),
        (labelled(), json!({"method": "head", "epochs": 5})),
        (labelled(), json!({"method": "full", "learning_rate": 0.001})),
        (pairs(), json!({"negatives": 1, "rehearsal": 0.2})),
        (pairs(), json!({"teacher": "cross-encoder", "negatives": 2, "rehearsal": 0.2})),
    ] {
        let (_, whole, _) = through("bert", &data, more.clone(), PLENTY);
        // Every step in a run of its own, the state through its bytes.
        let mut run = begin("bert", &data, more.clone(), PLENTY);
        let mut bytes = run.start(&Free).unwrap().to_bytes().unwrap();
        let mut steps = 0;
        let adapter = loop {
            let mut state = State::read(&bytes).unwrap();
            let mut run = begin("bert", &data, more.clone(), PLENTY);
            if state.done {
                break run.finish(&state, &Free).unwrap().0;
            }
            run.advance(&mut state, &mut || true, &Free).unwrap();
            bytes = state.to_bytes().unwrap();
            steps += 1;
        };
        assert!(steps > 10, "{steps}");
        assert_eq!(adapter.to_bytes().unwrap(), whole.to_bytes().unwrap(), "{more}");
        let (_, other, _) =
            through("bert", &data, json!({"seed": 2, "method": more.get("method").unwrap_or(&json!("lora"))}), PLENTY);
        assert_ne!(other.to_bytes().unwrap(), whole.to_bytes().unwrap());
    }
}

#[test]
fn without_rows_held_out_all_epochs_are_taken_and_nothing_is_adopted_by_itself() {
    let more = json!({"validation": 0, "epochs": 6, "patience": 2, "adopt": "better"});
    let mut run = begin("bert", &labelled(), more, PLENTY);
    let mut state = run.start(&Free).unwrap();
    run.advance(&mut state, &mut || false, &Free).unwrap();
    assert_eq!(state.told.len(), 7);
    let (_, verdict) = run.finish(&state, &Free).unwrap();
    assert!(!verdict.adopted && verdict.reason.unwrap().contains("held out"));
}

#[test]
fn little_memory_gives_the_same_numbers() {
    let (_, plenty, _) = through("bert", &pairs(), json!({"max_length": 32, "batch": 32}), PLENTY);
    let (_, little, _) = through("bert", &pairs(), json!({"max_length": 32, "batch": 32}), 1);
    for (a, b) in plenty.values.iter().zip(&little.values) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_device_learns_the_same() {
    let place = Place { library: pg_persona::served::own(), device: "cuda:0".into(), folder: fixtures() };
    for (family, data, more) in [
        ("bert", labelled(), json!({"dropout": 0.1})),
        ("modernbert", labelled(), json!({"method": "full", "learning_rate": 0.001})),
        ("distilbert", labelled(), json!({"method": "adapter"})),
        ("roberta", labelled(), json!({"method": "head"})),
        ("bert", pairs(), json!({"negatives": 1, "rehearsal": 0.2, "max_length": 32})),
        ("bert", pairs(), json!({"teacher": "cross-encoder", "negatives": 2})),
    ] {
        // One epoch: what differs in the last bits grows with every step.
        let mut more = more.clone();
        more["epochs"] = json!(1);
        let [here, there, little] =
            [(None, PLENTY), (Some(&place), PLENTY), (Some(&place), 1)].map(|(place, memory)| {
                let mut run = begin_on(place, family, &data, more.clone(), memory);
                let mut state = run.start(&Free).unwrap();
                run.advance(&mut state, &mut || false, &Free).unwrap();
                let (adapter, verdict) = run.finish(&state, &Free).unwrap();
                (state.told[1].loss.unwrap(), adapter, verdict.metrics["value"].clone())
            });
        for other in [&there, &little] {
            assert!((here.0 - other.0).abs() < 1e-4 * here.0.max(1.0), "{family} {more}: {} {}", here.0, other.0);
            assert_eq!(here.2, other.2, "{family} {more}");
        }
        // Nothing of a head's network runs there.
        assert_eq!(here.0 == there.0, here.1.values.is_empty(), "{family} {more}");
    }
    let nowhere = Place { device: "cuda:7".into(), ..place };
    let refused = Run::new(options(json!({})), encoder("bert"), Some(&nowhere), None, &labelled(), PLENTY, &Free);
    assert!(matches!(refused.err(), Some(Error::Device { .. })));
}

#[test]
fn labels_are_learnt_in_every_family_and_way() {
    for family in ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert"] {
        for (method, rate) in [("lora", 0.01), ("full", 0.002), ("adapter", 0.01), ("head", 0.01)] {
            let more = json!({"method": method, "learning_rate": rate, "epochs": 8, "patience": 0});
            let (state, adapter, metrics) = through(family, &labelled(), more, PLENTY);
            let losses: Vec<f64> = state.told.iter().filter_map(|t| t.loss).collect();
            let (first, last) = (losses[0], *losses.last().unwrap());
            // Some are all but right from the start, as the head begins at the labels' means.
            assert!(last < first.max(0.05), "{family} {method}: {losses:?}");
            assert!(method == "head" || adapter.values.iter().any(|x| *x != 0.0));
            assert!(
                metrics["value"].as_f64().unwrap() >= metrics["base"].as_f64().unwrap(),
                "{family} {method}: {metrics}"
            );
            let kept = Adapter::read(&adapter.to_bytes().unwrap()).unwrap();
            let loaded = kept.load(&encoder(family), "mine", "x").unwrap();
            let (shares, _) = loaded.judge(&["a laser printer for the 3"], &mut Scratch::new(), &Free).unwrap();
            assert!((shares[0].iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert_eq!(loaded.labels, ["office", "toy"]);
        }
    }
}

#[test]
fn tags_grades_and_items_are_learnt() {
    let tagged = |i: usize| {
        let text = format!("red {} no {i}", ["ball", "mouse", "cable"][i % 3]);
        let noun = text.find(" no").unwrap();
        Tagged { spans: vec![(0..3, "color".into()), (4..noun, "kind".into())], text }
    };
    let data = Data::Tagged((0..30).map(tagged).collect()).sorted();
    let (state, adapter, metrics) = through("bert", &data, json!({"epochs": 10, "patience": 0}), PLENTY);
    assert!(metrics["value"].as_f64() > metrics["base"].as_f64(), "{metrics} {:?}", state.told);
    let loaded = adapter.load(&encoder("bert"), "mine", "x").unwrap();
    let spans = loaded.tag("red mouse no 77", &mut Scratch::new(), &Free).unwrap();
    assert!(spans.iter().any(|(at, label, _)| *at == (0..3) && label == "color"), "{spans:?}");

    let Data::Pairs(graded) = pairs() else { panic!() };
    let data = Data::Graded(graded).sorted();
    let (state, adapter, _) = through("bert", &data, json!({"epochs": 6, "patience": 0, "validation": 0.3}), PLENTY);
    let losses: Vec<f64> = state.told.iter().filter_map(|t| t.loss).collect();
    assert!(losses.last() < losses.first(), "{losses:?}");
    let loaded = adapter.load(&encoder("bert"), "mine", "x").unwrap();
    let scores =
        loaded.rerank("red ball", &["a red ball for 1 players", "a mouse"], &mut Scratch::new(), &Free).unwrap();
    assert!(scores.iter().all(|s| (0.0..=1.0).contains(s)) && scores.len() == 2);

    let item = |i: usize| Item {
        title: format!("{} {} {i}", ["Red", "Blue"][i % 2], ["ball", "mouse", "cable"][i % 3]),
        text: format!("{} {} {i}\nfor the office", ["Red", "Blue"][i % 2], ["ball", "mouse", "cable"][i % 3]),
        names: vec![["Red", "Blue"][i % 2].into()],
    };
    let data = Data::Items((0..60).map(item).collect()).sorted();
    let (state, adapter, metrics) = through("bert", &data, json!({"epochs": 4, "rows": 32, "patience": 0}), PLENTY);
    let losses: Vec<f64> = state.told.iter().filter_map(|t| t.loss).collect();
    assert!(losses.last() < losses.first(), "{losses:?} {metrics}");
    assert!(adapter.head.is_empty());
}

/// Queries and items of two words, each an answer to itself.
fn shop() -> Data {
    let (front, back) =
        (["laser", "red", "wireless", "black", "color"], ["printer", "ball", "mouse", "cable", "game", "cartridge"]);
    let pair = |i: usize| {
        let text = format!("{} {}", front[i % 5], back[i / 5]);
        Pair { item: format!("a {text} for the office"), query: text, grade: 1.0 }
    };
    Data::Pairs((0..30).map(pair).collect()).sorted()
}

/// Broad queries, each of whose words every item holds: which item is better only a teacher can tell.
fn broad() -> Vec<Pair> {
    let Data::Pairs(items) = shop() else { panic!() };
    let words = ["a", "for", "the", "office"];
    let said = |bits: usize| (0..4).filter(|w| bits >> w & 1 == 1).map(|w| words[w]).collect::<Vec<_>>().join(" ");
    let of = |bits: usize| {
        items.iter().map(move |item| {
            let grade = ["black", "wireless"].iter().any(|word| item.item.contains(word));
            Pair { query: said(bits), item: item.item.clone(), grade: f32::from(u8::from(grade)) }
        })
    };
    (1..16).flat_map(of).collect()
}

#[test]
fn a_student_comes_nearer_to_its_teacher_on_queries_it_never_saw() {
    let graded = json!({"method": "full", "learning_rate": 0.002, "epochs": 8, "patience": 0});
    let (_, judge, _) = through("bert", &Data::Graded(broad()).sorted(), graded, PLENTY);
    let judge = judge.load(&encoder("bert"), "judge", "x").unwrap();
    let scores = judge.rerank("the office", &["a red ball", "a black ball"], &mut Scratch::new(), &Free).unwrap();
    assert!(scores[1] > scores[0], "{scores:?}");

    let pairs = broad().into_iter().enumerate().filter(|(i, _)| i % 15 == 4).map(|(_, pair)| pair).collect();
    let taught =
        json!({"teacher": "judge", "negatives": 8, "validation": 0.3, "epochs": 12, "patience": 0, "adopt": "better"});
    let teacher = Some(CrossEncoder::Adapter(Rc::new(judge)));
    let data = Data::Pairs(pairs).sorted();
    let mut run = Run::new(options(taught), encoder("bert"), None, teacher, &data, PLENTY, &Free).unwrap();
    let mut state = run.start(&Free).unwrap();
    run.advance(&mut state, &mut || false, &Free).unwrap();
    let losses: Vec<f64> = state.told.iter().filter_map(|t| t.loss).collect();
    let (adapter, verdict) = run.finish(&state, &Free).unwrap();
    let of = |when: &str| verdict.metrics["agreement"][when].as_f64().unwrap();
    assert!(losses.last() < losses.first(), "{losses:?}");
    assert!(of("after") > of("before") + 0.1, "{}", verdict.metrics);
    // What the rows themselves say is no better, so nothing is adopted, however well the teacher was heard.
    assert!(!verdict.adopted && adapter.head.is_empty());
}

/// Refuses after so many looks.
struct After(std::cell::Cell<usize>);

impl Control for After {
    fn check(&self) -> Result<(), Error> {
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn a_teacher_is_cancelled_between_lists_and_goes_on() {
    let more = json!({"teacher": "cross-encoder", "negatives": 2});
    let (_, whole, _) = through("bert", &shop(), more.clone(), PLENTY);
    let mut run = begin("bert", &shop(), more, PLENTY);
    let mut state = run.start(&Free).unwrap();
    assert_eq!(run.advance(&mut state, &mut || false, &After(20.into())), Err(Error::Cancelled));
    run.advance(&mut state, &mut || false, &Free).unwrap();
    assert_eq!(run.finish(&state, &Free).unwrap().0.to_bytes().unwrap(), whole.to_bytes().unwrap());
}

#[test]
fn only_what_embeds_has_a_teacher() {
    let taught = options(json!({"teacher": "cross-encoder"}));
    let refused = Run::new(taught, encoder("bert"), None, None, &labelled(), PLENTY, &Free).err().unwrap();
    assert!(matches!(refused, Error::InvalidValue { key, .. } if key == "teacher"));
}

#[test]
fn only_what_changed_is_copied() {
    let (_, adapter, _) =
        through("bert", &labelled(), json!({"targets": ["value"], "layers": 1, "patience": 0}), PLENTY);
    let base = encoder("bert");
    let few = adapter.clone().load(&base, "mine", "x").unwrap().encoder;
    let (_, all, _) = through("bert", &labelled(), json!({"method": "full", "patience": 0}), PLENTY);
    let many = all.load(&base, "mine", "y").unwrap().encoder;
    assert!(few.own_bytes() > 0 && few.own_bytes() * 4 < many.own_bytes(), "{} {}", few.own_bytes(), many.own_bytes());
    let bytes = Encoder::load(&fixtures(), "bert", Precision::Int8, &Free).unwrap();
    let int8 = few.in_bytes(Some(&bytes)).unwrap();
    let embed = |e: &Encoder| e.embed(&["laser printer"], Role::Document, &mut Scratch::new(), &Free).unwrap();
    let (a, b) = (embed(&few), embed(&int8));
    let cosine: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
    assert!(cosine > 0.95 && int8.info().precision == Precision::Int8, "{cosine}");
}

#[test]
fn an_exported_folder_is_a_bundle_with_the_same_vectors() {
    for family in ["bert", "distilbert", "modernbert", "roberta"] {
        let base = encoder(family);
        let (_, adapter, _) =
            through(family, &pairs(), json!({"targets": ["query", "value", "down"], "patience": 0}), PLENTY);
        let files = adapter.export(&base, &fixtures(), &Free).unwrap();
        let folder = std::env::temp_dir().join(format!("persona-export-{}-{family}", std::process::id()));
        for (path, content) in &files {
            let path = folder.join("out").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let out = Encoder::load(&folder, "out", Precision::F32, &Free).unwrap();
        let loaded = adapter.load(&base, "mine", "x").unwrap();
        let embed = |e: &Encoder| e.embed(&["a red ball"], Role::Document, &mut Scratch::new(), &Free).unwrap();
        let (a, b) = (embed(&out), embed(&loaded.encoder));
        let scale = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(a.iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-4 * scale), "{family}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
