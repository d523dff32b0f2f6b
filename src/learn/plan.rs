//! The order of training: what is held out, what was known when, and whether the outcome is better than what it replaces.
//!
//! Behaviour is cut by time, in slices: two to train on, one to stop by and to judge by. A slice is seen with the statistics
//! of its beginning, as a shop that refreshes once in a while has them; whoever calls makes those. Where times are each
//! shopper's own (`Log::own_clock`), there is one slice: the last visit of each shopper, after all that lies before; some
//! shoppers' are trained on, some stop, some judge.

use super::blend;
use super::encoder;
use super::log::{Basket, Log};
use super::sample::{self, Encode, Lists, Maker, Texts, Untaught};
use super::table::{Table, Taught, Teacher};
use super::train::{self, Epoch};
use crate::control::Control;
use crate::error::Result;
use crate::measure::interval::{self, Figure};
use crate::measure::propensity::Propensity;
use crate::random::Random;
use crate::rank::network::{HEADS, Head, Ranker};
use crate::store::Store;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Where slices begin, as shares of the rows.
const BEGINS: [f64; 3] = [0.72, 0.8, 0.88];
/// In the last slice, the share from which on the ranker is judged.
const JUDGED: f64 = 0.94;
/// Of shoppers with clocks of their own: the share to train on, and the share from which on the ranker is judged.
const SHOPPERS: (f64, f64) = (0.6, 0.8);

/// How lists are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// Moments to train on, at most; a quarter as many validate, and as many again judge.
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
    /// The catalog as it was known before a slice.
    pub store: &'a dyn Store,
    /// Titles, query vectors.
    pub texts: &'a dyn Texts,
    /// How many items the catalog has.
    pub items: f64,
    /// Those that cannot be bought.
    pub out_of_stock: &'a HashSet<i64>,
    /// The ranker to beat; `None` is the fixed weights.
    pub before: Option<&'a Arc<Ranker>>,
}

/// What was known of the behaviour before a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    /// What lies before a moment, in seconds since 1970.
    Before(f64),
    /// Of each shopper, what lies before the last visit.
    LastVisit,
}

/// Baskets that are seen with one state of knowledge.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// That state.
    pub known: Known,
    /// To train on.
    pub train: Vec<Basket>,
    /// To stop by.
    pub validation: Vec<Basket>,
    /// To judge by.
    pub test: Vec<Basket>,
}

impl Slice {
    fn baskets(&self) -> impl Iterator<Item = &Basket> {
        self.train.iter().chain(&self.validation).chain(&self.test)
    }
}

/// The behaviour, cut.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Baskets before the first slice, which are only history.
    pub history: Vec<Basket>,
    /// Slices in order.
    pub slices: Vec<Slice>,
    /// Whether shoppers of this shop take an item again.
    pub repeats: bool,
}

/// The lists, and what was found on the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cut {
    /// To train on.
    pub train: Lists,
    /// To stop by.
    pub validation: Lists,
    /// The chance that each position is looked at; empty where the log does not tell.
    pub propensity: Propensity,
}

/// The encoder on its way through time.
pub struct Course<'a> {
    /// Its items.
    pub table: &'a Table,
    /// What it has learnt so far.
    pub training: encoder::Training<'a>,
    /// Fewest shoppers of an item of which is told what was learnt.
    pub least: u32,
    /// How much of what lies before is gone over again beside something new, as a share of it.
    pub rehearsal: f64,
}

impl<'a> Course<'a> {
    /// What it has learnt by a slice, as a search would see it.
    fn teacher<'t>(&self, taught: &'t Taught, log: &Log, plan: &Plan, slice: &Slice) -> Teacher<'t>
    where
        'a: 't,
    {
        let before = plan.slices.iter().take_while(|other| *other != slice).flat_map(Slice::baskets);
        let mut before: Vec<&Basket> = plan.history.iter().chain(before).collect();
        before.sort_unstable_by_key(|basket| basket.rows.start);
        Teacher { table: self.table, taught, told: self.told(&log.shoppers_of_items(before)) }
    }

    /// Of which rows is told what was learnt, from how many shoppers took each item.
    pub fn told(&self, shoppers: &HashMap<i64, u32>) -> Vec<bool> {
        let told = |id: &i64| shoppers.get(id).copied().unwrap_or(0) >= self.least.max(1);
        self.table.ids.iter().map(told).collect()
    }
}

