//! The same network with a way back: what a loss changes when a trained number does.
//!
//! Written by hand rather than on a tensor library, since nearly all of a network is frozen while an adapter is trained:
//! frozen products need the gradient of what went in and none of their own, and both ways run on the packed kernels, on
//! ragged batches without padding. Layers below the trained ones run forward only, on the packed model as it is.
//! Checked against PyTorch, family by family, in `tests/gradient.rs`.
//!
//! A trained number is always what is *added* to the network: it starts at 0 (or so that what is added is 0), and weight
//! decay pulls towards the base model, not towards nothing.

// A product is its operands, their shapes and where it goes; a struct for each call would say no more.
#![allow(clippy::too_many_arguments)]

mod attention;
mod dropout;
mod layer;
mod plan;
mod product;
mod slot;
mod values;

use std::ops::Range;

use super::buffer::Buffer;
use super::dense::Dense;
use super::linear::Linear;
use super::simd::padded;
use super::{Batch, Layer, Model, Work};
use crate::control::Control;
use crate::embed::device::Learner;
use crate::embed::network::Architecture;
use crate::error::{Error, Result};
pub use dropout::Dropout;
use layer::{Kept, LayerGrad, Room, Trained, Wave};
pub(in crate::embed) use plan::Part;
pub use plan::{Entry, Method, Plan, Target};
use slot::{Low, Slot, turned};

/// Tokens that go through the network together on the CPU.
const WAVE: usize = 256;

/// A network that is being trained.
pub struct Net {
    model: Model,
    plan: Plan,
    entries: Vec<Entry>,
    first: usize,
    layers: Vec<Trained>,
    /// The weights and biases as they were, where they are trained as a whole.
    base: Vec<[(Vec<f32>, Vec<f32>); 4]>,
    /// Where it runs, if not here.
    learner: Option<Learner>,
}

/// Numbers that are added to an upstream tensor, from one of its rows on.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its name, without the prefix that a file may have.
    pub tensor: String,
    /// The first row that is changed.
    pub first_row: usize,
    /// What is added to it and the following.
    pub added: Vec<f32>,
}

impl Change {
    /// Adds it to the tensor's numbers, row-major in this shape.
    pub(in crate::embed) fn add_to(&self, shape: &[usize], values: &mut [f32]) {
        let columns = if shape.len() > 1 { shape[1] } else { 1 };
        let to = values.get_mut(self.first_row * columns..).unwrap_or_default();
        to.iter_mut().zip(&self.added).for_each(|(x, d)| *x += d);
    }
}

/// What one wave of texts leaves for its way back. Kept and used again.
#[derive(Default)]
pub struct Tape {
    layers: Vec<Kept>,
    last: Buffer<f32>,
    last_hat: Buffer<f32>,
    last_by: Vec<f32>,
    spans: Vec<Range<usize>>,
    first_text: usize,
    rows: usize,
    stride: usize,
    dropout: Option<Dropout>,
    /// What a device knows this wave by.
    graph: Option<u32>,
}

impl Tape {
    /// The token vectors that the network made, rows [`Tape::stride`] apart.
    pub fn hidden(&self) -> &[f32] {
        &self.last
    }

    /// Distance between two rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The rows of each text.
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }
}

/// Gradients and memory of one thread's work.
#[derive(Default)]
pub struct Sums {
    layers: Vec<LayerGrad>,
    room: Room,
    work: Work,
}

fn dense(linear: &Linear) -> Result<&Dense> {
    match linear {
        Linear::Float(dense) => Ok(dense),
        Linear::Byte(_) => Err(Error::Internal("a network of bytes has no gradient".into())),
    }
}

fn products(layer: &Layer) -> [&Linear; 4] {
    [&layer.qkv, &layer.out, &layer.up, &layer.down]
}

impl Net {
    /// Prepares `model` for training; it has to be in f32.
    pub(in crate::embed) fn new(
        model: &Model,
        architecture: Architecture,
        plan: Plan,
        control: &dyn Control,
    ) -> Result<Net> {
        let first = plan.first(model);
        let mut layers = Vec::new();
        let mut base = Vec::new();
        for (i, layer) in model.layers.iter().enumerate().skip(first) {
            let mut slots = Vec::new();
            let mut weights = Vec::new();
            for (n, linear) in products(layer).into_iter().enumerate() {
                control.check()?;
                let forward = dense(linear)?.clone();
                let (weight, bias) = forward.unpack();
                // Nothing of what goes into the lowest layer is trained.
                let needed = i > first || n > 0 || layer.before.is_some();
                let back = needed.then(|| Dense::pack(&turned(&weight, forward.inputs()), &[], forward.columns()));
                slots.push(Slot { forward, back, low: None, whole: plan.method == Method::Full });
                weights.push((weight, bias));
            }
            if plan.method == Method::Full {
                base.push(weights.try_into().map_err(|_| Error::Internal("a layer has four products".into()))?);
            }
            layers.push(Trained {
                slots: slots.try_into().map_err(|_| Error::Internal("a layer has four products".into()))?,
                norms: [layer.before.clone(), Some(layer.middle.clone()), layer.after.clone()],
                neck: None,
            });
        }
        let entries = plan.entries(architecture, model);
        Ok(Net { model: model.clone(), plan, entries, first, layers, base, learner: None })
    }

