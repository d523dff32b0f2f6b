//! What training needs of an encoder: its tokens, its network with a way back, its pooling's way back, and an encoder with
//! other weights.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Net as Held;
use super::device::{self, Learner};
use super::packed::gradient::{Change, Net, Plan};
use super::packed::{Batch, Model};
use super::tokenize::Piece;
use super::{Encoder, Info, Pooling, Precision, Role, Scratch, bundle, config, pool, weights};
use crate::control::Control;
use crate::device::Library;
use crate::error::{Error, Result};

/// A device to train on, and where the bundles are.
pub struct Place {
    /// What runs there.
    pub library: Library,
    /// `cuda:N`.
    pub device: String,
    /// The folder of the bundles.
    pub folder: PathBuf,
}

impl Encoder {
    fn cpu(&self) -> Result<&Model> {
        match &self.net {
            Held::Cpu(model) => Ok(model),
            Held::Device(_) => Err(Error::Internal("what is on a device only embeds".into())),
        }
    }

    /// Its network, prepared for training by `plan`. The encoder has to be in f32.
    pub fn trainable(&self, plan: Plan, control: &dyn Control) -> Result<Net> {
        if self.info.precision != Precision::F32 {
            return Err(Error::Internal("only an encoder in f32 can be trained".into()));
        }
        Net::new(self.cpu()?, self.info.architecture, plan, control)
    }

    /// The same on a device, which reads the weights anew: the bundle that this encoder is of, in f32. Fails with `Device`
    /// where that device, or memory on it, is not to be had, and with `BundleFile` where the files have changed since.
    pub fn trainable_on(&self, place: &Place, plan: Plan, control: &dyn Control) -> Result<Net> {
        self.again(&place.folder, &[], control, |given| {
            self.mergeable(plan)?.on(|entries, first, scaling| {
                Learner::load(&place.library, &place.device, given, (entries, first, scaling), control)
            })
        })
    }

