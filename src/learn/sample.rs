//! Samples: lists of candidates of one moment, with what was taken of them.
//!
//! The query of a list is the shopper's own where the tables hold one. Else it is one or two words of the title of what was
//! taken: whoever bought a lamp might have asked for one, so a ranker can be trained from orders alone. Candidates come
//! from the sources that a search asks, or are what the shop showed, where it logged that. History and statistics are
//! those before the moment (`past`); nothing of the basket itself is in them.

use super::log::{Basket, Log, Logged};
use super::past::Past;
use super::propensity::Propensity;
use crate::control::Control;
use crate::error::Result;
use crate::event::{Event, Kind};
use crate::random::Random;
use crate::rank::feature::{self, Call, Features, Known, Learnt};
use crate::rank::network::Head;
use crate::rank::weights;
use crate::retrieve::lexical::Bm25;
use crate::shopper::Shopper;
use crate::shopper::sequence::Moment;
use crate::store::{Item, Scope, Store};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// What training asks beyond the store.
pub trait Texts {
    /// Titles of items, with brand and category; those without one are left out.
    fn titles(&self, items: &[i64]) -> Result<HashMap<i64, String>>;
    /// The vector of a query.
    fn embed(&self, query: &str) -> Result<Arc<[f32]>>;
}

/// What an encoder says of items to a shopper at a moment; without one, nothing.
pub trait Encode {
    /// For each of the items.
    fn learnt(&self, history: &[Event], moment: &Moment, items: &[Item]) -> Vec<Learnt>;
    /// The items that it would bring itself.
    fn nearest(&self, history: &[Event], moment: &Moment, n: usize) -> Vec<i64>;
}

/// No encoder.
pub struct Untaught;

impl Encode for Untaught {
    fn learnt(&self, _: &[Event], _: &Moment, items: &[Item]) -> Vec<Learnt> {
        vec![Learnt::default(); items.len()]
    }

    fn nearest(&self, _: &[Event], _: &Moment, _: usize) -> Vec<i64> {
        Vec::new()
    }
}

/// One list.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// What was asked of it.
    pub head: Head,
    /// The features of the call.
    pub call: Call,
    /// Its place among the features and labels.
    pub range: Range<usize>,
    /// Whose it is.
    pub shopper: u32,
    /// The weight in the loss.
    pub weight: f32,
}

/// Lists with their candidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lists {
    /// The lists.
    pub lists: Vec<List>,
    /// Features of all candidates.
    pub features: Vec<Features>,
    /// What was taken: from 0 to 1, over its propensity.
    pub labels: Vec<f32>,
    /// The score that the ranking before training gives.
    pub before: Vec<f32>,
    /// Items of the candidates.
    pub items: Vec<i64>,
}

impl Lists {
    /// Bytes that a candidate takes.
    pub const EACH: usize = size_of::<Features>() + 16;

    /// Adds other lists behind these.
    pub fn append(&mut self, other: Lists) {
        let first = self.features.len();
        let moved = |list: List| List { range: list.range.start + first..list.range.end + first, ..list };
        self.lists.extend(other.lists.into_iter().map(moved));
        self.features.extend(other.features);
        self.labels.extend(other.labels);
        self.before.extend(other.before);
        self.items.extend(other.items);
    }
}

/// How lists are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Candidates kept of a list that were not taken, at random; all where the list is to be judged.
    pub others: usize,
    /// Newest events of a history that are read.
    pub history: usize,
    /// A share of the histories that is cut to its newest part or left out, so that short ones are learnt as well.
    pub cut: f64,
}

/// The score that the ranking to beat gives an item, for a head, after a history and at a moment.
pub type Before<'a> = dyn Fn(&Known, &Item, Head, (&[Event], &Moment)) -> f32 + 'a;

