//! What another ranking would have got, from logs of the one that was shown.
//!
//! Where the log says with which chance each item stood at its place: inverse propensities (IPS), the same normalised by its
//! own weights (SNIPS; Swaminathan and Joachims, 2015), and doubly robust (Dudík, Langford and Li, 2011).
//!
//! The estimates look at each place by itself (the item-position model of Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay
//! and Wen, 2018): a click counts where the other ranking puts the same item on the same place. That holds for any click
//! model in which what stands elsewhere does not change a place's clicks much, and needs no guess of examination.

use super::interval::{self, Figure, Sums};
use std::collections::HashMap;

/// Places that are looked into.
pub const PLACES: usize = 10;

/// One item of a list that was shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// The item's number.
    pub item: i64,
    /// Its place, from 1.
    pub place: usize,
    /// The chance with which it stood there.
    pub propensity: f64,
    /// Whether it was taken.
    pub taken: bool,
}

/// One list that was shown, beside what another ranking puts on the same places.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The query.
    pub query: String,
    /// Whose it is: rows of one group are drawn together.
    pub group: usize,
    /// The list as it was shown.
    pub shown: Vec<Placed>,
    /// The other ranking's items by place.
    pub ranked: Vec<i64>,
}

/// Estimates of the items taken in a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimates {
    /// What was taken in fact, of the lists as shown.
    pub logged: Option<Figure>,
    /// By inverse propensities.
    pub ips: Option<Figure>,
    /// The same, divided by the weights' own mean, place by place.
    pub snips: Option<Figure>,
    /// What a model says, corrected where the log knows better.
    pub doubly_robust: Option<Figure>,
}

/// Sums of one group for [`Estimates`].
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    searches: f64,
    taken: f64,
    ips: f64,
    robust: f64,
    weighted: [f64; PLACES],
    weights: [f64; PLACES],
}

/// Estimates what the other ranking would have got. Propensities below `least` count as that: a bounded weight costs a
/// little truth and saves the estimate from resting on one row.
pub fn estimate(logs: &[Log], least: f64, seed: u64) -> Estimates {
    let models = [
        Model::fit(logs.iter().filter(|log| log.group % 2 == 1)),
        Model::fit(logs.iter().filter(|log| log.group % 2 == 0)),
    ];
    let mut groups: HashMap<usize, Group> = HashMap::new();
    for log in logs {
        // What the model says of a search never comes from that search.
        let model = &models[log.group % 2];
        let sums = groups.entry(log.group).or_default();
        sums.searches += 1.0;
        sums.robust +=
            (1..=PLACES).zip(&log.ranked).map(|(place, item)| model.chance(&log.query, *item, place)).sum::<f64>();
        for row in log.shown.iter().filter(|row| (1..=PLACES).contains(&row.place)) {
            let taken = f64::from(u8::from(row.taken));
            sums.taken += taken;
            if log.ranked.get(row.place - 1) == Some(&row.item) {
                let weight = row.propensity.clamp(least, 1.0).recip();
                sums.ips += weight * taken;
                sums.weighted[row.place - 1] += weight * taken;
                sums.weights[row.place - 1] += weight;
                sums.robust += weight * (taken - model.chance(&log.query, row.item, row.place));
            }
        }
    }
    let mut by_group: Vec<(usize, Group)> = groups.into_iter().collect();
    by_group.sort_unstable_by_key(|(group, _)| *group);
    let groups: Vec<Group> = by_group.into_iter().map(|(_, sums)| sums).collect();
    let mean = |of: fn(&Group) -> f64| {
        let sums: Vec<Sums> = groups.iter().map(|group| Sums { over: of(group), under: group.searches }).collect();
        interval::ratio(&sums, seed)
    };
    let snips = interval::statistic(&groups, seed, |drawn| {
        let of_place = |place: usize| {
            let weights: f64 = drawn.iter().map(|g| g.weights[place]).sum();
            if weights > 0.0 { drawn.iter().map(|g| g.weighted[place]).sum::<f64>() / weights } else { 0.0 }
        };
        let any = drawn.iter().any(|g| g.weights.iter().any(|w| *w > 0.0));
        any.then(|| (0..PLACES).map(of_place).sum())
    });
    Estimates { logged: mean(|g| g.taken), ips: mean(|g| g.ips), snips, doubly_robust: mean(|g| g.robust) }
}

