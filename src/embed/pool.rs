//! Token vectors to one vector, as the bundle's pooling layer says.

use std::ops::Range;

use super::config::Pooling;

/// Pools the token rows `rows` of `hidden` (row `i` starts at `i * stride`) into `vector`.
pub(super) fn pool(pooling: Pooling, hidden: &[f32], stride: usize, rows: Range<usize>, vector: &mut [f32]) {
    let width = vector.len();
    let row = |i: usize| hidden.get(i * stride..).and_then(|rest| rest.get(..width)).unwrap_or_default();
    let count = rows.len() as f32;
    match pooling {
        Pooling::Cls => vector.copy_from_slice(row(rows.start)),
        Pooling::LastToken => vector.copy_from_slice(row(rows.end - 1)),
        Pooling::Max => {
            vector.copy_from_slice(row(rows.start));
            for i in rows.skip(1) {
                vector.iter_mut().zip(row(i)).for_each(|(v, x)| *v = v.max(*x));
            }
        }
        Pooling::Mean | Pooling::MeanSqrtLen => {
            vector.fill(0.0);
            for i in rows {
                vector.iter_mut().zip(row(i)).for_each(|(v, x)| *v += x);
            }
            let by = if pooling == Pooling::Mean { count } else { count.sqrt() };
            vector.iter_mut().for_each(|v| *v /= by);
        }
    }
}

/// Scales to length 1. Like PyTorch's `normalize`, a vector shorter than 1e-12 is divided by that.
pub(super) fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let by = square.sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / by) as f32);
}