    /// Reads its bundle's files once more, which have to be what they were, for something done with them and `changes`.
    fn again<T>(
        &self,
        folder: &Path,
        changes: &[Change],
        control: &dyn Control,
        work: impl FnOnce(&device::Weights<'_>) -> Result<T>,
    ) -> Result<T> {
        let source = bundle::Bundle::open(folder, &self.info.bundle)?;
        let config = config::Config::read(&source)?;
        let weights = weights::Weights::read(&source, control)?;
        if source.hash(&weights, control)? != self.info.hash {
            return Err(source.broken("the weights", "they have changed since they were loaded"));
        }
        work(&device::Weights { network: &config.network, tensors: &weights.tensors()?, changes })
    }

    /// Its network, to merge trained numbers into.
    pub fn mergeable(&self, plan: Plan) -> Result<Net> {
        if self.info.precision != Precision::F32 {
            return Err(Error::Internal("trained numbers are merged into an encoder in f32".into()));
        }
        Ok(Net::plain(self.cpu()?, self.info.architecture, plan))
    }

    /// This encoder with what was trained merged in, under another name. `mark` tells what it is: it becomes part of the
    /// identity of the vectors. What was not trained is shared with this one.
    pub fn adapted(&self, name: &str, mark: &str, net: &Net, values: &[f32]) -> Result<Encoder> {
        let model = net.merged(values)?;
        let hash = Sha256::new().chain_update(&self.info.hash).chain_update(mark).finalize();
        let info = Info {
            bundle: name.to_owned(),
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            ..self.info.clone()
        };
        Ok(Encoder { info, tokenizer: Arc::clone(&self.tokenizer), net: Held::Cpu(model) })
    }

    /// What [`Encoder::adapted`] made of this encoder, on a device; `None` where what was trained has no place in the network.
    pub fn adapted_on(
        &self,
        place: &Place,
        adapted: &Encoder,
        net: &Net,
        values: &[f32],
        control: &dyn Control,
    ) -> Result<Option<Encoder>> {
        if !net.has_place() {
            return Ok(None);
        }
        let model = self.again(&place.folder, &net.changes(values), control, |given| {
            device::Model::load(&place.library, &place.device, given, control)
        })?;
        let (device, precision) = (place.device.clone(), Precision::F32);
        let info = Info { device, precision, kernels: "candle", ..adapted.info.clone() };
        Ok(Some(Encoder { info, tokenizer: Arc::clone(&self.tokenizer), net: Held::Device(model) }))
    }

    /// This encoder in bytes, sharing the tables of words. Where it was adapted from an encoder whose twin in bytes is
    /// `base`, it shares with it all that was not trained.
    pub fn in_bytes(&self, base: Option<&Encoder>) -> Result<Encoder> {
        let model = self.cpu()?.in_bytes(base.map(Encoder::cpu).transpose()?);
        let info = Info { precision: Precision::Int8, bytes: model.bytes(), ..self.info.clone() };
        Ok(Encoder { info, tokenizer: Arc::clone(&self.tokenizer), net: Held::Cpu(model) })
    }

    /// Bytes of memory that are this encoder's alone, where it was changed from another.
    pub fn own_bytes(&self) -> usize {
        self.cpu().map_or(0, Model::own_bytes)
    }

    /// The token ids of a text, behind its role's prompt.
    pub fn tokens(&self, text: &str, role: Role) -> Result<Vec<u32>> {
        let mut batch = Batch::default();
        self.tokenizer.push(text, role, &mut batch)?;
        Ok(batch.tokens(0..1).0.to_vec())
    }

    /// Adds the tokens of a pair of texts, as a cross-encoder reads them, at most `length` of them.
    pub(crate) fn push_pair(&self, left: &str, right: &str, length: usize, batch: &mut Batch) -> Result<()> {
        let mut whole = Batch::default();
        self.tokenizer.push_pair(left, right, &mut whole)?;
        let (ids, types) = whole.tokens(0..1);
        let kept = ids.len().min(length);
        batch.push(&ids[..kept], types.get(..kept).unwrap_or_default());
        Ok(())
    }

    /// The vectors of a batch of tokens.
    pub(crate) fn embed_batch(&self, batch: &Batch, control: &dyn Control) -> Result<Vec<f32>> {
        let mut work = super::packed::Work::default();
        let mut out = vec![0.0; batch.texts() * self.info.dimension];
        for texts in batch.waves(super::WAVE) {
            let range = texts.start * self.info.dimension..texts.end * self.info.dimension;
            self.wave(batch, texts, &mut out[range], &mut work, control)?;
        }
        Ok(out)
    }

    /// The vectors of a query with each of `documents`, read together.
    pub fn embed_pairs(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        scratch.batch.clear();
        for document in documents {
            control.check()?;
            self.tokenizer.push_pair(query, document, &mut scratch.batch)?;
        }
        self.embed_batch(&scratch.batch, control)
    }

    /// A text cut into tokens, each with the bytes that it stands for; special ones stand for none. Without a prompt.
    pub fn cut(&self, text: &str) -> Result<Vec<Piece>> {
        self.tokenizer.pieces(text)
    }

    /// The tokens of a text, and the vector that the network makes of each.
    pub fn pieces(&self, text: &str, scratch: &mut Scratch, control: &dyn Control) -> Result<(Vec<Piece>, Vec<f32>)> {
        let pieces = self.cut(text)?;
        let batch = &mut scratch.batch;
        batch.clear();
        batch.push(&pieces.iter().map(|piece| piece.id).collect::<Vec<_>>(), &[]);
        let mut work = super::packed::Work::default();
        self.cpu()?.forward(batch, 0..1, &mut work, control)?;
        Ok((pieces, work.hidden()[..batch.rows() * self.info.dimension].to_vec()))
    }

    /// The vector of a text's token rows, and its length before it was normed.
    pub fn vector(&self, hidden: &[f32], stride: usize, rows: Range<usize>, out: &mut [f32]) -> f32 {
        pool::pool(self.info.pooling, hidden, stride, rows, out);
        let length = out.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        if self.info.normalize {
            pool::normalize(out);
        }
        length
    }

    /// The way back of [`Encoder::vector`]: `grad`, of the vector, is added to the rows of `into`.
    #[allow(clippy::too_many_arguments)] // what went in, what came out, and the gradient of both
    pub fn vector_back(
        &self,
        hidden: &[f32],
        stride: usize,
        rows: Range<usize>,
        vector: &[f32],
        length: f32,
        grad: &[f32],
        into: &mut [f32],
    ) {
        let mut grad = grad.to_vec();
        if self.info.normalize {
            let along: f32 = grad.iter().zip(vector).map(|(g, v)| g * v).sum();
            grad.iter_mut().zip(vector).for_each(|(g, v)| *g = (*g - along * v) / length);
        }
        let count = rows.len() as f32;
        let width = grad.len();
        let mut add = |row: usize, by: f32| {
            into[row * stride..][..width].iter_mut().zip(&grad).for_each(|(x, g)| *x += g * by);
        };
        match self.info.pooling {
            Pooling::Cls => add(rows.start, 1.0),
            Pooling::LastToken => add(rows.end - 1, 1.0),
            Pooling::Mean => rows.for_each(|row| add(row, 1.0 / count)),
            Pooling::MeanSqrtLen => rows.for_each(|row| add(row, 1.0 / count.sqrt())),
            Pooling::Max => {
                for (i, g) in grad.iter().enumerate() {
                    let at = |row: &usize| hidden[row * stride + i];
                    let most = rows.clone().max_by(|a, b| at(a).total_cmp(&at(b)).then(b.cmp(a)));
                    if let Some(row) = most {
                        into[row * stride + i] += g;
                    }
                }
            }
        }
    }
}
