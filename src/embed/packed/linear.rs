//! A linear layer in the precision it was packed for.

use std::sync::Arc;

use super::bytes::{Bytes, Quantized};
use super::dense::Dense;
use super::simd::Kernels;
use crate::control::Control;
use crate::embed::Precision;
use crate::error::Result;

/// Rows of a product between two looks at the control: at most some 10 ms of a large model.
const ROWS: usize = 384;

/// `x Wᵀ + b`. A clone shares the weights.
#[derive(Clone)]
pub(crate) enum Linear {
    Float(Dense),
    Byte(Arc<Bytes>),
}

impl Linear {
    /// Packs `weight`, row-major `[out, inputs]`, and `bias`, `[out]`.
    pub(crate) fn pack(weight: &[f32], bias: &[f32], inputs: usize, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Float(Dense::pack(weight, bias, inputs)),
            Precision::Int8 => Self::Byte(Arc::new(Bytes::pack(weight, bias, inputs))),
        }
    }

    /// Numbers in a row of the result: the outputs, padded to whole units.
    pub(crate) fn columns(&self) -> usize {
        match self {
            Self::Float(dense) => dense.columns(),
            Self::Byte(bytes) => bytes.columns(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Float(dense) => dense.bytes(),
            Self::Byte(bytes) => bytes.bytes(),
        }
    }

    /// See [`Dense::apply`]. Goes some hundred rows at a time and asks `control` before each: the rows of one long text are
    /// more work than may go by unasked.
    #[allow(clippy::too_many_arguments)] // one product: its operands, their shapes, what follows
    pub(crate) fn apply(
        &self,
        kernels: &Kernels,
        x: &[f32],
        x_stride: usize,
        rows: usize,
        work: &mut Quantized,
        out: &mut [f32],
        control: &dyn Control,
        after: impl Fn(&mut [f32]),
    ) -> Result<()> {
        for first in (0..rows).step_by(ROWS) {
            control.check()?;
            let rows = ROWS.min(rows - first);
            let (x, out) = (&x[first * x_stride..], &mut out[first * self.columns()..]);
            match self {
                Self::Float(dense) => dense.apply(kernels, x, x_stride, rows, out, &after),
                Self::Byte(bytes) => bytes.apply(kernels, x, x_stride, rows, work, out, &after),
            }
        }
        Ok(())
    }
}
