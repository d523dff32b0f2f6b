//! Weights by their upstream names into the packed model.

use std::sync::Arc;

use super::attention::Heads;
use super::buffer::Buffer;
use super::linear::Linear;
use super::{Layer, Model, Norm, Turn, simd};
use crate::control::Control;
use crate::embed::Precision;
use crate::embed::network::{Architecture, Network, Rotary};
use crate::embed::weights::{Tensors, Weights};
use crate::error::Result;

/// A weight and its bias, row-major `[out, in]`, before packing.
struct Matrix {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Reads tensors of one network, under the prefix that its file has.
struct Reader<'a> {
    tensors: &'a Tensors<'a>,
    prefix: &'static str,
    config: &'a Network,
    heads: Heads,
    precision: Precision,
}

impl Reader<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Buffer<f32>> {
        let values = self.tensors.get(&format!("{}{name}", self.prefix), shape)?;
        Ok(Buffer::padded(&values, 0))
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Matrix> {
        let name = format!("{}{name}", self.prefix);
        Ok(Matrix {
            weight: self.tensors.get(&format!("{name}.weight"), &[outputs, inputs])?,
            bias: if bias { self.tensors.get(&format!("{name}.bias"), &[outputs])? } else { vec![0.0; outputs] },
        })
    }

    fn packed(&self, linear: &Matrix, inputs: usize) -> Linear {
        Linear::pack(&linear.weight, &linear.bias, inputs, self.precision)
    }

