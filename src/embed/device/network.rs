//! The BERT family's forward pass in candle's operations, on whatever device candle has.
//!
//! Papers and upstream as in [`packed`](crate::embed::packed), of which this is the twin for devices that want large
//! matrices: texts of like length are padded to one length and masked.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::mask::Masks;
use super::padded::Padded;
use crate::device::abi::{Ask, Call, Served};
use crate::device::open;
use crate::embed::network::{Activation, Architecture, Network};

/// Tokens of a step on a GPU: some 30 ms of a small model on a recent card.
const STEP: usize = 16 << 10;
/// Tokens of a step on the CPU, where a stand-in runs.
const STEP_CPU: usize = 192;
/// Scores of an attention that are held at once.
const SCORES: usize = 64 << 20;

/// The tensor that every bundle of a family has.
pub(super) fn word(network: &Network) -> &'static str {
    match network.architecture {
        Architecture::ModernBert => "embeddings.tok_embeddings.weight",
        _ => "embeddings.word_embeddings.weight",
    }
}

pub(super) struct Linear {
    /// `[in, out]`.
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

pub(super) struct Norm {
    pub(super) scale: Tensor,
    pub(super) shift: Tensor,
}

pub(super) struct Layer {
    pub(super) before: Option<Norm>,
    /// Queries, keys and values, one behind the other.
    pub(super) qkv: Linear,
    pub(super) out: Linear,
    pub(super) middle: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) after: Option<Norm>,
    pub(super) window: Option<usize>,
}

/// A loaded network.
pub(super) struct Net {
    pub(super) shape: Network,
    pub(super) device: Device,
    words: Tensor,
    positions: Option<Tensor>,
    types: Option<Tensor>,
    norm: Norm,
    pub(super) layers: Vec<Layer>,
    pub(super) last: Option<Norm>,
}

/// Reads tensors by name onto a device.
struct Reader<'a> {
    ask: Ask<'a>,
    device: &'a Device,
    hidden: usize,
}

impl Reader<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, String> {
        Tensor::from_vec((self.ask)(name, shape)?, shape, self.device).map_err(|e| e.to_string())
    }

    fn norm(&self, name: &str, bias: bool) -> std::result::Result<Norm, String> {
        let shape = [self.hidden];
        let shift = if bias {
            self.tensor(&format!("{name}.bias"), &shape)?
        } else {
            Tensor::zeros(&shape, DType::F32, self.device).map_err(|e| e.to_string())?
        };
        Ok(Norm { scale: self.tensor(&format!("{name}.weight"), &shape)?, shift })
    }

    /// One layer of several matrices, whose outputs stand one behind the other.
    fn linear(&self, names: &[String], out: usize, inputs: usize, bias: bool) -> std::result::Result<Linear, String> {
        let (mut weight, mut shift) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend((self.ask)(&format!("{name}.weight"), &[out, inputs])?);
            if bias {
                shift.extend((self.ask)(&format!("{name}.bias"), &[out])?);
            }
        }
        let all = out * names.len();
        let make = || -> Result<Linear> {
            let weight = Tensor::from_vec(weight, (all, inputs), self.device)?.t()?.contiguous()?;
            let bias = if bias { Some(Tensor::from_vec(shift, all, self.device)?) } else { None };
            Ok(Linear { weight, bias })
        };
        make().map_err(|e| e.to_string())
    }
}

/// What the families call the parts of a layer.
fn layer(reader: &Reader<'_>, shape: &Network, i: usize) -> std::result::Result<Layer, String> {
    let (hidden, wide) = (shape.hidden, shape.intermediate);
    let named = |names: &[&str], root: &str| names.iter().map(|n| format!("{root}.{i}.{n}")).collect::<Vec<_>>();
    if let Some(rotary) = &shape.rotary {
        let at = |name: &str| named(&[name], "layers");
        let norm = |name: &str| reader.norm(&format!("layers.{i}.{name}"), rotary.norm_bias);
        return Ok(Layer {
            before: if i == 0 { None } else { Some(norm("attn_norm")?) },
            qkv: reader.linear(&at("attn.Wqkv"), 3 * hidden, hidden, rotary.attention_bias)?,
            out: reader.linear(&at("attn.Wo"), hidden, hidden, rotary.attention_bias)?,
            middle: norm("mlp_norm")?,
            up: reader.linear(&at("mlp.Wi"), 2 * wide, hidden, rotary.mlp_bias)?,
            down: reader.linear(&at("mlp.Wo"), hidden, wide, rotary.mlp_bias)?,
            after: None,
            window: rotary.windows.get(i).copied().flatten(),
        });
    }
    let (root, qkv, [out, middle, up, down, after]) = match shape.architecture {
        Architecture::DistilBert => (
            "transformer.layer",
            ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
            ["attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"],
        ),
        _ => (
            "encoder.layer",
            ["attention.self.query", "attention.self.key", "attention.self.value"],
            [
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ],
        ),
    };
    let norm = |name: &str| reader.norm(&format!("{root}.{i}.{name}"), true);
    Ok(Layer {
        before: None,
        qkv: reader.linear(&named(&qkv, root), hidden, hidden, true)?,
        out: reader.linear(&named(&[out], root), hidden, hidden, true)?,
        middle: norm(middle)?,
        up: reader.linear(&named(&[up], root), wide, hidden, true)?,
        down: reader.linear(&named(&[down], root), hidden, wide, true)?,
        after: Some(norm(after)?),
        window: None,
    })
}

