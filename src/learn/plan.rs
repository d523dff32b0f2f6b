//! The order of training: what is held out, what was known when, and whether the outcome is better than what it replaces.
//!
//! Behaviour is cut by time. What lies before [`FIRST`] is only history; then come slices to train on, one to validate,
//! one to judge. Each slice is seen with the statistics of its beginning, as a shop that refreshes once in a while has them.

use super::encoder;
use super::log::{Basket, Log};
use super::past::Past;
use super::propensity::Propensity;
use super::sample::{self, Before, Encode, List, Lists, Maker, Texts, Untaught};
use super::table::{Table, Teacher};
use super::train::{self, Epoch};
use crate::control::Control;
use crate::error::Result;
use crate::measure::interval::{self, Figure};
use crate::random::Random;
use crate::rank::network::{HEADS, Head, Ranker};
use crate::retrieve::together;
use crate::store::Store;

/// The share of the rows before the first sample.
pub const FIRST: f64 = 0.7;
/// Where slices end, as shares of the rows: three to train on, one to validate, one to judge.
const ENDS: [f64; 5] = [0.76, 0.83, 0.89, 0.94, 1.0];
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
    pub before: &'a Before<'a>,
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

/// The encoder on its way through time.
pub struct Course<'a> {
    /// Its items.
    pub table: &'a Table,
    /// What it has learnt so far.
    pub training: encoder::Training<'a>,
}

/// Draws the lists, each slice as the encoder knows it that has seen what came before; it learns each slice after its lists
/// are drawn, so that in the end it has learnt everything, and no list was drawn by one that knew its outcome.
pub fn cut(shop: &Shop, course: Option<&mut Course>, drawn: Drawn, control: &dyn Control) -> Result<Cut> {
    let baskets = shop.log.baskets();
    let mut course = course;
    let repeats = repeats(shop.log, &baskets);
    let propensity = Propensity::estimate(shop.log);
    let mut cut = Cut { looked: propensity.looked().to_vec(), ..Cut::default() };
    let mut begin = first(shop.log);
    for (slice, end) in ENDS.into_iter().enumerate() {
        let end = if slice + 1 < ENDS.len() { shop.log.moment(end) } else { f64::INFINITY };
        let mut random = Random::named(drawn.seed, &format!("slice {slice}"));
        let all: Vec<Basket> = baskets.iter().filter(|b| b.at >= begin && b.at < end).cloned().collect();
        let mut own = all.clone();
        random.shuffle(&mut own);
        own.truncate(if slice < TRAINED { drawn.samples / TRAINED } else { drawn.samples / 4 });
        let past = Past::new(shop.log, begin, shop.mean, shop.pairs, control)?;
        let training = slice < TRAINED;
        let settings = sample::Settings {
            others: if training { drawn.others } else { drawn.others * 3 },
            history: drawn.history,
            cut: if training { 0.5 } else { 0.0 },
        };
        let taught = course.as_ref().map(|c| c.training.taught());
        let teacher = course.as_ref().zip(taught.as_ref()).map(|(c, taught)| Teacher { table: c.table, taught });
        let maker = Maker {
            log: shop.log,
            past: &past,
            store: shop.store,
            texts: shop.texts,
            encoder: teacher.as_ref().map_or(&Untaught as &dyn Encode, |t| t),
            repeats,
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
        if let Some(course) = &mut course {
            // The new, and as much of the old, so that it is not forgotten.
            let mut old: Vec<Basket> = baskets.iter().filter(|b| b.at < begin).cloned().collect();
            random.shuffle(&mut old);
            old.truncate(all.len());
            old.extend(all);
            course.training.pass(shop.log, &old, GOES_ON, control)?;
        }
        begin = end;
    }
    Ok(cut)
}

/// The encoder's rate while it learns a slice, against its largest.
const GOES_ON: (f32, f32) = (0.15, 0.1);

/// Whether shoppers of this shop take an item again: one basket in a hundred holds something that was taken before.
fn repeats(log: &Log, baskets: &[Basket]) -> bool {
    let (mut again, mut all) = (0usize, 0usize);
    for basket in baskets.iter().step_by((baskets.len() / 5000).max(1)) {
        let before = &log.events[basket.shopper.start..basket.rows.start];
        if before.is_empty() {
            continue;
        }
        let taken = log.events[basket.rows.clone()].iter().filter(|e| e.weight > 0.0);
        all += 1;
        again += usize::from(taken.into_iter().any(|e| before.iter().any(|b| b.item == e.item && b.weight > 0.0)));
    }
    again * 100 > all
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
