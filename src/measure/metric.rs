//! Measures of one ranked list, and of scores against labels.
//!
//! A list is given as the gains of its items from the first place down, 0 for what was not wanted. Gains are linear (the
//! weight of what the shopper did), so that a purchase counts as many clicks as the catalog says.

/// The weight of a place, from 0: 1 / log2(place + 2).
pub fn discount(place: usize) -> f64 {
    (place as f64 + 2.0).log2().recip()
}

/// Discounted gain of the first `k` places.
pub fn dcg(gains: &[f64], k: usize) -> f64 {
    gains.iter().take(k).enumerate().map(|(place, gain)| gain * discount(place)).sum()
}

/// The best `dcg` that the gains of everything wanted allow.
pub fn ideal(wanted: &[f64], k: usize) -> f64 {
    let mut best = wanted.to_vec();
    best.sort_unstable_by(|a, b| b.total_cmp(a));
    dcg(&best, k)
}

/// NDCG at `k` (Järvelin and Kekäläinen, 2002); `wanted` are the gains of all that was wanted, found or not. `None` where
/// nothing was.
pub fn ndcg(gains: &[f64], wanted: &[f64], k: usize) -> Option<f64> {
    let ideal = ideal(wanted, k);
    (ideal > 0.0).then(|| dcg(gains, k) / ideal)
}

/// One over the first place with something wanted; 0 without.
pub fn reciprocal_rank(gains: &[f64]) -> f64 {
    gains.iter().position(|gain| *gain > 0.0).map_or(0.0, |place| (place as f64 + 1.0).recip())
}

/// The share of what was wanted among the first `k`.
pub fn recall(gains: &[f64], wanted: usize, k: usize) -> f64 {
    let found = gains.iter().take(k).filter(|gain| **gain > 0.0).count();
    if wanted == 0 { 0.0 } else { found as f64 / wanted as f64 }
}

/// The chance that something wanted has a higher score than something that was not, ties counting half. `None` where one of
/// the two is missing.
pub fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scored.to_vec();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let positives = sorted.iter().filter(|s| s.1).count() as f64;
    let negatives = sorted.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut below, mut won) = (0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let wanted = tied.iter().filter(|s| s.1).count() as f64;
        let others = tied.len() as f64 - wanted;
        won += wanted * (below + others / 2.0);
        below += others;
    }
    Some(won / (positives * negatives))
}

/// A logistic curve from scores to chances: 1 / (1 + exp(−(slope · score + offset))).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Platt {
    /// How steep.
    pub slope: f64,
    /// The log-odds at score 0.
    pub offset: f64,
}

impl Platt {
    /// Fits the curve by Newton's steps on the log-likelihood (Platt, 1999), with his smoothed labels, so that scores that
    /// part the labels cleanly still give a finite curve.
    pub fn fit(scored: &[(f64, bool)]) -> Platt {
        let positives = scored.iter().filter(|s| s.1).count() as f64;
        let negatives = scored.len() as f64 - positives;
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        // Centred and scaled: the steps are then of one size whatever the scores' own.
        let count = scored.len().max(1) as f64;
        let mean = scored.iter().map(|s| s.0).sum::<f64>() / count;
        let spread = (scored.iter().map(|s| (s.0 - mean).powi(2)).sum::<f64>() / count).sqrt().max(1e-9);
        let (mut slope, mut offset) = (0.0f64, ((positives + 1.0) / (negatives + 1.0)).ln());
        for _ in 0..50 {
            let (mut g1, mut g0, mut h11, mut h10, mut h00) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
            for (score, label) in scored {
                let x = (score - mean) / spread;
                let p = chance(slope * x + offset);
                let off = if *label { high } else { low } - p;
                let weight = p * (1.0 - p);
                g1 += off * x;
                g0 += off;
                h11 += weight * x * x;
                h10 += weight * x;
                h00 += weight;
            }
            let determinant = h11 * h00 - h10 * h10;
            if determinant.abs() < 1e-12 {
                break;
            }
            let (by_slope, by_offset) = ((h00 * g1 - h10 * g0) / determinant, (h11 * g0 - h10 * g1) / determinant);
            slope += by_slope.clamp(-5.0, 5.0);
            offset += by_offset.clamp(-5.0, 5.0);
            if by_slope.abs().max(by_offset.abs()) < 1e-9 {
                break;
            }
        }
        Platt { slope: slope / spread, offset: offset - slope * mean / spread }
    }