    /// TensorFlow's checkpoints call the scale gamma and the shift beta.
    fn norm(&self, name: &str, bias: bool) -> Result<Norm> {
        let hidden = [self.config.hidden];
        let old = self.tensors.has(&format!("{}{name}.gamma", self.prefix));
        let (scale, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            scale: Arc::new(self.get(&format!("{name}.{scale}"), &hidden)?),
            shift: Arc::new(if bias { self.get(&format!("{name}.{shift}"), &hidden)? } else { Buffer::default() }),
        })
    }

    /// Queries, keys and values as one layer: heads padded to whole units with zeros, and the queries scaled by
    /// `1 / sqrt(head size)`, which the scores would have to be otherwise.
    fn qkv(&self, parts: [&Matrix; 3]) -> Linear {
        let (hidden, heads) = (self.config.hidden, self.heads);
        let size = hidden / heads.count;
        let mut weight = vec![0.0; 3 * heads.columns() * hidden];
        let mut bias = vec![0.0; 3 * heads.columns()];
        for (part, linear) in parts.into_iter().enumerate() {
            let by = if part == 0 { 1.0 / (size as f32).sqrt() } else { 1.0 };
            for row in 0..hidden {
                let to = part * heads.columns() + row / size * heads.size + row % size;
                bias[to] = linear.bias[row] * by;
                let from = &linear.weight[row * hidden..][..hidden];
                weight[to * hidden..][..hidden].iter_mut().zip(from).for_each(|(to, from)| *to = from * by);
            }
        }
        Linear::pack(&weight, &bias, hidden, self.precision)
    }

    /// The layer behind the attention, its inputs spread over the padded heads.
    fn out(&self, linear: &Matrix) -> Linear {
        let (hidden, heads) = (self.config.hidden, self.heads);
        let size = hidden / heads.count;
        let mut weight = vec![0.0; hidden * heads.columns()];
        for (from, to) in linear.weight.chunks_exact(hidden).zip(weight.chunks_exact_mut(heads.columns())) {
            for (from, to) in from.chunks_exact(size).zip(to.chunks_exact_mut(heads.size)) {
                to[..size].copy_from_slice(from);
            }
        }
        Linear::pack(&weight, &linear.bias, heads.columns(), self.precision)
    }

    /// A layer of BERT, RoBERTa or XLM-R.
    fn bert(&self, i: usize) -> Result<Layer> {
        let (hidden, wide) = (self.config.hidden, self.config.intermediate);
        let at = |name: &str| format!("encoder.layer.{i}.{name}");
        let square = |name: &str| self.linear(&at(name), hidden, hidden, true);
        let [q, k, v] =
            [square("attention.self.query")?, square("attention.self.key")?, square("attention.self.value")?];
        Ok(Layer {
            before: None,
            qkv: self.qkv([&q, &k, &v]),
            out: self.out(&square("attention.output.dense")?),
            middle: self.norm(&at("attention.output.LayerNorm"), true)?,
            up: self.packed(&self.linear(&at("intermediate.dense"), wide, hidden, true)?, hidden),
            down: self.packed(&self.linear(&at("output.dense"), hidden, wide, true)?, wide),
            after: Some(self.norm(&at("output.LayerNorm"), true)?),
            neck: None,
            window: None,
            turn: None,
        })
    }

    fn distilbert(&self, i: usize) -> Result<Layer> {
        let (hidden, wide) = (self.config.hidden, self.config.intermediate);
        let at = |name: &str| format!("transformer.layer.{i}.{name}");
        let square = |name: &str| self.linear(&at(name), hidden, hidden, true);
        let [q, k, v] = [square("attention.q_lin")?, square("attention.k_lin")?, square("attention.v_lin")?];
        Ok(Layer {
            before: None,
            qkv: self.qkv([&q, &k, &v]),
            out: self.out(&square("attention.out_lin")?),
            middle: self.norm(&at("sa_layer_norm"), true)?,
            up: self.packed(&self.linear(&at("ffn.lin1"), wide, hidden, true)?, hidden),
            down: self.packed(&self.linear(&at("ffn.lin2"), hidden, wide, true)?, wide),
            after: Some(self.norm(&at("output_layer_norm"), true)?),
            neck: None,
            window: None,
            turn: None,
        })
    }

    fn modernbert(&self, i: usize, rotary: &Rotary) -> Result<Layer> {
        let (hidden, wide) = (self.config.hidden, self.config.intermediate);
        let at = |name: &str| format!("layers.{i}.{name}");
        let all = self.linear(&at("attn.Wqkv"), 3 * hidden, hidden, rotary.attention_bias)?;
        let [q, k, v] = [0, 1, 2].map(|part| Matrix {
            weight: all.weight[part * hidden * hidden..(part + 1) * hidden * hidden].to_vec(),
            bias: all.bias[part * hidden..(part + 1) * hidden].to_vec(),
        });
        let window = rotary.windows.get(i).copied().flatten();
        Ok(Layer {
            before: if i == 0 { None } else { Some(self.norm(&at("attn_norm"), rotary.norm_bias)?) },
            qkv: self.qkv([&q, &k, &v]),
            out: self.out(&self.linear(&at("attn.Wo"), hidden, hidden, rotary.attention_bias)?),
            middle: self.norm(&at("mlp_norm"), rotary.norm_bias)?,
            up: self.packed(&self.linear(&at("mlp.Wi"), 2 * wide, hidden, rotary.mlp_bias)?, hidden),
            down: self.packed(&self.linear(&at("mlp.Wo"), hidden, wide, rotary.mlp_bias)?, wide),
            after: None,
            neck: None,
            window,
            turn: Some(usize::from(window.is_some())),
        })
    }
}

impl Turn {
    fn new(theta: f64, size: usize, positions: usize) -> Self {
        let half = size / 2;
        let mut turn = Self { half, cos: Buffer::zeros(positions * half), sin: Buffer::zeros(positions * half) };
        for position in 0..positions {
            for i in 0..half {
                // Upstream makes the angles in f32.
                let speed = (1.0 / theta.powf(2.0 * i as f64 / size as f64)) as f32;
                let (sin, cos) = f64::from(position as f32 * speed).sin_cos();
                turn.cos[position * half + i] = cos as f32;
                turn.sin[position * half + i] = sin as f32;
            }
        }
        turn
    }

