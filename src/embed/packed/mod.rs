//! The BERT family's forward pass on the CPU, on weights that are packed once.
//!
//! Papers: see [`Architecture`](super::Architecture). Upstream for names and order of operations: `modeling_bert.py`,
//! `modeling_roberta.py`, `modeling_distilbert.py` and `modeling_modernbert.py` of Hugging Face transformers.
//!
//! A library for general tensors spends its time elsewhere than in the sums: it packs a weight anew for each product,
//! calls libm for each GELU, allocates each result, and pads each text. Here the weights lie as the kernels read them
//! ([`dense`]), the queries', keys' and values' matrices are one (the scale of the scores folded in), activations are
//! applied to a tile as it leaves the registers, and the work space is kept.
//!
//! All of it runs on the calling thread and asks [`Control`] after each product.

mod attention;
mod batch;
mod buffer;
mod bytes;
mod dense;
pub mod gradient;
mod linear;
mod load;
mod simd;

use std::ops::Range;
use std::sync::Arc;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::fault;
use attention::{Heads, attend};
pub(crate) use batch::Batch;
use buffer::Buffer;
use bytes::Quantized;
use linear::Linear;
use simd::Kernels;

use super::Precision;
use super::network::Activation;

/// Whether this CPU multiplies bytes faster than floats.
pub(super) fn has_fast_int8() -> bool {
    simd::best().fast_bytes
}

/// Scale and shift of a layer norm; the shift may be absent.
#[derive(Clone)]
struct Norm {
    scale: Arc<Buffer<f32>>,
    shift: Arc<Buffer<f32>>,
}

#[derive(Clone)]
struct Layer {
    /// Before the attention; ModernBERT's alone, and not in its first layer.
    before: Option<Norm>,
    qkv: Linear,
    out: Linear,
    /// After the attention is added, or (ModernBERT) before the feed-forward part.
    middle: Norm,
    up: Linear,
    down: Linear,
    /// After the feed-forward part is added; ModernBERT has none.
    after: Option<Norm>,
    /// A bottleneck behind the feed-forward part, where one was trained.
    neck: Option<Arc<[Linear; 2]>>,
    window: Option<usize>,
    /// Which of the rotary tables turns queries and keys.
    turn: Option<usize>,
}

/// Cosines and sines, row-major `[position, size / 2]`.
struct Turn {
    half: usize,
    cos: Buffer<f32>,
    sin: Buffer<f32>,
}

/// A loaded network. A clone shares all weights.
#[derive(Clone)]
pub(crate) struct Model {
    kernels: &'static Kernels,
    hidden: usize,
    /// Width of the feed-forward part.
    intermediate: usize,
    heads: Heads,
    head_size: usize,
    eps: f32,
    activation: Activation,
    words: Arc<Buffer<f32>>,
    /// Empty where positions are rotary. Type 0 is added already.
    positions: Arc<Buffer<f32>>,
    /// What type 1 adds to type 0; empty where there is one type.
    second: Arc<Buffer<f32>>,
    norm: Norm,
    layers: Vec<Layer>,
    turns: Arc<Vec<Turn>>,
    last: Option<Norm>,
}

/// What a forward pass works in; grown once, then kept.
#[derive(Default)]
pub(crate) struct Work {
    x: Buffer<f32>,
    y: Buffer<f32>,
    wide: Buffer<f32>,
    context: Buffer<f32>,
    keys: Buffer<f32>,
    scores: Buffer<f32>,
    bytes: Quantized,
}

impl Work {
    /// The token vectors that the last forward pass made, [`Model::stride`] apart.
    pub(super) fn hidden(&self) -> &[f32] {
        &self.x
    }
}

impl Model {
    /// This model in bytes. Where it was changed from a model whose twin in bytes is `base`, only what it has of its own is
    /// packed, and the rest is the twin's.
    pub(super) fn in_bytes(&self, base: Option<&Model>) -> Model {
        let mut model = self.clone();
        let bytes = |mine: &mut Linear, base: Option<&Linear>| {
            let Linear::Float(dense) = &*mine else { return };
            *mine = match base {
                Some(base) if dense.own_bytes() == 0 => base.clone(),
                _ => {
                    let (weight, bias) = dense.unpack();
                    Linear::pack(&weight, &bias, dense.inputs(), Precision::Int8)
                }
            };
        };
        for (index, layer) in model.layers.iter_mut().enumerate() {
            let base = base.and_then(|base| base.layers.get(index));
            bytes(&mut layer.qkv, base.map(|b| &b.qkv));
            bytes(&mut layer.out, base.map(|b| &b.out));
            bytes(&mut layer.up, base.map(|b| &b.up));
            bytes(&mut layer.down, base.map(|b| &b.down));
            if let Some(neck) = &layer.neck {
                let [mut down, mut up] = neck.as_ref().clone();
                bytes(&mut down, None);
                bytes(&mut up, None);
                layer.neck = Some(Arc::new([down, up]));
            }
        }
        if let Some(base) = base {
            (model.words, model.positions, model.second) =
                (base.words.clone(), base.positions.clone(), base.second.clone());
        }
        model
    }

