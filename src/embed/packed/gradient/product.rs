//! Products of matrices that are not packed, on the same tiles.

use super::super::buffer::Buffer;
use super::super::dense::blocks;
use super::super::simd::{Kernels, Tile, UNIT, padded};

/// A matrix in a slice: its first number, and the distance of two rows.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

/// `c = a · b`: `a` is `[rows, depth]`, `b` `[depth, columns]`; `columns` is whole units, and so are the rows of `b` and `c`.
pub(super) fn product(
    kernels: &Kernels,
    a: At<'_>,
    rows: usize,
    depth: usize,
    b: At<'_>,
    columns: usize,
    c: &mut [f32],
    c_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns.is_multiple_of(UNIT) && c.len() >= (rows - 1) * c_stride + columns);
    assert!(depth == 0 || a.values.len() >= (rows - 1) * a.stride + depth);
    assert!(depth == 0 || b.values.len() >= (depth - 1) * b.stride + columns);
    for first in (0..columns).step_by(4 * UNIT) {
        let units = (columns - first).min(4 * UNIT) / UNIT;
        for (row, height) in blocks(rows, kernels.rows) {
            // SAFETY: a, b and c hold what was asserted above.
            unsafe {
                kernels.tile(&Tile {
                    rows: height,
                    units,
                    depth,
                    a: a.values.as_ptr().add(row * a.stride),
                    a_stride: a.stride,
                    b: b.values.as_ptr().wrapping_add(first),
                    b_stride: b.stride,
                    next: std::ptr::null(),
                    next_step: 0,
                    start: std::ptr::null(),
                    c: c.as_mut_ptr().add(row * c_stride + first),
                    c_stride,
                });
            }
        }
    }
}

/// `rows` rows of `columns` numbers into `columns` rows of `across`; what lies behind `rows` becomes zero.
pub(super) fn transpose(from: At<'_>, rows: usize, columns: usize, to: &mut [f32], across: usize) {
    for (column, to) in to.chunks_exact_mut(across).take(columns).enumerate() {
        for (i, to) in to.iter_mut().take(rows).enumerate() {
            *to = from.values[i * from.stride + column];
        }
        to[rows..].fill(0.0);
    }
}

/// Memory for [`outer`].
#[derive(Default)]
pub(super) struct Spare {
    turned: Buffer<f32>,
    sums: Buffer<f32>,
}

/// `out += leftᵀ · right`: `left` is `[rows, high]`, `right` `[rows, wide]`, `out` `[high, wide]`; `wide` is whole units.
pub(super) fn outer(
    kernels: &Kernels,
    left: At<'_>,
    high: usize,
    right: At<'_>,
    wide: usize,
    rows: usize,
    out: &mut [f32],
    spare: &mut Spare,
) {
    // A few rows of the result at a time, so that they are added while they are near.
    const HIGH: usize = 48;
    let across = padded(rows);
    spare.turned.room(HIGH * across);
    spare.sums.room(HIGH * wide);
    for first in (0..high).step_by(HIGH) {
        let count = HIGH.min(high - first);
        transpose(At { values: &left.values[first..], stride: left.stride }, rows, count, &mut spare.turned, across);
        let turned = At { values: &spare.turned, stride: across };
        product(kernels, turned, count, rows, right, wide, &mut spare.sums, wide);
        kernels.add(&mut out[first * wide..(first + count) * wide], &spare.sums[..count * wide]);
    }
}
