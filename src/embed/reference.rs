//! The same vectors through candle's own models: the oracle of the packed forward pass, and its peer in the benchmark.
//!
//! What: BERT, RoBERTa and XLM-R. Upstream: `candle_transformers::models::{bert, xlm_roberta}`. One text at a time, so
//! that there is no padding to mask. Tokenising and pooling are those of [`Encoder`](super::Encoder); DistilBERT and
//! ModernBERT are tested against PyTorch's numbers alone.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, xlm_roberta};

use super::bundle::Bundle;
use super::config::Config;
use super::network::Architecture;
use super::packed::Batch;
use super::tokenize::Tokenizer;
use super::weights::Weights;
use super::{Role, pool};
use crate::control::Control;
use crate::error::{Error, Result};

enum Net {
    Bert(Box<bert::BertModel>),
    Roberta(Box<xlm_roberta::XLMRobertaModel>),
}

/// A bundle on candle, in f32.
pub struct Reference {
    config: Config,
    tokenizer: Tokenizer,
    net: Net,
    device: Device,
}

fn failed(error: candle_core::Error) -> Error {
    Error::Internal(format!("candle: {error}"))
}

impl Reference {
    /// Loads `model_dir/bundle` onto `device`, with the checks of [`Encoder::load`](super::Encoder::load).
    pub fn load(model_dir: &Path, bundle: &str, device: &Device, control: &dyn Control) -> Result<Self> {
        let source = Bundle::open(model_dir, bundle)?;
        let config = Config::read(&source)?;
        let tokenizer = Tokenizer::read(&source, &config)?;
        let weights = Weights::read(&source, control)?;
        let tensors = weights.tensors()?;
        let prefix = tensors.prefix(&["", "bert.", "roberta."], "embeddings.word_embeddings.weight");
        let bytes = weights.bytes().to_vec();
        let vb = VarBuilder::from_buffered_safetensors(bytes, DType::F32, device).map_err(failed)?;
        let vb = if prefix.is_empty() { vb } else { vb.pp(prefix.trim_end_matches('.')) };
        let unfit = |e: serde_json::Error| source.broken("config.json", e);
        let raw: serde_json::Value = source.json("config.json")?.ok_or_else(|| source.missing("config.json"))?;
        let net = match config.network.architecture {
            Architecture::Bert => {
                let shape: bert::Config = serde_json::from_value(raw).map_err(unfit)?;
                Net::Bert(Box::new(bert::BertModel::load(vb, &shape).map_err(failed)?))
            }
            Architecture::Roberta | Architecture::XlmRoberta => {
                // Newer configurations leave out what candle wants said.
                let mut raw = raw;
                if let Some(fields) = raw.as_object_mut() {
                    fields.entry("position_embedding_type").or_insert_with(|| "absolute".into());
                }
                let shape: xlm_roberta::Config = serde_json::from_value(raw).map_err(unfit)?;
                Net::Roberta(Box::new(xlm_roberta::XLMRobertaModel::new(&shape, vb).map_err(failed)?))
            }
            other => return Err(source.unsupported(format!("the reference has no {}", other.name()))),
        };
        Ok(Self { config, tokenizer, net, device: device.clone() })
    }

    /// The vectors of `texts`, row-major `[texts, dimension]`.
    pub fn embed(&self, texts: &[&str], role: Role, control: &dyn Control) -> Result<Vec<f32>> {
        let mut vectors = Vec::new();
        let mut batch = Batch::default();
        for text in texts {
            control.check()?;
            batch.clear();
            self.tokenizer.push(text, role, &mut batch)?;
            let hidden = self.hidden(batch.tokens(0..1).0).map_err(failed)?;
            let mut vector = vec![0.0; self.config.network.hidden];
            pool::pool(self.config.pooling, &hidden, self.config.network.hidden, 0..batch.rows(), &mut vector);
            if self.config.normalize {
                pool::normalize(&mut vector);
            }
            vectors.append(&mut vector);
        }
        Ok(vectors)
    }

    fn hidden(&self, ids: &[u32]) -> candle_core::Result<Vec<f32>> {
        let ids = Tensor::new(ids, &self.device)?.unsqueeze(0)?;
        let types = ids.zeros_like()?;
        let hidden = match &self.net {
            Net::Bert(net) => net.forward(&ids, &types, None)?,
            Net::Roberta(net) => net.forward(&ids, &ids.ones_like()?, &types, None, None, None)?,
        };
        hidden.flatten_all()?.to_vec1()
    }
}