impl Linear {
    /// `[rows, in]` to `[rows, out]`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// How the parts of a layer are computed: as loaded, or [in training](super::train).
pub(super) trait Way {
    /// Layer norm 0 (before the attention), 1 (after it) or 2 (after the feed-forward part).
    fn norm(&self, norm: &Norm, n: usize, x: &Tensor, eps: f32) -> Result<Tensor>;

    /// Product 0 (into the attention), 1 (out of it), 2 or 3 (of the feed-forward part).
    fn product(&self, linear: &Linear, n: usize, x: &Tensor) -> Result<Tensor>;

    /// Shares of each last dimension.
    fn softmax(&self, x: &Tensor) -> Result<Tensor>;

    /// What becomes of the attention (0) or the feed-forward part (1) before it is added to what went into it.
    fn end(&self, part: usize, y: Tensor) -> Result<Tensor>;
}

/// As loaded, by candle's fused operations.
pub(super) struct Plain;

impl Way for Plain {
    fn norm(&self, norm: &Norm, _: usize, x: &Tensor, eps: f32) -> Result<Tensor> {
        layer_norm(&x.contiguous()?, &norm.scale, &norm.shift, eps)
    }

    fn product(&self, linear: &Linear, _: usize, x: &Tensor) -> Result<Tensor> {
        linear.apply(x)
    }

    fn softmax(&self, x: &Tensor) -> Result<Tensor> {
        softmax_last_dim(x)
    }

    fn end(&self, _: usize, y: Tensor) -> Result<Tensor> {
        Ok(y)
    }
}

impl Net {
    /// Loads a network onto a device.
    pub(super) fn load(device: &str, shape: Network, ask: Ask<'_>) -> std::result::Result<Self, String> {
        let device = open(device)?;
        let reader = Reader { ask, device: &device, hidden: shape.hidden };
        let hidden = shape.hidden;
        let words = reader.tensor(word(&shape), &[shape.vocab, hidden])?;
        let (mut positions, mut types) = (None, None);
        if shape.rotary.is_none() {
            positions = Some(reader.tensor("embeddings.position_embeddings.weight", &[shape.positions, hidden])?);
        }
        if shape.types > 0 {
            types = Some(reader.tensor("embeddings.token_type_embeddings.weight", &[shape.types, hidden])?);
        }
        let layers = (0..shape.layers).map(|i| layer(&reader, &shape, i)).collect::<std::result::Result<_, _>>()?;
        let (norm, last) = match &shape.rotary {
            None => (reader.norm("embeddings.LayerNorm", true)?, None),
            Some(rotary) => {
                (reader.norm("embeddings.norm", rotary.norm_bias)?, Some(reader.norm("final_norm", rotary.norm_bias)?))
            }
        };
        Ok(Self { words, positions, types, norm, layers, last, device, shape })
    }

    /// `[texts, across]` padded tokens to `[texts · across, hidden]` rows, as they go into the first layer, and what no
    /// layer must see.
    pub(super) fn rows(&self, run: &Padded) -> Result<(Tensor, Masks)> {
        let (texts, across, hidden) = (run.lengths.len(), run.across, self.shape.hidden);
        let ids = Tensor::from_slice(&run.ids, texts * across, &self.device)?;
        let mut x = self.words.index_select(&ids, 0)?;
        if let Some(table) = &self.types {
            let types = Tensor::from_slice(&run.types, texts * across, &self.device)?;
            x = (x + table.index_select(&types, 0)?)?;
        }
        if let Some(table) = &self.positions {
            let rows = table.narrow(0, self.shape.first_position, across)?.unsqueeze(0)?;
            x = x.reshape((texts, across, hidden))?.broadcast_add(&rows)?.reshape((texts * across, hidden))?;
        }
        Ok((self.normed(&x, &self.norm)?, Masks::new(&run.lengths, across, &self.shape, &self.device)?))
    }

    fn forward(&self, run: &Padded) -> Result<Vec<f32>> {
        let (mut x, masks) = self.rows(run)?;
        for layer in &self.layers {
            x = self.layer(layer, &x, run, &masks, &Plain)?;
        }
        if let Some(last) = &self.last {
            x = self.normed(&x, last)?;
        }
        x.flatten_all()?.to_vec1()
    }