/// Makes lists of one slice of time.
pub struct Maker<'a> {
    /// Behaviour.
    pub log: &'a Log,
    /// What could be known.
    pub past: &'a Past,
    /// Words, vectors, candidates.
    pub store: &'a dyn Store,
    /// Titles, query vectors.
    pub texts: &'a dyn Texts,
    /// The encoder, trained on what was before.
    pub encoder: &'a dyn Encode,
    /// Whether shoppers take an item again; where not, what they have is no candidate.
    pub repeats: bool,
    /// How many items the catalog has.
    pub catalog: f64,
    /// How likely each position is looked at.
    pub propensity: &'a Propensity,
    /// The ranking to beat, as its score of an item.
    pub before: &'a Before<'a>,
    /// How.
    pub settings: Settings,
}

/// What an event says as a label, from 0 to 1: its kind's weight, and the longer a look, the more.
fn grade(event: &Logged) -> f32 {
    let dwell = event.dwell / (event.dwell + 30.0);
    let looked = matches!(event.kind, Kind::View | Kind::Click) && event.dwell > 0.0;
    let grade = if looked { event.weight * (0.5 + dwell) } else { event.weight };
    grade.clamp(0.0, 1.0)
}

impl Maker<'_> {
    /// The lists of some baskets; at most `most` of each head. Those whose candidates hold nothing that was taken are left out.
    pub fn lists(&self, baskets: &[Basket], random: &mut Random, control: &dyn Control) -> Result<Lists> {
        let mut lists = Lists::default();
        for (done, basket) in baskets.iter().enumerate() {
            control.check()?;
            control.progress("samples", done as u64, baskets.len() as u64);
            self.basket(basket, random, &mut lists)?;
        }
        Ok(lists)
    }

    fn basket(&self, basket: &Basket, random: &mut Random, lists: &mut Lists) -> Result<()> {
        let rows = &self.log.events[basket.rows.clone()];
        let mut queries: Vec<u32> = rows.iter().map(|e| e.query).filter(|q| *q != 0).collect();
        queries.sort_unstable();
        queries.dedup();
        let history = self.cut(basket.history(self.log, self.settings.history), random);
        if queries.is_empty() {
            self.by_title(rows, &history, random, lists)?;
        }
        for query in queries {
            self.by_query(rows, query, &history, random, lists)?;
        }
        self.wanted(rows, &history, random, lists)
    }

    /// Some histories are cut to their newest part, some left out.
    fn cut(&self, mut history: Vec<Event>, random: &mut Random) -> Vec<Event> {
        if random.uniform() < self.settings.cut && !history.is_empty() {
            // Evenly over the logarithm of the length, down to nothing.
            let length = ((history.len() as f64 + 1.0).powf(random.uniform()) - 1.0).round() as usize;
            history.truncate(length);
        }
        history
    }

    fn shopper(&self, history: &[Event]) -> Result<Shopper> {
        let mut shopper = Shopper::new(history, &weights::SHOPPER);
        let items = shopper.items();
        if !items.is_empty() {
            shopper.set_vectors(&self.store.vectors(&items)?, &self.past.whole.mean);
            shopper.set_pairs(&self.past.pairs(&items));
        }
        Ok(shopper)
    }

    /// What was taken in rows, by item, with the strongest grade.
    fn taken<'r>(rows: impl Iterator<Item = &'r Logged>) -> HashMap<i64, f32> {
        let mut taken: HashMap<i64, f32> = HashMap::new();
        for row in rows.filter(|r| r.item != 0 && r.weight > 0.0) {
            let own = taken.entry(row.item).or_default();
            *own = own.max(grade(row));
        }
        taken
    }

    /// One or two words of the title of something that was taken.
    fn by_title(&self, rows: &[Logged], history: &[Event], random: &mut Random, lists: &mut Lists) -> Result<()> {
        let taken = Self::taken(rows.iter());
        let mut items: Vec<i64> = taken.keys().copied().collect();
        items.sort_unstable();
        let item = items[random.below(items.len())];
        let Some(title) = self.texts.titles(&[item])?.remove(&item) else { return Ok(()) };
        let mut words: Vec<String> = title
            .to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect();
        words.sort_unstable();
        words.dedup();
        random.shuffle(&mut words);
        // A word that names the item says which it is; one that half the shop bears says nothing: neither is a query.
        let wanted = if random.uniform() < 0.75 { 1 } else { 2 };
        let mut chosen: Vec<String> = Vec::new();
        for word in words.into_iter().take(8) {
            let known = self.store.words(&word)?;
            let [term] = known.terms.as_slice() else { continue };
            let share = 1.0 / term.idf.exp();
            let common = share >= 0.12 && share * self.catalog > 100.0;
            if !common && term.idf < self.rarest() {
                chosen.push(word);
                if chosen.len() == wanted {
                    break;
                }
            }
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let query = chosen.join(" ");
        let words = self.store.words(&query)?;
        let vector = self.texts.embed(&query)?;
        let shopper = self.shopper(history)?;
        let mut ids = self.store.lexical(&words, weights::PRIOR, 500, &Scope::All)?;
        ids.extend(self.store.dense(&vector, weights::DENSE_CAP, &Scope::All)?);
        ids.extend(shopper.neighbours().into_iter().take(weights::TOGETHER_CAP));
        self.leave_seen(&mut ids, history);
        let ids = self.some(ids, &taken, random);
        // Of the basket, what answers the query: it holds every word.
        let answers = |item: &Item| item.words.covered >= words.total() * 0.999;
        let label = |item: &Item| if answers(item) { taken.get(&item.id).copied().unwrap_or(0.0) } else { 0.0 };
        let ask = Ask {
            head: Head::Answer,
            words: &words,
            vector: Some(&vector),
            moment: self.log.moment_of(&rows[0]),
            shopper: rows[0].shopper,
        };
        self.push(&ask, &shopper, history, &ids, label, lists)
    }

    /// An idf above which a word stands in too few items to be asked for: some ten.
    fn rarest(&self) -> f64 {
        let total = self.catalog.max(1.0);
        (1.0 + total / 10.0).ln()
    }

    /// A query that the shopper typed: what was shown or could have been, and what was taken after it.
    fn by_query(
        &self,
        rows: &[Logged],
        query: u32,
        history: &[Event],
        random: &mut Random,
        lists: &mut Lists,
    ) -> Result<()> {
        let own: Vec<&Logged> = rows.iter().filter(|r| r.query == query).collect();
        let (Some(first), Some(text)) = (own.first(), self.log.queries.get(query as usize - 1)) else { return Ok(()) };
        let taken = Self::taken(own.iter().copied());
        let at = first.at;
        // What this session did before this query is history, too.
        let session = first.session;
        let mut with: Vec<Event> = rows
            .iter()
            .rev()
            .filter(|r| r.at < at && r.item != 0 && r.weight > 0.0)
            .map(|r| super::log::event(r, session))
            .collect();
        with.extend_from_slice(history);
        let words = self.store.words(text)?;
        let vector = self.texts.embed(text)?;
        let shopper = self.shopper(&with)?;
        let mut place: HashMap<i64, u16> = HashMap::new();
        for row in own.iter().filter(|r| r.position > 0) {
            place.entry(row.item).or_insert(row.position);
        }
        let mut ids: Vec<i64> = own.iter().filter(|r| r.kind == Kind::Impression).map(|r| r.item).collect();
        if ids.is_empty() {
            ids = self.store.lexical(&words, weights::PRIOR, 500, &Scope::All)?;
            ids.extend(self.store.dense(&vector, weights::DENSE_CAP, &Scope::All)?);
            ids.extend(shopper.neighbours().into_iter().take(weights::TOGETHER_CAP));
            self.leave_seen(&mut ids, &with);
            ids = self.some(ids, &taken, random);
        }
        let label = |item: &Item| {
            let grade = taken.get(&item.id).copied().unwrap_or(0.0);
            grade * place.get(&item.id).map_or(1.0, |position| self.propensity.weight(*position))
        };
        let ask = Ask {
            head: Head::Answer,
            words: &words,
            vector: Some(&vector),
            moment: self.log.moment_of(first),
            shopper: first.shopper,
        };
        self.push(&ask, &shopper, &with, &ids, label, lists)
    }

    /// What was taken though nobody asked: new items among what would be recommended.
    fn wanted(&self, rows: &[Logged], history: &[Event], random: &mut Random, lists: &mut Lists) -> Result<()> {
        let seen: HashSet<i64> = history.iter().map(|e| e.item).collect();
        let mut taken = Self::taken(rows.iter());
        taken.retain(|item, _| !seen.contains(item));
        if taken.is_empty() {
            return Ok(());
        }
        let shopper = self.shopper(history)?;
        let mut ids: Vec<i64> = shopper.neighbours().into_iter().take(weights::BROWSE_CAP).collect();
        ids.extend(self.past.popular());
        let moment = self.log.moment_of(&rows[0]);
        ids.extend(self.encoder.nearest(history, &moment, weights::TOGETHER_CAP));
        if let Some(vector) = shopper.vector() {
            ids.extend(self.store.dense(&vector, weights::DENSE_CAP, &Scope::All)?);
        }
        ids.retain(|id| !seen.contains(id));
        let ids = self.some(ids, &taken, random);
        let words = Bm25::default();
        let ask = Ask { head: Head::Want, words: &words, vector: None, moment, shopper: rows[0].shopper };
        self.push(&ask, &shopper, history, &ids, |item| taken.get(&item.id).copied().unwrap_or(0.0), lists)
    }

    /// Where nobody takes an item again, those in the history are easy to tell: nothing is learnt from them.
    fn leave_seen(&self, ids: &mut Vec<i64>, history: &[Event]) {
        if !self.repeats {
            let seen: HashSet<i64> = history.iter().map(|e| e.item).collect();
            ids.retain(|id| !seen.contains(id));
        }
    }

    /// Distinct candidates: what was taken of them, and some of the others.
    fn some(&self, ids: Vec<i64>, taken: &HashMap<i64, f32>, random: &mut Random) -> Vec<i64> {
        let mut known = HashSet::new();
        let distinct = ids.into_iter().filter(|id| known.insert(*id));
        let (mut kept, mut others): (Vec<i64>, Vec<i64>) = distinct.partition(|id| taken.contains_key(id));
        if others.len() > self.settings.others {
            random.shuffle(&mut others);
            others.truncate(self.settings.others);
        }
        kept.extend(others);
        kept
    }

    fn push(
        &self,
        ask: &Ask,
        shopper: &Shopper,
        history: &[Event],
        ids: &[i64],
        label: impl Fn(&Item) -> f32,
        lists: &mut Lists,
    ) -> Result<()> {
        let mut items: Vec<Item> =
            self.store.items(ids, ask.words)?.into_iter().map(|item| self.past.dated(item)).collect();
        items.sort_unstable_by_key(|item| item.id);
        // What nobody had taken by then may not have been there yet, and what was taken all the same is in the catalog
        // because it was: "no record" would foretell the future. As one of the others it is only unlikely.
        items.retain(|item| item.shoppers > 0.0 || label(item) <= 0.0);
        let labels: Vec<f32> = items.iter().map(&label).collect();
        if items.len() < 2 || !labels.iter().any(|l| *l > 0.0) {
            return Ok(());
        }
        let closeness = ask.vector.map(|v| shopper.closeness(v)).unwrap_or_default();
        let whole = &self.past.whole;
        let (words, vector, at) = (ask.words, ask.vector, ask.moment.at);
        let known = Known { words, vector, shopper, closeness: &closeness, whole, at };
        let learnt = self.encoder.learnt(history, &ask.moment, &items);
        let first = lists.features.len();
        for ((item, label), learnt) in items.iter().zip(labels).zip(learnt) {
            lists.features.push(feature::of(&known, item, learnt));
            lists.before.push((self.before)(&known, item, ask.head, (history, &ask.moment)));
            lists.labels.push(label);
            lists.items.push(item.id);
        }
        let call = feature::call(&known);
        let range = first..lists.features.len();
        lists.lists.push(List { head: ask.head, call, range, shopper: ask.shopper, weight: 1.0 });
        Ok(())
    }
}

/// What one list asks.
struct Ask<'a> {
    head: Head,
    words: &'a Bm25,
    vector: Option<&'a [f32]>,
    moment: Moment,
    shopper: u32,
}
