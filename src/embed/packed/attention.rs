//! Self-attention within each text's own rows.

use std::ops::Range;

use super::Work;
use super::dense::blocks;
use super::simd::{Kernels, Tile, UNIT, padded};
use crate::control::Control;
use crate::error::Result;

/// Query rows whose scores are held at once: bounds the memory of a long text to this times its length.
const QUERIES: usize = 48;

/// The shape of the heads. `size` is padded to whole units, with zeros that the packed weights carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) count: usize,
    pub(crate) size: usize,
}

impl Heads {
    /// Columns of the queries, of the keys, of the values.
    pub(crate) fn columns(self) -> usize {
        self.count * self.size
    }
}

/// Rows `rows` of `work.wide`, `[queries | keys | values]`, into the same rows of `work.context`. A token sees those at
/// most `window` away. The queries are scaled already.
pub(crate) fn attend(
    kernels: &Kernels,
    heads: Heads,
    rows: Range<usize>,
    window: Option<usize>,
    work: &mut Work,
    control: &dyn Control,
) -> Result<()> {
    let (len, size, columns) = (rows.len(), heads.size, heads.columns());
    let (wide, across) = (3 * columns, padded(len));
    work.keys.room(size * across);
    work.scores.room(QUERIES.min(len) * across);
    let qkv = &work.wide[rows.start * wide..rows.end * wide];
    let context = &mut work.context[rows.start * columns..rows.end * columns];
    let keys = &mut work.keys[..size * across];
    let scores = &mut work.scores;
    for head in 0..heads.count {
        let at = head * size;
        transpose(&qkv[columns + at..], wide, len, size, keys, across);
        for first in (0..len).step_by(QUERIES) {
            // Some 50 texts of a common length, or one long one's block, between two looks.
            if len > 256 {
                control.check()?;
            }
            let count = QUERIES.min(len - first);
            for (row, height) in blocks(count, kernels.rows) {
                for unit in (0..across).step_by(4 * UNIT) {
                    // SAFETY: queries are rows of qkv, keys `size` rows of `across`, scores `count` rows of `across`.
                    unsafe {
                        kernels.tile(&Tile {
                            rows: height,
                            units: (across - unit).min(4 * UNIT) / UNIT,
                            depth: size,
                            a: qkv.as_ptr().add((first + row) * wide + at),
                            a_stride: wide,
                            b: keys.as_ptr().add(unit),
                            b_stride: across,
                            next: std::ptr::null(),
                            next_step: 0,
                            start: std::ptr::null(),
                            c: scores.as_mut_ptr().add(row * across + unit),
                            c_stride: across,
                        });
                    }
                }
            }
            for (i, row) in scores.chunks_exact_mut(across).take(count).enumerate() {
                if let Some(side) = window {
                    let here = first + i;
                    row[..here.saturating_sub(side)].fill(-1e30);
                    row[(here + side + 1).min(len)..].fill(-1e30);
                }
                kernels.softmax(row, len);
            }
            for (row, height) in blocks(count, kernels.rows) {
                for unit in (0..size).step_by(4 * UNIT) {
                    // SAFETY: weights are rows of scores, values `len` rows of qkv, the context has all rows.
                    unsafe {
                        kernels.tile(&Tile {
                            rows: height,
                            units: (size - unit).min(4 * UNIT) / UNIT,
                            depth: len,
                            a: scores.as_ptr().add(row * across),
                            a_stride: across,
                            b: qkv.as_ptr().add(2 * columns + at + unit),
                            b_stride: wide,
                            next: std::ptr::null(),
                            next_step: 0,
                            start: std::ptr::null(),
                            c: context.as_mut_ptr().add((first + row) * columns + at + unit),
                            c_stride: columns,
                        });
                    }
                }
            }
        }
    }
    Ok(())
}

/// `len` rows of `size` numbers, `stride` apart, into `size` rows of `across`; what lies behind `len` becomes zero.
fn transpose(from: &[f32], stride: usize, len: usize, size: usize, to: &mut [f32], across: usize) {
    for (column, to) in to.chunks_exact_mut(across).take(size).enumerate() {
        for (i, to) in to.iter_mut().take(len).enumerate() {
            *to = from[i * stride + column];
        }
        to[len..].fill(0.0);
    }
}
