//! The shape of a network, from `config.json`: what families name differently brought to one form, and bounds far above any
//! encoder in use, since the file may be anybody's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use crate::error::Result;

/// The families of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>.
    Bert,
    /// Liu et al. 2019, <https://arxiv.org/abs/1907.11692>.
    Roberta,
    /// Conneau et al. 2019, <https://arxiv.org/abs/1911.02116>; the same network as RoBERTa.
    XlmRoberta,
    /// Sanh et al. 2019, <https://arxiv.org/abs/1910.01108>.
    DistilBert,
    /// Warner et al. 2024, <https://arxiv.org/abs/2412.13663>.
    ModernBert,
}

impl Architecture {
    /// As `model_type` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::XlmRoberta => "xlm-roberta",
            Self::DistilBert => "distilbert",
            Self::ModernBert => "modernbert",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Bert, Self::Roberta, Self::XlmRoberta, Self::DistilBert, Self::ModernBert]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// The function between the two matrices of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Activation {
    /// Through the error function.
    Gelu,
    /// Through the hyperbolic tangent (`gelu_new`).
    GeluTanh,
    Relu,
}

/// The shape of the network; in JSON where it goes to a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) architecture: Architecture,
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    /// Rows of the position table; for rotary positions the longest text trained on.
    pub(super) positions: usize,
    /// Row of the first token's position: RoBERTa leaves the rows up to its padding token out.
    pub(super) first_position: usize,
    /// Rows of the token-type table, of which the first is used (and the second for the second text of a pair).
    pub(super) types: usize,
    pub(super) eps: f32,
    pub(super) activation: Activation,
    pub(super) rotary: Option<Rotary>,
    /// Labels of a classification head (1 for a cross-encoder), if the bundle has one.
    pub(super) labels: usize,
}

/// ModernBERT's positions and its layers that see only their neighbourhood.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rotary {
    pub(super) global_theta: f64,
    pub(super) local_theta: f64,
    /// For each layer: how many tokens to each side it sees, `None` for all.
    pub(super) windows: Vec<Option<usize>>,
    pub(super) norm_bias: bool,
    pub(super) attention_bias: bool,
    pub(super) mlp_bias: bool,
}

