//! Diversity: a page of one thing in ten colours is one result.
//!
//! Maximal marginal relevance (Carbonell and Goldstein 1998): each place goes to the item that scores well and is unlike
//! what stands above it, by vector and by attributes. Two things differ from the paper, as measured on searches: likeness
//! is the mean to what stands above, not the greatest, and its weight grows from place to place up to the tenth, since the
//! first places are what a query is judged by. Caps bound how often one value stands on a page. Calibration
//! (Steck, *Calibrated Recommendations*, 2018) keeps the page's categories near the shares of the shopper's own history.

use crate::linear::dot;
use std::collections::{BTreeMap, HashMap};

/// How many of the best are looked at for each place. Fixed, so that a second page goes on where the first ended.
pub const WINDOW: usize = 200;
/// The place whose score counts as far from the first one's: a score's worth is measured by that distance.
const FAR: usize = 50;
/// The place, counted from 0, from which on diversity has its whole weight; before it, as the cube of the way there.
const WHOLE: f64 = 9.0;
/// How much attributes count in likeness, where the catalog names any; the vectors have the rest.
const ATTRIBUTES: f64 = 0.3;

/// What is known of an item beyond its score.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Its vector, of length 1.
    pub vector: Option<Vec<f32>>,
    /// Values of brand and category, as far as the catalog has them.
    pub attributes: Vec<Option<String>>,
    /// Values of the columns that have a cap.
    pub capped: Vec<Option<String>>,
    /// The category, for calibration.
    pub category: Option<String>,
}

impl Facts {
    /// How alike two items are, 0 to 1.
    fn likeness(&self, other: &Facts) -> f64 {
        let cosine =
            self.vector.as_deref().zip(other.vector.as_deref()).map_or(0.0, |(a, b)| f64::from(dot(a, b)).max(0.0));
        if self.attributes.is_empty() {
            return cosine;
        }
        let same = self.attributes.iter().zip(&other.attributes).filter(|(a, b)| a.is_some() && a == b).count();
        (1.0 - ATTRIBUTES) * cosine + ATTRIBUTES * same as f64 / self.attributes.len() as f64
    }
}

/// Chooses the item of each place in turn.
pub struct Chooser<'a> {
    facts: &'a HashMap<i64, Facts>,
    diversity: f64,
    calibration: f64,
    caps: Vec<usize>,
    /// Of the shopper's history by category; empty where it is not asked for.
    tastes: BTreeMap<String, f64>,
    /// The likeness of each candidate to all that stands above it, added up.
    alike: HashMap<i64, f64>,
    shown: BTreeMap<String, f64>,
    /// Places that are taken, and those of them by items of a known category.
    above: f64,
    places: f64,
    on_page: HashMap<(usize, String), usize>,
}

