//! Position bias: how likely each position of a list is looked at, from the log alone.
//!
//! Clicks on one item for one query at several positions differ only by how often those are looked at: what is expected of an
//! item at a position is its impressions there, times the position's examination, times the item's attraction. Both are found
//! by taking turns (the likelihood of that Poisson model has one maximum, and an item's own attraction biases nothing), from
//! every pair of positions that the log holds rather than neighbours alone (Agarwal and others, *Estimating Position Bias
//! without Intrusive Interventions*, 2019). No position is taken to be looked at more than the one above.

use super::log::Log;
use crate::event::Kind;
use crate::measure::counterfactual::Shown;
use std::collections::BTreeMap;

/// Positions that are told apart.
const DEEPEST: usize = 50;
/// The most that one taken item can count for.
const CLIP: f32 = 10.0;
/// Clicks at a position below which it is not trusted, nor any below it.
const FEWEST: f64 = 30.0;
/// Turns that are taken, at most.
const TURNS: usize = 1000;

/// An item that stood at several positions for one query: each from 0, with the times it was shown and clicked there.
type Moved = Vec<(usize, f64, f64)>;

/// By position: the times shown and clicked.
type Places = BTreeMap<usize, (f64, f64)>;

/// The chance that a position is looked at, against the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Propensity {
    looked: Vec<f32>,
}

impl Propensity {
    /// From the impressions and what was taken of them; empty, and then every weight is 1, where the log does not tell.
    pub fn estimate(log: &Log) -> Propensity {
        Propensity::of_moved(moved(log))
    }

    /// The same from counts: what was shown at which place and how often, and taken there.
    pub fn of_counts(rows: Vec<Shown<i64>>) -> Propensity {
        let mut items: BTreeMap<i64, Moved> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| (1..=DEEPEST).contains(&row.place)) {
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
    pub(super) fn of(looked: &[f32]) -> Propensity {
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

/// What stood at several positions for one query, and was clicked at all.
fn moved(log: &Log) -> Vec<Moved> {
    let lower: Vec<String> = log.queries.iter().map(|query| query.to_lowercase()).collect();
    let mut cells: BTreeMap<(&str, i64), Places> = BTreeMap::new();
    for row in log.events.iter().filter(|r| r.query != 0 && r.position > 0 && r.item != 0) {
        let position = usize::from(row.position) - 1;
        let Some(query) = lower.get(row.query as usize - 1).filter(|_| position < DEEPEST) else { continue };
        let cell = cells.entry((query.as_str(), row.item)).or_default().entry(position).or_default();
        match row.kind {
            Kind::Impression => cell.0 += 1.0,
            Kind::Click => cell.1 += 1.0,
            _ => {}
        }
    }
    let item = |places: Places| -> Moved {
        places
            .into_iter()
            .filter(|(_, (shown, _))| *shown > 0.0)
            .map(|(n, (shown, clicked))| (n, shown, clicked))
            .collect()
    };
    let moved = cells.into_values().map(item);
    moved.filter(is_telling).collect()
}

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
    use crate::learn::log::{Cleaned, Logged};
    use crate::random::Random;

    #[test]
    fn the_chances_that_made_the_clicks_are_found() {
        let mut random = Random::new(3);
        let mut rows = Vec::new();
        for list in 0..20_000u32 {
            let mut items: Vec<i64> = (1..=6).collect();
            random.shuffle(&mut items);
            for (place, item) in items.into_iter().enumerate() {
                let position = place as u16 + 1;
                let row = |kind| Logged {
                    shopper: list,
                    item,
                    at: 0.0,
                    kind,
                    weight: 0.0,
                    query: 1,
                    session: 0,
                    position,
                    dwell: 0.0,
                    context: 0,
                };
                rows.push(row(Kind::Impression));
                if random.uniform() < 1.0 / f64::from(position) && random.uniform() < item as f64 / 8.0 {
                    rows.push(row(Kind::Click));
                }
            }
        }
        let log = Log::new(rows, vec!["lamp".into()], Cleaned::default());
        let found = Propensity::estimate(&log);
        for position in 1..=6u16 {
            let weight = found.weight(position);
            assert!((weight - f32::from(position)).abs() < 0.12 * f32::from(position), "{position}: {weight}");
        }
        assert_eq!(Propensity::default().weight(5), 1.0);
    }
}