    /// The chance at a score.
    pub fn chance(&self, score: f64) -> f64 {
        chance(self.slope * score + self.offset)
    }
}

fn chance(log_odds: f64) -> f64 {
    (1.0 + (-log_odds).exp()).recip()
}

/// Bins of [`Calibration`].
pub const BINS: usize = 10;

/// Chances against what came true, in bins of equal width; adds up over groups.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Calibration {
    chances: [f64; BINS],
    came_true: [f64; BINS],
    count: [f64; BINS],
}

impl Calibration {
    /// Counts one prediction.
    pub fn add(&mut self, chance: f64, came_true: bool) {
        let bin = ((chance * BINS as f64) as usize).min(BINS - 1);
        self.chances[bin] += chance;
        self.came_true[bin] += f64::from(u8::from(came_true));
        self.count[bin] += 1.0;
    }

    /// The expected calibration error (Naeini, Cooper and Hauskrecht, 2015) of several counts together: the mean gap
    /// between what was said and what came true, bins weighted by their size. `None` of nothing.
    pub fn error<'a>(counts: impl IntoIterator<Item = &'a Calibration>) -> Option<f64> {
        let mut all = Calibration::default();
        for one in counts {
            for bin in 0..BINS {
                all.chances[bin] += one.chances[bin];
                all.came_true[bin] += one.came_true[bin];
                all.count[bin] += one.count[bin];
            }
        }
        let total: f64 = all.count.iter().sum();
        let gap: f64 = (0..BINS).map(|bin| (all.chances[bin] - all.came_true[bin]).abs()).sum();
        (total > 0.0).then(|| gap / total)
    }
}

/// What was said against what is; adds up over groups.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Confusion {
    /// Said and so.
    pub hits: f64,
    /// Said and not so.
    pub false_alarms: f64,
    /// Not said and so.
    pub misses: f64,
    /// Not said and not so.
    pub rightly_left: f64,
}

impl Confusion {
    /// Counts one decision.
    pub fn add(&mut self, said: bool, is: bool) {
        let cell = match (said, is) {
            (true, true) => &mut self.hits,
            (true, false) => &mut self.false_alarms,
            (false, true) => &mut self.misses,
            (false, false) => &mut self.rightly_left,
        };
        *cell += 1.0;
    }

    /// All counts together.
    pub fn sum(counts: &[Confusion]) -> Confusion {
        counts.iter().fold(Confusion::default(), |a, b| Confusion {
            hits: a.hits + b.hits,
            false_alarms: a.false_alarms + b.false_alarms,
            misses: a.misses + b.misses,
            rightly_left: a.rightly_left + b.rightly_left,
        })
    }

    /// Of what was said, the share that is so; 0 where nothing was said.
    pub fn precision(&self) -> f64 {
        share(self.hits, self.hits + self.false_alarms)
    }

    /// Of what is so, the share that was said.
    pub fn recall(&self) -> f64 {
        share(self.hits, self.hits + self.misses)
    }

    /// The harmonic mean of the two.
    pub fn f1(&self) -> f64 {
        share(2.0 * self.hits, 2.0 * self.hits + self.false_alarms + self.misses)
    }

