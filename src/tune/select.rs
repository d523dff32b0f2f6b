//! Which texts to label next: those that the model is least sure of, and that are not alike.
//!
//! Uncertainty is the margin between the two best labels (Scheffer et al. 2001); of the texts with the least, those are
//! taken that lie farthest from all that was taken (k-center, Sener and Savarese 2018, <https://arxiv.org/abs/1708.00489>).

use crate::control::Control;
use crate::error::Result;
use crate::linear::dot;

/// How many times `k` of the least certain texts are looked at for the most diverse.
const POOL: usize = 4;

/// The places of `k` texts, best first, with their uncertainty (0 sure, 1 not at all). `shares` are the labels' shares of
/// each text, `vectors` row-major, of length 1.
pub fn next(shares: &[Vec<f32>], vectors: &[f32], k: usize, control: &dyn Control) -> Result<Vec<(usize, f32)>> {
    let width = vectors.len() / shares.len().max(1);
    let doubt = |shares: &Vec<f32>| {
        let (mut best, mut second) = (0.0f32, 0.0f32);
        for share in shares {
            if *share > best {
                (second, best) = (best, *share);
            } else if *share > second {
                second = *share;
            }
        }
        1.0 - (best - second)
    };
    let mut pool: Vec<(usize, f32)> = shares.iter().map(doubt).enumerate().collect();
    pool.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    pool.truncate(k * POOL);
    let row = |place: usize| &vectors[place * width..][..width];
    // For each of the pool, the cosine to the nearest that was taken.
    let mut near = vec![0.0f32; pool.len()];
    let mut taken: Vec<(usize, f32)> = Vec::new();
    let mut left = vec![true; pool.len()];
    while taken.len() < k {
        control.check()?;
        let worth = |i: usize| pool[i].1 * (1.0 - near[i]);
        let Some(best) =
            (0..pool.len()).filter(|i| left[*i]).max_by(|a, b| worth(*a).total_cmp(&worth(*b)).then(b.cmp(a)))
        else {
            break;
        };
        left[best] = false;
        taken.push(pool[best]);
        for i in (0..pool.len()).filter(|i| left[*i]) {
            near[i] = near[i].max(dot(row(pool[i].0), row(pool[best].0)));
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Free;

    #[test]
    fn the_unsure_come_first_and_twins_do_not_both() {
        let shares = [vec![0.98, 0.02], vec![0.51, 0.49], vec![0.51, 0.49], vec![0.6, 0.4]];
        let vectors = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.8, 0.6];
        let got = next(&shares, &vectors, 2, &Free).unwrap();
        assert_eq!(got.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 3]);
        assert!((got[0].1 - 0.98).abs() < 1e-6);
        assert_eq!(next(&shares, &vectors, 10, &Free).unwrap().len(), 4);
        assert!(next(&[], &[], 3, &Free).unwrap().is_empty());
    }
}
