//! The files of a bundle: which names are allowed, what may be opened, and what they hash to.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::config::{Config, Pooling};
use super::network::Architecture;
use super::weights::Weights;
use crate::control::Control;
use crate::error::{Error, Result};

/// Largest configuration file read, in bytes.
const MAX_JSON: u64 = 16 << 20;
/// Largest tokenizer file read, in bytes (those of 250,000 tokens take 17 MB).
const MAX_TOKENIZER: u64 = 256 << 20;
/// Largest weights file read, in bytes.
const MAX_WEIGHTS: u64 = 16 << 30;
/// Bytes read or hashed between two looks at `Control`.
const PIECE: usize = 4 << 20;

/// A bundle's folder, its name checked.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) name: String,
    root: PathBuf,
    folder: PathBuf,
}

impl Bundle {
    /// Checks the name and that the folder is there.
    pub(super) fn open(model_dir: &Path, name: &str) -> Result<Self> {
        // SQL names a bundle, never a path: one plain folder name.
        let plain = !name.is_empty()
            && name.len() <= 255
            && !name.starts_with(['.', '-', ' '])
            && !name.contains("..")
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ' | '+' | '@'));
        if !plain {
            return Err(Error::BundleName { name: name.to_owned() });
        }
        let unknown = || Error::UnknownBundle { name: name.to_owned() };
        let root = model_dir.canonicalize().map_err(|_| unknown())?;
        let folder = root.join(name).canonicalize().map_err(|_| unknown())?;
        if !folder.starts_with(&root) || !folder.is_dir() {
            return Err(unknown());
        }
        Ok(Self { name: name.to_owned(), root, folder })
    }

    /// An error that names this bundle's file.
    pub(super) fn broken(&self, file: &str, reason: impl std::fmt::Display) -> Error {
        // What a file holds is not repeated at length to whoever asked.
        let reason: String = reason.to_string().chars().take(300).collect();
        Error::BundleFile { bundle: self.name.clone(), file: file.to_owned(), reason }
    }

    /// An error that names what this bundle wants and this code lacks.
    pub(super) fn unsupported(&self, reason: impl std::fmt::Display) -> Error {
        let reason: String = reason.to_string().chars().take(300).collect();
        Error::BundleUnsupported { bundle: self.name.clone(), reason }
    }

