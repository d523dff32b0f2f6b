//! A linear layer in the precision it was packed for.

use super::bytes::{Bytes, Quantized};
use super::dense::Dense;
use super::simd::Kernels;
use crate::embed::Precision;

/// `x Wᵀ + b`.
pub(crate) enum Linear {
    Float(Dense),
    Byte(Bytes),
}

impl Linear {
    /// Packs `weight`, row-major `[out, inputs]`, and `bias`, `[out]`.
    pub(crate) fn pack(weight: &[f32], bias: &[f32], inputs: usize, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Float(Dense::pack(weight, bias, inputs)),
            Precision::Int8 => Self::Byte(Bytes::pack(weight, bias, inputs)),
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

    /// See [`Dense::apply`].
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
        match self {
            Self::Float(dense) => dense.apply(kernels, x, x_stride, rows, out, after),
            Self::Byte(bytes) => bytes.apply(kernels, x, x_stride, rows, work, out, after),
        }
    }
}
