//! Cross-encoders: a query and a document read together, scored by a small head on the first token.
//!
//! Slower than comparing vectors, and better: attention runs between the words of both. For the first few results of a
//! search, not for a catalogue. Heads: `BertForSequenceClassification`, and the same of RoBERTa, XLM-R and DistilBERT.
//! Nogueira and Cho 2019, <https://arxiv.org/abs/1901.04085>.

use std::path::Path;

use super::bundle::Bundle;
use super::config::Config;
use super::network::Architecture;
use super::packed::Model;
use super::tokenize::Tokenizer;
use super::weights::{Tensors, Weights};
use super::{Precision, Scratch, WAVE};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::linear::dot;
use crate::memory::{self, room_for};

/// What follows the first dense layer of a head.
#[derive(Debug, Clone, Copy)]
enum Bend {
    Tanh,
    Relu,
}

/// A loaded cross-encoder. Immutable, `Send` and `Sync`, like an [`Encoder`](super::Encoder).
pub struct Reranker {
    bundle: String,
    tokenizer: Tokenizer,
    model: Model,
    hidden: usize,
    /// `[hidden, hidden]` and `[hidden]`.
    dense: (Vec<f32>, Vec<f32>),
    bend: Bend,
    /// `[1, hidden]` and `[1]`.
    score: (Vec<f32>, Vec<f32>),
    sigmoid: bool,
    hash: String,
}

impl Reranker {
    /// Reads and checks the bundle `model_dir/bundle`; fails as [`Encoder::load`](super::Encoder::load) does, and with
    /// `BundleUnsupported` where there is no head with one score.
    pub fn load(model_dir: &Path, bundle: &str, precision: Precision, control: &dyn Control) -> Result<Self> {
        let source = Bundle::open(model_dir, bundle)?;
        let config = Config::read(&source)?;
        if !config.reranker {
            return Err(source.unsupported("it is no cross-encoder"));
        }
        if config.network.labels != 1 {
            let reason = format!("it gives {} labels and a cross-encoder gives one score", config.network.labels);
            return Err(source.unsupported(reason));
        }
        let tokenizer = Tokenizer::read(&source, &config)?;
        let weights = Weights::read(&source, control)?;
        let hash = source.hash(&weights, control)?;
        let model = Model::load(&config.network, &weights, precision, control)?;
        let tensors = weights.tensors()?;
        let hidden = config.network.hidden;
        let (dense, bend, score) = match config.network.architecture {
            Architecture::Bert => ("bert.pooler.dense", Bend::Tanh, "classifier"),
            Architecture::Roberta | Architecture::XlmRoberta => ("classifier.dense", Bend::Tanh, "classifier.out_proj"),
            Architecture::DistilBert => ("pre_classifier", Bend::Relu, "classifier"),
            Architecture::ModernBert => return Err(source.unsupported("it is a ModernBERT cross-encoder")),
        };
        let layer = |tensors: &Tensors<'_>, name: &str, outputs: usize| -> Result<(Vec<f32>, Vec<f32>)> {
            let weight = tensors.get(&format!("{name}.weight"), &[outputs, hidden])?;
            Ok((weight, tensors.get(&format!("{name}.bias"), &[outputs])?))
        };
        Ok(Self {
            bundle: bundle.to_owned(),
            tokenizer,
            model,
            hidden,
            dense: layer(&tensors, dense, hidden)?,
            bend,
            score: layer(&tensors, score, 1)?,
            sigmoid: config.sigmoid,
            hash,
        })
    }

    /// SHA-256 of what it was read from, in hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How well each of `documents` answers `query`, in input order; larger is better. Between 0 and 1 unless the
    /// bundle's configuration asks for the bare score (`activation_fn` Identity).
    pub fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        let mut scores = self.logits(query, documents, scratch, control)?;
        if self.sigmoid {
            scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
        }
        Ok(scores)
    }

    /// The bare scores, whatever the bundle's configuration asks for: any number, larger is better.
    pub fn logits(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        scratch.batch.clear();
        room_for(memory::CALL + documents.len() * 512 * 8)?;
        for document in documents {
            control.check()?;
            self.tokenizer.push_pair(query, document, &mut scratch.batch)?;
        }
        if scratch.works.is_empty() {
            scratch.works.push(Default::default());
        }
        let (batch, works) = (&scratch.batch, &mut scratch.works);
        let work = works.first_mut().ok_or_else(|| Error::Internal("no scratch".into()))?;
        let mut scores = Vec::with_capacity(documents.len());
        for texts in batch.waves(WAVE) {
            self.model.forward(batch, texts.clone(), work, control)?;
            for rows in batch.spans(texts) {
                let first = &work.hidden()[rows.start * self.model.stride()..][..self.hidden];
                let score = self.head(first);
                if !score.is_finite() {
                    return Err(Error::NotFinite { what: format!("a score of model bundle \"{}\"", self.bundle) });
                }
                scores.push(score);
            }
        }
        Ok(scores)
    }

    fn head(&self, first: &[f32]) -> f32 {
        let (weight, bias) = &self.dense;
        let bent: Vec<f32> = weight
            .chunks_exact(self.hidden)
            .zip(bias)
            .map(|(row, bias)| match self.bend {
                Bend::Tanh => (dot(row, first) + bias).tanh(),
                Bend::Relu => (dot(row, first) + bias).max(0.0),
            })
            .collect();
        dot(&self.score.0, &bent) + self.score.1.iter().sum::<f32>()
    }
}