/// Cuts the behaviour; what lies before `after` (what a parent has learnt already) is only history.
pub fn plan(log: &Log, after: f64, seed: u64) -> Plan {
    let baskets = log.baskets();
    let repeats = repeats(log, &baskets);
    if log.own_clock {
        let visits = log.last_visits();
        let mut last = vec![false; log.events.len()];
        visits.iter().for_each(|visit| last[visit.rows.clone()].fill(true));
        let history = baskets.into_iter().filter(|b| !last[b.rows.start]).collect();
        let mut visits = visits;
        Random::named(seed, "shoppers").shuffle(&mut visits);
        let at = |share: f64| (visits.len() as f64 * share) as usize;
        let (one, two) = (at(SHOPPERS.0), at(SHOPPERS.1));
        let slice = Slice {
            known: Known::LastVisit,
            train: visits[..one].to_vec(),
            validation: visits[one..two].to_vec(),
            test: visits[two..].to_vec(),
        };
        return Plan { history, slices: vec![slice], repeats };
    }
    let within = |range: Range<f64>| -> Vec<Basket> {
        baskets.iter().filter(|b| b.at >= range.start && b.at < range.end).cloned().collect()
    };
    // What a parent has not seen is all for slices, where it is enough.
    let seen = if has_news(log, after) { log.share_until(after) } else { BEGINS[0] };
    let moment = |share: f64| log.moment(seen + (share - BEGINS[0]) / (1.0 - BEGINS[0]) * (1.0 - seen));
    let (begins, judged) = (BEGINS.map(moment), moment(JUDGED));
    let mut slices = Vec::new();
    for (n, begin) in begins.into_iter().enumerate() {
        let known = Known::Before(begin);
        slices.push(match begins.get(n + 1) {
            Some(end) => Slice { known, train: within(begin..*end), validation: Vec::new(), test: Vec::new() },
            None => Slice {
                known,
                train: Vec::new(),
                validation: within(begin..judged),
                test: within(judged..f64::INFINITY),
            },
        });
    }
    Plan { history: within(f64::NEG_INFINITY..begins[0]), slices, repeats }
}

/// Whether so much came after a moment (a twentieth of the rows), and before it, that training can go on from what was learnt
/// until then: an encoder that has learnt how a list ends must not draw it.
pub fn has_news(log: &Log, after: f64) -> bool {
    !log.own_clock && (0.2..=0.95).contains(&log.share_until(after))
}

impl Plan {
    /// Baskets of all slices.
    pub fn recent(&self) -> usize {
        self.slices.iter().map(|slice| slice.baskets().count()).sum()
    }

    /// Baskets to train on.
    pub fn trained(&self) -> usize {
        self.slices.iter().map(|slice| slice.train.len()).sum()
    }
}

/// What some of a slice's baskets are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To train on: some candidates of each.
    Train,
    /// To stop by.
    Validate,
}

/// How many queries are made of one basket of titles, at most, where there are fewer baskets than samples.
const QUERIES: usize = 4;

impl Shop<'_> {
    fn maker<'m>(
        &'m self,
        plan: &Plan,
        propensity: &'m Propensity,
        encoder: &'m dyn Encode,
        settings: sample::Settings,
    ) -> Maker<'m> {
        Maker {
            log: self.log,
            store: self.store,
            texts: self.texts,
            encoder,
            repeats: plan.repeats,
            catalog: self.items,
            out_of_stock: self.out_of_stock,
            propensity,
            before: self.before,
            settings,
        }
    }

    /// Draws the lists of a slice that are fitted to, as the encoder knows it that has seen what came before.
    pub fn draw(
        &self,
        (plan, slice): (&Plan, &Slice),
        course: Option<&Course>,
        drawn: Drawn,
        control: &dyn Control,
        cut: &mut Cut,
    ) -> Result<()> {
        let taught = course.map(|c| c.training.taught());
        let teacher = course.zip(taught.as_ref()).map(|(c, taught)| c.teacher(taught, self.log, plan, slice));
        let encoder = teacher.as_ref().map_or(&Untaught as &dyn Encode, |t| t);
        for (what, baskets) in [(Use::Train, &slice.train), (Use::Validate, &slice.validation)] {
            let training = what == Use::Train;
            let share = slice.train.len() as f64 / plan.trained().max(1) as f64;
            let most = if training { (drawn.samples as f64 * share).round() as usize } else { drawn.samples / 4 };
            let mut random = Random::named(drawn.seed, &format!("{what:?} {:?}", slice.known));
            let mut own = baskets.clone();
            random.shuffle(&mut own);
            own.truncate(most);
            let settings = sample::Settings {
                others: if training { drawn.others } else { drawn.others * 2 },
                history: drawn.history,
                cut: if training { CUT } else { 0.0 },
                queries: (most / own.len().max(1)).clamp(1, QUERIES),
            };
            let maker = self.maker(plan, &cut.propensity, encoder, settings);
            let lists = if training { &mut cut.train } else { &mut cut.validation };
            maker.lists(&own, &mut random, control, lists)?;
        }
        Ok(())
    }

    /// Judges a ranker by a slice's searches that nothing was fitted to: each with all the candidates of a real one.
    pub fn judge(
        &self,
        ranker: &Ranker,
        (plan, slice): (&Plan, &Slice),
        course: Option<&Course>,
        drawn: Drawn,
        propensity: &Propensity,
        control: &dyn Control,
    ) -> Result<Vec<Verdict>> {
        /// Baskets whose candidates are held at once.
        const AT_ONCE: usize = 16;
        let taught = course.map(|c| c.training.taught());
        let teacher = course.zip(taught.as_ref()).map(|(c, taught)| c.teacher(taught, self.log, plan, slice));
        let encoder = teacher.as_ref().map_or(&Untaught as &dyn Encode, |t| t);
        let mut random = Random::named(drawn.seed, "judged");
        let mut own = slice.test.clone();
        random.shuffle(&mut own);
        own.truncate(drawn.samples / 4);
        let settings = sample::Settings { others: usize::MAX, history: drawn.history, cut: 0.0, queries: 1 };
        let maker = self.maker(plan, propensity, encoder, settings);
        let mut judged: Vec<Judged> = Vec::new();
        for some in own.chunks(AT_ONCE) {
            let mut lists = Lists::default();
            maker.lists(some, &mut random, control, &mut lists)?;
            for list in &lists.lists {
                judged.push(Judged {
                    head: list.head,
                    shopper: list.shopper,
                    weight: f64::from(list.weight),
                    before: train::ndcg(&lists, list, &lists.before[list.range.clone()]),
                    after: train::ndcg(&lists, list, &train::scores(ranker, list, &lists)),
                });
            }
        }
        Ok(HEADS.into_iter().filter_map(|head| Verdict::of(head, &judged, drawn.seed)).collect())
    }
}

