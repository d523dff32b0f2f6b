//! The BERT family's forward pass in candle's operations, on whatever device candle has.
//!
//! Papers and upstream as in [`packed`](crate::embed::packed), of which this is the twin for devices that want large
//! matrices: texts of like length are padded to one length and masked.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::mask::Masks;
use crate::embed::network::{Activation, Architecture, Network};

/// Tokens of a step on a GPU: some 30 ms of a small model on a recent card.
const STEP: usize = 16 << 10;
/// Tokens of a step on the CPU, where a stand-in runs.
const STEP_CPU: usize = 192;
/// Padded tokens that go through the network together.
const TOGETHER: usize = 16 << 10;
/// Scores of an attention that are held at once.
const SCORES: usize = 64 << 20;

/// The tensor that every bundle of a family has.
pub(super) fn word(network: &Network) -> &'static str {
    match network.architecture {
        Architecture::ModernBert => "embeddings.tok_embeddings.weight",
        _ => "embeddings.word_embeddings.weight",
    }
}

type Ask<'a> = &'a dyn Fn(&str, &[usize]) -> std::result::Result<Vec<f32>, String>;

struct Linear {
    /// `[in, out]`.
    weight: Tensor,
    bias: Option<Tensor>,
}

struct Norm {
    scale: Tensor,
    shift: Tensor,
}

struct Layer {
    before: Option<Norm>,
    /// Queries, keys and values, one behind the other.
    qkv: Linear,
    out: Linear,
    middle: Norm,
    up: Linear,
    down: Linear,
    after: Option<Norm>,
    window: Option<usize>,
}

/// A loaded network.
pub(super) struct Net {
    shape: Network,
    device: Device,
    words: Tensor,
    positions: Option<Tensor>,
    types: Option<Tensor>,
    norm: Norm,
    layers: Vec<Layer>,
    last: Option<Norm>,
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
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

impl Net {
    /// Loads a network onto `cuda:N`. In a build without CUDA every device is candle's CPU, a stand-in for tests.
    pub(super) fn load(device: &str, shape: Network, ask: Ask<'_>) -> std::result::Result<Self, String> {
        let ordinal = device.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok());
        let ordinal = ordinal.ok_or_else(|| format!("there is no device \"{device}\""))?;
        let device = open(ordinal)?;
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

    /// Tokens that one call should take.
    pub(super) fn step(&self) -> usize {
        if self.device.is_cpu() { STEP_CPU } else { STEP }
    }

    /// See [`abi`](super::abi).
    pub(super) fn forward(
        &self,
        ids: &[u32],
        types: &[u32],
        ends: &[u32],
        out: &mut [f32],
    ) -> std::result::Result<(), String> {
        let hidden = self.shape.hidden;
        if out.len() != ids.len() * hidden || ends.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err("the batch does not fit together".to_owned());
        }
        let start = |text: usize| text.checked_sub(1).map_or(0, |before| ends[before] as usize);
        let len = |text: usize| ends[text] as usize - start(text);
        let mut order: Vec<usize> = (0..ends.len()).filter(|&text| len(text) > 0).collect();
        order.sort_by_key(|&text| len(text));
        // The longest first, so that what does not fit into the device's memory is known at once.
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.last() {
            let count = (TOGETHER / len(longest)).clamp(1, rest.len());
            let (shorter, run) = rest.split_at(rest.len() - count);
            rest = shorter;
            let across = len(longest);
            let (mut padded, mut kinds) = (vec![0u32; run.len() * across], vec![0u32; run.len() * across]);
            let mut lengths = Vec::with_capacity(run.len());
            for (row, &text) in run.iter().enumerate() {
                let range = start(text)..start(text) + len(text);
                padded[row * across..][..range.len()].copy_from_slice(&ids[range.clone()]);
                kinds[row * across..][..range.len()].copy_from_slice(&types[range.clone()]);
                lengths.push(range.len());
            }
            let values = self.padded(padded, kinds, &lengths, across).map_err(|e| e.to_string())?;
            for (row, &text) in run.iter().enumerate() {
                let count = len(text) * hidden;
                out[start(text) * hidden..][..count].copy_from_slice(&values[row * across * hidden..][..count]);
            }
        }
        Ok(())
    }

