//! Text to vectors: model bundles, tokenising, and the forward pass that runs in the caller's own thread.
//!
//! A *bundle* is a folder in Hugging Face or sentence-transformers layout. [`Encoder::load`] reads it once, checks every
//! name, size, shape and number, and lays the weights out the way the kernels want them ([`packed`]). What comes out is
//! plain heap memory without lazily written state, threads or maps, so an encoder that is made in a server's parent
//! process is inherited by its children as it stands, at the price of nothing.
//!
//! A batch is ragged: the tokens of all its texts stand row under row in one matrix, and attention runs within each
//! text's own rows. There is no padding, hence nothing to sort by length, and no mask. Every sum runs in an order that
//! depends on the row alone, so a text has the same bits alone, in any batch, in any position, on any number of threads.

mod bundle;
mod cache;
mod config;
pub(crate) mod device;
mod export;
mod network;
pub mod packed;
mod pool;
pub mod reference;
mod rerank;
pub(crate) mod threads;
mod tokenize;
mod train;
mod weights;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::control::Control;
use crate::device::Library;
use crate::error::{Error, Result};
use crate::memory::{self, room_for};

pub use bundle::{Description, Listed, bundles};
pub use cache::{Cache, MAX_CACHED_TEXT};
pub use config::Pooling;
pub use export::export;
pub use network::Architecture;
pub(crate) use packed::Batch;
pub use packed::gradient::{self, Dropout};
use packed::{Model, Work};
pub use rerank::Reranker;
pub use tokenize::{MAX_TEXT, Piece};
pub use train::Place;

/// What a text is to the search: bundles may ask for another prompt before a query than before a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// What is searched for.
    Query,
    /// What is found.
    Document,
}

/// The numbers the matrix products run on. Vectors of both may be compared with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats: the reference.
    F32,
    /// 8-bit integers, scales for groups of 128 inputs in each weight column and each token; the rest stays in floats.
    Int8,
}

impl Precision {
    /// What `auto` means on this machine: int8 where the CPU has dot products of bytes, else f32.
    pub fn auto() -> Self {
        if packed::has_fast_int8() { Self::Int8 } else { Self::F32 }
    }

    /// As the setting `persona.precision` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// What is known of a loaded bundle.
#[derive(Debug, Clone)]
pub struct Info {
    /// Name of the bundle's folder.
    pub bundle: String,
    /// The family of the network.
    pub architecture: Architecture,
    /// Length of a vector.
    pub dimension: usize,
    /// Tokens of a text that are read, special ones included; what follows is cut.
    pub max_length: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalize: bool,
    /// What the matrix products run on.
    pub precision: Precision,
    /// Where they run: `cpu` or `cuda:N`.
    pub device: String,
    /// SHA-256, in hex, over the configuration, the tokenizer and the weights: the identity of the vectors.
    pub hash: String,
    /// Bytes of memory that the weights take.
    pub bytes: usize,
    /// The kernels chosen for this CPU, such as `avx512`; `candle` on a device.
    pub kernels: &'static str,
}

impl Info {
    /// What the files say, of an encoder in f32 that has yet to be loaded.
    fn new(bundle: &str, config: &config::Config, hash: String) -> Self {
        Self {
            bundle: bundle.to_owned(),
            architecture: config.network.architecture,
            dimension: config.network.hidden,
            max_length: config.max_length,
            pooling: config.pooling,
            normalize: config.normalize,
            precision: Precision::F32,
            device: "cpu".to_owned(),
            hash,
            bytes: 0,
            kernels: "candle",
        }
    }
}

/// A loaded bundle. Immutable, `Send` and `Sync`; see the module's prose for what may be relied on.
pub struct Encoder {
    info: Info,
    pub(in crate::embed) tokenizer: Arc<tokenize::Tokenizer>,
    net: Net,
}

/// The network, where it runs.
enum Net {
    Cpu(Model),
    Device(device::Model),
}

/// Memory that a forward pass works in. Keep it: once grown, embedding allocates nothing but its result.
#[derive(Default)]
pub struct Scratch {
    batch: Batch,
    works: Vec<Work>,
    /// Token vectors that came from a device.
    tokens: Vec<f32>,
    threads: usize,
}

impl Scratch {
    /// Empty scratch for work on the calling thread alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many threads, the caller's included, a call with much to do may use; 0 and 1 mean the caller's alone.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = threads.min(256);
    }
}

