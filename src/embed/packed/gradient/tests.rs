//! Losses and gradients against PyTorch (`tests/fixtures/gradients.py`), and against themselves.

use std::path::{Path, PathBuf};

use super::{Dropout, Gradient, Method, Net, Plan, Sums, Tape, Target};
use crate::control::Free;
use crate::embed::{Batch, Encoder, Place, Precision, Role, Scratch};

fn pattern(count: usize, step: f64, start: f64, scale: f64) -> Vec<f32> {
    (0..count).map(|i| (scale * (step * i as f64 + start).sin()) as f32).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(family: &str) -> Encoder {
    Encoder::load(&folder(), family, Precision::F32, &Free).unwrap()
}

/// A network to train here, and the same on the stand-in for a device.
fn nets(encoder: &Encoder, plan: &Plan) -> [Net; 2] {
    let place = Place { library: crate::served::own(), device: "cuda:0".into(), folder: folder() };
    [encoder.trainable(plan.clone(), &Free).unwrap(), encoder.trainable_on(&place, plan.clone(), &Free).unwrap()].map(
        |mut net| {
            net.set(&start(&net)).unwrap();
            net
        },
    )
}

fn plan(method: &str, rank: usize, alpha: f32, size: usize) -> Plan {
    let method = match method {
        "lora" => Method::Lora { rank, alpha, targets: Target::ALL.to_vec() },
        "full" => Method::Full,
        _ => Method::Bottleneck { size },
    };
    Plan { method, layers: 99 }
}

/// The values that the script starts from.
fn start(net: &Net) -> Vec<f32> {
    let mut values = Vec::new();
    for entry in net.entries() {
        let (step, start) = match entry.name.rsplit_once('.').map(|(front, _)| front) {
            Some(front) if front.ends_with("lora_A") => (0.7, 1.0),
            Some(front) if front.ends_with("lora_B") => (1.3, 2.0),
            _ if entry.name.ends_with("adapter.down.weight") => (0.7, 1.0),
            _ if entry.name.ends_with("adapter.down.bias") => (0.5, 0.2),
            _ if entry.name.ends_with("adapter.up.weight") => (1.3, 2.0),
            _ if entry.name.ends_with("adapter.up.bias") => (0.4, 0.3),
            _ => {
                values.extend(vec![0.0; entry.len()]);
                continue;
            }
        };
        values.extend(pattern(entry.len(), step, start, 0.1));
    }
    values
}

/// The script's loss and its gradient, by waves of at most `wave` tokens.
fn run(encoder: &Encoder, net: &Net, texts: &[&str], wave: usize, dropout: Dropout) -> (f64, Vec<f32>) {
    let mut batch = Batch::default();
    for text in texts {
        // The script has no prompts.
        let ids = encoder.tokenizer.plain(text).unwrap();
        batch.push(&ids, &[]);
    }
    let width = encoder.info().dimension;
    let matrix = pattern(3 * width, 0.7, 0.3, 1.0);
    let (mut tape, mut sums, mut grad) = (Tape::default(), Sums::default(), Gradient::default());
    let (mut loss, mut out) = (0.0, vec![0.0; net.len()]);
    for texts in batch.waves(wave).collect::<Vec<_>>() {
        net.forward(&batch, texts.clone(), dropout, &mut tape, &mut sums, &Free).unwrap();
        let into = grad.zeros(&tape);
        for (text, rows) in texts.zip(tape.spans().to_vec()) {
            let mut vector = vec![0.0; width];
            let length = encoder.vector(tape.hidden(), tape.stride(), rows.clone(), &mut vector);
            let logits: Vec<f64> = matrix
                .chunks(width)
                .map(|row| 5.0 * row.iter().zip(&vector).map(|(a, b)| f64::from(a * b)).sum::<f64>())
                .collect();
            let most = logits.iter().fold(f64::MIN, |a, b| a.max(*b));
            let total: f64 = logits.iter().map(|l| (l - most).exp()).sum();
            loss -= (logits[text] - most - total.ln()) / 3.0;
            let mut of_vector = vec![0.0f32; width];
            for (label, row) in matrix.chunks(width).enumerate() {
                let p = (logits[label] - most).exp() / total - if label == text { 1.0 } else { 0.0 };
                of_vector.iter_mut().zip(row).for_each(|(g, w)| *g += (5.0 * p / 3.0) as f32 * w);
            }
            encoder.vector_back(tape.hidden(), tape.stride(), rows, &vector, length, &of_vector, into);
        }
        net.backward(&tape, &mut grad, &mut sums, &Free).unwrap();
        net.collect(&mut sums, &mut out).unwrap();
    }
    (loss, out)
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gradients.json");
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let mut checked = 0;
    for (family, methods) in expected["families"].as_object().unwrap() {
        let encoder = load(family);
        for (method, want) in methods.as_object().unwrap() {
            for net in nets(&encoder, &plan(method, 3, 6.0, 5)) {
                checked += agrees(&format!("{family} {method}"), &encoder, &net, &texts, want);
            }
        }
    }
    assert!(checked > 2000, "{checked}");
}

/// Holds a network's loss and gradient against the script's; how many numbers were compared.
fn agrees(name: &str, encoder: &Encoder, net: &Net, texts: &[&str], want: &serde_json::Value) -> usize {
    let mut checked = 0;
    let (loss, grads) = run(encoder, net, texts, 1000, Dropout::NONE);
    let wanted = want["loss"].as_f64().unwrap();
    assert!((loss - wanted).abs() < 1e-4 * wanted.max(1.0), "{name}: loss {loss}, not {wanted}");
    assert!(!net.is_empty());
    for entry in net.entries() {
        let grad = &grads[entry.at..entry.at + entry.len()];
        let Some(wanted) = want["gradients"].get(&entry.name) else { panic!("{name} has no {}", entry.name) };
        let norm = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for (k, wanted) in wanted.as_array().unwrap().iter().enumerate() {
            let along = pattern(grad.len(), 0.9 + 0.3 * k as f64, 0.1 * k as f64, 1.0);
            let got: f64 = grad.iter().zip(&along).map(|(g, a)| f64::from(*g) * f64::from(*a)).sum();
            let off = (got - wanted.as_f64().unwrap()).abs();
            assert!(off < 1e-4 * norm.max(0.1), "{name} {}: {got}, not {wanted} (|g| {norm})", entry.name);
            checked += 1;
        }
    }
    checked
}

#[test]
fn a_device_drops_the_same_numbers() {
    let texts = ["laser printer", "a red ball for the dog and a mouse", "Ink cartridge, BLACK"];
    let dropout = Dropout { share: 0.2, seed: 7 };
    for (family, method, layers) in [("bert", "lora", 1), ("modernbert", "full", 99), ("roberta", "adapter", 99)] {
        let encoder = load(family);
        let [here, there] = nets(&encoder, &Plan { layers, ..plan(method, 3, 6.0, 5) });
        let (ours, whole) = (run(&encoder, &here, &texts, 1000, dropout), run(&encoder, &there, &texts, 1000, dropout));
        let parts = run(&encoder, &there, &texts, 1, dropout);
        let most = ours.1.iter().fold(0.0f32, |most, g| most.max(g.abs()));
        assert!(most > 0.0 && (ours.0 - run(&encoder, &here, &texts, 1000, Dropout::NONE).0).abs() > 1e-4);
        for other in [whole, parts] {
            assert!((ours.0 - other.0).abs() < 1e-5, "{family}: {} {}", ours.0, other.0);
            let off = ours.1.iter().zip(&other.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-4 * most, "{family} {method}: {off} of {most}");
        }
    }
}

#[test]
fn waves_change_no_mask_and_upper_layers_alone_are_trained_alike() {
    let encoder = load("bert");
    let texts = ["laser printer", "a red ball for the dog and a mouse", "Ink cartridge, BLACK"];
    let dropout = Dropout { share: 0.2, seed: 7 };
    let mut net = encoder.trainable(plan("lora", 3, 6.0, 5), &Free).unwrap();
    net.set(&start(&net)).unwrap();
    let (whole, parts) = (run(&encoder, &net, &texts, 1000, dropout), run(&encoder, &net, &texts, 1, dropout));
    assert!((whole.0 - parts.0).abs() < 1e-6);
    let off = whole.1.iter().zip(&parts.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off}");
    assert_ne!(whole.0, run(&encoder, &net, &texts, 1000, Dropout { seed: 8, ..dropout }).0);

    // Dropout's way back, by finite differences along the gradient itself.
    let size: f32 = whole.1.iter().map(|g| g * g).sum::<f32>().sqrt();
    let moved = |by: f32| {
        let mut net = encoder.trainable(plan("lora", 3, 6.0, 5), &Free).unwrap();
        let values: Vec<f32> = start(&net).iter().zip(&whole.1).map(|(v, g)| v + by * g / size).collect();
        net.set(&values).unwrap();
        run(&encoder, &net, &texts, 1000, dropout).0
    };
    let slope = (moved(2e-3) - moved(-2e-3)) / 4e-3;
    assert!((slope - f64::from(size)).abs() < 2e-2 * f64::from(size), "{slope} {size}");

    // One layer of two: its gradient is the same, as the other's is not asked.
    let mut one = plan("lora", 3, 6.0, 5);
    one.layers = 1;
    let (mut upper, mut all) = (encoder.trainable(one, &Free).unwrap(), net);
    upper.set(&vec![0.0; upper.len()]).unwrap();
    all.set(&vec![0.0; all.len()]).unwrap();
    let (few, many) =
        (run(&encoder, &upper, &texts, 99, Dropout::NONE), run(&encoder, &all, &texts, 99, Dropout::NONE));
    assert!((few.0 - many.0).abs() < 1e-6);
    for (a, b) in few.1.iter().zip(&many.1[all.len() - upper.len()..]) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn merged_weights_give_the_vectors_of_the_trained_network() {
    for family in ["bert", "roberta", "distilbert", "modernbert"] {
        let encoder = load(family);
        for method in ["lora", "full", "adapter"] {
            let mut net = encoder.trainable(plan(method, 3, 6.0, 5), &Free).unwrap();
            let values = if method == "full" { pattern(net.len(), 0.7, 1.0, 0.05) } else { start(&net) };
            net.set(&values).unwrap();
            let merged = encoder.adapted("mine", "x", &net, &values).unwrap();
            assert_ne!(merged.info().hash, encoder.info().hash);
            let text = "a red ball for the dog and a mouse";
            let got = merged.embed(&[text], Role::Document, &mut Scratch::new(), &Free).unwrap();
            let mut batch = Batch::default();
            batch.push(&encoder.tokens(text, Role::Document).unwrap(), &[]);
            let (mut tape, mut sums) = (Tape::default(), Sums::default());
            net.forward(&batch, 0..1, Dropout::NONE, &mut tape, &mut sums, &Free).unwrap();
            let mut want = vec![0.0; got.len()];
            encoder.vector(tape.hidden(), tape.stride(), tape.spans()[0].clone(), &mut want);
            let scale = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
            assert!(off < 1e-4, "{family} {method}: {off}");
            let base = encoder.embed(&[text], Role::Document, &mut Scratch::new(), &Free).unwrap();
            assert_ne!(base, got, "{family} {method} changed nothing");
        }
    }
}

/// Not a test: how long a step takes on the real model. `cargo test --release step -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn a_step() {
    let Some(folder) = std::env::var_os("PERSONA_MODEL_DIR") else { return };
    let encoder = Encoder::load(Path::new(&folder), "all-MiniLM-L6-v2", Precision::F32, &Free).unwrap();
    let text = "What can I do if my card still hasn't arrived after 2 weeks?";
    for (name, method) in [
        ("lora q v 16", Method::Lora { rank: 16, alpha: 32.0, targets: vec![Target::Query, Target::Value] }),
        ("lora all 8", Method::Lora { rank: 8, alpha: 16.0, targets: Target::ALL.to_vec() }),
        ("full", Method::Full),
    ] {
        let mut net = encoder.trainable(Plan { method, layers: 6 }, &Free).unwrap();
        let values = vec![0.01; net.len()];
        let mut batch = Batch::default();
        for _ in 0..32 {
            batch.push(&encoder.tokens(text, Role::Document).unwrap(), &[]);
        }
        let (mut tape, mut sums, mut grad) = (Tape::default(), Sums::default(), Gradient::default());
        let mut out = vec![0.0; net.len()];
        let mut times = [0.0; 4];
        for _ in 0..6 {
            let mut mark = std::time::Instant::now();
            let mut lap = |i: usize| {
                times[i] += mark.elapsed().as_secs_f64() / 6.0;
                mark = std::time::Instant::now();
            };
            net.set(&values).unwrap();
            lap(0);
            for texts in batch.waves(192).collect::<Vec<_>>() {
                net.forward(&batch, texts, Dropout { share: 0.1, seed: 1 }, &mut tape, &mut sums, &Free).unwrap();
                lap(1);
                grad.zeros(&tape).fill(0.01);
                net.backward(&tape, &mut grad, &mut sums, &Free).unwrap();
                lap(2);
            }
            net.collect(&mut sums, &mut out).unwrap();
            lap(3);
        }
        println!("{name}: {} tokens; set, forward, back, collect {:.1?} ms", batch.rows(), times.map(|t| t * 1000.0));
    }
}
