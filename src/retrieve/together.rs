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

/// What is known of a pair while counting.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    weight: f32,
    /// How many shoppers took both, and the number of the last of them.
    shoppers: u32,
    last: u32,
}

impl Count {
    fn add(&mut self, weight: f64, shopper: u32) {
        self.weight += weight as f32;
        if self.last != shopper {
            self.shoppers += 1;
            self.last = shopper;
        }
    }
}

/// Counts pairs, one shopper after another.
#[derive(Debug)]
pub struct Pairs {
    settings: Settings,
    counts: HashMap<(i64, i64), Count>,
    alone: HashMap<i64, f64>,
    shopper: u32,
    /// Whether rare pairs were forgotten to stay within the memory.
    pub pruned: bool,
}

impl Pairs {
    /// No pairs yet.
    pub fn new(settings: Settings) -> Pairs {
        Pairs { settings, counts: HashMap::new(), alone: HashMap::new(), shopper: 0, pruned: false }
    }

    /// Says that what is added from now on is another shopper's.
    pub fn next_shopper(&mut self) {
        self.shopper += 1;
    }

    /// Adds one basket of the current shopper: what was taken at once, in no order, counting `weight`.
    ///
    /// The pairs of one basket share out √(n − 1) baskets for each item: a reseller's invoice of two hundred lines says
    /// little of any two of them.
    pub fn add_basket(&mut self, basket: &[i64], weight: f64) {
        let mut items = basket.to_vec();
        items.sort_unstable();
        items.dedup();
        items.truncate(self.settings.window);
        let shared = weight / (items.len().max(2) as f64 - 1.0).sqrt();
        for (place, item) in items.iter().enumerate() {
            *self.alone.entry(*item).or_default() += weight;
            for other in &items[place + 1..] {
                self.counts.entry((*item, *other)).or_default().add(shared, self.shopper);
            }
        }
        if self.counts.len() > self.settings.most {
            self.prune();
        }
    }

    /// Adds one shopper's items, oldest first, each with the weight of its event.
    pub fn add(&mut self, history: &[(i64, f64)]) {
        self.next_shopper();
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
                self.counts.entry(key).or_default().add(weight.min(*other_weight) * decay, self.shopper);
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
            self.counts.retain(|_, count| count.shoppers > floor);
            floor += 1;
        }
    }

    /// Each item's strongest others with weights from 0 to 1, strongest first, by item.
    pub fn finish(self, control: &dyn Control) -> Result<Vec<Neighbours>> {
        let settings = self.settings;
        let mut others: HashMap<i64, Vec<(i64, f32)>> = HashMap::new();
        for (step, ((one, other), count)) in self.counts.into_iter().enumerate() {
            if step % 65_536 == 0 {
                control.check()?;
            }
            if count.shoppers < settings.min_shoppers || count.weight <= 0.0 {
                continue;
            }
            let own = |item: &i64| self.alone.get(item).copied().unwrap_or_default();
            let weight = f64::from(count.weight) / ((own(&one) * own(&other)).sqrt() + settings.shrink);
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

/// Makes baskets of events that come by shopper, session and time, and counts their pairs.
#[derive(Debug)]
pub struct Baskets {
    pairs: Pairs,
    /// Seconds without an event that end a basket, days after which one counts half.
    ends: (f64, f64),
    newest: f64,
    shopper: Option<String>,
    session: Option<String>,
    basket: Vec<i64>,
    last: f64,
}

impl Baskets {
    /// No baskets yet. Without a session, `gap` seconds end a basket; `half` days before `newest` (seconds) one counts half.
    pub fn new(settings: Settings, gap: f64, half: f64, newest: f64) -> Baskets {
        Baskets {
            pairs: Pairs::new(settings),
            ends: (gap, half),
            newest,
            shopper: None,
            session: None,
            basket: Vec::new(),
            last: 0.0,
        }
    }

    /// Adds an event at `at` seconds.
    pub fn add(&mut self, shopper: Option<&str>, session: Option<&str>, item: i64, at: f64) {
        let same_shopper =
            self.shopper.as_deref() == shopper && !(shopper.is_none() && self.session.as_deref() != session);
        let goes_on =
            same_shopper && self.session.as_deref() == session && (session.is_some() || at - self.last <= self.ends.0);
        if !goes_on {
            self.close();
        }
        if !same_shopper {
            self.pairs.next_shopper();
            self.shopper = shopper.map(str::to_owned);
        }
        if !goes_on {
            self.session = session.map(str::to_owned);
        }
        self.basket.push(item);
        self.last = at;
    }

    fn close(&mut self) {
        let days = ((self.newest - self.last) / 86_400.0).max(0.0);
        self.pairs.add_basket(&self.basket, 0.5f64.powf((days / self.ends.1).min(30.0)));
        self.basket.clear();
    }

    /// The pairs of all that was added.
    pub fn finish(mut self) -> Pairs {
        self.close();
        self.pairs
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
    fn a_basket_has_no_order_and_one_shopper_is_one() {
        let settings = Settings { min_shoppers: 2, shrink: 1.0, ..PAIRS };
        let mut pairs = Pairs::new(settings);
        for (shopper, baskets) in [(1, vec![[1, 2, 3], [3, 2, 1]]), (2, vec![[2, 1, 9]])] {
            assert!(shopper > 0);
            pairs.next_shopper();
            baskets.iter().for_each(|basket| pairs.add_basket(basket, 1.0));
        }
        let rows = pairs.finish(&Free).unwrap();
        assert_eq!(rows.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [1, 2], "1 and 3 are one shopper's pair");
        let expected = (3.0 / 2f64.sqrt()) / (3.0 + 1.0);
        assert!((f64::from(rows[0].1[0].1) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_session_or_an_hour_ends_a_basket() {
        let mut baskets = Baskets::new(Settings { shrink: 0.0, ..PAIRS }, 3600.0, 60.0, 0.0);
        for (shopper, session, item, at) in [
            (Some("a"), None, 1, 0.0),
            (Some("a"), None, 2, 600.0),
            (Some("a"), None, 3, 9000.0),
            (Some("a"), Some("s"), 4, 0.0),
            (Some("a"), Some("s"), 5, 90_000.0),
            (Some("b"), Some("s"), 6, 90_000.0),
            (None, Some("t"), 7, 0.0),
            (None, Some("t"), 8, 0.0),
            (None, Some("u"), 9, 0.0),
        ] {
            baskets.add(shopper, session, item, at);
        }
        let rows = baskets.finish().finish(&Free).unwrap();
        let pairs: Vec<(i64, i64)> = rows.iter().map(|(item, others)| (*item, others[0].0)).collect();
        assert_eq!(pairs, [(1, 2), (2, 1), (4, 5), (5, 4), (7, 8), (8, 7)]);
    }

    #[test]
    fn a_large_basket_says_less_of_each_pair() {
        let settings = Settings { shrink: 1.0, ..PAIRS };
        let weight = |size: i64| {
            let mut pairs = Pairs::new(settings);
            pairs.next_shopper();
            pairs.add_basket(&(1..=size).collect::<Vec<_>>(), 1.0);
            pairs.finish(&Free).unwrap()[0].1[0].1
        };
        assert!(weight(2) > weight(10) && weight(10) > weight(100));
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
