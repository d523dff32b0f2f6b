//! One product of a layer, with what is trained of it, and its way back.

use super::super::buffer::Buffer;
use super::super::dense::Dense;
use super::super::simd::{Kernels, padded};
use super::product::{At, Spare, outer};

/// Two narrow matrices beside a weight: what goes in, through `down` and `up`, is added to what comes out.
pub(super) struct Low {
    pub(super) rank: usize,
    down: Dense,
    up: Dense,
    up_back: Dense,
    down_back: Dense,
}

impl Low {
    /// `a` is `[rank, inputs]`, `b` `[outputs, rank]`, scaled already.
    pub(super) fn pack(a: &[f32], b: &[f32], rank: usize) -> Low {
        let (inputs, outputs) = (a.len() / rank, b.len() / rank);
        Low {
            rank,
            down: Dense::pack(a, &[], inputs),
            up: Dense::pack(b, &[], rank),
            up_back: Dense::pack(&turned(b, rank), &[], outputs),
            down_back: Dense::pack(&turned(a, inputs), &[], rank),
        }
    }
}

/// The transpose of a matrix with rows of `columns`.
pub(super) fn turned(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    let mut out = vec![0.0; matrix.len()];
    for (r, row) in matrix.chunks_exact(columns).enumerate() {
        for (c, x) in row.iter().enumerate() {
            out[c * rows + r] = *x;
        }
    }
    out
}

/// One of a layer's four products: `x Wᵀ + b`.
pub(super) struct Slot {
    pub(super) forward: Dense,
    /// The same with the weight turned, where a gradient passes.
    pub(super) back: Option<Dense>,
    pub(super) low: Option<Low>,
    /// Whether the weight itself is trained.
    pub(super) whole: bool,
}

/// The gradients of a slot, in the packed order.
#[derive(Default)]
pub(super) struct SlotGrad {
    /// `[rank, inputs]`.
    pub(super) a: Buffer<f32>,
    /// `[rank, outputs]`.
    pub(super) b: Buffer<f32>,
    /// `[outputs, inputs]`.
    pub(super) weight: Buffer<f32>,
    pub(super) bias: Buffer<f32>,
}

impl SlotGrad {
    pub(super) fn clear(&mut self) {
        for buffer in [&mut self.a, &mut self.b, &mut self.weight, &mut self.bias] {
            buffer.fill(0.0);
        }
    }
}

/// Memory for the way back.
#[derive(Default)]
pub(super) struct Aside {
    narrow: Buffer<f32>,
    wide: Buffer<f32>,
    pub(super) spare: Spare,
}

impl Slot {
    pub(super) fn columns(&self) -> usize {
        self.forward.columns()
    }

    /// `y = x Wᵀ + b`, rows of `y` `columns()` apart; `narrow` keeps what the way back needs.
    pub(super) fn apply(
        &self,
        kernels: &Kernels,
        x: At<'_>,
        rows: usize,
        y: &mut Buffer<f32>,
        narrow: &mut Buffer<f32>,
        aside: &mut Aside,
    ) {
        y.room(rows * self.columns());
        self.forward.apply(kernels, x.values, x.stride, rows, y, |_| {});
        if let Some(low) = &self.low {
            narrow.room(rows * low.down.columns());
            low.down.apply(kernels, x.values, x.stride, rows, narrow, |_| {});
            aside.wide.room(rows * self.columns());
            low.up.apply(kernels, narrow, low.down.columns(), rows, &mut aside.wide, |_| {});
            kernels.add(&mut y[..rows * self.columns()], &aside.wide[..rows * self.columns()]);
        }
    }

    /// From the gradient of `y` to those of the trained numbers (added) and, if wanted, of `x` (written, rows padded to
    /// whole units).
    pub(super) fn back(
        &self,
        kernels: &Kernels,
        grad: &[f32],
        x: At<'_>,
        narrow: &[f32],
        rows: usize,
        sums: &mut SlotGrad,
        into: Option<&mut Buffer<f32>>,
        aside: &mut Aside,
    ) {
        let (columns, inputs) = (self.columns(), padded(self.forward.inputs()));
        let grads = At { values: grad, stride: columns };
        if self.whole {
            sums.weight.room(columns * inputs);
            sums.bias.room(columns);
            outer(kernels, grads, columns, x, inputs, rows, &mut sums.weight, &mut aside.spare);
            for row in grad.chunks_exact(columns).take(rows) {
                kernels.add(&mut sums.bias, row);
            }
        }
        if let Some(low) = &self.low {
            let across = low.down.columns();
            sums.a.room(low.rank * inputs);
            sums.b.room(low.rank * columns);
            aside.narrow.room(rows * across);
            low.up_back.apply(kernels, grad, columns, rows, &mut aside.narrow, |_| {});
            let narrow = At { values: narrow, stride: across };
            outer(kernels, narrow, low.rank, grads, columns, rows, &mut sums.b, &mut aside.spare);
            let turned = At { values: &aside.narrow, stride: across };
            outer(kernels, turned, low.rank, x, inputs, rows, &mut sums.a, &mut aside.spare);
        }
        if let (Some(into), Some(back)) = (into, &self.back) {
            into.room(rows * inputs);
            back.apply(kernels, grad, columns, rows, into, |_| {});
            if let Some(low) = &self.low {
                aside.wide.room(rows * inputs);
                low.down_back.apply(kernels, &aside.narrow, low.down.columns(), rows, &mut aside.wide, |_| {});
                kernels.add(&mut into[..rows * inputs], &aside.wide[..rows * inputs]);
            }
        }
    }
}