/// `config.json`; where families name a thing differently the other name is an alias.
#[derive(Deserialize)]
pub(super) struct Raw {
    model_type: String,
    #[serde(default)]
    pub(super) architectures: Vec<String>,
    vocab_size: u32,
    #[serde(alias = "dim")]
    hidden_size: u32,
    #[serde(alias = "n_layers")]
    num_hidden_layers: u32,
    #[serde(alias = "n_heads")]
    num_attention_heads: u32,
    #[serde(alias = "hidden_dim")]
    intermediate_size: u32,
    max_position_embeddings: u32,
    type_vocab_size: Option<u32>,
    #[serde(alias = "norm_eps")]
    layer_norm_eps: Option<f64>,
    #[serde(alias = "activation", alias = "hidden_activation")]
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    pad_token_id: Option<u32>,
    #[serde(default)]
    is_decoder: bool,
    num_labels: Option<u32>,
    id2label: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) sentence_transformers: Option<RawCross>,
    pub(super) sbert_ce_default_activation_function: Option<String>,
    global_attn_every_n_layers: Option<u32>,
    local_attention: Option<u32>,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    rope_parameters: Option<BTreeMap<String, RawRope>>,
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// What sentence-transformers writes about a cross-encoder.
#[derive(Deserialize)]
pub(super) struct RawCross {
    pub(super) activation_fn: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawRope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

impl Network {
    /// Checks `config.json`.
    pub(super) fn read(bundle: &Bundle, raw: &Raw) -> Result<Self> {
        let architecture = Architecture::parse(&raw.model_type)
            .ok_or_else(|| bundle.unsupported(format!("its model type is \"{}\"", raw.model_type)))?;
        if raw.is_decoder {
            return Err(bundle.unsupported("it is a decoder"));
        }
        if let Some(kind) = raw.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            // ModernBERT writes the key too, and does not read it.
            if architecture != Architecture::ModernBert {
                return Err(bundle.unsupported(format!("its positions are \"{kind}\"")));
            }
        }
        let activation = match raw.hidden_act.as_deref().unwrap_or("gelu") {
            "gelu" | "gelu_python" => Activation::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(bundle.unsupported(format!("its activation is \"{other}\""))),
        };
        // Bounds far above any encoder in use: what lies beyond is a broken or hostile file.
        let within = |what: &str, value: u32, limit: u32| -> Result<usize> {
            if value == 0 || value > limit {
                return Err(bundle.broken("config.json", format!("{what} is {value}, not within 1 and {limit}")));
            }
            Ok(value as usize)
        };
        let roberta = matches!(architecture, Architecture::Roberta | Architecture::XlmRoberta);
        let first_position = if roberta { raw.pad_token_id.unwrap_or(1) as usize + 1 } else { 0 };
        let types = match architecture {
            Architecture::DistilBert | Architecture::ModernBert => 0,
            _ => within("type_vocab_size", raw.type_vocab_size.unwrap_or(2), 1024)?,
        };
        let labels = raw.num_labels.map_or(raw.id2label.as_ref().map_or(2, BTreeMap::len), |n| n as usize);
        let network = Self {
            architecture,
            vocab: within("vocab_size", raw.vocab_size, 4 << 20)?,
            hidden: within("hidden_size", raw.hidden_size, 8192)?,
            layers: within("num_hidden_layers", raw.num_hidden_layers, 128)?,
            heads: within("num_attention_heads", raw.num_attention_heads, 256)?,
            intermediate: within("intermediate_size", raw.intermediate_size, 65536)?,
            positions: within("max_position_embeddings", raw.max_position_embeddings, 131_072)?,
            first_position,
            types,
            eps: match raw.layer_norm_eps.unwrap_or(if architecture == Architecture::ModernBert { 1e-5 } else { 1e-12 })
            {
                eps if (0.0..0.1).contains(&eps) => eps as f32,
                eps => return Err(bundle.broken("config.json", format!("layer_norm_eps is {eps}"))),
            },
            activation,
            rotary: if architecture == Architecture::ModernBert { Some(Rotary::read(bundle, raw)?) } else { None },
            labels,
        };
        if !network.hidden.is_multiple_of(network.heads) {
            let (hidden, heads) = (network.hidden, network.heads);
            return Err(bundle.broken("config.json", format!("{hidden} dimensions do not divide into {heads} heads")));
        }
        if network.first_position >= network.positions {
            return Err(bundle.broken("config.json", "pad_token_id leaves no positions"));
        }
        if labels > 100_000 {
            return Err(bundle.broken("config.json", format!("it has {labels} labels")));
        }
        Ok(network)
    }
}

impl Rotary {
    fn read(bundle: &Bundle, raw: &Raw) -> Result<Self> {
        let head = raw.hidden_size / raw.num_attention_heads.max(1);
        if !head.is_multiple_of(2) {
            return Err(bundle.broken("config.json", "rotary positions need an even head size"));
        }
        let theta = |kind: &str, old: Option<f64>, default: f64| -> Result<f64> {
            let rope = raw.rope_parameters.as_ref().and_then(|all| all.get(kind));
            if let Some(scaled) = rope.and_then(|rope| rope.rope_type.as_deref()).filter(|name| *name != "default") {
                return Err(bundle.unsupported(format!("its rotary positions are \"{scaled}\"")));
            }
            let theta = rope.and_then(|rope| rope.rope_theta).or(old).unwrap_or(default);
            if !(1.0..=1e12).contains(&theta) {
                return Err(bundle.broken("config.json", format!("a rope theta is {theta}")));
            }
            Ok(theta)
        };
        let side = raw.local_attention.unwrap_or(128) as usize / 2;
        let every = raw.global_attn_every_n_layers.unwrap_or(3).max(1) as usize;
        let layers = raw.num_hidden_layers.min(128) as usize;
        let windows = (0..layers)
            .map(|layer| {
                let local = match raw.layer_types.as_ref().and_then(|types| types.get(layer)) {
                    Some(kind) => kind == "sliding_attention",
                    None => layer % every != 0,
                };
                local.then_some(side)
            })
            .collect();
        Ok(Self {
            global_theta: theta("full_attention", raw.global_rope_theta, 160_000.0)?,
            local_theta: theta("sliding_attention", raw.local_rope_theta, 10_000.0)?,
            windows,
            norm_bias: raw.norm_bias,
            attention_bias: raw.attention_bias,
            mlp_bias: raw.mlp_bias,
        })
    }
}