    /// Opens a regular file inside the model folder; `None` if there is none. Never waits on a pipe and never follows a
    /// link that leads out.
    fn open_file(&self, file: &str, limit: u64) -> Result<Option<(File, usize)>> {
        let path = self.folder.join(file);
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.broken(file, e)),
        };
        if !real.starts_with(&self.root) {
            return Err(self.broken(file, "it is a link out of the model folder"));
        }
        let mut options = File::options();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
        }
        let opened = options.open(&real).map_err(|e| self.broken(file, e))?;
        let meta = opened.metadata().map_err(|e| self.broken(file, e))?;
        if !meta.is_file() {
            return Err(self.broken(file, "it is not a regular file"));
        }
        if meta.len() > limit {
            return Err(self.broken(file, format!("its {} bytes are more than the limit of {limit}", meta.len())));
        }
        Ok(Some((opened, meta.len() as usize)))
    }

    /// The bytes of a file, at most `limit`, `None` if it is not there.
    fn bytes(&self, file: &str, limit: u64, control: &dyn Control) -> Result<Option<Vec<u8>>> {
        let Some((mut opened, size)) = self.open_file(file, limit)? else { return Ok(None) };
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|e| self.broken(file, e))?;
        // A file that grows meanwhile is read as far as its size was; the header check finds what does not fit.
        while bytes.len() < size {
            control.check()?;
            let piece = (size - bytes.len()).min(PIECE) as u64;
            let got = opened.by_ref().take(piece).read_to_end(&mut bytes).map_err(|e| self.broken(file, e))?;
            if got == 0 {
                return Err(self.broken(file, "it became shorter while it was read"));
            }
        }
        Ok(Some(bytes))
    }

    /// The bytes of a small file, `None` if it is not there.
    pub(super) fn small(&self, file: &str, control: &dyn Control) -> Result<Option<Vec<u8>>> {
        self.bytes(file, MAX_JSON, control)
    }

    /// Parses a configuration file, `None` if it is not there.
    pub(super) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        let Some(bytes) = self.bytes(file, MAX_JSON, &crate::control::Free)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| self.broken(file, e))
    }

    /// The bytes of `tokenizer.json`.
    pub(super) fn tokenizer(&self) -> Result<Vec<u8>> {
        let file = "tokenizer.json";
        self.bytes(file, MAX_TOKENIZER, &crate::control::Free)?.ok_or_else(|| self.missing(file))
    }

    /// The bytes of `model.safetensors`.
    pub(super) fn weights(&self, control: &dyn Control) -> Result<Vec<u8>> {
        let file = "model.safetensors";
        self.bytes(file, MAX_WEIGHTS, control)?.ok_or_else(|| self.missing(file))
    }

    pub(super) fn missing(&self, file: &str) -> Error {
        Error::BundleFileMissing { bundle: self.name.clone(), file: file.to_owned() }
    }

    /// The identity of the vectors: everything that decides them, each part led by its name and length.
    pub(super) fn hash(&self, weights: &Weights, control: &dyn Control) -> Result<String> {
        let mut hash = Sha256::new();
        let mut part = |file: &str, bytes: &[u8]| -> Result<()> {
            hash.update((file.len() as u64).to_le_bytes());
            hash.update(file);
            hash.update((bytes.len() as u64).to_le_bytes());
            for piece in bytes.chunks(PIECE) {
                control.check()?;
                hash.update(piece);
            }
            Ok(())
        };
        for file in super::config::FILES {
            if let Some(bytes) = self.bytes(file, MAX_JSON, control)? {
                part(file, &bytes)?;
            }
        }
        part("tokenizer.json", &self.tokenizer()?)?;
        part("model.safetensors", weights.bytes())?;
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A bundle as its small files describe it, for a list of what could be loaded.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Name of the folder.
    pub name: String,
    /// What its configuration says, or why it cannot be used.
    pub description: Result<Description>,
}

/// What configuration files say of a bundle that was not loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The family of the network.
    pub architecture: Architecture,
    /// Length of a vector.
    pub dimension: usize,
    /// Tokens of a text that are read.
    pub max_length: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalize: bool,
    /// Whether it scores pairs of texts (a cross-encoder) rather than making vectors.
    pub reranker: bool,
    /// Size of the weights file in bytes.
    pub bytes: u64,
}

/// The bundles in `model_dir`, by name. A folder counts when it holds a `config.json`; one that is broken is listed with
/// its error. Reads configuration files only. A folder that cannot be read is an empty list.
pub fn bundles(model_dir: &Path) -> Result<Vec<Listed>> {
    let Ok(entries) = std::fs::read_dir(model_dir) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // A name that is not UTF-8 could not be said in SQL.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || !entry.path().join("config.json").exists() {
            continue;
        }
        let description = describe(model_dir, &name);
        found.push(Listed { name, description });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn describe(model_dir: &Path, name: &str) -> Result<Description> {
    let bundle = Bundle::open(model_dir, name)?;
    let config = Config::read(&bundle)?;
    let file = "model.safetensors";
    let (_, bytes) = bundle.open_file(file, MAX_WEIGHTS)?.ok_or_else(|| bundle.missing(file))?;
    if bundle.open_file("tokenizer.json", MAX_TOKENIZER)?.is_none() {
        return Err(bundle.missing("tokenizer.json"));
    }
    Ok(Description {
        architecture: config.network.architecture,
        dimension: config.network.hidden,
        max_length: config.max_length,
        pooling: config.pooling,
        normalize: config.normalize,
        reranker: config.reranker,
        bytes: bytes as u64,
    })
}