    /// The same to merge values into, and no more: it holds nothing of its own, and cannot be run.
    pub(in crate::embed) fn plain(model: &Model, architecture: Architecture, plan: Plan) -> Net {
        let (first, entries) = (plan.first(model), plan.entries(architecture, model));
        Net { model: model.clone(), plan, entries, first, layers: Vec::new(), base: Vec::new(), learner: None }
    }

    /// The same, run by a device.
    pub(in crate::embed) fn on(self, load: impl FnOnce(Vec<Entry>, usize, f32) -> Result<Learner>) -> Result<Net> {
        let learner = load(self.entries.clone(), self.first, self.scaling())?;
        Ok(Net { learner: Some(learner), ..self })
    }

    /// The most tokens that should go through it together.
    pub fn wave(&self) -> usize {
        self.learner.as_ref().map_or(WAVE, Learner::step)
    }

    /// Whether what is trained has a place in the network as it was: bottlenecks have none.
    pub fn has_place(&self) -> bool {
        !matches!(self.plan.method, Method::Bottleneck { .. })
    }

    /// The runs of trained numbers.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many numbers are trained.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.at + entry.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Length of a token vector.
    pub fn hidden(&self) -> usize {
        self.model.hidden
    }

    /// Bytes that a token of a text of `len` tokens leaves on a tape, about.
    pub fn bytes_per_token(&self, len: usize) -> usize {
        let model = &self.model;
        // What is not written for it keeps what every operation made.
        let times = if self.learner.is_some() { 3 } else { 1 };
        let row = 7 * padded(model.hidden)
            + 4 * model.heads.columns()
            + model.heads.count * padded(len)
            + 3 * padded(model.intermediate);
        4 * times * row * (model.layers.len() - self.first).max(1)
    }

    /// Takes these values for the trained numbers.
    pub fn set(&mut self, values: &[f32]) -> Result<()> {
        if values.len() < self.len() {
            return Err(Error::Internal(format!("{} numbers where {} are trained", values.len(), self.len())));
        }
        if let Some(learner) = &self.learner {
            return learner.set(values);
        }
        for i in 0..self.layers.len() {
            let at = self.first + i;
            if let Method::Lora { rank, .. } = self.plan.method {
                for n in 0..4 {
                    let low = self.low(at, n, rank, values).map(|(a, b, rank)| Low::pack(&a, &b, rank));
                    self.layers[i].slots[n].low = low;
                }
            }
            if self.plan.method == Method::Full {
                for n in 0..4 {
                    let (mut weight, mut bias) = self.base[i][n].clone();
                    self.add(at, n, values, &mut weight, &mut bias);
                    let slot = &mut self.layers[i].slots[n];
                    slot.forward = Dense::pack(&weight, &bias, slot.forward.inputs());
                    if slot.back.is_some() {
                        let turned = turned(&weight, slot.forward.inputs());
                        slot.back = Some(Dense::pack(&turned, &[], slot.forward.columns()));
                    }
                }
                let norms = self.norms(at, values);
                self.layers[i].norms = norms;
            }
            if let Method::Bottleneck { size } = self.plan.method {
                let [down, up] = self.neck(at, size, values);
                let slot = |(weight, bias): (Vec<f32>, Vec<f32>), inputs: usize| Slot {
                    back: Some(Dense::pack(&turned(&weight, inputs), &[], weight.len() / inputs)),
                    forward: Dense::pack(&weight, &bias, inputs),
                    low: None,
                    whole: true,
                };
                self.layers[i].neck = Some([slot(down, self.model.hidden), slot(up, size)]);
            }
        }
        Ok(())
    }