impl<'a> Chooser<'a> {
    /// Nothing chosen yet. `caps` are the most of one value on a page, in the order of `Facts::capped`.
    pub fn new(
        facts: &'a HashMap<i64, Facts>,
        diversity: f64,
        caps: Vec<usize>,
        calibration: f64,
        tastes: BTreeMap<String, f64>,
    ) -> Chooser<'a> {
        let (alike, shown) = (HashMap::new(), BTreeMap::new());
        Chooser {
            facts,
            diversity,
            calibration,
            caps,
            tastes,
            alike,
            shown,
            above: 0.0,
            places: 0.0,
            on_page: HashMap::new(),
        }
    }

    /// Whether it would take anything but the first.
    pub fn is_idle(&self) -> bool {
        self.diversity == 0.0 && self.caps.is_empty() && (self.calibration == 0.0 || self.tastes.is_empty())
    }

    /// A page begins: caps count anew.
    pub fn turn_page(&mut self) {
        self.on_page.clear();
    }

    /// The place in `candidates` (best first, with scores) of the item to stand next; 0 where all are capped.
    pub fn choose(&self, candidates: &[(i64, f64)]) -> usize {
        if self.is_idle() {
            return 0;
        }
        let window = &candidates[..candidates.len().min(WINDOW)];
        let first = window.first().map_or(0.0, |(_, score)| *score);
        let far = window.get(FAR).or(window.last()).map_or(0.0, |(_, score)| *score);
        let scale = (first - far).max(1e-9);
        let diversity = self.diversity * (self.above / WHOLE).min(1.0).powi(3);
        let mut best = None;
        for (place, (id, score)) in window.iter().enumerate() {
            let facts = self.facts.get(id);
            if facts.is_some_and(|facts| self.is_capped(facts)) {
                continue;
            }
            let alike = self.alike.get(id).copied().unwrap_or_default() / self.above.max(1.0);
            let off = facts.map_or(0.0, |facts| self.miscalibration(facts));
            let value = (1.0 - diversity) * (score - first) / scale - diversity * alike - self.calibration * off;
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((place, value));
            }
        }
        best.map_or(0, |(place, _)| place)
    }

    /// Says what stands at the place now, chosen or not.
    pub fn place(&mut self, id: i64, rest: &[(i64, f64)]) {
        self.above += 1.0;
        let Some(facts) = self.facts.get(&id) else { return };
        for (column, value) in facts.capped.iter().enumerate() {
            if let Some(value) = value {
                *self.on_page.entry((column, value.clone())).or_default() += 1;
            }
        }
        if let Some(category) = &facts.category {
            *self.shown.entry(category.clone()).or_default() += 1.0;
            self.places += 1.0;
        }
        if self.diversity > 0.0 {
            for (other, _) in &rest[..rest.len().min(WINDOW + 1)] {
                if let Some(other_facts) = self.facts.get(other) {
                    let likeness = facts.likeness(other_facts);
                    *self.alike.entry(*other).or_default() += likeness;
                }
            }
        }
    }

    fn is_capped(&self, facts: &Facts) -> bool {
        facts.capped.iter().zip(&self.caps).enumerate().any(|(column, (value, cap))| {
            value.as_ref().is_some_and(|v| self.on_page.get(&(column, v.clone())).copied().unwrap_or(0) >= *cap)
        })
    }

    /// The divergence of the tastes from the page, were the item on it: Σ p ln(p / q), q mixed with a little p.
    fn miscalibration(&self, facts: &Facts) -> f64 {
        const MIX: f64 = 0.01;
        if self.calibration == 0.0 {
            return 0.0;
        }
        let places = self.places + f64::from(u8::from(facts.category.is_some()));
        let off = |(category, p): (&String, &f64)| {
            let here = self.shown.get(category).copied().unwrap_or_default()
                + f64::from(u8::from(facts.category.as_ref() == Some(category)));
            let q = if places > 0.0 { here / places } else { 0.0 };
            p * (p / ((1.0 - MIX) * q + MIX * p)).ln()
        };
        self.tastes.iter().map(off).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(vector: &[f32], value: &str) -> Facts {
        let value = Some(value.to_owned());
        Facts { vector: Some(vector.to_vec()), attributes: Vec::new(), capped: vec![value.clone()], category: value }
    }

    /// Three alike at the top, one unlike below.
    fn shop() -> (HashMap<i64, Facts>, Vec<(i64, f64)>) {
        let of = HashMap::from([
            (1, facts(&[1.0, 0.0], "a")),
            (2, facts(&[1.0, 0.0], "a")),
            (3, facts(&[1.0, 0.0], "a")),
            (4, facts(&[0.0, 1.0], "b")),
        ]);
        (of, vec![(1, 4.0), (2, 3.9), (3, 3.8), (4, 3.0)])
    }

    fn run(chooser: &mut Chooser, mut rest: Vec<(i64, f64)>) -> Vec<i64> {
        let mut order = Vec::new();
        while !rest.is_empty() {
            let (id, _) = rest.remove(chooser.choose(&rest));
            chooser.place(id, &rest);
            order.push(id);
        }
        order
    }

    #[test]
    fn what_is_unlike_comes_sooner() {
        let mut of: HashMap<i64, Facts> = (1..=12).map(|id| (id, facts(&[1.0, 0.0], "a"))).collect();
        of.insert(13, facts(&[0.0, 1.0], "b"));
        let rest: Vec<(i64, f64)> = (1..=13).map(|id| (id, 20.0 - id as f64)).collect();
        let plain = run(&mut Chooser::new(&of, 0.0, Vec::new(), 0.0, BTreeMap::new()), rest.clone());
        assert_eq!(plain, (1..=13).collect::<Vec<_>>());
        let varied = run(&mut Chooser::new(&of, 0.7, Vec::new(), 0.0, BTreeMap::new()), rest);
        assert_eq!(varied[..3], [1, 2, 3], "the first places answer the query");
        assert!(varied[..10].contains(&13), "{varied:?}");
    }

    #[test]
    fn a_cap_holds_until_nothing_else_is_left() {
        let (of, rest) = shop();
        assert_eq!(run(&mut Chooser::new(&of, 0.0, vec![1], 0.0, BTreeMap::new()), rest), [1, 4, 2, 3]);
    }

    #[test]
    fn a_page_follows_the_shares_of_the_history() {
        let (of, rest) = shop();
        let tastes = BTreeMap::from([("a".to_owned(), 0.5), ("b".to_owned(), 0.5)]);
        assert_eq!(run(&mut Chooser::new(&of, 0.0, Vec::new(), 1.0, tastes), rest)[..2], [1, 4]);
    }
}
