//! The order of training: what is held out, what was known when, and whether the outcome is better than what it replaces.
//!
//! Behaviour is cut by time. What lies before [`FIRST`] is only history; then come slices to train on, one to validate,
//! one to judge. Each slice is seen with the statistics of its beginning, as a shop that refreshes once in a while has them.

use super::log::{Basket, Log};
use super::past::Past;
use super::propensity::Propensity;
use super::sample::{self, Encode, List, Lists, Maker, Texts};
use super::train::{self, Epoch};
use crate::control::Control;
use crate::error::Result;
use crate::measure::interval::{self, Figure};
use crate::random::Random;
use crate::rank::feature::Known;
use crate::rank::network::{HEADS, Head, Ranker};
use crate::retrieve::together;
use crate::store::{Item, Store};

/// The share of the rows before the first sample.
pub const FIRST: f64 = 0.6;
/// Where slices end, as shares of the rows: three to train on, one to validate, one to judge.
const ENDS: [f64; 5] = [0.69, 0.78, 0.86, 0.93, 1.0];
/// Slices to train on.
const TRAINED: usize = 3;

/// How lists are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// Baskets to train on, at most; a quarter as many validate, and as many again judge.
    pub samples: usize,
    /// Candidates of a list that were not taken.
    pub others: usize,
    /// Newest events of a history that are read.
    pub history: usize,
    /// Decides every draw.
    pub seed: u64,
}

/// What a plan needs of the shop.
pub struct Shop<'a> {
    /// Behaviour.
    pub log: &'a Log,
    /// Words, vectors, candidates.
    pub store: &'a dyn Store,
    /// Titles, query vectors.
    pub texts: &'a dyn Texts,
    /// How many items the catalog has.
    pub items: f64,
    /// The mean of the items' vectors.
    pub mean: &'a [f32],
    /// How pairs are counted.
    pub pairs: together::Settings,
    /// The ranking to beat.
    pub before: &'a dyn Fn(&Known, &Item, Head) -> f32,
}

/// Lists, cut by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cut {
    /// To train on.
    pub train: Lists,
    /// To stop by.
    pub validation: Lists,
    /// To judge by.
    pub test: Lists,
    /// The chance that each position is looked at; empty where the log does not tell.
    pub looked: Vec<f32>,
}

/// The moment before which the behaviour is only history.
pub fn first(log: &Log) -> f64 {
    log.moment(FIRST)
}

/// Draws the lists.
pub fn cut(shop: &Shop, encoder: &dyn Encode, drawn: Drawn, control: &dyn Control) -> Result<Cut> {
    let baskets = shop.log.baskets();
    let propensity = Propensity::estimate(shop.log);
    let mut cut = Cut { looked: propensity.looked().to_vec(), ..Cut::default() };
    let mut begin = first(shop.log);
    for (slice, end) in ENDS.into_iter().enumerate() {
        let end = if slice + 1 < ENDS.len() { shop.log.moment(end) } else { f64::INFINITY };
        let mut random = Random::named(drawn.seed, &format!("slice {slice}"));
        let mut own: Vec<Basket> = baskets.iter().filter(|b| b.at >= begin && b.at < end).cloned().collect();
        random.shuffle(&mut own);
        own.truncate(if slice < TRAINED { drawn.samples / TRAINED } else { drawn.samples / 4 });
        let past = Past::new(shop.log, begin, shop.mean, shop.pairs, control)?;
        let training = slice < TRAINED;
        let settings = sample::Settings {
            others: if training { drawn.others } else { drawn.others * 3 },
            history: drawn.history,
            cut: if training { 0.5 } else { 0.0 },
        };
        let maker = Maker {
            log: shop.log,
            past: &past,
            store: shop.store,
            texts: shop.texts,
            encoder,
            catalog: shop.items,
            propensity: &propensity,
            before: shop.before,
            settings,
        };
        let lists = maker.lists(&own, &mut random, control)?;
        match slice {
            0..TRAINED => cut.train.append(lists),
            TRAINED => cut.validation = lists,
            _ => cut.test = lists,
        }
        begin = end;
    }
    Ok(cut)
}

/// Fits a ranker to the lists, from one that was trained before or from nothing.
pub fn fit(
    cut: &Cut,
    parent: Option<Ranker>,
    settings: train::Settings,
    seed: u64,
    control: &dyn Control,
    tell: &mut dyn FnMut(&Epoch),
) -> Result<(Ranker, Vec<Epoch>)> {
    let ranker = parent.unwrap_or_else(|| train::start(&cut.train, seed));
    train::fit(&cut.train, &cut.validation, ranker, settings, seed, control, tell)
}

/// NDCG@10 of one head on held-out lists, before and after, with the difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Which head.
    pub head: Head,
    /// Lists.
    pub lists: usize,
    /// The ranking to beat.
    pub before: f64,
    /// The trained one.
    pub after: f64,
    /// The mean difference with its 95 % interval over shoppers; `None` of nothing.
    pub gain: Option<Figure>,
}

impl Verdict {
    /// Whether the difference is surely above zero.
    pub fn is_better(&self) -> bool {
        self.gain.is_some_and(|gain| gain.low > 0.0)
    }

    /// Whether the difference is surely below zero.
    pub fn is_worse(&self) -> bool {
        self.gain.is_some_and(|gain| gain.high < 0.0)
    }
}

/// Judges a ranker on the lists that nothing was fitted to.
pub fn judge(ranker: &Ranker, test: &Lists, seed: u64) -> Vec<Verdict> {
    let verdict = |head: Head| {
        let after = train::quality(test, head, |list| train::scores(ranker, list, test));
        let before = train::quality(test, head, |list| test.before[list.range.clone()].to_vec());
        let shoppers: Vec<u32> = test.lists.iter().filter(|l| l.head == head).map(|l: &List| l.shopper).collect();
        let gains: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        Verdict {
            head,
            lists: gains.len(),
            before: mean(&before),
            after: mean(&after),
            gain: interval::mean(&gains, &shoppers, seed),
        }
    };
    HEADS.into_iter().map(verdict).filter(|v| v.lists > 0).collect()
}

/// Whether to deploy: one head is surely better, and none surely worse.
pub fn is_better(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(Verdict::is_better) && !verdicts.iter().any(Verdict::is_worse)
}