    /// Runs the rows of `texts` through the network; the result is in `tape.hidden()`.
    pub(crate) fn forward(
        &self,
        batch: &Batch,
        texts: Range<usize>,
        dropout: Dropout,
        tape: &mut Tape,
        sums: &mut Sums,
        control: &dyn Control,
    ) -> Result<()> {
        let (model, hidden, stride) = (&self.model, self.model.hidden, padded(self.model.hidden));
        let rows = batch.tokens(texts.clone()).0.len();
        tape.spans.clear();
        tape.spans.extend(batch.spans(texts.clone()));
        (tape.first_text, tape.rows, tape.stride, tape.dropout) = (texts.start, rows, stride, Some(dropout));
        if let Some(learner) = &self.learner {
            control.check()?;
            tape.stride = hidden;
            tape.last.room(rows * hidden);
            let graph = *tape.graph.get_or_insert_with(|| learner.graph());
            learner.forward(batch, texts, dropout, graph, &mut tape.last[..rows * hidden])?;
            return control.check();
        }
        model.forward_to(self.first, batch, texts, &mut sums.work, control)?;
        tape.layers.resize_with(self.layers.len(), Kept::default);
        let mut x = std::mem::take(match tape.layers.first_mut() {
            Some(kept) => &mut kept.x,
            None => &mut tape.last,
        });
        x.room(rows * stride);
        for (to, from) in x.chunks_exact_mut(stride).zip(sums.work.hidden().chunks_exact(hidden)).take(rows) {
            to[..hidden].copy_from_slice(from);
        }
        if self.first == 0 && dropout.share > 0.0 {
            for (i, span) in tape.spans.iter().enumerate() {
                dropout.apply(tape.first_text + i, Dropout::TEXT, &mut x[span.start * stride..span.end * stride]);
            }
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let at = self.first + i;
            let wave = Wave { spans: &tape.spans, first: tape.first_text, rows, dropout, layer: at };
            let kept = &mut tape.layers[i];
            kept.x = x;
            let mut next = std::mem::take(&mut tape.last);
            model.train_forward(&model.layers[at], layer, &wave, kept, &mut next, &mut sums.room, control)?;
            if i + 1 < self.layers.len() {
                tape.last = std::mem::take(&mut tape.layers[i + 1].x);
            }
            x = next;
        }
        if let Some(norm) = &model.last {
            tape.last_hat.room(rows * stride);
            tape.last_by.clear();
            tape.last_hat[..rows * stride].copy_from_slice(&x[..rows * stride]);
            for (hat, out) in tape.last_hat.chunks_exact_mut(stride).zip(x.chunks_exact_mut(stride)).take(rows) {
                let (hat, out) = (&mut hat[..hidden], &mut out[..hidden]);
                tape.last_by.push(model.kernels.norm_keep(hat, out, &norm.scale, &norm.shift, model.eps));
            }
        }
        tape.last = x;
        Ok(())
    }

    /// From the gradient of `tape.hidden()`, whose memory it uses, to those of the trained numbers, which are added up in
    /// `sums`.
    pub fn backward(&self, tape: &Tape, grad: &mut Gradient, sums: &mut Sums, control: &dyn Control) -> Result<()> {
        let (model, hidden) = (&self.model, self.model.hidden);
        if let (Some(learner), Some(graph)) = (&self.learner, tape.graph) {
            control.check()?;
            learner.back(graph, &grad.0[..tape.rows * hidden])?;
            return control.check();
        }
        sums.layers.resize_with(self.layers.len(), LayerGrad::default);
        if let Some(norm) = &model.last {
            let rows = grad.0.chunks_exact_mut(tape.stride).zip(tape.last_hat.chunks_exact(tape.stride));
            for ((grad, hat), by) in rows.zip(&tape.last_by) {
                model.kernels.norm_back(&mut grad[..hidden], &hat[..hidden], &norm.scale, *by);
            }
        }
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let at = self.first + i;
            let dropout = tape.dropout.unwrap_or(Dropout::NONE);
            let wave = Wave { spans: &tape.spans, first: tape.first_text, rows: tape.rows, dropout, layer: at };
            let (sum, kept) = (&mut sums.layers[i], &tape.layers[i]);
            if self.plan.method == Method::Full {
                for n in 0..3 {
                    sum.scale[n].resize(hidden, 0.0);
                    sum.shift[n].resize(hidden, 0.0);
                }
            }
            let base = &model.layers[at];
            model.train_back(base, layer, &wave, kept, &mut grad.0, sum, i > 0, &mut sums.room, control)?;
        }
        Ok(())
    }
}

/// The gradient of a wave's token vectors: rows as on its tape.
#[derive(Default)]
pub struct Gradient(Buffer<f32>);

impl Gradient {
    /// As many zeros as the tape has numbers.
    pub fn zeros(&mut self, tape: &Tape) -> &mut [f32] {
        let count = tape.rows * tape.stride;
        self.0.room(count);
        self.0[..count].fill(0.0);
        &mut self.0[..count]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
