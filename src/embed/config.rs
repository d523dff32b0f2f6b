//! What a bundle's configuration files say, checked and brought to one shape.
//!
//! Two layouts are read: sentence-transformers (`modules.json` names a transformer, a pooling and perhaps a
//! normalisation), and a plain Hugging Face model, which is pooled by the mean and not normalised, as
//! sentence-transformers itself treats one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Role;
use super::bundle::Bundle;
use super::network::{Network, Raw};
use crate::error::Result;

/// Every configuration file that decides what a vector is; all are part of its identity.
pub(super) const FILES: [&str; 6] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
];

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// Their sum over the square root of their number.
    MeanSqrtLen,
    /// The first token's.
    Cls,
    /// The last token's.
    LastToken,
    /// The largest number in each place.
    Max,
}

impl Pooling {
    /// As sentence-transformers calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
            Self::Cls => "cls",
            Self::LastToken => "lasttoken",
            Self::Max => "max",
        }
    }
}

/// All that is known of a bundle before its weights are read.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) network: Network,
    pub(super) max_length: usize,
    pub(super) pooling: Pooling,
    pub(super) normalize: bool,
    pub(super) lower_case: bool,
    pub(super) reranker: bool,
    /// Whether the second text of a pair is told to the network by its token types.
    pub(super) token_types: bool,
    /// Whether a cross-encoder's score is brought between 0 and 1.
    pub(super) sigmoid: bool,
    query_prompt: String,
    document_prompt: String,
}

#[derive(Deserialize)]
struct RawModule {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
struct RawSentence {
    max_seq_length: Option<u64>,
    do_lower_case: Option<bool>,
}

#[derive(Deserialize, Default)]
struct RawPrompts {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

#[derive(Deserialize, Default)]
struct RawTokenizer {
    model_max_length: Option<f64>,
    model_input_names: Option<Vec<String>>,
}

impl Config {
    /// Reads and checks all configuration files of `bundle`.
    pub(super) fn read(bundle: &Bundle) -> Result<Self> {
        let raw: Raw = bundle.json("config.json")?.ok_or_else(|| bundle.missing("config.json"))?;
        let network = Network::read(bundle, &raw)?;
        let modules: Option<Vec<RawModule>> = bundle.json("modules.json")?;
        let (pooling, normalize) = match &modules {
            None => (Pooling::Mean, false),
            Some(modules) => read_modules(bundle, modules, network.hidden)?,
        };
        let sentence: RawSentence = bundle.json("sentence_bert_config.json")?.unwrap_or_default();
        let prompts: RawPrompts = bundle.json("config_sentence_transformers.json")?.unwrap_or_default();
        let tokenizer: RawTokenizer = bundle.json("tokenizer_config.json")?.unwrap_or_default();
        let positions = network.positions - network.first_position;
        // Tokenizers without a limit of their own write 1e30.
        let said = sentence.max_seq_length.map(|n| n as f64).or(tokenizer.model_max_length).unwrap_or(f64::MAX);
        let max_length = (said.max(0.0) as usize).min(positions);
        if max_length < 4 {
            return Err(bundle.unsupported(format!("its maximum length is {max_length} tokens")));
        }
        let default = prompts.default_prompt_name.as_ref().and_then(|name| prompts.prompts.get(name));
        let prompt = |names: &[&str]| -> String {
            names.iter().find_map(|name| prompts.prompts.get(*name)).or(default).cloned().unwrap_or_default()
        };
        Ok(Self {
            max_length,
            pooling,
            normalize,
            lower_case: sentence.do_lower_case.unwrap_or(false),
            reranker: modules.is_none() && raw.architectures.iter().any(|a| a.ends_with("ForSequenceClassification")),
            token_types: tokenizer.model_input_names.is_none_or(|names| names.iter().any(|n| n == "token_type_ids")),
            // Without a word on it, sentence-transformers takes the sigmoid of a single score.
            sigmoid: !raw
                .sentence_transformers
                .as_ref()
                .and_then(|cross| cross.activation_fn.as_ref())
                .or(raw.sbert_ce_default_activation_function.as_ref())
                .is_some_and(|name| name.ends_with(".Identity")),
            query_prompt: prompt(&["query"]),
            document_prompt: prompt(&["document", "passage", "corpus"]),
            network,
        })
    }

    /// What stands before a text of this role.
    pub(super) fn prompt(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.query_prompt,
            Role::Document => &self.document_prompt,
        }
    }
}

fn read_modules(bundle: &Bundle, modules: &[RawModule], hidden: usize) -> Result<(Pooling, bool)> {
    let mut pooling = None;
    let mut normalize = false;
    for (i, module) in modules.iter().enumerate() {
        let kind = module.kind.rsplit('.').next().unwrap_or_default();
        match kind {
            "Transformer" if i == 0 && module.path.is_empty() => {}
            "Pooling" if i == 1 && module.path == "1_Pooling" => {
                let file = "1_Pooling/config.json";
                let raw: BTreeMap<String, serde_json::Value> =
                    bundle.json(file)?.ok_or_else(|| bundle.missing(file))?;
                pooling = Some(read_pooling(bundle, &raw, hidden)?);
            }
            "Normalize" if i == 2 => normalize = true,
            _ => {
                return Err(bundle.unsupported(format!("its module {i} is \"{}\" at \"{}\"", module.kind, module.path)));
            }
        }
    }
    Ok((pooling.unwrap_or(Pooling::Mean), normalize))
}

fn read_pooling(bundle: &Bundle, raw: &BTreeMap<String, serde_json::Value>, hidden: usize) -> Result<Pooling> {
    let number = raw.get("word_embedding_dimension").or(raw.get("embedding_dimension")).and_then(|v| v.as_u64());
    if number.is_some_and(|n| n != hidden as u64) {
        let reason = format!("it pools vectors of {} and the network makes {hidden}", number.unwrap_or(0));
        return Err(bundle.broken("1_Pooling/config.json", reason));
    }
    if raw.get("include_prompt").and_then(serde_json::Value::as_bool) == Some(false) {
        return Err(bundle.unsupported("its pooling leaves the prompt out"));
    }
    let mut modes: Vec<String> = Vec::new();
    if let Some(mode) = raw.get("pooling_mode") {
        match mode {
            serde_json::Value::String(one) => modes.push(one.clone()),
            serde_json::Value::Array(all) => modes.extend(all.iter().filter_map(|v| v.as_str().map(str::to_owned))),
            _ => {}
        }
    }
    for (key, value) in raw {
        if let Some(mode) = key.strip_prefix("pooling_mode_").filter(|_| value.as_bool() == Some(true)) {
            modes.push(mode.trim_end_matches("_token").trim_end_matches("_tokens").to_owned());
        }
    }
    match modes.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["mean"] => Ok(Pooling::Mean),
        ["mean_sqrt_len" | "mean_sqrt_len_tokens"] => Ok(Pooling::MeanSqrtLen),
        ["cls"] => Ok(Pooling::Cls),
        ["lasttoken"] => Ok(Pooling::LastToken),
        ["max"] => Ok(Pooling::Max),
        other => Err(bundle.unsupported(format!("its pooling is {other:?}"))),
    }
}
