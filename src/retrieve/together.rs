//! What goes together: co-occurrence within shopper histories.
//!
//! Two items go together when shoppers take both, near one another: a pair counts 1/√d where d − 1 items lie between.
//! The count is divided by the geometric mean of the items' own counts, so that what everybody takes does not go with
//! everything (Linden, Smith and York, *Amazon.com Recommendations: Item-to-Item Collaborative Filtering*, 2003).

use crate::control::Control;
use crate::error::Result;
use std::collections::HashMap;

/// How pairs are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Events further apart than this many steps are no pair.
    pub window: usize,
    /// Added to the mean of the items' own counts, so that two shoppers are no proof.
    pub shrink: f64,
    /// How many others an item keeps.
    pub keep: usize,
    /// A pair of fewer shoppers is forgotten.
    pub min_shoppers: u32,
    /// Most pairs held at once; above it the rarest are forgotten.
    pub most: usize,
}

/// An item with the others that go with it and their weights, the strongest first.
pub type Neighbours = (i64, Vec<(i64, f32)>);

/// Counts pairs, one shopper after another.
#[derive(Debug)]
pub struct Pairs {
    settings: Settings,
    counts: HashMap<(i64, i64), (f32, u32)>,
    alone: HashMap<i64, f64>,
    /// Whether rare pairs were forgotten to stay within the memory.
    pub pruned: bool,
}

impl Pairs {
    /// No pairs yet.
    pub fn new(settings: Settings) -> Pairs {
        Pairs { settings, counts: HashMap::new(), alone: HashMap::new(), pruned: false }
    }

    /// Adds one shopper's items, oldest first, each with the weight of its event.
    pub fn add(&mut self, history: &[(i64, f64)]) {
        // An item counts once for a shopper, at its latest event: buying batteries every month makes no pair of it.
        let mut latest: HashMap<i64, usize> = HashMap::new();
        for (place, (item, _)) in history.iter().enumerate() {
            latest.insert(*item, place);
        }
        let kept: Vec<(i64, f64)> =
            history.iter().enumerate().filter(|(place, (item, _))| latest[item] == *place).map(|(_, e)| *e).collect();
        for (place, (item, weight)) in kept.iter().enumerate() {
            *self.alone.entry(*item).or_default() += weight;
            let end = (place + 1 + self.settings.window).min(kept.len());
            for (distance, (other, other_weight)) in (1..).zip(&kept[place + 1..end]) {
                let decay = f64::from(distance).sqrt().recip();
                let key = if item < other { (*item, *other) } else { (*other, *item) };
                let count = self.counts.entry(key).or_default();
                count.0 += (weight.min(*other_weight) * decay) as f32;
                count.1 += 1;
            }
        }
        if self.counts.len() > self.settings.most {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.pruned = true;
        let mut floor = 1;
        while self.counts.len() > self.settings.most / 2 {
            self.counts.retain(|_, (_, shoppers)| *shoppers > floor);
            floor += 1;
        }
    }

    /// Each item's strongest others with weights from 0 to 1, strongest first, by item.
    pub fn finish(self, control: &dyn Control) -> Result<Vec<Neighbours>> {
        let settings = self.settings;
        let mut others: HashMap<i64, Vec<(i64, f32)>> = HashMap::new();
        for (step, ((one, other), (count, shoppers))) in self.counts.into_iter().enumerate() {
            if step % 65_536 == 0 {
                control.check()?;
            }
            if shoppers < settings.min_shoppers || count <= 0.0 {
                continue;
            }
            let own = |item: &i64| self.alone.get(item).copied().unwrap_or_default();
            let weight = f64::from(count) / ((own(&one) * own(&other)).sqrt() + settings.shrink);
            let weight = weight.min(1.0) as f32;
            others.entry(one).or_default().push((other, weight));
            others.entry(other).or_default().push((one, weight));
        }
        let mut rows: Vec<Neighbours> = others.into_iter().collect();
        for (_, list) in &mut rows {
            list.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            list.truncate(settings.keep);
        }
        rows.sort_unstable_by_key(|(item, _)| *item);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Free;
    use crate::rank::weights::PAIRS;

    fn count(settings: Settings, histories: &[&[i64]]) -> Vec<(i64, Vec<(i64, f32)>)> {
        let mut pairs = Pairs::new(settings);
        for history in histories {
            pairs.add(&history.iter().map(|item| (*item, 1.0)).collect::<Vec<_>>());
        }
        pairs.finish(&Free).unwrap()
    }

    #[test]
    fn a_pair_is_worth_more_than_what_everybody_takes() {
        let histories: Vec<Vec<i64>> = (0..10).map(|n| if n < 3 { vec![1, 2, 9] } else { vec![100 + n, 9] }).collect();
        let histories: Vec<&[i64]> = histories.iter().map(Vec::as_slice).collect();
        let rows = count(PAIRS, &histories);
        let of_one = &rows.iter().find(|(item, _)| *item == 1).unwrap().1;
        assert_eq!(of_one[0].0, 2, "{of_one:?}");
    }

    #[test]
    fn weights_are_symmetric_and_bounded() {
        let rows: HashMap<i64, Vec<(i64, f32)>> =
            count(PAIRS, &[&[1, 2, 3], &[2, 1], &[3, 1, 2, 2]]).into_iter().collect();
        for (item, others) in &rows {
            for (other, weight) in others {
                assert!((0.0..=1.0).contains(weight));
                assert!(rows[other].contains(&(*item, *weight)));
            }
        }
    }

    #[test]
    fn few_shoppers_make_no_pair_where_the_catalog_says_so() {
        let settings = Settings { min_shoppers: 2, ..PAIRS };
        let rows = count(settings, &[&[1, 2], &[1, 2], &[1, 3]]);
        assert_eq!(rows.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_memory_is_kept() {
        let settings = Settings { most: 100, ..PAIRS };
        let mut pairs = Pairs::new(settings);
        for shopper in 0..50i64 {
            pairs.add(&[(1, 1.0), (2, 1.0), (shopper * 3 + 10, 1.0), (shopper * 3 + 11, 1.0)]);
        }
        assert!(pairs.pruned && pairs.counts.len() <= 106);
        assert!(pairs.counts.contains_key(&(1, 2)), "the common pair stays");
    }
}