    /// The share of right decisions.
    pub fn accuracy(&self) -> f64 {
        share(self.hits + self.rightly_left, self.hits + self.rightly_left + self.false_alarms + self.misses)
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The score from which on saying yes has the best F1.
pub fn best_threshold(scored: &[(f64, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|s| s.1).count() as f64;
    let (mut best, mut best_f1, mut said, mut hits) = (f64::INFINITY, 0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        said += tied.len() as f64;
        hits += tied.iter().filter(|s| s.1).count() as f64;
        let f1 = share(2.0 * hits, said + positives);
        if f1 > best_f1 {
            (best, best_f1) = (tied[0].0, f1);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SCORED: [(f64, bool); 8] =
        [(0.9, true), (0.8, false), (0.7, true), (0.6, true), (0.55, false), (0.3, true), (0.3, false), (0.1, false)];

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    // The numbers are scikit-learn's and scipy's:
    //   import numpy as np; from scipy.optimize import minimize
    //   from sklearn.metrics import ndcg_score, roc_auc_score, precision_recall_fscore_support, accuracy_score
    //   ndcg_score([[3, 2, 0, 0, 1, 2]], [[6, 5, 4, 3, 2, 1]]); ndcg_score([[3, 2, 0, 0, 1, 2]], [[6, 5, 4, 3, 2, 1]], k=3)
    //   s = np.array([.9, .8, .7, .6, .55, .3, .3, .1]); y = np.array([1, 0, 1, 1, 0, 1, 0, 0])
    //   roc_auc_score(y, s); precision_recall_fscore_support(y, s >= .6, average='binary'); accuracy_score(y, s >= .6)
    //   t = np.where(y, 5/6, 1/6); minimize(lambda w: -(t*np.log(1/(1+np.exp(-(w[0]*s+w[1])))) +
    //       (1-t)*np.log(1-1/(1+np.exp(-(w[0]*s+w[1]))))).sum(), [0, 0], tol=1e-12).x
    #[test]
    fn as_scikit_learn_has_it() {
        let list = [3.0, 2.0, 0.0, 0.0, 1.0, 2.0];
        assert!(near(ndcg(&list, &list, 10).unwrap(), 0.941_781_769_526_617_2), "{:?}", ndcg(&list, &list, 10));
        assert!(near(ndcg(&list, &list, 3).unwrap(), 0.809_953_116_642_032_8), "{:?}", ndcg(&list, &list, 3));
        assert!(near(auc(&SCORED).unwrap(), 0.71875), "{:?}", auc(&SCORED));
        let mut counts = Confusion::default();
        SCORED.iter().for_each(|(score, label)| counts.add(*score >= 0.6, *label));
        assert!(near(counts.precision(), 0.75) && near(counts.recall(), 0.75) && near(counts.f1(), 0.75), "{counts:?}");
        assert!(near(counts.accuracy(), 0.75));
        let curve = Platt::fit(&SCORED);
        assert!((curve.slope - 1.940_284_83).abs() < 1e-4 && (curve.offset + 1.033_000_33).abs() < 1e-4, "{curve:?}");
    }

    #[test]
    fn as_by_hand() {
        assert_eq!(ndcg(&[], &[], 10), None);
        assert!(near(ndcg(&[0.0, 1.0], &[1.0], 10).unwrap(), 3f64.log2().recip()));
        assert_eq!(ndcg(&[0.0, 1.0], &[1.0], 1), Some(0.0));
        assert_eq!(reciprocal_rank(&[0.0, 0.0, 0.5]), 1.0 / 3.0);
        assert_eq!(reciprocal_rank(&[0.0]), 0.0);
        assert_eq!(recall(&[1.0, 0.0, 1.0], 4, 2), 0.25);
        assert_eq!(auc(&[(1.0, true)]), None);
        assert_eq!(auc(&[(1.0, true), (1.0, false)]), Some(0.5));
        assert_eq!(best_threshold(&SCORED), 0.6); // F1 0.75; at 0.3 it is 8/11
        assert_eq!(best_threshold(&[(0.5, true), (0.2, false)]), 0.5);
    }

    #[test]
    fn calibration_is_the_mean_gap_of_the_bins() {
        let mut said = Calibration::default();
        // Ten times 0.95, eight came true; ten times 0.15, one did: (10·|.95−.8| + 10·|.15−.1|) / 20.
        (0..10).for_each(|n| said.add(0.95, n < 8));
        (0..10).for_each(|n| said.add(0.15, n < 1));
        assert!(near(Calibration::error([&said]).unwrap(), 0.1));
        assert_eq!(Calibration::error([&Calibration::default()]), None);
    }

    #[test]
    fn scores_that_part_the_labels_still_give_a_curve() {
        let curve = Platt::fit(&[(1.0, true), (2.0, true), (-1.0, false), (-2.0, false)]);
        assert!(curve.slope.is_finite() && curve.slope > 0.0, "{curve:?}");
        assert!(Platt::fit(&[]).chance(0.0).is_finite());
        assert!(Platt::fit(&[(1.0, true); 5]).chance(1.0) > 0.8);
    }
}
