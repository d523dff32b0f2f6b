//! A layer forward, keeping what its way back needs, and back.

use std::ops::Range;

use super::super::buffer::Buffer;
use super::super::simd::padded;
use super::super::{Layer, Model, Norm};
use super::Dropout;
use super::attention::{Head, attend, attend_back, turn, weights_of};
use super::product::At;
use super::slot::{Aside, Slot, SlotGrad};
use crate::control::Control;
use crate::embed::network::Activation;
use crate::error::Result;

/// A trained layer.
pub(super) struct Trained {
    pub(super) slots: [Slot; 4],
    pub(super) norms: [Option<Norm>; 3],
    pub(super) neck: Option<[Slot; 2]>,
}

/// What one layer keeps of one wave.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) x: Buffer<f32>,
    /// What goes into each product.
    into: [Buffer<f32>; 4],
    narrow: [Buffer<f32>; 4],
    qkv: Buffer<f32>,
    weights: Buffer<f32>,
    /// Before the activation.
    pre: Buffer<f32>,
    /// Normed rows, and what they were multiplied by.
    hat: [Buffer<f32>; 3],
    by: [Vec<f32>; 3],
    /// Into the bottleneck, its inside before and after its bend.
    neck: [Buffer<f32>; 3],
}

/// Gradients of a trained layer, in the packed order.
#[derive(Default)]
pub(super) struct LayerGrad {
    pub(super) slots: [SlotGrad; 4],
    pub(super) scale: [Vec<f32>; 3],
    pub(super) shift: [Vec<f32>; 3],
    pub(super) neck: [SlotGrad; 2],
}

/// Memory shared by all layers.
#[derive(Default)]
pub(super) struct Room {
    y: Buffer<f32>,
    g: Buffer<f32>,
    h: Buffer<f32>,
    wide: Buffer<f32>,
    unused: Buffer<f32>,
    head: Head,
    aside: Aside,
}

/// One wave: the rows of each text, the place of each text in the whole batch, and the dropout of the step.
pub(super) struct Wave<'a> {
    pub(super) spans: &'a [Range<usize>],
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) dropout: Dropout,
    pub(super) layer: usize,
}

impl Wave<'_> {
    /// Dropout of rows `stride` apart.
    fn drop(&self, site: usize, rows: &mut [f32], stride: usize) {
        if self.dropout.share > 0.0 {
            for (i, span) in self.spans.iter().enumerate() {
                let rows = &mut rows[span.start * stride..span.end * stride];
                self.dropout.apply(self.first + i, 2 * self.layer + site, rows);
            }
        }
    }
}

impl Model {
    fn bend(&self, run: &mut [f32]) {
        match self.activation {
            Activation::Gelu => self.kernels.gelu(run),
            Activation::GeluTanh => self.kernels.gelu_tanh(run),
            Activation::Relu => self.kernels.relu(run),
        }
    }

    fn bend_back(&self, grad: &mut [f32], x: &[f32]) {
        match self.activation {
            Activation::Gelu => self.kernels.gelu_slope(grad, x),
            Activation::GeluTanh => self.kernels.gelu_tanh_slope(grad, x),
            Activation::Relu => self.kernels.relu_slope(grad, x),
        }
    }

    /// `out = norm(x)`, keeping the normed rows and their factors; rows `stride` apart.
    fn norm_rows(
        &self,
        norm: &Norm,
        x: &[f32],
        rows: usize,
        hat: &mut Buffer<f32>,
        by: &mut Vec<f32>,
        out: &mut Buffer<f32>,
    ) {
        let stride = padded(self.hidden);
        hat.room(rows * stride);
        out.room(rows * stride);
        hat[..rows * stride].copy_from_slice(&x[..rows * stride]);
        by.clear();
        for (hat, out) in hat.chunks_exact_mut(stride).zip(out.chunks_exact_mut(stride)).take(rows) {
            let (hat, out) = (&mut hat[..self.hidden], &mut out[..self.hidden]);
            by.push(self.kernels.norm_keep(hat, out, &norm.scale, &norm.shift, self.eps));
        }
    }