/// Rows (tokens) that go through the network together. Small enough that the activations of one step stay in the
/// second-level cache and that a cancel is seen soon, large enough that reading the weights is a small part of the work.
const WAVE: usize = 192;

impl Encoder {
    /// Reads and checks the bundle `model_dir/bundle`.
    ///
    /// Fails with `BundleName`, `UnknownBundle`, `BundleFileMissing`, `BundleFile` or `BundleUnsupported`; hostile files
    /// are an error, never a panic. Asks `control` between pieces of a few megabytes.
    pub fn load(model_dir: &Path, bundle: &str, precision: Precision, control: &dyn Control) -> Result<Self> {
        let source = bundle::Bundle::open(model_dir, bundle)?;
        let config = config::Config::read(&source)?;
        let tokenizer = tokenize::Tokenizer::read(&source, &config)?;
        let weights = weights::Weights::read(&source, control)?;
        let hash = source.hash(&weights, control)?;
        // Half precisions are widened, and a matrix stands beside its packed form for a while.
        room_for(weights.bytes().len().saturating_mul(3).saturating_add(memory::CALL))?;
        let model = Model::load(&config.network, &weights, precision, control)?;
        let mut info = Info::new(bundle, &config, hash);
        (info.precision, info.bytes, info.kernels) = (precision, model.bytes(), model.kernels());
        Ok(Self { info, tokenizer: Arc::new(tokenizer), net: Net::Cpu(model) })
    }

    /// The same on a device, `cuda:N`, in f32. Fails with `Device` where that device, or memory on it, is not to be had.
    pub fn load_on(
        library: &Library,
        device: &str,
        model_dir: &Path,
        bundle: &str,
        control: &dyn Control,
    ) -> Result<Self> {
        let source = bundle::Bundle::open(model_dir, bundle)?;
        let config = config::Config::read(&source)?;
        let tokenizer = tokenize::Tokenizer::read(&source, &config)?;
        let weights = weights::Weights::read(&source, control)?;
        let hash = source.hash(&weights, control)?;
        let tensors = weights.tensors()?;
        let given = device::Weights { network: &config.network, tensors: &tensors, changes: &[] };
        let model = device::Model::load(library, device, &given, control)?;
        let mut info = Info::new(bundle, &config, hash);
        device.clone_into(&mut info.device);
        info.bytes = weights.bytes().len();
        Ok(Self { info, tokenizer: Arc::new(tokenizer), net: Net::Device(model) })
    }

    /// What was loaded.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Words of its language that the vocabulary holds whole, among its first `most` entries.
    pub fn words(&self, most: usize) -> Vec<String> {
        self.tokenizer.words(most)
    }

