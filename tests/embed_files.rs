//! The encoder's bundles: names, broken and hostile files, the list, the identity.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use pg_persona::control::Free;
use pg_persona::embed::{Encoder, Precision, Reranker, Role, Scratch, bundles};
use pg_persona::error::Error;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(folder: &Path, bundle: &str, precision: Precision) -> Encoder {
    Encoder::load(folder, bundle, precision, &Free).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn copy_of(bundle: &str, name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pg_persona_embed_{name}_{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        copy(&fixtures().join(bundle), &root.join("m"));
        Self(root)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("m").join(name)
    }

    fn error(&self) -> Error {
        Encoder::load(&self.0, "m", Precision::F32, &Free).err().expect("an error")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_name_is_a_name_and_not_a_path() {
    for name in ["", ".", "..", "../bert", "bert/../bert", "/etc", ".hidden", "a\0b", "a\\b", "bert/"] {
        let error = Encoder::load(&fixtures(), name, Precision::F32, &Free).err();
        assert!(matches!(error, Some(Error::BundleName { .. })), "{name:?}: {error:?}");
    }
    for name in ["nobody", "make.py"] {
        let error = Encoder::load(&fixtures(), name, Precision::F32, &Free).err();
        assert!(matches!(error, Some(Error::UnknownBundle { .. })), "{name:?}: {error:?}");
    }
}

#[test]
fn broken_weights_are_an_error() {
    let folder = Folder::copy_of("bert", "weights");
    let path = folder.file("model.safetensors");
    let good = std::fs::read(&path).unwrap();
    // Cut anywhere, the header's or the data's end is missed.
    for len in [0, 1, 7, 8, 100, 1000, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..len]).unwrap();
        assert!(matches!(folder.error(), Error::BundleFile { .. }), "{len}");
    }
    // A header that promises more than any file holds.
    let mut hostile = good.clone();
    hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, &hostile).unwrap();
    assert!(matches!(folder.error(), Error::BundleFile { .. }));
    // Numbers that are none.
    let mut hostile = good.clone();
    let at = hostile.len() - 400;
    hostile[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &hostile).unwrap();
    assert!(folder.error().to_string().contains("not finite"), "{}", folder.error());
    // Another name for a tensor.
    let text = b"encoder.layer.1.output.dense.weight";
    let place = good.windows(text.len()).position(|w| w == text).unwrap();
    let mut hostile = good.clone();
    hostile[place] = b'E';
    std::fs::write(&path, &hostile).unwrap();
    assert!(folder.error().to_string().contains("no tensor"), "{}", folder.error());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(folder.error(), Error::BundleFileMissing { .. }));
}