/// The chance that an item is taken at a place: the place's rate times how the item does for the query, against what its
/// places would give any item; shrunk to the item over all queries, and that to 1.
#[derive(Debug, Default)]
struct Model {
    rates: Vec<f64>,
    /// Taken, and what the places alone would have given.
    items: HashMap<i64, (f64, f64)>,
    pairs: HashMap<(String, i64), (f64, f64)>,
}

/// So many expected clicks weigh as much as what is known before.
const SHRINK: f64 = 2.0;

impl Model {
    fn fit<'a>(logs: impl Iterator<Item = &'a Log> + Clone) -> Model {
        let mut rates = [(0.0, 0.0); PLACES];
        let rows = || {
            logs.clone()
                .flat_map(|log| log.shown.iter().map(move |row| (log, row)))
                .filter(|(_, row)| (1..=PLACES).contains(&row.place))
        };
        for (_, row) in rows() {
            rates[row.place - 1].0 += f64::from(u8::from(row.taken));
            rates[row.place - 1].1 += 1.0;
        }
        let mut model = Model {
            rates: rates.iter().map(|(taken, shown)| taken / f64::max(1.0, *shown)).collect(),
            ..Model::default()
        };
        for (log, row) in rows() {
            let (taken, expected) = (f64::from(u8::from(row.taken)), model.rates[row.place - 1]);
            for place in [
                model.items.entry(row.item).or_default(),
                model.pairs.entry((log.query.clone(), row.item)).or_default(),
            ] {
                place.0 += taken;
                place.1 += expected;
            }
        }
        model
    }

    fn chance(&self, query: &str, item: i64, place: usize) -> f64 {
        let shrunk = |known: Option<&(f64, f64)>, before: f64| {
            let (taken, expected) = known.copied().unwrap_or_default();
            (taken + SHRINK * before) / (expected + SHRINK)
        };
        let of_item = shrunk(self.items.get(&item), 1.0);
        let of_pair = shrunk(self.pairs.get(&(query.to_owned(), item)), of_item);
        (self.rates.get(place - 1).copied().unwrap_or_default() * of_pair).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::Random;

    /// Lists of three out of six items in random order; an item is taken by chance `attraction · examination`.
    fn logs(count: usize, ranked: &[i64]) -> Vec<Log> {
        let mut random = Random::new(11);
        (0..count)
            .map(|group| {
                let mut items: Vec<i64> = (1..=6).collect();
                random.shuffle(&mut items);
                let shown = items[..3].iter().enumerate().map(|(place, item)| Placed {
                    item: *item,
                    place: place + 1,
                    propensity: 1.0 / 6.0,
                    taken: random.uniform() < truth(*item, place + 1),
                });
                Log { query: "q".into(), group, shown: shown.collect(), ranked: ranked.to_vec() }
            })
            .collect()
    }

    fn truth(item: i64, place: usize) -> f64 {
        0.1 * item as f64 / place as f64
    }

    #[test]
    fn estimates_come_near_what_a_ranking_gets() {
        for ranked in [[6, 5, 4], [1, 2, 3]] {
            let wanted: f64 = (1..).zip(ranked).map(|(place, item)| truth(item, place)).sum();
            let found = estimate(&logs(6000, &ranked), 0.01, 1);
            for (name, figure) in [("ips", found.ips), ("snips", found.snips), ("dr", found.doubly_robust)] {
                let figure = figure.unwrap();
                assert!(figure.low <= wanted && wanted <= figure.high, "{name}: {wanted} {figure:?}");
                assert!(figure.high - figure.low < 0.15, "{name}: {figure:?}");
            }
            let width = |f: Option<Figure>| f.unwrap().high - f.unwrap().low;
            assert!(width(found.doubly_robust) < width(found.ips), "the model takes noise away: {found:?}");
        }
    }

    #[test]
    fn a_list_never_shown_has_no_weight() {
        let found = estimate(&logs(50, &[7, 8, 9]), 0.01, 1);
        assert_eq!(found.snips, None);
        assert_eq!(found.ips.unwrap().value, 0.0);
        assert_eq!(estimate(&[], 0.01, 1).logged, None);
    }
}
