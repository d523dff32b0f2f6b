//! A linear layer in bytes: weights of 8 bits with a scale for each output, inputs of 8 bits with a scale and an offset
//! for each row.
//!
//! Rows are quantised over their own range `[least, most]`: after a GELU nearly all of a row lies above zero, and a
//! symmetric scale would waste half the steps. What the offset adds is `least` times the sum of the weights, known since
//! the packing. One scale for each row, never for a batch: a text's bits do not depend on its neighbours, and an outlier
//! in one text costs no other anything.

use super::buffer::Buffer;
use super::dense::{ahead, blocks};
use super::simd::{ByteTile, Kernels, UNIT, padded};

const PANEL: usize = 4 * UNIT;

/// Weights `[out, in]` as panels `[out / 64][in / 4][64][4]`.
pub(crate) struct Bytes {
    inputs: usize,
    quads: usize,
    columns: usize,
    panels: Buffer<i8>,
    scale: Buffer<f32>,
    sum: Buffer<f32>,
    bias: Buffer<f32>,
}

/// Rows of inputs in bytes, kept by the caller.
#[derive(Default)]
pub(crate) struct Quantized {
    values: Buffer<u8>,
    step: Buffer<f32>,
    zero: Buffer<f32>,
}

impl Bytes {
    /// Packs `weight`, row-major `[out, inputs]`, and `bias`, `[out]`.
    pub(crate) fn pack(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let columns = padded(weight.len() / inputs.max(1));
        let quads = inputs.div_ceil(4);
        let mut panels = Buffer::zeros(columns * quads * 4);
        let (mut scale, mut sum) = (Buffer::zeros(columns), Buffer::zeros(columns));
        for (o, row) in weight.chunks_exact(inputs).enumerate() {
            let first = o / PANEL * PANEL;
            let width = PANEL.min(columns - first);
            let panel = &mut panels[first * quads * 4..];
            let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
            // A column of zeros, or of numbers so small that a step of them has no inverse, is a column of zeros.
            let step = largest / 127.0;
            let inverse = if step.is_normal() && (1.0 / step).is_finite() { 1.0 / step } else { 0.0 };
            let mut total = 0i32;
            for (i, w) in row.iter().enumerate() {
                let q = (w * inverse).round().clamp(-127.0, 127.0) as i8;
                panel[(i / 4 * width + o - first) * 4 + i % 4] = q;
                total += i32::from(q);
            }
            scale[o] = step;
            sum[o] = step * total as f32;
        }
        Self { inputs, quads, columns, panels, scale, sum, bias: Buffer::padded(bias, columns) }
    }

    /// Numbers in a row of the result.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn bytes(&self) -> usize {
        self.panels.bytes() + self.scale.bytes() + self.sum.bytes() + self.bias.bytes()
    }

    /// As [`Dense::apply`](super::dense::Dense::apply).
    #[allow(clippy::too_many_arguments)] // one product: its operands, their shapes, what follows
    pub(crate) fn apply(
        &self,
        kernels: &Kernels,
        x: &[f32],
        x_stride: usize,
        rows: usize,
        work: &mut Quantized,
        out: &mut [f32],
        after: impl Fn(&mut [f32]),
    ) {
        if rows == 0 {
            return;
        }
        assert!(x_stride >= self.inputs && x.len() >= (rows - 1) * x_stride + self.inputs);
        let depth = self.quads * 4;
        work.values.room(rows * depth);
        work.step.room(rows);
        work.zero.room(rows);
        for row in 0..rows {
            let to = &mut work.values[row * depth..][..depth];
            let (values, rest) = to.split_at_mut(self.inputs);
            (work.step[row], work.zero[row]) = kernels.quantize(&x[row * x_stride..][..self.inputs], values);
            rest.fill(0);
        }
        let out = &mut out[..rows * self.columns];
        for first in (0..self.columns).step_by(PANEL) {
            let width = PANEL.min(self.columns - first);
            let panel = &self.panels[first * depth..][..width * depth];
            let count = rows.div_ceil(kernels.rows);
            for (i, (row, height)) in blocks(rows, kernels.rows).enumerate() {
                // A quarter of the bytes of the floats: with few rows the hardware's prefetcher keeps up by itself.
                let (next, next_step) = ahead(panel, self.quads, i, count, 0);
                // SAFETY: the quantised rows, the panel, the columns' vectors and the result hold what the sizes say.
                unsafe {
                    kernels.byte_tile(&ByteTile {
                        rows: height,
                        units: width / UNIT,
                        quads: self.quads,
                        a: work.values.as_ptr().add(row * depth),
                        a_stride: depth,
                        b: panel.as_ptr(),
                        b_stride: width * 4,
                        next,
                        next_step,
                        step: work.step.as_ptr().add(row),
                        zero: work.zero.as_ptr().add(row),
                        scale: self.scale.as_ptr().add(first),
                        sum: self.sum.as_ptr().add(first),
                        bias: self.bias.as_ptr().add(first),
                        c: out.as_mut_ptr().add(row * self.columns + first),
                        c_stride: self.columns,
                    });
                }
                for done in row..row + height {
                    after(&mut out[done * self.columns + first..][..width]);
                }
            }
        }
    }
}
