//! Dropout whose masks are never stored: made anew on the way back, from what they were made from.
//!
//! Srivastava et al. 2014. A mask depends on the seed, the step, the text's place in the batch and the place in the
//! network, and on nothing of how the batch was cut into waves.

use super::super::simd::padded;
use crate::random::Random;

/// Dropout of one step; a share of 0 does nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of the numbers that become 0.
    pub share: f32,
    /// What the masks are made from: the run's seed and the step.
    pub seed: u64,
}

impl Dropout {
    /// None: for validation and use.
    pub const NONE: Dropout = Dropout { share: 0.0, seed: 0 };

    /// The place of what goes into the lowest layer.
    pub(in crate::embed) const TEXT: usize = 0xffff;

    /// What the numbers of a text's `rows` rows of `width` are multiplied by.
    pub(in crate::embed) fn mask(&self, text: usize, site: usize, rows: usize, width: usize) -> Vec<f32> {
        let mut mask = vec![1.0; rows * padded(width)];
        self.apply(text, site, &mut mask);
        mask.chunks_exact(padded(width).max(1)).flat_map(|row| &row[..width]).copied().collect()
    }

    /// Drops numbers of a text's rows and scales the others, so that the sum stays what it was on average. Applied to the
    /// gradient with the same `text` and `site` it is its own way back.
    pub(super) fn apply(&self, text: usize, site: usize, rows: &mut [f32]) {
        if self.share <= 0.0 {
            return;
        }
        let below = (self.share * 65536.0) as u16;
        let by = 65536.0 / (65536.0 - f32::from(below));
        let mut random =
            Random::new(self.seed ^ (text as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((site as u64) << 48));
        for four in rows.chunks_mut(4) {
            let bits = random.bits();
            for (i, x) in four.iter_mut().enumerate() {
                *x = if (bits >> (16 * i)) as u16 >= below { *x * by } else { 0.0 };
            }
        }
    }
}
