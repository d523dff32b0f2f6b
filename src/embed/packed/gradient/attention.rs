//! Self-attention that keeps its weights, and its way back.

use std::ops::Range;

use super::super::Turn;
use super::super::attention::Heads;
use super::super::buffer::Buffer;
use super::super::simd::{Kernels, padded};
use super::product::{At, product, transpose};

/// Memory for one head of one text.
#[derive(Default)]
pub(super) struct Head {
    turned: Buffer<f32>,
    scores: Buffer<f32>,
    scores_turned: Buffer<f32>,
}

/// Numbers that the weights of a text of `len` tokens take.
pub(super) fn weights_of(heads: Heads, len: usize) -> usize {
    heads.count * len * padded(len)
}

/// Rows `rows` of `qkv` into the same rows of `context`; the weights of all heads are left in `kept`.
pub(super) fn attend(
    kernels: &Kernels,
    heads: Heads,
    rows: Range<usize>,
    window: Option<usize>,
    qkv: &[f32],
    context: &mut [f32],
    kept: &mut [f32],
    head: &mut Head,
) {
    let (len, size, columns) = (rows.len(), heads.size, heads.columns());
    let (wide, across) = (3 * columns, padded(len));
    let qkv = &qkv[rows.start * wide..rows.end * wide];
    let context = &mut context[rows.start * columns..rows.end * columns];
    head.turned.room(size * across);
    for (i, weights) in kept.chunks_exact_mut(len * across).take(heads.count).enumerate() {
        let at = i * size;
        transpose(At { values: &qkv[columns + at..], stride: wide }, len, size, &mut head.turned, across);
        let keys = At { values: &head.turned, stride: across };
        product(kernels, At { values: &qkv[at..], stride: wide }, len, size, keys, across, weights, across);
        for (here, row) in weights.chunks_exact_mut(across).enumerate() {
            if let Some(side) = window {
                row[..here.saturating_sub(side)].fill(-1e30);
                row[(here + side + 1).min(len)..].fill(-1e30);
            }
            kernels.softmax(row, len);
        }
        let values = At { values: &qkv[2 * columns + at..], stride: wide };
        product(kernels, At { values: weights, stride: across }, len, len, values, size, &mut context[at..], columns);
    }
}

/// From the gradient of `context` to that of `qkv`, for the rows of one text.
pub(super) fn attend_back(
    kernels: &Kernels,
    heads: Heads,
    rows: Range<usize>,
    qkv: &[f32],
    grad: &[f32],
    into: &mut [f32],
    kept: &[f32],
    head: &mut Head,
) {
    let (len, size, columns) = (rows.len(), heads.size, heads.columns());
    let (wide, across) = (3 * columns, padded(len));
    let qkv = &qkv[rows.start * wide..rows.end * wide];
    let grad = &grad[rows.start * columns..rows.end * columns];
    let into = &mut into[rows.start * wide..rows.end * wide];
    head.turned.room(size * across);
    head.scores.room(len * across);
    head.scores_turned.room(len * across);
    for (i, weights) in kept.chunks_exact(len * across).take(heads.count).enumerate() {
        let at = i * size;
        let outs = At { values: &grad[at..], stride: columns };
        let (scores, turned) = (&mut head.scores[..len * across], &mut head.scores_turned[..len * across]);
        // Of the weights, then of the scores.
        transpose(At { values: &qkv[2 * columns + at..], stride: wide }, len, size, &mut head.turned, across);
        product(kernels, outs, len, size, At { values: &head.turned, stride: across }, across, scores, across);
        for (row, weights) in scores.chunks_exact_mut(across).zip(weights.chunks_exact(across)) {
            kernels.softmax_back(row, weights);
        }
        // Values.
        transpose(At { values: weights, stride: across }, len, len, turned, across);
        let by = At { values: turned, stride: across };
        product(kernels, by, len, len, outs, size, &mut into[2 * columns + at..], wide);
        // Queries, keys.
        let keys = At { values: &qkv[columns + at..], stride: wide };
        product(kernels, At { values: scores, stride: across }, len, len, keys, size, &mut into[at..], wide);
        transpose(At { values: scores, stride: across }, len, len, turned, across);
        let queries = At { values: &qkv[at..], stride: wide };
        let by = At { values: turned, stride: across };
        product(kernels, by, len, len, queries, size, &mut into[columns + at..], wide);
    }
}

/// Turns queries and keys by their positions, or (with `back`) their gradients the other way.
pub(super) fn turn(turn: &Turn, heads: Heads, head_size: usize, rows: Range<usize>, qkv: &mut [f32], back: bool) {
    let columns = heads.columns();
    let sign = if back { -1.0 } else { 1.0 };
    for (position, row) in rows.enumerate() {
        let angles = position * turn.half..(position + 1) * turn.half;
        let (cos, sin) = (&turn.cos[angles.clone()], &turn.sin[angles]);
        for head in qkv[row * 3 * columns..][..2 * columns].chunks_exact_mut(heads.size) {
            let (left, right) = head[..head_size].split_at_mut(turn.half);
            for (((l, r), c), s) in left.iter_mut().zip(right).zip(cos).zip(sin) {
                let s = s * sign;
                (*l, *r) = (*l * c - *r * s, *r * c + *l * s);
            }
        }
    }
}