    /// Bytes that are this model's alone, beyond the base's that it was changed from.
    pub(super) fn own_bytes(&self) -> usize {
        let of = |linear: &Linear| match linear {
            Linear::Float(dense) => dense.own_bytes(),
            Linear::Byte(bytes) => bytes.bytes(),
        };
        let layers = self.layers.iter();
        layers.map(|l| [&l.qkv, &l.out, &l.up, &l.down].into_iter().map(of).sum::<usize>()).sum()
    }

    /// Distance between two rows of [`Work::hidden`].
    pub(super) fn stride(&self) -> usize {
        self.hidden
    }

    /// Name of the kernels in use.
    pub(super) fn kernels(&self) -> &'static str {
        self.kernels.name
    }

    /// Runs the rows of `texts` through all layers. The result is in `work.hidden()`.
    pub(super) fn forward(
        &self,
        batch: &Batch,
        texts: Range<usize>,
        work: &mut Work,
        control: &dyn Control,
    ) -> Result<()> {
        self.forward_to(self.layers.len(), batch, texts.clone(), work, control)?;
        let (rows, hidden) = (batch.tokens(texts).0.len(), self.hidden);
        if let Some(last) = &self.last {
            for row in work.x[..rows * hidden].chunks_exact_mut(hidden) {
                self.kernels.norm(row, &[], &last.scale, &last.shift, self.eps);
            }
        }
        Ok(())
    }

    /// The same as far as layer `end`, without the norm that follows the last.
    fn forward_to(
        &self,
        end: usize,
        batch: &Batch,
        texts: Range<usize>,
        work: &mut Work,
        control: &dyn Control,
    ) -> Result<()> {
        let (ids, types) = batch.tokens(texts.clone());
        let (rows, hidden) = (ids.len(), self.hidden);
        let across = self.layers.iter().map(|l| l.qkv.columns().max(l.up.columns())).max().unwrap_or(0);
        work.x.room(rows * hidden);
        work.y.room(rows * simd::padded(hidden));
        work.wide.room(rows * across);
        work.context.room(rows * self.heads.columns());
        for span in batch.spans(texts.clone()) {
            for (position, row) in span.enumerate() {
                self.embed(ids[row], types[row], position, &mut work.x[row * hidden..][..hidden])?;
            }
        }
        for layer in self.layers.iter().take(end) {
            fault::point(fault::Place::Pass);
            self.layer(layer, batch, texts.clone(), rows, work, control)?;
        }
        Ok(())
    }

    /// Word, position and type of one token, normed, into `row`.
    fn embed(&self, id: u32, kind: u32, position: usize, row: &mut [f32]) -> Result<()> {
        let at = |table: &Buffer<f32>, i: usize| -> Option<Range<usize>> {
            let range = i * self.hidden..(i + 1) * self.hidden;
            (range.end <= table.len()).then_some(range)
        };
        let word = at(&self.words, id as usize).ok_or_else(|| Error::Internal(format!("no token {id}")))?;
        row.copy_from_slice(&self.words[word]);
        if kind > 0 && !self.second.is_empty() {
            row.iter_mut().zip(self.second.iter()).for_each(|(x, y)| *x += y);
        }
        let position = if self.positions.is_empty() {
            &[]
        } else {
            let range = at(&self.positions, position);
            &self.positions[range.ok_or_else(|| Error::Internal(format!("no position {position}")))?]
        };
        self.kernels.norm(row, position, &self.norm.scale, &self.norm.shift, self.eps);
        Ok(())
    }

    fn layer(
        &self,
        layer: &Layer,
        batch: &Batch,
        texts: Range<usize>,
        rows: usize,
        work: &mut Work,
        control: &dyn Control,
    ) -> Result<()> {
        let (kernels, hidden) = (self.kernels, self.hidden);
        let none = |_: &mut [f32]| {};
        match &layer.before {
            Some(norm) => {
                self.norm_into(norm, rows, work);
                layer.qkv.apply(kernels, &work.y, hidden, rows, &mut work.bytes, &mut work.wide, control, none)?;
            }
            None => layer.qkv.apply(kernels, &work.x, hidden, rows, &mut work.bytes, &mut work.wide, control, none)?,
        }
        control.check()?;
        for span in batch.spans(texts) {
            if let Some(turn) = layer.turn.and_then(|turn| self.turns.get(turn)) {
                self.turn(turn, span.clone(), &mut work.wide);
            }
            attend(kernels, self.heads, span, layer.window, work, control)?;
        }
        layer.out.apply(
            kernels,
            &work.context,
            self.heads.columns(),
            rows,
            &mut work.bytes,
            &mut work.y,
            control,
            none,
        )?;
        let post = layer.after.is_some();
        self.add(post.then_some(&layer.middle), rows, work);
        if !post {
            self.norm_into(&layer.middle, rows, work);
        }
        let x = if post { &work.x } else { &work.y };
        match self.activation {
            _ if layer.up.columns() > simd::padded(self.intermediate) => {
                layer.up.apply(kernels, x, hidden, rows, &mut work.bytes, &mut work.wide, control, none)?;
                for row in work.wide[..rows * layer.up.columns()].chunks_exact_mut(layer.up.columns()) {
                    let (value, gate) = row.split_at_mut(self.intermediate);
                    self.activate(value);
                    kernels.multiply(value, gate);
                }
            }
            _ => layer
                .up
                .apply(kernels, x, hidden, rows, &mut work.bytes, &mut work.wide, control, |run| self.activate(run))?,
        }
        layer.down.apply(kernels, &work.wide, layer.up.columns(), rows, &mut work.bytes, &mut work.y, control, none)?;
        if let Some([down, up]) = layer.neck.as_deref() {
            let stride = simd::padded(hidden);
            let bend = |run: &mut [f32]| kernels.relu(run);
            down.apply(kernels, &work.y, stride, rows, &mut work.bytes, &mut work.wide, control, bend)?;
            work.context.room(rows * stride);
            up.apply(kernels, &work.wide, down.columns(), rows, &mut work.bytes, &mut work.context, control, none)?;
            kernels.add(&mut work.y[..rows * stride], &work.context[..rows * stride]);
        }
        self.add(layer.after.as_ref(), rows, work);
        Ok(())
    }

    fn activate(&self, run: &mut [f32]) {
        match self.activation {
            Activation::Gelu => self.kernels.gelu(run),
            Activation::GeluTanh => self.kernels.gelu_tanh(run),
            Activation::Relu => self.kernels.relu(run),
        }
    }

    /// `y = norm(x)`, rows `hidden` apart.
    fn norm_into(&self, norm: &Norm, rows: usize, work: &mut Work) {
        let count = rows * self.hidden;
        work.y[..count].copy_from_slice(&work.x[..count]);
        for row in work.y[..count].chunks_exact_mut(self.hidden) {
            self.kernels.norm(row, &[], &norm.scale, &norm.shift, self.eps);
        }
    }

    /// `x += y`, normed if there is a norm. Rows of `y` are padded.
    fn add(&self, norm: Option<&Norm>, rows: usize, work: &mut Work) {
        let hidden = self.hidden;
        let y = work.y.chunks_exact(simd::padded(hidden));
        for (x, y) in work.x[..rows * hidden].chunks_exact_mut(hidden).zip(y) {
            match norm {
                Some(norm) => self.kernels.norm(x, &y[..hidden], &norm.scale, &norm.shift, self.eps),
                None => x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
            }
        }
    }

    /// Turns the queries and keys of one text by their positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>).
    fn turn(&self, turn: &Turn, span: Range<usize>, wide: &mut [f32]) {
        let columns = self.heads.columns();
        for (position, row) in span.enumerate() {
            let angles = position * turn.half..(position + 1) * turn.half;
            let (cos, sin) = (&turn.cos[angles.clone()], &turn.sin[angles]);
            let row = &mut wide[row * 3 * columns..][..2 * columns];
            for head in row.chunks_exact_mut(self.heads.size) {
                let (left, right) = head[..self.head_size].split_at_mut(turn.half);
                for (((l, r), c), s) in left.iter_mut().zip(right).zip(cos).zip(sin) {
                    (*l, *r) = (*l * c - *r * s, *r * c + *l * s);
                }
            }
        }
    }
}
