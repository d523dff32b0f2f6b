//! The encoder at work, for `encoder.py`, which runs it in turns with its peers.
//!
//! Reads one JSON object a line: `{"texts": [...], "precision": "f32", "threads": 1, "vectors": false}`. Answers one line:
//! `{"ns": ..., "vectors": [[...]]}`, the time from texts to vectors inside the engine.
//! The model folder and bundle are the two arguments.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use pg_persona::control::Free;
use pg_persona::embed::{Encoder, Precision, Role, Scratch};

#[derive(serde::Deserialize)]
struct Ask {
    texts: Vec<String>,
    precision: String,
    #[serde(default)]
    threads: usize,
    #[serde(default)]
    vectors: bool,
}

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [models, bundle] = arguments.as_slice() else {
        println!("usage: encoder MODEL_DIR BUNDLE (run by benches/encoder.py)");
        return;
    };
    let load = |precision| Encoder::load(Path::new(models), bundle, precision, &Free).expect("a bundle that loads");
    let (float, bytes) = (load(Precision::F32), load(Precision::Int8));
    eprintln!("{:?}", bytes.info());
    let mut scratch = Scratch::new();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let ask: Ask = serde_json::from_str(&line.unwrap()).expect("a request");
        let texts: Vec<&str> = ask.texts.iter().map(String::as_str).collect();
        let encoder = if ask.precision == "int8" { &bytes } else { &float };
        scratch.set_threads(ask.threads.max(1));
        let start = Instant::now();
        let vectors = encoder.embed(&texts, Role::Document, &mut scratch, &Free).expect("vectors");
        let ns = start.elapsed().as_nanos() as u64;
        let vectors: Vec<&[f32]> =
            if ask.vectors { vectors.chunks(encoder.info().dimension).collect() } else { Vec::new() };
        writeln!(out, "{}", serde_json::json!({ "ns": ns, "vectors": vectors })).unwrap();
        out.flush().unwrap();
    }
}