    /// The vectors of `texts`, row-major `[texts, dimension]`, in the order given.
    ///
    /// An empty text is a text of no words and has a vector. Texts beyond `max_length` tokens are cut, as
    /// sentence-transformers does; see [`MAX_TEXT`] for what is refused. Asks `control` several times a layer.
    pub fn embed(&self, texts: &[&str], role: Role, scratch: &mut Scratch, control: &dyn Control) -> Result<Vec<f32>> {
        let dimension = self.info.dimension;
        scratch.batch.clear();
        self.room(texts, scratch.threads)?;
        for text in texts {
            control.check()?;
            self.tokenizer.push(text, role, &mut scratch.batch)?;
        }
        let mut out = vec![0.0; texts.len() * dimension];
        if let Net::Device(model) = &self.net {
            self.steps(model, &mut out, scratch, control)?;
            return Ok(out);
        }
        let threads = scratch.threads.clamp(1, scratch.batch.rows().div_ceil(WAVE / 4).max(1));
        if scratch.works.len() < threads {
            scratch.works.resize_with(threads, Work::default);
        }
        // One wave is a run of whole texts. With several threads waves are smaller, so that all end at about one time.
        let wave = if threads == 1 { WAVE } else { (scratch.batch.rows() / (threads * 3)).clamp(WAVE / 4, WAVE) };
        let batch = &scratch.batch;
        let mut rest = out.as_mut_slice();
        let mut jobs = Vec::new();
        for texts in batch.waves(wave) {
            let (head, tail) = rest.split_at_mut(texts.len() * dimension);
            rest = tail;
            jobs.push((texts, head));
        }
        let total = jobs.len() as u64;
        if threads == 1 || jobs.len() < 2 {
            let work = scratch.works.first_mut().ok_or_else(|| Error::Internal("no scratch".into()))?;
            for (done, (texts, out)) in jobs.into_iter().enumerate() {
                self.wave(batch, texts, out, work, control)?;
                control.progress("embed", done as u64 + 1, total);
            }
        } else {
            self.spread(batch, jobs, &mut scratch.works[..threads], control)?;
        }
        Ok(out)
    }

    /// Whether there is memory for the vectors of `texts`, for a copy of them, and for the work.
    fn room(&self, texts: &[&str], threads: usize) -> Result<()> {
        let tokens = |text: &&str| (text.len() + 2).min(self.info.max_length);
        let longest = texts.iter().map(tokens).max().unwrap_or(0).max(WAVE);
        let all: usize = texts.iter().map(tokens).sum();
        let work = longest * self.info.dimension * 4 * 24 * threads.max(1);
        room_for(memory::CALL + work + all * 8 + texts.len() * self.info.dimension * 4 * 3)
    }

    /// The texts of `scratch.batch` on a device, a step of it at a time.
    fn steps(
        &self,
        model: &device::Model,
        out: &mut [f32],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<()> {
        let Scratch { batch, tokens, .. } = scratch;
        let dimension = self.info.dimension;
        let total = out.len().checked_div(dimension).unwrap_or(0) as u64;
        for texts in batch.waves(model.step()) {
            model.forward(batch, texts.clone(), tokens, control)?;
            let vectors = &mut out[texts.start * dimension..texts.end * dimension];
            self.pool(batch, texts.clone(), tokens, dimension, vectors)?;
            control.progress("embed", texts.end as u64, total);
        }
        Ok(())
    }

    /// One run of texts through the network and the pooling.
    fn wave(
        &self,
        batch: &Batch,
        texts: Range<usize>,
        out: &mut [f32],
        work: &mut Work,
        control: &dyn Control,
    ) -> Result<()> {
        let Net::Cpu(model) = &self.net else { return Err(Error::Internal("a wave on a device".into())) };
        model.forward(batch, texts.clone(), work, control)?;
        self.pool(batch, texts, work.hidden(), model.stride(), out)
    }

    /// Token vectors, `stride` apart, to the texts' vectors.
    fn pool(&self, batch: &Batch, texts: Range<usize>, hidden: &[f32], stride: usize, out: &mut [f32]) -> Result<()> {
        let dimension = self.info.dimension;
        for (vector, rows) in out.chunks_exact_mut(dimension).zip(batch.spans(texts)) {
            pool::pool(self.info.pooling, hidden, stride, rows, vector);
            if self.info.normalize {
                pool::normalize(vector);
            }
            if !vector.iter().all(|x| x.is_finite()) {
                return Err(Error::NotFinite { what: format!("a vector of model bundle \"{}\"", self.info.bundle) });
            }
        }
        Ok(())
    }
}
