//! Position bias: how likely each position of a list is looked at, from the log alone.
//!
//! Where one item was shown for one query at two neighbouring positions, its clicks there differ only by how often the
//! positions are looked at; the ratios chain from position to position (Agarwal and others, *Estimating Position Bias
//! without Intrusive Interventions*, 2019, with adjacent pairs). No position is taken to be looked at more than the one above.

use super::log::Log;
use crate::event::Kind;
use std::collections::BTreeMap;

/// Positions that are told apart.
const DEEPEST: usize = 50;
/// The most that one taken item can count for.
const CLIP: f32 = 10.0;
/// Clicks at two positions together below which their ratio is not trusted.
const FEWEST: f64 = 30.0;

/// The chance that a position is looked at, against the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Propensity {
    looked: Vec<f32>,
}

impl Propensity {
    /// From the impressions and what was taken of them; empty, and then every weight is 1, where the log does not tell.
    pub fn estimate(log: &Log) -> Propensity {
        // Shown and taken by query, item and position.
        let mut cells: BTreeMap<(u32, i64), BTreeMap<usize, (f64, f64)>> = BTreeMap::new();
        for rows in log.shoppers() {
            for row in log.events[rows].iter().filter(|r| r.query != 0 && r.position > 0 && r.item != 0) {
                let position = usize::from(row.position);
                if position > DEEPEST {
                    continue;
                }
                let cell = cells.entry((row.query, row.item)).or_default().entry(position).or_default();
                match row.kind {
                    Kind::Impression => cell.0 += 1.0,
                    Kind::Click => cell.1 += 1.0,
                    _ => {}
                }
            }
        }
        // Clicks at a position and at the next one, for what stood at both, by the number of times it was shown there.
        let mut clicks = vec![(0.0f64, 0.0f64, 0.0f64); DEEPEST];
        for cell in cells.values() {
            for (position, (shown, clicked)) in cell {
                if let Some((shown_below, clicked_below)) = cell.get(&(position + 1))
                    && *shown > 0.0
                    && *shown_below > 0.0
                {
                    let weight = shown.min(*shown_below);
                    let sums = &mut clicks[position - 1];
                    sums.0 += weight * clicked / shown;
                    sums.1 += weight * clicked_below / shown_below;
                    sums.2 += clicked + clicked_below;
                }
            }
        }
        let mut looked = vec![1.0f32];
        for (above, below, count) in clicks {
            if count < FEWEST || above <= 0.0 {
                break;
            }
            let ratio = (below / above).clamp(0.05, 1.0) as f32;
            looked.push(looked[looked.len() - 1] * ratio);
        }
        Propensity { looked: if looked.len() > 1 { looked } else { Vec::new() } }
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