    fn normed(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        Plain.norm(norm, 0, x, self.shape.eps)
    }

    /// Rows through a layer.
    pub(super) fn layer(
        &self,
        layer: &Layer,
        x: &Tensor,
        run: &Padded,
        masks: &Masks,
        way: &dyn Way,
    ) -> Result<Tensor> {
        let norm = |norm: &Norm, n: usize, x: &Tensor| way.norm(norm, n, x, self.shape.eps);
        let seen = match &layer.before {
            Some(before) => norm(before, 0, x)?,
            None => x.clone(),
        };
        let context = self.attend(layer, &way.product(&layer.qkv, 0, &seen)?, run, masks, way)?;
        let x = (x + way.end(0, way.product(&layer.out, 1, &context)?)?)?;
        let seen = norm(&layer.middle, 1, &x)?;
        let x = if layer.after.is_some() { &seen } else { &x };
        let wide = self.bend(&way.product(&layer.up, 2, &seen)?)?;
        let x = (x + way.end(1, way.product(&layer.down, 3, &wide)?)?)?;
        match &layer.after {
            Some(after) => norm(after, 2, &x),
            None => Ok(x),
        }
    }

    /// What stands between the two products of the feed-forward part.
    fn bend(&self, wide: &Tensor) -> Result<Tensor> {
        if self.shape.rotary.is_none() {
            return self.activate(wide);
        }
        let half = self.shape.intermediate;
        self.activate(&wide.narrow(1, 0, half)?.contiguous()?)? * wide.narrow(1, half, half)?.contiguous()?
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.shape.activation {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
        }
    }

    /// Attention within each text.
    fn attend(&self, layer: &Layer, qkv: &Tensor, run: &Padded, masks: &Masks, way: &dyn Way) -> Result<Tensor> {
        let (texts, across) = (run.lengths.len(), run.across);
        let (heads, hidden) = (self.shape.heads, self.shape.hidden);
        let size = hidden / heads;
        let part = |i: usize| -> Result<Tensor> {
            let rows = qkv.narrow(1, i * hidden, hidden)?.contiguous()?;
            rows.reshape((texts, across, heads, size))?.transpose(1, 2)?.contiguous()
        };
        let (mut q, mut k, v) = (part(0)?, part(1)?, part(2)?);
        if let Some((cos, sin)) = masks.turn(layer.window) {
            (q, k) = (turned(&q, cos, sin)?, turned(&k, cos, sin)?);
        }
        let q = (q * (1.0 / (size as f64).sqrt()))?;
        let k = k.transpose(2, 3)?.contiguous()?;
        // A long text's scores are made for some of its queries at a time.
        let block = (SCORES / (texts * heads * across).max(1)).clamp(1, across);
        let mut parts = Vec::new();
        for first in (0..across).step_by(block) {
            let count = block.min(across - first);
            let scores = q.narrow(2, first, count)?.contiguous()?.matmul(&k)?;
            let mut scores = scores.broadcast_add(&masks.padding)?;
            if layer.window.is_some()
                && let Some(window) = &masks.window
            {
                scores = scores.broadcast_add(&window.narrow(0, first, count)?)?;
            }
            parts.push(way.softmax(&scores.contiguous()?)?.matmul(&v)?);
        }
        let context = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 2)? };
        context.transpose(1, 2)?.contiguous()?.reshape((texts * across, hidden))
    }
}

impl Served for Net {
    fn step(&self) -> usize {
        if self.device.is_cpu() { STEP_CPU } else { STEP }
    }

    /// `forward`: ids, types and ends of texts to their token vectors, `[ids, hidden]`.
    fn call(&mut self, name: &str, call: &mut Call<'_>) -> std::result::Result<(), String> {
        if name != "forward" {
            return Err(format!("a network does not \"{name}\""));
        }
        let [ids, types, ends] = call.words()?;
        let mut out = vec![0.0; ids.len() * self.shape.hidden];
        for run in Padded::runs(ids, types, ends)? {
            let values = self.forward(&run).map_err(|e| e.to_string())?;
            run.spread(&values, self.shape.hidden, &mut out);
        }
        call.fill(0, &out)
    }
}

/// Rotary positions: pairs of a head's two halves, turned (Su et al. 2021, <https://arxiv.org/abs/2104.09864>).
fn turned(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (l, r) = (x.narrow(3, 0, half)?.contiguous()?, x.narrow(3, half, half)?.contiguous()?);
    let left = (l.broadcast_mul(cos)? - r.broadcast_mul(sin)?)?;
    let right = (r.broadcast_mul(cos)? + l.broadcast_mul(sin)?)?;
    Tensor::cat(&[left, right], 3)?.contiguous()
}
