//! How sure a figure is: bootstrap intervals over whole groups, and the sign test.
//!
//! The searches of one shopper are not independent of one another, so whole shoppers are drawn (cluster bootstrap; Davison
//! and Hinkley, *Bootstrap Methods and their Application*, 1997). Two variants are compared pair by pair, on the same
//! searches: the interval is of the mean difference.

use crate::random::Random;
use std::collections::HashMap;
use std::hash::Hash;

/// Draws behind an interval.
pub const DRAWS: usize = 1000;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The figure itself.
    pub value: f64,
    /// The 2.5th percentile of the draws.
    pub low: f64,
    /// The 97.5th percentile of the draws.
    pub high: f64,
}

/// Sums over the rows of one group: what a statistic is made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// The numerator's part.
    pub over: f64,
    /// The denominator's part.
    pub under: f64,
}

/// The mean of the values; `groups` says which belong together. `None` of nothing.
pub fn mean<G: Eq + Hash>(values: &[f64], groups: &[G], seed: u64) -> Option<Figure> {
    let mut place: HashMap<&G, usize> = HashMap::new();
    let mut sums: Vec<Sums> = Vec::new();
    for (value, group) in values.iter().zip(groups) {
        let at = *place.entry(group).or_insert(sums.len());
        if at == sums.len() {
            sums.push(Sums::default());
        }
        sums[at].over += value;
        sums[at].under += 1.0;
    }
    ratio(&sums, seed)
}

/// The ratio of two sums over groups, drawn with replacement. `None` where the denominator is nothing.
pub fn ratio(groups: &[Sums], seed: u64) -> Option<Figure> {
    statistic(groups, seed, |drawn| {
        let under: f64 = drawn.iter().map(|s| s.under).sum();
        (under != 0.0).then(|| drawn.iter().map(|s| s.over).sum::<f64>() / under)
    })
}

/// Any statistic of groups: of all of them, and of as many drawn with replacement, [`DRAWS`] times.
pub fn statistic<T: Copy>(groups: &[T], seed: u64, of: impl Fn(&[T]) -> Option<f64>) -> Option<Figure> {
    let value = of(groups)?;
    let mut random = Random::named(seed, "bootstrap");
    let mut drawn = groups.to_vec();
    let mut values: Vec<f64> = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        drawn.iter_mut().for_each(|place| *place = groups[random.below(groups.len())]);
        values.extend(of(&drawn));
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1)));
    Some(Figure { value, low: *at(0.025)?, high: *at(0.975)? })
}

/// The two-sided sign test: how likely so uneven a split of wins is between two that are alike. 1 without a win.
pub fn sign_test(wins: u64, losses: u64) -> f64 {
    let (n, most) = (wins + losses, wins.max(losses));
    if n == 0 {
        return 1.0;
    }
    // ln of n over k, from the middle outwards would be finer; at these sizes a running sum of logarithms is exact enough.
    let ln_half = -(n as f64) * std::f64::consts::LN_2;
    let mut ln_choose = 0.0;
    let mut tail = 0.0;
    for k in (most..=n).rev() {
        tail += (ln_choose + ln_half).exp();
        let chosen = k as f64;
        ln_choose += chosen.ln() - (n as f64 - chosen + 1.0).ln();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_as_wide_as_theory_says() {
        let mut random = Random::new(3);
        let values: Vec<f64> = (0..400).map(|_| random.uniform()).collect();
        let groups: Vec<usize> = (0..400).collect();
        let figure = mean(&values, &groups, 1).unwrap();
        // A uniform number has the deviation 1/√12: ± 1.96 · 0.2887 / √400.
        assert!((figure.high - figure.low - 2.0 * 0.0283).abs() < 0.006, "{figure:?}");
        assert!(figure.low < figure.value && figure.value < figure.high);
        assert_eq!(mean(&values, &groups, 1), Some(figure), "the same seed, the same interval");
        assert_ne!(mean(&values, &groups, 2), Some(figure));
    }

    #[test]
    fn rows_of_one_group_do_not_count_as_many() {
        let values: Vec<f64> = (0..400).map(|n| f64::from(n / 100 % 2)).collect();
        let alone = mean(&values, &(0..400).collect::<Vec<_>>(), 1).unwrap();
        let grouped = mean(&values, &(0..400).map(|n| n / 100).collect::<Vec<_>>(), 1).unwrap();
        assert_eq!(alone.value, grouped.value);
        assert!(grouped.high - grouped.low > 4.0 * (alone.high - alone.low));
    }

    #[test]
    fn nothing_has_no_figure() {
        assert_eq!(mean::<u8>(&[], &[], 1), None);
        assert_eq!(ratio(&[Sums { over: 1.0, under: 0.0 }], 1), None);
    }

    #[test]
    fn the_sign_test_as_scipy_has_it() {
        // scipy.stats.binomtest(k, n).pvalue for (8, 10), (5, 10), (60, 100), (5300, 10000), (0, 3)
        for (wins, losses, p) in [
            (8, 2, 0.109375),
            (5, 5, 1.0),
            (60, 40, 0.056_887_933_640_980_89),
            (5300, 4700, 2.076_034e-9),
            (0, 3, 0.25),
        ] {
            let found = sign_test(wins, losses);
            assert!((found - p).abs() <= 1e-6 * p, "{wins}:{losses} {found}");
        }
        assert_eq!(sign_test(0, 0), 1.0);
        assert!(sign_test(200_000, 100_000) < 1e-12);
    }
}
