//! Exploration: some places go to items that little is known of, with the chance of each shown.
//!
//! Thompson sampling gives a place to an item with the probability that it is the best one, as far as the record says
//! (Thompson 1933; Chapelle and Li, *An Empirical Evaluation of Thompson Sampling*, 2011). Here those probabilities are
//! computed and then drawn from, instead of drawing once from each posterior: so the propensity of what was shown is
//! known exactly, and what the shop logs can be evaluated without bias.

use crate::store::Record;

/// Pseudo-impressions of the catalog's own rate that every item begins with.
const PRIOR: f64 = 4.0;
/// A posterior's deviation over its mean from which on an item counts as uncertain: some nine takings end it.
const DOUBT: f64 = 1.0 / 3.0;
/// Between these the catalog's rate is believed.
const LEAST_MEAN: f64 = 0.001;
const MOST_MEAN: f64 = 0.5;
/// Points at which posteriors are compared: rates are small, so the points stand close where they are.
const POINTS: usize = 128;

/// The probability of each record to have the highest rate, given the catalog's mean rate; they sum to 1.
pub fn chances(records: &[Record], mean: f64) -> Vec<f64> {
    let mean = mean.clamp(LEAST_MEAN, MOST_MEAN);
    let rate = |point: usize| ((point as f64 + 0.5) / POINTS as f64).powi(2);
    // Each posterior as masses at the points, and as the sum up to the middle of each.
    let masses: Vec<Vec<f64>> = records.iter().map(|record| masses(record, mean, rate)).collect();
    let mut below = vec![0.0f64; POINTS];
    let cumulated: Vec<Vec<f64>> = masses.iter().map(|mass| cumulated(mass)).collect();
    for sums in &cumulated {
        for (total, sum) in below.iter_mut().zip(sums) {
            *total += sum.ln();
        }
    }
    let mut chances: Vec<f64> = masses
        .iter()
        .zip(&cumulated)
        .map(|(mass, sums)| (0..POINTS).map(|p| mass[p] * (below[p] - sums[p].ln()).exp()).sum())
        .collect();
    let total: f64 = chances.iter().sum();
    if total > 0.0 {
        chances.iter_mut().for_each(|chance| *chance /= total);
    } else {
        chances.iter_mut().for_each(|chance| *chance = 1.0 / records.len() as f64);
    }
    chances
}

/// Whether an item's rate may still be far from what its record says: the deviation of its posterior is more than `DOUBT` of
/// its mean.
pub fn is_uncertain(record: &Record, mean: f64) -> bool {
    let (a, b) = posterior(record, mean.clamp(LEAST_MEAN, MOST_MEAN));
    b > DOUBT.powi(2) * a * (a + b + 1.0)
}

/// The parameters of a record's posterior, a Beta distribution.
fn posterior(record: &Record, mean: f64) -> (f64, f64) {
    let taken = record.taken.clamp(0.0, record.shown);
    (taken + mean * PRIOR, record.shown - taken + (1.0 - mean) * PRIOR)
}

fn masses(record: &Record, mean: f64, rate: impl Fn(usize) -> f64) -> Vec<f64> {
    let (a, b) = posterior(record, mean);
    // The square root of the rate is even over the points: its density gains a factor √rate.
    let density = |point| (a - 0.5) * f64::ln(rate(point)) + (b - 1.0) * (-rate(point)).ln_1p();
    let most = (0..POINTS).map(density).fold(f64::NEG_INFINITY, f64::max);
    let mass: Vec<f64> = (0..POINTS).map(|point| (density(point) - most).exp()).collect();
    let total: f64 = mass.iter().sum();
    mass.into_iter().map(|m| m / total).collect()
}

fn cumulated(mass: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let middle = |m: &f64| {
        sum += m;
        (sum - m / 2.0).max(1e-300)
    };
    mass.iter().map(middle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn record(shown: f64, taken: f64) -> Record {
        Record { shown, taken }
    }

    #[test]
    fn what_is_known_to_be_bad_gets_little_and_what_is_new_gets_much() {
        let chances = chances(&[record(1000.0, 10.0), record(0.0, 0.0), record(1000.0, 50.0)], 0.05);
        assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(chances[0] < 0.01 && chances[1] > 0.2, "{chances:?}");
    }

    #[test]
    fn a_record_of_some_takings_ends_the_doubt() {
        for (shown, taken, doubtful) in [(0.0, 0.0, true), (50.0, 3.0, true), (400.0, 20.0, false), (40.0, 20.0, false)]
        {
            assert_eq!(is_uncertain(&record(shown, taken), 0.05), doubtful, "{taken} of {shown}");
        }
    }

    #[test]
    fn equals_have_equal_chances() {
        let same = chances(&[record(7.0, 1.0); 4], 0.1);
        assert!(same.iter().all(|c| (c - 0.25).abs() < 1e-9), "{same:?}");
        assert!(chances(&[], 0.1).is_empty());
    }

    #[test]
    fn as_often_as_sampling_has_it() {
        // The naive twin: a draw from each posterior, by the order statistics of uniform numbers, where a and b are whole.
        let records = [record(18.0, 3.0), record(6.0, 2.0), record(48.0, 9.0)];
        let mean = 0.25;
        let mut random = Random::named(1, "beta");
        let mut beta = |a: usize, b: usize| {
            let mut draws: Vec<f64> = (0..a + b - 1).map(|_| random.uniform()).collect();
            draws.sort_by(f64::total_cmp);
            draws[a - 1]
        };
        let mut won = [0.0; 3];
        for _ in 0..20_000 {
            let draws: Vec<f64> =
                records.iter().map(|r| beta(r.taken as usize + 1, (r.shown - r.taken) as usize + 3)).collect();
            let best = (0..3).max_by(|x, y| draws[*x].total_cmp(&draws[*y]));
            won[best.unwrap_or(0)] += 1.0 / 20_000.0;
        }
        for (chance, won) in chances(&records, mean).iter().zip(won) {
            assert!((chance - won).abs() < 0.015, "{chance} against {won}");
        }
    }
}