#[test]
fn a_configuration_that_does_not_fit_is_an_error() {
    let folder = Folder::copy_of("bert", "config");
    let path = folder.file("config.json");
    let good = json(&path);
    let with = |key: &str, value: serde_json::Value| {
        let mut raw = good.clone();
        raw[key] = value;
        std::fs::write(&path, raw.to_string()).unwrap();
        folder.error()
    };
    let cases = [
        ("hidden_size", serde_json::json!(64)),
        ("hidden_size", serde_json::json!(0)),
        ("hidden_size", serde_json::json!(-1)),
        ("hidden_size", serde_json::json!(4_000_000_000u32)),
        ("num_attention_heads", serde_json::json!(3)),
        ("num_attention_heads", serde_json::json!(0)),
        ("num_hidden_layers", serde_json::json!(3)),
        ("num_hidden_layers", serde_json::json!(1_000_000)),
        ("intermediate_size", serde_json::json!(71)),
        ("vocab_size", serde_json::json!(119)),
        ("max_position_embeddings", serde_json::json!(1000)),
        ("type_vocab_size", serde_json::json!(9)),
        ("layer_norm_eps", serde_json::json!(-1.0)),
        ("layer_norm_eps", serde_json::json!("x")),
        ("model_type", serde_json::json!("llama")),
        ("model_type", serde_json::json!("distilbert")),
        ("hidden_act", serde_json::json!("swish")),
        ("position_embedding_type", serde_json::json!("relative_key")),
        ("is_decoder", serde_json::json!(true)),
    ];
    for (key, value) in cases {
        let error = with(key, value.clone());
        assert!(
            matches!(error, Error::BundleFile { .. } | Error::BundleUnsupported { .. }),
            "{key} = {value}: {error:?}"
        );
    }
    for text in ["", "{", "[]", "null", "{\"model_type\":\"bert\"}"] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(folder.error(), Error::BundleFile { .. }), "{text}");
    }
    std::fs::write(&path, good.to_string()).unwrap();
    for (file, text) in [
        ("modules.json", r#"[{"path":"","type":"a.Transformer"},{"path":"2_Dense","type":"a.Dense"}]"#),
        ("modules.json", r#"[{"path":"../../x","type":"a.Transformer"}]"#),
        ("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#),
        ("1_Pooling/config.json", r#"{"word_embedding_dimension": 7, "pooling_mode_cls_token": true}"#),
        ("sentence_bert_config.json", r#"{"max_seq_length": 1}"#),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", ""),
    ] {
        let saved = std::fs::read(folder.file(file)).unwrap();
        std::fs::write(folder.file(file), text).unwrap();
        let error = folder.error();
        assert!(
            matches!(error, Error::BundleFile { .. } | Error::BundleUnsupported { .. }),
            "{file} = {text}: {error:?}"
        );
        std::fs::write(folder.file(file), saved).unwrap();
    }
    load(&folder.0, "m", Precision::F32);
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    use std::os::unix::fs::symlink;
    let folder = Folder::copy_of("bert", "files");
    let path = folder.file("model.safetensors");
    std::fs::remove_file(&path).unwrap();
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    assert!(folder.error().to_string().contains("regular file"), "{}", folder.error());
    std::fs::remove_file(&path).unwrap();
    symlink(fixtures().join("bert/model.safetensors"), &path).unwrap();
    assert!(folder.error().to_string().contains("link"), "{}", folder.error());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(folder.error(), Error::BundleFile { .. }));
    // A folder that is a link out is as if it were not there.
    symlink(fixtures().join("bert"), folder.0.join("out")).unwrap();
    let error = Encoder::load(&folder.0, "out", Precision::F32, &Free).err();
    assert!(matches!(error, Some(Error::UnknownBundle { .. })), "{error:?}");
}

#[test]
fn a_list_of_bundles_survives_a_broken_one() {
    let folder = Folder::copy_of("bert", "list");
    copy(&fixtures().join("cross-encoder"), &folder.0.join("cross"));
    copy(&fixtures().join("bert"), &folder.0.join("broken"));
    std::fs::write(folder.0.join("broken/config.json"), "{").unwrap();
    std::fs::create_dir(folder.0.join("no bundle")).unwrap();
    let listed = bundles(&folder.0).unwrap();
    assert_eq!(listed.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["broken", "cross", "m"]);
    assert!(listed[0].description.is_err());
    assert!(listed[1].description.as_ref().unwrap().reranker);
    let m = listed[2].description.as_ref().unwrap();
    assert_eq!((m.dimension, m.max_length, m.normalize, m.reranker), (40, 32, true, false));
    assert!(bundles(Path::new("/nowhere/at/all")).unwrap().is_empty());
}

#[test]
fn the_identity_is_the_content() {
    let folder = Folder::copy_of("bert", "hash");
    let hash = |folder: &Path, bundle: &str| load(folder, bundle, Precision::F32).info().hash.clone();
    let first = hash(&folder.0, "m");
    assert_eq!(first, hash(&fixtures(), "bert"));
    assert_eq!(first.len(), 64);
    let path = folder.file("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(first, hash(&folder.0, "m"));
}

/// A plain generator (xorshift64*): the same mutations in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

/// A few bytes changed, cut out, repeated, or numbers made extreme.
fn mutated(good: &[u8], dice: &mut Dice, within: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"0",
        b"-1",
        b"1e999",
        b"4294967295",
        b"18446744073709551615",
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"NaN",
        b"\xff\xfe",
        b"\\u0000",
    ];
    let mut bytes = good.to_vec();
    for _ in 0..1 + dice.below(3) {
        let (at, kind) = (dice.below(within.min(bytes.len())), dice.below(6));
        let end = (at + 1 + dice.below(40)).min(bytes.len());
        match kind {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let run = bytes[at..end].to_vec();
                bytes.splice(at..at, run);
            }
            4 => bytes[at..end].fill([0, 0xff, b'9', b'['][dice.below(4)]),
            _ => {
                // A JSON value in place of the digits that stand there.
                let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                bytes.splice(at..at + digits, WORDS[dice.below(WORDS.len())].iter().copied());
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn mutated_files_are_errors_or_models_and_never_a_panic() {
    // `PERSONA_FUZZ` says how many of each file; make soak says more.
    let count = std::env::var("PERSONA_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for bundle in ["bert", "modernbert", "cross-encoder", "xlm-roberta"] {
        let folder = Folder::copy_of(bundle, &format!("fuzz_{bundle}"));
        let files = [
            "config.json",
            "modules.json",
            "1_Pooling/config.json",
            "tokenizer.json",
            "model.safetensors",
            "tokenizer_config.json",
        ];
        for file in files.into_iter().filter(|file| folder.file(file).exists()) {
            let good = std::fs::read(folder.file(file)).unwrap();
            // Of the weights the header is what can mislead; a number more or less in the rest is a number.
            let within = if file == "model.safetensors" { 6000 } else { good.len() };
            for turn in 0..count {
                let bytes = mutated(&good, &mut dice, within);
                std::fs::write(folder.file(file), &bytes).unwrap();
                let tried = std::panic::catch_unwind(|| {
                    let precision = if turn % 2 == 0 { Precision::F32 } else { Precision::Int8 };
                    let _ = Reranker::load(&folder.0, "m", precision, &Free)
                        .and_then(|r| r.rerank("a ball", &["a mouse", ""], &mut Scratch::new(), &Free));
                    let encoder = Encoder::load(&folder.0, "m", precision, &Free)?;
                    encoder.embed(&["a red ball", "", "☕ x"], Role::Document, &mut Scratch::new(), &Free)
                });
                match tried {
                    Ok(Ok(vectors)) => assert!(vectors.iter().all(|x| x.is_finite())),
                    Ok(Err(error)) => assert!(!matches!(error, Error::Cancelled), "{error}"),
                    Err(_) => {
                        let kept = std::env::temp_dir().join("pg_persona_fuzz_case");
                        std::fs::write(&kept, &bytes).unwrap();
                        panic!("{bundle}/{file}, turn {turn}: a panic; the file is kept as {}", kept.display());
                    }
                }
            }
            std::fs::write(folder.file(file), &good).unwrap();
        }
    }
}