    fn bytes(&self) -> usize {
        self.cos.bytes() + self.sin.bytes()
    }
}

impl Norm {
    fn bytes(&self) -> usize {
        self.scale.bytes() + self.shift.bytes()
    }
}

impl Model {
    /// Packs the weights of a network of this shape. Asks `control` for each layer.
    pub(in crate::embed) fn load(
        config: &Network,
        weights: &Weights<'_>,
        precision: Precision,
        control: &dyn Control,
    ) -> Result<Self> {
        let tensors = weights.tensors()?;
        let hidden = config.hidden;
        let word = match config.architecture {
            Architecture::ModernBert => "embeddings.tok_embeddings.weight",
            _ => "embeddings.word_embeddings.weight",
        };
        let prefix = tensors.prefix(&["", "bert.", "roberta.", "distilbert.", "model."], word);
        let head_size = hidden / config.heads;
        let heads = Heads { count: config.heads, size: simd::padded(head_size) };
        let reader = Reader { tensors: &tensors, prefix, config, heads, precision };
        let words = reader.get(word, &[config.vocab, hidden])?;
        let (mut positions, mut second) = (Buffer::default(), Buffer::default());
        if config.rotary.is_none() {
            positions = reader.get("embeddings.position_embeddings.weight", &[config.positions, hidden])?;
            positions = Buffer::padded(&positions[config.first_position * hidden..], 0);
        }
        if config.types > 0 {
            let types = reader.get("embeddings.token_type_embeddings.weight", &[config.types, hidden])?;
            let (first, rest) = types.split_at(hidden);
            for row in positions.chunks_exact_mut(hidden) {
                row.iter_mut().zip(first).for_each(|(x, t)| *x += t);
            }
            if let Some(other) = rest.get(..hidden) {
                second = Buffer::padded(other, 0);
                second.iter_mut().zip(first).for_each(|(x, t)| *x -= t);
            }
        }
        let mut layers = Vec::new();
        for i in 0..config.layers {
            control.check()?;
            layers.push(match (config.architecture, &config.rotary) {
                (Architecture::ModernBert, Some(rotary)) => reader.modernbert(i, rotary)?,
                (Architecture::DistilBert, _) => reader.distilbert(i)?,
                _ => reader.bert(i)?,
            });
        }
        let (norm, last, turns) = match &config.rotary {
            None => (reader.norm("embeddings.LayerNorm", true)?, None, Vec::new()),
            Some(rotary) => (
                reader.norm("embeddings.norm", rotary.norm_bias)?,
                Some(reader.norm("final_norm", rotary.norm_bias)?),
                [rotary.global_theta, rotary.local_theta]
                    .map(|theta| Turn::new(theta, head_size, config.positions))
                    .into(),
            ),
        };
        Ok(Self {
            kernels: simd::best(),
            hidden,
            intermediate: config.intermediate,
            heads,
            head_size,
            eps: config.eps,
            activation: config.activation,
            words: Arc::new(words),
            positions: Arc::new(positions),
            second: Arc::new(second),
            norm,
            layers,
            turns: Arc::new(turns),
            last,
        })
    }

    /// Bytes of memory that all weights take.
    pub(in crate::embed) fn bytes(&self) -> usize {
        let norm = |norm: &Option<Norm>| norm.as_ref().map_or(0, Norm::bytes);
        let layers = self.layers.iter().map(|layer| {
            let dense = [&layer.qkv, &layer.out, &layer.up, &layer.down].map(Linear::bytes).iter().sum::<usize>();
            dense + norm(&layer.before) + layer.middle.bytes() + norm(&layer.after)
        });
        self.words.bytes()
            + self.positions.bytes()
            + self.second.bytes()
            + self.norm.bytes()
            + norm(&self.last)
            + layers.sum::<usize>()
            + self.turns.iter().map(Turn::bytes).sum::<usize>()
    }
}