    /// The way back of `norm_rows`, in place; gradients of scale and shift are added where they are wanted.
    fn norm_rows_back(
        &self,
        norm: &Norm,
        grad: &mut [f32],
        rows: usize,
        hat: &[f32],
        by: &[f32],
        sums: (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let stride = padded(self.hidden);
        let (scale, shift) = sums;
        for ((grad, hat), by) in grad.chunks_exact_mut(stride).zip(hat.chunks_exact(stride)).zip(by).take(rows) {
            let (grad, hat) = (&mut grad[..self.hidden], &hat[..self.hidden]);
            for ((sum, g), hat) in scale.iter_mut().zip(grad.iter()).zip(hat) {
                *sum += g * hat;
            }
            shift.iter_mut().zip(grad.iter()).for_each(|(sum, g)| *sum += g);
            self.kernels.norm_back(grad, hat, &norm.scale, *by);
        }
    }

    /// `kept.x` through a layer, into `next`.
    pub(super) fn train_forward(
        &self,
        base: &Layer,
        layer: &Trained,
        wave: &Wave<'_>,
        kept: &mut Kept,
        next: &mut Buffer<f32>,
        room: &mut Room,
        control: &dyn Control,
    ) -> Result<()> {
        let (kernels, rows, stride) = (self.kernels, wave.rows, padded(self.hidden));
        let count = rows * stride;
        let [into_qkv, into_out, into_up, into_down] = &mut kept.into;
        let [hat0, hat1, hat2] = &mut kept.hat;
        let [by0, by1, by2] = &mut kept.by;
        match &layer.norms[0] {
            Some(norm) => self.norm_rows(norm, &kept.x, rows, hat0, by0, into_qkv),
            None => {
                into_qkv.room(count);
                into_qkv[..count].copy_from_slice(&kept.x[..count]);
            }
        }
        let x = At { values: into_qkv, stride };
        layer.slots[0].apply(kernels, x, rows, &mut kept.qkv, &mut kept.narrow[0], &mut room.aside);
        control.check()?;
        let columns = self.heads.columns();
        into_out.room(rows * columns);
        kept.weights.room(wave.spans.iter().map(|span| weights_of(self.heads, span.len())).sum());
        let mut at = 0;
        for span in wave.spans {
            if let Some(angles) = base.turn.and_then(|i| self.turns.get(i)) {
                turn(angles, self.heads, self.head_size, span.clone(), &mut kept.qkv, false);
            }
            let size = weights_of(self.heads, span.len());
            let weights = &mut kept.weights[at..at + size];
            attend(kernels, self.heads, span.clone(), base.window, &kept.qkv, into_out, weights, &mut room.head);
            at += size;
        }
        let x = At { values: into_out, stride: columns };
        layer.slots[1].apply(kernels, x, rows, &mut room.y, &mut kept.narrow[1], &mut room.aside);
        wave.drop(0, &mut room.y[..count], stride);
        kernels.add(&mut room.y[..count], &kept.x[..count]);
        control.check()?;
        let post = base.after.is_some();
        let middle = layer.norms[1].as_ref().unwrap_or(&base.middle);
        self.norm_rows(middle, &room.y, rows, hat1, by1, into_up);
        next.room(count);
        // What the feed-forward part is added to.
        next[..count].copy_from_slice(if post { &into_up[..count] } else { &room.y[..count] });
        let x = At { values: into_up, stride };
        layer.slots[2].apply(kernels, x, rows, &mut kept.pre, &mut kept.narrow[2], &mut room.aside);
        let (across, inner) = (layer.slots[2].columns(), padded(self.intermediate));
        into_down.room(rows * inner);
        for (pre, out) in kept.pre.chunks_exact(across).zip(into_down.chunks_exact_mut(inner)).take(rows) {
            let out = &mut out[..self.intermediate];
            out.copy_from_slice(&pre[..self.intermediate]);
            self.bend(out);
            if self.gated() {
                kernels.multiply(out, &pre[self.intermediate..2 * self.intermediate]);
            }
        }
        control.check()?;
        let x = At { values: into_down, stride: inner };
        layer.slots[3].apply(kernels, x, rows, &mut room.y, &mut kept.narrow[3], &mut room.aside);
        if let Some([down, up]) = &layer.neck {
            let [z, inside, bent] = &mut kept.neck;
            z.room(count);
            z[..count].copy_from_slice(&room.y[..count]);
            down.apply(kernels, At { values: z, stride }, rows, inside, &mut room.unused, &mut room.aside);
            let size = rows * down.columns();
            bent.room(size);
            bent[..size].copy_from_slice(&inside[..size]);
            kernels.relu(&mut bent[..size]);
            up.apply(
                kernels,
                At { values: bent, stride: down.columns() },
                rows,
                &mut room.g,
                &mut room.unused,
                &mut room.aside,
            );
            kernels.add(&mut room.y[..count], &room.g[..count]);
        }
        wave.drop(1, &mut room.y[..count], stride);
        kernels.add(&mut room.y[..count], &next[..count]);
        match &layer.norms[2] {
            Some(norm) => self.norm_rows(norm, &room.y, rows, hat2, by2, next),
            None => next[..count].copy_from_slice(&room.y[..count]),
        }
        control.check()
    }

    /// `grad`, of what the layer made, becomes that of what went into it, if `through`.
    pub(super) fn train_back(
        &self,
        base: &Layer,
        layer: &Trained,
        wave: &Wave<'_>,
        kept: &Kept,
        grad: &mut Buffer<f32>,
        sums: &mut LayerGrad,
        through: bool,
        room: &mut Room,
        control: &dyn Control,
    ) -> Result<()> {
        let (kernels, rows, stride) = (self.kernels, wave.rows, padded(self.hidden));
        let count = rows * stride;
        let [into_qkv, into_out, into_up, into_down] = &kept.into;
        let [scale0, scale1, scale2] = &mut sums.scale;
        let [shift0, shift1, shift2] = &mut sums.shift;
        if let Some(norm) = &layer.norms[2] {
            self.norm_rows_back(norm, grad, rows, &kept.hat[2], &kept.by[2], (scale2, shift2));
        }
        // `grad` is now of the sum; `room.g` of the feed-forward part.
        room.g.room(count);
        room.g[..count].copy_from_slice(&grad[..count]);
        wave.drop(1, &mut room.g[..count], stride);
        if let Some([down, up]) = &layer.neck {
            let [z, inside, bent] = &kept.neck;
            let narrow = down.columns();
            let [down_sum, up_sum] = &mut sums.neck;
            let x = At { values: bent, stride: narrow };
            up.back(kernels, &room.g, x, &[], rows, up_sum, Some(&mut room.y), &mut room.aside);
            kernels.relu_slope(&mut room.y[..rows * narrow], &inside[..rows * narrow]);
            let x = At { values: z, stride };
            down.back(kernels, &room.y, x, &[], rows, down_sum, Some(&mut room.h), &mut room.aside);
            kernels.add(&mut room.g[..count], &room.h[..count]);
        }
        let (across, inner) = (layer.slots[2].columns(), padded(self.intermediate));
        let x = At { values: into_down, stride: inner };
        let slot = &mut sums.slots[3];
        layer.slots[3].back(kernels, &room.g, x, &kept.narrow[3], rows, slot, Some(&mut room.y), &mut room.aside);
        control.check()?;
        let wide = if self.gated() {
            room.wide.room(rows * across);
            let rows =
                room.wide.chunks_exact_mut(across).zip(kept.pre.chunks_exact(across)).zip(room.y.chunks_exact(inner));
            for ((out, pre), grad) in rows.take(wave.rows) {
                let (value, gate) = pre[..2 * self.intermediate].split_at(self.intermediate);
                let (of_value, of_gate) = out[..2 * self.intermediate].split_at_mut(self.intermediate);
                of_gate.copy_from_slice(value);
                self.bend(of_gate);
                kernels.multiply(of_gate, grad);
                of_value.copy_from_slice(&grad[..self.intermediate]);
                kernels.multiply(of_value, gate);
                self.bend_back(of_value, value);
            }
            &room.wide
        } else {
            self.bend_back(&mut room.y[..rows * across], &kept.pre[..rows * across]);
            &room.y
        };
        let x = At { values: into_up, stride };
        let slot = &mut sums.slots[2];
        layer.slots[2].back(kernels, wide, x, &kept.narrow[2], rows, slot, Some(&mut room.h), &mut room.aside);
        control.check()?;
        let post = base.after.is_some();
        let middle = layer.norms[1].as_ref().unwrap_or(&base.middle);
        if post {
            kernels.add(&mut grad[..count], &room.h[..count]);
            self.norm_rows_back(middle, grad, rows, &kept.hat[1], &kept.by[1], (scale1, shift1));
        } else {
            self.norm_rows_back(middle, &mut room.h, rows, &kept.hat[1], &kept.by[1], (scale1, shift1));
            kernels.add(&mut grad[..count], &room.h[..count]);
        }
        room.g[..count].copy_from_slice(&grad[..count]);
        wave.drop(0, &mut room.g[..count], stride);
        let columns = self.heads.columns();
        let x = At { values: into_out, stride: columns };
        let slot = &mut sums.slots[1];
        layer.slots[1].back(kernels, &room.g, x, &kept.narrow[1], rows, slot, Some(&mut room.y), &mut room.aside);
        control.check()?;
        room.wide.room(rows * 3 * columns);
        let mut at = 0;
        for span in wave.spans {
            let size = weights_of(self.heads, span.len());
            let weights = &kept.weights[at..at + size];
            attend_back(kernels, self.heads, span.clone(), &kept.qkv, &room.y, &mut room.wide, weights, &mut room.head);
            if let Some(angles) = base.turn.and_then(|i| self.turns.get(i)) {
                turn(angles, self.heads, self.head_size, span.clone(), &mut room.wide, true);
            }
            at += size;
        }
        let x = At { values: into_qkv, stride };
        let slot = &mut sums.slots[0];
        let into = (through || layer.norms[0].is_some()).then_some(&mut room.h);
        layer.slots[0].back(kernels, &room.wide, x, &kept.narrow[0], rows, slot, into, &mut room.aside);
        if let Some(norm) = &layer.norms[0] {
            self.norm_rows_back(norm, &mut room.h, rows, &kept.hat[0], &kept.by[0], (scale0, shift0));
        }
        if through {
            kernels.add(&mut grad[..count], &room.h[..count]);
        }
        control.check()
    }
}
