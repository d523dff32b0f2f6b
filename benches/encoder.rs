//! The encoder at work, for `encoder.py`, which runs it in turns with its peers.
//!
//! Reads one JSON object a line: `{"texts": [...], "engine": "f32" | "int8" | "candle" | "device" | "read", "threads": 1, "vectors": false}`.
//! Answers one line: `{"ns": ..., "gap_ns": ..., "vectors": [[...]]}`: the time from texts to vectors inside the engine,
//! tokenising and pooling included, and the longest time in which a cancel would have gone unseen. The model folder and bundle
//! are the two arguments. `read` only reads as many bytes as the network's f32 weights have: no query can take less, where they
//! come from memory. `device` is `PERSONA_DEVICE` of the library `PERSONA_GPU_LIBRARY` (`gpu.py`). `train` and `train device`
//! take steps of a low-rank classifier, 64 texts each, and answer with the trained numbers and the time of all steps but the first.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::cell::Cell;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pg_persona::control::{Control, Free};
use pg_persona::device::Library;
use pg_persona::embed::reference::Reference;
use pg_persona::embed::{Encoder, Place, Precision, Role, Scratch};
use pg_persona::tune::{Data, Options, Run};

#[derive(serde::Deserialize)]
struct Ask {
    texts: Vec<String>,
    engine: String,
    #[serde(default)]
    threads: usize,
    #[serde(default)]
    vectors: bool,
}

/// Remembers the longest time between two looks.
struct Watch {
    last: Cell<Instant>,
    gap: Cell<u64>,
}

impl Control for Watch {
    fn check(&self) -> pg_persona::error::Result<()> {
        let gap = self.last.replace(Instant::now()).elapsed().as_nanos() as u64;
        self.gap.set(self.gap.get().max(gap));
        Ok(())
    }
}

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [models, bundle] = arguments.as_slice() else {
        println!("usage: encoder MODEL_DIR BUNDLE (run by benches/encoder.py)");
        return;
    };
    let models = Path::new(models);
    let load = |precision| Encoder::load(models, bundle, precision, &Free).expect("a bundle that loads");
    let (float, bytes) = (Arc::new(load(Precision::F32)), load(Precision::Int8));
    let candle = Reference::load(models, bundle, &candle_core::Device::Cpu, &Free).expect("a bundle candle knows");
    // Opened at the first use: a process that measures the CPU has no context on a card.
    let device = std::cell::OnceCell::new();
    let place = || {
        let named = |name| std::env::var(name).expect("PERSONA_GPU_LIBRARY and PERSONA_DEVICE");
        let library = Library::open(Path::new(&named("PERSONA_GPU_LIBRARY"))).expect("a library that opens");
        Place { library, device: named("PERSONA_DEVICE"), folder: models.to_owned() }
    };
    let on_device = || {
        let Place { library, device, folder } = place();
        Encoder::load_on(&library, &device, &folder, bundle, &Free).expect("a device")
    };
    eprintln!("kernels: {}", float.info().kernels);
    let dimension = float.info().dimension;
    let weights = vec![1.0f32; network(models, bundle)];
    let mut scratch = Scratch::new();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let ask: Ask = serde_json::from_str(&line.unwrap()).expect("a request");
        let texts: Vec<&str> = ask.texts.iter().map(String::as_str).collect();
        scratch.set_threads(ask.threads.max(1));
        let mut start = Instant::now();
        let watch = Watch { last: Cell::new(start), gap: Cell::new(0) };
        let vectors = match ask.engine.as_str() {
            "f32" => float.embed(&texts, Role::Document, &mut scratch, &watch),
            "int8" => bytes.embed(&texts, Role::Document, &mut scratch, &watch),
            "read" => {
                std::hint::black_box(read(&weights));
                Ok(Vec::new())
            }
            "device" => device.get_or_init(on_device).embed(&texts, Role::Document, &mut scratch, &watch),
            "train" => Ok(train(&float, None, &texts, &mut start)),
            "train device" => Ok(train(&float, Some(&place()), &texts, &mut start)),
            _ => candle.embed(&texts, Role::Document, &watch),
        };
        let ns = start.elapsed().as_nanos() as u64;
        let gap = watch.gap.get();
        let vectors = vectors.expect("vectors");
        let vectors: Vec<&[f32]> = if ask.vectors { vectors.chunks(dimension).collect() } else { Vec::new() };
        writeln!(out, "{}", serde_json::json!({ "ns": ns, "gap_ns": gap, "vectors": vectors })).unwrap();
        out.flush().unwrap();
    }
}

/// Trains for an epoch; `start` becomes the end of its first step.
fn train(encoder: &Arc<Encoder>, place: Option<&Place>, texts: &[&str], start: &mut Instant) -> Vec<f32> {
    let label = |(i, text): (usize, &&str)| ((*text).to_owned(), format!("label {}", i % 8));
    let data = Data::Labelled(texts.iter().enumerate().map(label).collect()).sorted();
    let options = serde_json::json!({"name": "bench", "batch": 64, "epochs": 1, "validation": 0, "adopt": "always"});
    let options = Options::read(&options).expect("options");
    let mut run = Run::new(options, encoder.clone(), place, None, &data, 1 << 30, &Free).expect("a run");
    let mut state = run.start(&Free).expect("a start");
    run.advance(&mut state, &mut || true, &Free).expect("a step");
    *start = Instant::now();
    run.advance(&mut state, &mut || false, &Free).expect("an epoch");
    let ended = start.elapsed();
    let (adapter, _) = run.finish(&state, &Free).expect("an end");
    // What came after the last step is not counted.
    *start = Instant::now() - ended;
    adapter.values
}

/// How many weights the products of a query run through: of a layer, four matrices of attention and two of the feed-forward.
fn network(models: &Path, bundle: &str) -> usize {
    let config = std::fs::read_to_string(models.join(bundle).join("config.json")).expect("a configuration");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    let size = |key: &str| config[key].as_u64().expect("a size of BERT's") as usize;
    let (hidden, inner) = (size("hidden_size"), size("intermediate_size"));
    size("num_hidden_layers") * (4 * hidden * hidden + 2 * hidden * inner)
}

/// Sums a slice, many sums side by side so that no addition waits for another.
fn read(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 64];
    for some in values.chunks_exact(64) {
        sums.iter_mut().zip(some).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum()
}