    /// `[texts, across]` padded tokens to `[texts, across, hidden]` numbers.
    fn padded(&self, ids: Vec<u32>, types: Vec<u32>, lengths: &[usize], across: usize) -> Result<Vec<f32>> {
        let (texts, hidden) = (lengths.len(), self.shape.hidden);
        let ids = Tensor::from_vec(ids, texts * across, &self.device)?;
        let mut x = self.words.index_select(&ids, 0)?;
        if let Some(table) = &self.types {
            let types = Tensor::from_vec(types, texts * across, &self.device)?;
            x = (x + table.index_select(&types, 0)?)?;
        }
        if let Some(table) = &self.positions {
            let rows = table.narrow(0, self.shape.first_position, across)?.unsqueeze(0)?;
            x = x.reshape((texts, across, hidden))?.broadcast_add(&rows)?.reshape((texts * across, hidden))?;
        }
        let mut x = self.normed(&x, &self.norm)?;
        let masks = Masks::new(lengths, across, &self.shape, &self.device)?;
        for layer in &self.layers {
            x = self.layer(layer, &x, texts, across, &masks)?;
        }
        if let Some(last) = &self.last {
            x = self.normed(&x, last)?;
        }
        x.flatten_all()?.to_vec1()
    }

    fn normed(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        layer_norm(&x.contiguous()?, &norm.scale, &norm.shift, self.shape.eps)
    }

    fn layer(&self, layer: &Layer, x: &Tensor, texts: usize, across: usize, masks: &Masks) -> Result<Tensor> {
        let seen = match &layer.before {
            Some(norm) => self.normed(x, norm)?,
            None => x.clone(),
        };
        let context = self.attend(layer, &layer.qkv.apply(&seen)?, texts, across, masks)?;
        let x = (x + layer.out.apply(&context)?)?;
        let (x, seen) = match &layer.after {
            Some(_) => {
                let x = self.normed(&x, &layer.middle)?;
                (x.clone(), x)
            }
            None => {
                let seen = self.normed(&x, &layer.middle)?;
                (x, seen)
            }
        };
        let wide = layer.up.apply(&seen)?;
        let wide = if self.shape.rotary.is_some() {
            let half = self.shape.intermediate;
            (self.activate(&wide.narrow(1, 0, half)?.contiguous()?)? * wide.narrow(1, half, half)?.contiguous()?)?
        } else {
            self.activate(&wide)?
        };
        let x = (x + layer.down.apply(&wide)?)?;
        match &layer.after {
            Some(norm) => self.normed(&x, norm),
            None => Ok(x),
        }
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.shape.activation {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
        }
    }

    fn attend(&self, layer: &Layer, qkv: &Tensor, texts: usize, across: usize, masks: &Masks) -> Result<Tensor> {
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
            parts.push(softmax_last_dim(&scores.contiguous()?)?.matmul(&v)?);
        }
        let context = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 2)? };
        context.transpose(1, 2)?.contiguous()?.reshape((texts * across, hidden))
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

#[cfg(feature = "cuda")]
fn open(ordinal: usize) -> std::result::Result<Device, String> {
    Device::new_cuda(ordinal).map_err(|e| e.to_string())
}

#[cfg(not(feature = "cuda"))]
#[allow(clippy::unnecessary_wraps)] // the twin above can fail
fn open(ordinal: usize) -> std::result::Result<Device, String> {
    // One card, as far as a test can tell.
    if ordinal == 0 { Ok(Device::Cpu) } else { Err(format!("there is no device {ordinal}")) }
}
