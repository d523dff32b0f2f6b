//! Samples: lists of candidates of one moment, with what was taken of them.
//!
//! The query of a list is the shopper's own where the tables hold one. Else it is one or two words of the title of what was
//! taken: whoever bought a lamp might have asked for one, so a ranker can be trained from orders alone.
//!
//! A list is what the search itself would have ranked: the same `Question` asks the same sources of a store that knows the
//! behaviour before the slice, and nothing of it or after it. So a feature means in training what it means in a search,
//! and none can know the future. What the shop showed stands for the candidates where it logged that.

use super::log::{Basket, Log, Logged};
use crate::catalog::options::SearchOptions;
use crate::control::Control;
use crate::error::Result;
use crate::event::{Event, Kind};
use crate::measure::propensity::Propensity;
use crate::random::Random;
use crate::rank::feature::{self, Call, Features, Learnt};
use crate::rank::network::{Head, Ranker};
use crate::rank::weights;
use crate::search::{self, Question, Request};
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

/// What an encoder says of items to a shopper; gaps count to `at`. Without one, nothing.
pub trait Encode {
    /// For each of the items.
    fn learnt(&self, history: &[Event], at: f64, moment: &Moment, items: &[Item]) -> Vec<Learnt>;
    /// The items that it would bring itself.
    fn nearest(&self, history: &[Event], at: f64, moment: &Moment, n: usize) -> Vec<i64>;
}

/// No encoder.
pub struct Untaught;

impl Encode for Untaught {
    fn learnt(&self, _: &[Event], _: f64, _: &Moment, items: &[Item]) -> Vec<Learnt> {
        vec![Learnt::default(); items.len()]
    }

    fn nearest(&self, _: &[Event], _: f64, _: &Moment, _: usize) -> Vec<i64> {
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
    /// What its order counts: what was taken over its propensities, against what was taken; 1 where those are not known.
    /// The labels' shares within the list have lost it, and a list with one click says as much as how seldom its place is
    /// looked at (Ai and others, *Unbiased Learning to Rank with Unbiased Propensity Estimation*, 2018).
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
    /// For how many candidates each stands: 1, or more where it was drawn from so many.
    pub counts: Vec<f32>,
    /// Candidates that were left out, being out of stock.
    pub out_of_stock: u64,
}

impl Lists {
    /// Bytes that a candidate takes.
    pub const EACH: usize = size_of::<Features>() + 20;
}

/// How lists are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Candidates kept of a list that were not taken: two thirds are those that the ranking to beat and the encoder have
    /// highest, one third is drawn from the rest and stands for it. `usize::MAX` is all, as a search has them.
    pub others: usize,
    /// Newest events of a history that are read.
    pub history: usize,
    /// A share of the histories that is cut to its newest part or left out, so that short ones are learnt as well.
    pub cut: f64,
    /// Queries made of one basket's titles, where it holds none of the shopper's own.
    pub queries: usize,
}

/// Makes lists of one slice of time.
pub struct Maker<'a> {
    /// Behaviour.
    pub log: &'a Log,
    /// The catalog with the statistics of what was known before the slice.
    pub store: &'a dyn Store,
    /// Titles, query vectors.
    pub texts: &'a dyn Texts,
    /// The encoder, trained on what was before.
    pub encoder: &'a dyn Encode,
    /// Whether shoppers take an item again; where not, what they have is no candidate.
    pub repeats: bool,
    /// How many items the catalog has.
    pub catalog: f64,
    /// Items that cannot be bought: that nobody takes them says nothing. What was shown could be bought then, and stays.
    pub out_of_stock: &'a HashSet<i64>,
    /// How likely each position is looked at.
    pub propensity: &'a Propensity,
    /// The ranker to beat; `None` is the fixed weights.
    pub before: Option<&'a Arc<Ranker>>,
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

/// One list that is asked for.
struct Ask<'a> {
    head: Head,
    query: Option<&'a str>,
    /// The row that it begins with.
    row: &'a Logged,
    history: Vec<Event>,
    /// What the shop showed; empty where that is not logged.
    shown: Vec<i64>,
    taken: HashMap<i64, f32>,
}