/// A share of the histories that is cut short in training.
const CUT: f64 = 0.3;

/// Some of the old baskets, so many as `share` of what is new.
pub fn rehearsed(mut old: Vec<Basket>, new: usize, share: f64, random: &mut Random) -> Vec<Basket> {
    random.shuffle(&mut old);
    old.truncate((new as f64 * share).round() as usize);
    old
}

/// The encoder learns a slice, and some of what lies before it, so that it is not forgotten.
pub fn learn(
    course: &mut Course,
    log: &Log,
    plan: &Plan,
    slice: usize,
    seed: u64,
    control: &dyn Control,
) -> Result<()> {
    let Some(own) = plan.slices.get(slice) else { return Ok(()) };
    let mut learnt: Vec<Basket> = own.baskets().cloned().collect();
    let mut old = plan.history.clone();
    old.extend(plan.slices[..slice].iter().flat_map(Slice::baskets).cloned());
    let mut random = Random::named(seed, &format!("rehearsed {slice}"));
    learnt.extend(rehearsed(old, learnt.len(), course.rehearsal, &mut random));
    course.training.pass(log, &learnt, GOES_ON, control)?;
    Ok(())
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
    let mut ranker = parent.unwrap_or_else(|| train::start(&cut.train, seed));
    ranker.blend = 0.0;
    let (mut ranker, epochs) = train::fit(&cut.train, &cut.validation, ranker, settings, seed, control, tell)?;
    ranker.blend = blend::choose(&ranker, &cut.validation, seed);
    Ok((ranker, epochs))
}

/// NDCG@10 of one list by two rankings.
struct Judged {
    head: Head,
    shopper: u32,
    weight: f64,
    before: f64,
    after: f64,
}

/// NDCG@10 of one head on held-out lists, before and after, with the difference; lists count as they weigh.
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
    /// Of a head's lists; `None` where it has none.
    fn of(head: Head, judged: &[Judged], seed: u64) -> Option<Verdict> {
        let own: Vec<&Judged> = judged.iter().filter(|j| j.head == head).collect();
        let shoppers: Vec<u32> = own.iter().map(|j| j.shopper).collect();
        let each = own.len() as f64 / own.iter().map(|j| j.weight).sum::<f64>();
        let gains: Vec<f64> = own.iter().map(|j| j.weight * each * (j.after - j.before)).collect();
        let mean = |value: fn(&Judged) -> f64| {
            own.iter().map(|j| j.weight * each * value(j)).sum::<f64>() / own.len().max(1) as f64
        };
        let (before, after) = (mean(|j| j.before), mean(|j| j.after));
        let gain = interval::mean(&gains, &shoppers, seed);
        (!own.is_empty()).then_some(Verdict { head, lists: own.len(), before, after, gain })
    }

    /// Whether the difference is surely above zero.
    pub fn is_better(&self) -> bool {
        self.gain.is_some_and(|gain| gain.low > 0.0)
    }

    /// Whether the difference is surely below zero.
    pub fn is_worse(&self) -> bool {
        self.gain.is_some_and(|gain| gain.high < 0.0)
    }
}

/// Whether to deploy: one head is surely better, and none surely worse.
pub fn is_better(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(Verdict::is_better) && !verdicts.iter().any(Verdict::is_worse)
}
