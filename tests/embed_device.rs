//! The GPU's forward pass and the functions around it, on the stand-in that runs on the CPU. No card is needed, and none of
//! this says how a card does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::path::{Path, PathBuf};

use pg_persona::control::{Control, Free};
use pg_persona::device::Library;
use pg_persona::embed::gradient::{Method, Plan, Target};
use pg_persona::embed::{Encoder, Place, Precision, Role, Scratch};
use pg_persona::error::{Error, Result};
use pg_persona::served::own;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn on_device(bundle: &str) -> Encoder {
    Encoder::load_on(&own(), "cuda:0", &fixtures(), bundle, &Free).unwrap()
}

fn embed(encoder: &Encoder, texts: &[&str]) -> Vec<f32> {
    encoder.embed(texts, Role::Document, &mut Scratch::new(), &Free).unwrap()
}

const TEXTS: [&str; 7] = [
    "laser printer",
    "",
    "a red ball for the dog and a board game for two players, and a mouse, and a printer, and one more",
    "Ink cartridge, BLACK",
    "mouse",
    "a",
    "board game board game board game",
];

#[test]
fn every_family_agrees_with_the_packed_pass() {
    for family in ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert"] {
        let (device, cpu) = (on_device(family), Encoder::load(&fixtures(), family, Precision::F32, &Free).unwrap());
        assert_eq!((device.info().device.as_str(), cpu.info().device.as_str()), ("cuda:0", "cpu"));
        assert_eq!(device.info().hash, cpu.info().hash);
        let many: Vec<&str> = TEXTS.iter().copied().cycle().take(50).collect();
        let (got, want) = (embed(&device, &many), embed(&cpu, &many));
        let scale = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let off = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max) / scale;
        assert!(off < 1e-5, "{family}: {off}");
        assert_ne!(got, want, "{family}: the device's pass did not run");
        assert!(embed(&device, &[]).is_empty());
    }
}

#[test]
fn the_real_model_agrees() {
    let Some(folder) = std::env::var_os("PERSONA_MODEL_DIR").map(PathBuf::from) else { return };
    let device = Encoder::load_on(&own(), "cuda:0", &folder, "all-MiniLM-L6-v2", &Free).unwrap();
    let cpu = Encoder::load(&folder, "all-MiniLM-L6-v2", Precision::F32, &Free).unwrap();
    let (got, want) = (embed(&device, &TEXTS), embed(&cpu, &TEXTS));
    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-5));
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    for device in ["cuda:7", "cuda:", "tpu:0", ""] {
        let error = Encoder::load_on(&own(), device, &fixtures(), "bert", &Free).err();
        assert!(matches!(error, Some(Error::Device { .. })), "{device}: {error:?}");
    }
    // What is wrong with the bundle is said of the bundle.
    let error = Encoder::load_on(&own(), "cuda:0", &fixtures(), "nobody", &Free).err();
    assert!(matches!(error, Some(Error::UnknownBundle { .. })), "{error:?}");
}

#[test]
fn a_library_that_is_none_is_an_error() {
    let text = std::env::temp_dir().join(format!("pg_persona_no_library_{}", std::process::id()));
    std::fs::write(&text, "no library").unwrap();
    for (path, says) in [(Path::new("/nowhere/pg_persona_cuda.so"), "no such file"), (&text, "pg_persona_no_library")] {
        let error = Library::open(path).err().expect("an error").to_string();
        assert!(error.contains(says), "{error}");
    }
    std::fs::remove_file(&text).unwrap();
    // A library, but another one.
    if let Some(libc) = ["/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/libc.so.6"].iter().find(|p| Path::new(p).exists())
    {
        let error = Library::open(Path::new(libc)).err().expect("an error").to_string();
        assert!(error.contains("another library"), "{error}");
    }
}

/// Refuses, or unwinds as an interrupt inside the server does, after a number of looks.
struct Ends {
    left: Cell<u32>,
    unwinds: bool,
}

impl Control for Ends {
    fn check(&self) -> Result<()> {
        match self.left.get() {
            0 if self.unwinds => panic!("an interrupt"),
            0 => Err(Error::Cancelled),
            left => {
                self.left.set(left - 1);
                Ok(())
            }
        }
    }
}

#[test]
fn a_cancel_takes_effect_while_loading_and_between_steps() {
    for left in [0, 3, 20] {
        let control = Ends { left: Cell::new(left), unwinds: false };
        let error = Encoder::load_on(&own(), "cuda:0", &fixtures(), "bert", &control).err();
        assert_eq!(error, Some(Error::Cancelled), "{left}");
        let control = Ends { left: Cell::new(left), unwinds: true };
        let load = || Encoder::load_on(&own(), "cuda:0", &fixtures(), "bert", &control).is_ok();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
        let payload = caught.expect_err("it unwinds");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"an interrupt"));
    }
    let encoder = on_device("bert");
    let texts = vec!["a board game for two players"; 400];
    let mut scratch = Scratch::new();
    for left in [0, 100, 410] {
        let control = Ends { left: Cell::new(left), unwinds: false };
        let got = encoder.embed(&texts, Role::Document, &mut scratch, &control);
        assert_eq!(got.err(), Some(Error::Cancelled), "{left}");
    }
    assert!(encoder.embed(&texts, Role::Document, &mut scratch, &Free).is_ok());
}

#[test]
fn an_adapted_model_is_the_same_there() {
    let place = Place { library: own(), device: "cuda:0".into(), folder: fixtures() };
    for family in ["bert", "roberta", "distilbert", "modernbert"] {
        let base = Encoder::load(&fixtures(), family, Precision::F32, &Free).unwrap();
        for method in [
            Method::Lora { rank: 2, alpha: 4.0, targets: Target::ALL.to_vec() },
            Method::Full,
            Method::Bottleneck { size: 3 },
        ] {
            let bottleneck = matches!(method, Method::Bottleneck { .. });
            let net = base.mergeable(Plan { method, layers: 99 }).unwrap();
            let values: Vec<f32> = (0..net.len()).map(|i| 0.1 * (i as f32 * 0.7).sin()).collect();
            let adapted = base.adapted("mine", "x", &net, &values).unwrap();
            let there = base.adapted_on(&place, &adapted, &net, &values, &Free).unwrap();
            let Some(there) = there.filter(|_| !bottleneck) else {
                assert!(bottleneck);
                continue;
            };
            assert_eq!((&there.info().hash, &there.info().bundle), (&adapted.info().hash, &adapted.info().bundle));
            let (got, want) = (embed(&there, &TEXTS), embed(&adapted, &TEXTS));
            let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far(&got, &want) < 1e-4, "{family}: {}", far(&got, &want));
            assert!(far(&got, &embed(&base, &TEXTS)) > 1e-3, "{family}: nothing was added");
        }
    }
}