impl Maker<'_> {
    /// The lists of some baskets. Those whose candidates hold nothing that was taken are left out.
    pub fn lists(
        &self,
        baskets: &[Basket],
        random: &mut Random,
        control: &dyn Control,
        lists: &mut Lists,
    ) -> Result<()> {
        for (done, basket) in baskets.iter().enumerate() {
            control.check()?;
            control.progress("samples", done as u64, baskets.len() as u64);
            self.basket(basket, random, control, lists)?;
        }
        Ok(())
    }

    fn basket(&self, basket: &Basket, random: &mut Random, control: &dyn Control, lists: &mut Lists) -> Result<()> {
        let rows = &self.log.events[basket.rows.clone()];
        let mut queries: Vec<u32> = rows.iter().map(|e| e.query).filter(|q| *q != 0).collect();
        queries.sort_unstable();
        queries.dedup();
        let history = self.cut(basket.history(self.log, self.settings.history), random);
        if queries.is_empty() {
            for _ in 0..self.settings.queries {
                self.by_title(rows, &history, random, control, lists)?;
            }
        }
        for query in queries {
            self.by_query(rows, query, &history, random, control, lists)?;
        }
        self.wanted(rows, history, random, control, lists)
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
    fn by_title(
        &self,
        rows: &[Logged],
        history: &[Event],
        random: &mut Random,
        control: &dyn Control,
        lists: &mut Lists,
    ) -> Result<()> {
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
        let ask = Ask {
            head: Head::Answer,
            query: Some(&query),
            row: &rows[0],
            history: history.to_vec(),
            shown: Vec::new(),
            taken,
        };
        // Of the basket, what answers the query: it holds every word.
        let label = |item: &Item, total: f64, taken: f32| if item.words.covered >= total * 0.999 { taken } else { 0.0 };
        self.push(ask, label, random, control, lists)
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
        control: &dyn Control,
        lists: &mut Lists,
    ) -> Result<()> {
        let own: Vec<&Logged> = rows.iter().filter(|r| r.query == query).collect();
        let (Some(first), Some(text)) = (own.first(), self.log.queries.get(query as usize - 1)) else { return Ok(()) };
        let (at, session) = (first.at, first.session);
        // What this session did before this query is history, too.
        let mut with: Vec<Event> = rows
            .iter()
            .rev()
            .filter(|r| r.at < at && r.item != 0 && r.weight > 0.0)
            .map(|r| super::log::event(r, session))
            .collect();
        with.extend_from_slice(history);
        let mut place: HashMap<i64, u16> = HashMap::new();
        for row in own.iter().filter(|r| r.position > 0) {
            place.entry(row.item).or_insert(row.position);
        }
        let ask = Ask {
            head: Head::Answer,
            query: Some(text),
            row: first,
            history: with,
            shown: own.iter().filter(|r| r.kind == Kind::Impression && r.item != 0).map(|r| r.item).collect(),
            taken: Self::taken(own.iter().copied()),
        };
        let label = |item: &Item, _: f64, taken: f32| {
            taken * place.get(&item.id).map_or(1.0, |position| self.propensity.weight(*position))
        };
        self.push(ask, label, random, control, lists)
    }

    /// What was taken though nobody asked: new items among what would be recommended.
    fn wanted(
        &self,
        rows: &[Logged],
        history: Vec<Event>,
        random: &mut Random,
        control: &dyn Control,
        lists: &mut Lists,
    ) -> Result<()> {
        let seen: HashSet<i64> = history.iter().map(|e| e.item).collect();
        let mut taken = Self::taken(rows.iter());
        taken.retain(|item, _| !seen.contains(item));
        if taken.is_empty() {
            return Ok(());
        }
        let ask = Ask { head: Head::Want, query: None, row: &rows[0], history, shown: Vec::new(), taken };
        self.push(ask, |_, _, taken| taken, random, control, lists)
    }

    /// Asks for a list's candidates as a search does; `label` says of an item what it is worth, from the idf of the whole
    /// query and what was taken of it.
    fn push(
        &self,
        ask: Ask,
        label: impl Fn(&Item, f64, f32) -> f32,
        random: &mut Random,
        control: &dyn Control,
        lists: &mut Lists,
    ) -> Result<()> {
        let vector = ask.query.map(|query| self.texts.embed(query)).transpose()?;
        // Where nobody takes an item again, those in the history are easy to tell: nothing is learnt from them.
        let exclude_seen = !self.repeats || ask.head == Head::Want;
        let request = Request {
            query: ask.query,
            user_id: None,
            at: (!self.log.own_clock).then_some(ask.row.at),
            session: None,
            k: 10,
            options: SearchOptions { exclude_seen, ..SearchOptions::default() },
            understanding: None,
        };
        let question = Question::after(self.store, &request, vector.clone(), ask.history)?;
        let moment = self.log.moment_of(ask.row);
        let at = question.at(&request);
        let was_shown = !ask.shown.is_empty();
        let ids = if ask.shown.is_empty() {
            let mut ids = search::retrieve(self.store, &request, &question, &Scope::All, control)?.ids();
            if ask.head == Head::Want {
                let brought = self.encoder.nearest(question.history(), at, &moment, weights::TOGETHER_CAP);
                ids.extend(brought.into_iter().filter(|id| !question.leaves_out(&request.options, *id)));
            }
            ids
        } else {
            ask.shown
        };
        let mut distinct = HashSet::new();
        let mut ids: Vec<i64> = ids.into_iter().filter(|id| distinct.insert(*id)).collect();
        let found = ids.len();
        ids.retain(|id| was_shown || !self.out_of_stock.contains(id) || ask.taken.contains_key(id));
        let out_of_stock = (found - ids.len()) as u64;
        let before = match self.before {
            Some(ranker) => {
                let again = Question::after(self.store, &request, vector, question.history().to_vec())?;
                Some(again.rank_by(self.store, ranker.clone(), &request, &self.log.context_of(ask.row))?)
            }
            None => None,
        };
        let before = before.as_ref().unwrap_or(&question);
        let total = question.words().total();
        let worth = |item: &Item| label(item, total, ask.taken.get(&item.id).copied().unwrap_or(0.0));
        let mut items = before.items(self.store, &ids, question.words())?;
        items.sort_unstable_by_key(|item| item.id);
        // What nobody had taken by then may not have been there yet, and what was taken all the same is in the catalog
        // because it was: "no record" would foretell the future. As one of the others it is only unlikely.
        items.retain(|item| item.shoppers > 0.0 || worth(item) <= 0.0);
        let labels: Vec<f32> = items.iter().map(worth).collect();
        if items.len() < 2 || !labels.iter().any(|l| *l > 0.0) {
            return Ok(());
        }
        lists.out_of_stock += out_of_stock;
        let closeness = question.closeness();
        let known = question.known_at(&request, &closeness);
        let learnt = self.encoder.learnt(question.history(), at, &moment, &items);
        let scores: Vec<f32> = items.iter().map(|item| before.parts(item).score()).collect();
        let sequence: Vec<f32> = learnt.iter().map(|l| l.sequence + l.bias).collect();
        let first = lists.features.len();
        for (n, count) in some(self.settings.others, &labels, [&scores, &sequence], random) {
            lists.features.push(feature::of(&known, &items[n], learnt[n]));
            lists.before.push(scores[n]);
            lists.labels.push(labels[n]);
            lists.items.push(items[n].id);
            lists.counts.push(count);
        }
        let range = first..lists.features.len();
        let call = feature::call(&known);
        let taken = items.iter().zip(&labels).filter(|(_, label)| **label > 0.0);
        let taken: f32 = taken.filter_map(|(item, _)| ask.taken.get(&item.id)).sum();
        let weight = if taken > 0.0 { labels.iter().sum::<f32>() / taken } else { 1.0 };
        lists.lists.push(List { head: ask.head, call, range, shopper: ask.row.shopper, weight });
        Ok(())
    }
}

