//! A linear layer in bytes: weights of 8 bits with scales for each output, inputs of 8 bits with scales and offsets
//! for each row.
//!
//! Rows are quantised over their own range `[least, most]`: after a GELU nearly all of a row lies above zero, and a
//! symmetric scale would waste half the steps. What the offset adds is `least` times the sum of the weights, known since
//! the packing. A long row is cut into groups of [`GROUP`], each with scales of its own on both sides, so that one large
//! number coarsens its group and not the row. Never a scale for a batch: a text's bits do not depend on its neighbours,
//! and an outlier in one text costs no other anything.

use super::buffer::Buffer;
use super::dense::{ahead, blocks};
use super::simd::{ByteTile, Kernels, UNIT, padded};

const PANEL: usize = 4 * UNIT;

/// Inputs that share a scale, in fours. On 2,000 product titles of all-MiniLM-L6-v2 the least cosine to f32 is .9975 without
/// groups, .9988 at 48, .9991 at 32 and .9994 at 16, for 0, 5, 11 and 25 % of a product's time.
const GROUP: usize = 32;

/// Weights `[out, in]` as panels `[out / 64][in / 4][64][4]`.
pub(crate) struct Bytes {
    inputs: usize,
    quads: usize,
    columns: usize,
    panels: Buffer<i8>,
    /// `[groups, columns]`, as `sum`.
    scale: Buffer<f32>,
    sum: Buffer<f32>,
    bias: Buffer<f32>,
}

/// Rows of inputs in bytes, kept by the caller.
#[derive(Default)]
pub(crate) struct Quantized {
    values: Buffer<u8>,
    /// `[groups, rows]`, as `zero`.
    step: Buffer<f32>,
    zero: Buffer<f32>,
}

impl Bytes {
    /// Packs `weight`, row-major `[out, inputs]`, and `bias`, `[out]`.
    pub(crate) fn pack(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let columns = padded(weight.len() / inputs.max(1));
        let quads = inputs.div_ceil(4);
        let mut panels = Buffer::zeros(columns * quads * 4);
        let groups = quads.div_ceil(GROUP);
        let (mut scale, mut sum) = (Buffer::zeros(groups * columns), Buffer::zeros(groups * columns));
        for (o, row) in weight.chunks_exact(inputs).enumerate() {
            let first = o / PANEL * PANEL;
            let width = PANEL.min(columns - first);
            let panel = &mut panels[first * quads * 4..];
            for (group, row) in row.chunks(GROUP * 4).enumerate() {
                let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                // All zeros, or numbers so small that a step of them has no inverse, are zeros.
                let step = largest / 127.0;
                let inverse = if step.is_normal() && (1.0 / step).is_finite() { 1.0 / step } else { 0.0 };
                let mut total = 0i32;
                for (i, w) in row.iter().enumerate() {
                    let q = (w * inverse).round().clamp(-127.0, 127.0) as i8;
                    panel[((group * GROUP + i / 4) * width + o - first) * 4 + i % 4] = q;
                    total += i32::from(q);
                }
                scale[group * columns + o] = step;
                sum[group * columns + o] = step * total as f32;
            }
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
        let groups = self.quads.div_ceil(GROUP);
        work.values.room(rows * depth);
        work.step.room(groups * rows);
        work.zero.room(groups * rows);
        for row in 0..rows {
            let to = &mut work.values[row * depth..][..depth];
            let (values, rest) = to.split_at_mut(self.inputs);
            rest.fill(0);
            let parts = x[row * x_stride..][..self.inputs].chunks(GROUP * 4).zip(values.chunks_mut(GROUP * 4));
            for (group, (x, to)) in parts.enumerate() {
                (work.step[group * rows + row], work.zero[group * rows + row]) = kernels.quantize(x, to);
            }
        }
        let out = &mut out[..rows * self.columns];
        for first in (0..self.columns).step_by(PANEL) {
            let width = PANEL.min(self.columns - first);
            let panel = &self.panels[first * depth..][..width * depth];
            let count = rows.div_ceil(kernels.rows);
            for (i, (row, height)) in blocks(rows, kernels.rows).enumerate() {
                // A quarter of the bytes of the floats: with few rows the hardware's prefetcher keeps up by itself.
                let (next, next_step) = ahead(panel, self.quads, i, count, 0);
                let c = out[row * self.columns + first..].as_mut_ptr();
                for group in 0..groups {
                    let quad = group * GROUP;
                    // SAFETY: the quantised rows, the panel, the columns' vectors and the result hold what the sizes say.
                    // The sums of the groups before are where the tile starts from; it reads each before it writes it.
                    unsafe {
                        kernels.byte_tile(&ByteTile {
                            rows: height,
                            units: width / UNIT,
                            quads: GROUP.min(self.quads - quad),
                            a: work.values.as_ptr().add(row * depth + quad * 4),
                            a_stride: depth,
                            b: panel.as_ptr().add(quad * width * 4),
                            b_stride: width * 4,
                            next: next.wrapping_add(quad * next_step),
                            next_step,
                            step: work.step.as_ptr().add(group * rows + row),
                            zero: work.zero.as_ptr().add(group * rows + row),
                            scale: self.scale.as_ptr().add(group * self.columns + first),
                            sum: self.sum.as_ptr().add(group * self.columns + first),
                            start: if group == 0 { self.bias.as_ptr().add(first) } else { c },
                            start_stride: if group == 0 { 0 } else { self.columns },
                            c,
                            c_stride: self.columns,
                        });
                    }
                }
                for done in row..row + height {
                    after(&mut out[done * self.columns + first..][..width]);
                }
            }
        }
    }
}
