//! Position bias: how likely each position of a list is looked at, from the log alone.
//!
//! Clicks on one item for one query at several positions differ only by how often those are looked at: what is expected of an
//! item at a position is its impressions there, times the position's examination, times the item's attraction. Both are found
//! by taking turns (the likelihood of that Poisson model has one maximum, and an item's own attraction biases nothing), from
//! every pair of positions that the log holds rather than neighbours alone (Agarwal and others, *Estimating Position Bias
//! without Intrusive Interventions*, 2019). No position is taken to be looked at more than the one above.

use std::collections::BTreeMap;

/// Positions that are told apart.
pub const DEEPEST: usize = 50;
/// The most that one taken item can count for.
const CLIP: f32 = 10.0;
/// Clicks at a position below which it is not trusted, nor any below it.
const FEWEST: f64 = 30.0;
/// Turns that are taken, at most.
const TURNS: usize = 1000;

/// An item that stood at several positions for one query: each from 0, with the times it was shown and clicked there.
type Moved = Vec<(usize, f64, f64)>;

/// How often one item, in one query's results, was shown at a place, and taken there.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// A number of the query and the item.
    pub what: i64,
    /// The place, from 1.
    pub place: usize,
    /// Times shown.
    pub shown: f64,
    /// Times taken.
    pub taken: f64,
}

/// The chance that a position is looked at, against the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Propensity {
    looked: Vec<f32>,
}

impl Propensity {
    /// From what was shown at which place and how often, and taken there; empty, and then every weight is 1, where that does
    /// not tell.
    pub fn estimate(rows: impl IntoIterator<Item = Shown>) -> Propensity {
        let mut items: BTreeMap<i64, Moved> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| (1..=DEEPEST).contains(&row.place) && row.shown > 0.0) {
            items.entry(row.what).or_default().push((row.place - 1, row.shown, row.taken));
        }
        Propensity::of_moved(items.into_values().filter(is_telling).collect())
    }

    fn of_moved(moved: Vec<Moved>) -> Propensity {
        let depth = told(&moved);
        if depth < 2 {
            return Propensity::default();
        }
        let within = |item: Moved| item.into_iter().filter(|(position, ..)| *position < depth).collect::<Moved>();
        let moved: Vec<Moved> = moved.into_iter().map(within).filter(|item| item.len() > 1).collect();
        let mut looked = vec![1.0f64; depth];
        for _ in 0..TURNS {
            let (mut clicks, mut expected) = (vec![0.0; depth], vec![0.0; depth]);
            for item in &moved {
                let taken: f64 = item.iter().map(|(_, _, clicked)| clicked).sum();
                let exposed: f64 = item.iter().map(|(position, shown, _)| shown * looked[*position]).sum();
                for (position, shown, clicked) in item {
                    clicks[*position] += clicked;
                    expected[*position] += shown * taken / exposed;
                }
            }
            let first = clicks[0] / expected[0];
            if first.is_nan() || first <= 0.0 {
                return Propensity::default();
            }
            let next: Vec<f64> = clicks.iter().zip(&expected).map(|(c, e)| (c / e / first).max(1e-3)).collect();
            let change = next.iter().zip(&looked).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            looked = next;
            if change < 1e-7 {
                break;
            }
        }
        let mut least = 1.0f32;
        let falling = looked.into_iter().map(|chance| {
            least = least.min(chance as f32);
            least
        });
        Propensity { looked: falling.collect() }
    }

    /// Of chances that are known.
    #[cfg(test)]
    pub(crate) fn of(looked: &[f32]) -> Propensity {
        Propensity { looked: looked.to_vec() }
    }

    /// Whether the log told.
    pub fn is_known(&self) -> bool {
        !self.looked.is_empty()
    }

    /// The chances by position.
    pub fn looked(&self) -> &[f32] {
        &self.looked
    }

    /// What something taken at a position counts: one over its chance, clipped.
    pub fn weight(&self, position: u16) -> f32 {
        let Some(last) = self.looked.last() else { return 1.0 };
        let looked = self.looked.get(usize::from(position).saturating_sub(1)).unwrap_or(last);
        (1.0 / looked).min(CLIP)
    }
}

/// Whether it stood at several positions, and was clicked at all.
fn is_telling(item: &Moved) -> bool {
    item.len() > 1 && item.iter().any(|(_, _, clicked)| *clicked > 0.0)
}

/// How many positions the log tells of: each clicked often enough, and held against the first by items that moved.
fn told(moved: &[Moved]) -> usize {
    let mut clicks = [0.0; DEEPEST];
    moved.iter().flatten().for_each(|(position, _, clicked)| clicks[*position] += clicked);
    let deep = clicks.iter().take_while(|count| **count >= FEWEST).count();
    let mut reached = [false; DEEPEST];
    reached[0] = true;
    loop {
        let before = reached;
        for item in moved {
            let within = || item.iter().map(|(position, ..)| *position).filter(|position| *position < deep);
            if within().any(|position| reached[position]) {
                within().for_each(|position| reached[position] = true);
            }
        }
        if before == reached {
            return reached.iter().take(deep).take_while(|known| **known).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(what: i64, place: usize, shown: f64, taken: f64) -> Shown {
        Shown { what, place, shown, taken }
    }

    #[test]
    fn examination_is_told_from_attraction() {
        // Places are looked at 1, .5, .25; a better item stands higher, so the plain rates fall much faster than that.
        let truth = [1.0, 0.5, 0.25];
        let mut rows = Vec::new();
        for item in 0..60i64 {
            let attraction = 0.05 + 0.01 * item as f64;
            for place in 1..=3usize {
                let shown = if item / 20 == 3 - place as i64 { 900.0 } else { 50.0 };
                rows.push(row(item, place, shown, shown * truth[place - 1] * attraction));
            }
        }
        let found = Propensity::estimate(rows);
        assert!(found.looked().iter().zip(truth).all(|(a, b)| (f64::from(*a) - b).abs() < 0.02), "{found:?}");
        assert_eq!((found.weight(1), found.weight(9)), (1.0, found.weight(3)));
        assert_eq!(Propensity::of(&[1.0, 0.01]).weight(2), CLIP);
    }

    #[test]
    fn without_items_that_moved_or_clicks_nothing_is_told() {
        let still: Vec<Shown> = (1..4).map(|n| row(n, n as usize, 1000.0, 100.0)).collect();
        let few: Vec<Shown> = (1..4).map(|place| row(1, place, 100.0, 9.0)).collect();
        for rows in [still, few, Vec::new()] {
            let found = Propensity::estimate(rows);
            assert_eq!((found.is_known(), found.weight(5)), (false, 1.0));
        }
    }
}