/// Which candidates are kept, and for how many each stands. The highest decide the first ten places, and are kept
/// themselves; a list of those alone would teach that what ranks high is bad, so some of the rest stand for all of it.
fn some(most: usize, labels: &[f32], scores: [&[f32]; 2], random: &mut Random) -> Vec<(usize, f32)> {
    let others: Vec<usize> = (0..labels.len()).filter(|n| labels[*n] <= 0.0).collect();
    if others.len() <= most {
        return (0..labels.len()).map(|n| (n, 1.0)).collect();
    }
    let third = most / 3;
    let mut kept = vec![false; labels.len()];
    for scores in scores {
        let mut left: Vec<usize> = others.iter().copied().filter(|n| !kept[*n]).collect();
        let high = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        if left.len() > third {
            left.select_nth_unstable_by(third, high);
        }
        left.into_iter().take(third).for_each(|n| kept[n] = true);
    }
    let mut rest: Vec<usize> = others.iter().copied().filter(|n| !kept[*n]).collect();
    random.shuffle(&mut rest);
    let drawn = (most - 2 * third).min(rest.len());
    let each = rest.len() as f32 / drawn.max(1) as f32;
    let mut all: Vec<(usize, f32)> =
        (0..labels.len()).filter(|n| labels[*n] > 0.0 || kept[*n]).map(|n| (n, 1.0)).collect();
    all.extend(rest.into_iter().take(drawn).map(|n| (n, each)));
    all.sort_unstable_by_key(|(n, _)| *n);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_are_kept_and_the_others_stand_for_the_rest() {
        let mut labels = vec![0.0; 500];
        labels[321] = 1.0;
        let up: Vec<f32> = (0..500).map(|n| n as f32).collect();
        let down: Vec<f32> = up.iter().map(|score| -score).collect();
        let kept = some(60, &labels, [&up, &down], &mut Random::new(1));
        assert_eq!(kept.len(), 61);
        let alone: Vec<usize> = kept.iter().filter(|(_, count)| *count == 1.0).map(|(n, _)| *n).collect();
        assert_eq!(alone, (0..20).chain([321]).chain(480..500).collect::<Vec<_>>());
        let all: f32 = kept.iter().map(|(_, count)| count).sum();
        assert!((all - 500.0).abs() < 0.01, "{all}");
        assert_eq!(some(usize::MAX, &labels, [&up, &down], &mut Random::new(1)).len(), 500);
        assert_eq!(some(2, &labels[..10], [&up[..10], &down[..10]], &mut Random::new(1)).len(), 2);
    }
}
