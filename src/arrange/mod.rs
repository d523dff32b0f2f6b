//! Arrange: from a ranking to a page.
//!
//! A ranking says how much each item is wanted by itself; a page is what is wanted together. In this order:
//!
//! | step | what it changes | where it shows |
//! | --- | --- | --- |
//! | rules: boost, bury, block | the score | part `rules` |
//! | variants (`group_by`) | the best of a group stands for it | |
//! | rules: pin, sponsor | the place | `source`: `pinned`, `sponsored` |
//! | blend | some places go to what is recommended | `source`: `recommended` |
//! | exploration | some places go to what little is known of | `source`: `explored` |
//! | diversity, caps, calibration | the order | |
//!
//! `score` stays the sum of `parts` for every row: what changes a place leaves the score alone, so scores need not fall
//! from row to row. All places up to `offset + k` are arranged in turn, from a fixed number of the best, so a second page
//! goes on where the first ended.
//!
//! **Propensities.** With `explore`, each row's source ends in ` p=0.9375`: the chance, given the rows above it, that this
//! item came to stand at this place. `persona.propensity(source)` reads it, and gives 1 where nothing was left to chance.
//! A shop that logs `source` with its impressions has what off-policy estimates need.

pub mod diversity;
pub mod explore;
pub mod rules;

use crate::catalog::options::SearchOptions;
use crate::catalog::rule::Rule;
use crate::control::Control;
use crate::error::Result;
use crate::parts::Dimension;
use crate::random::Random;
use crate::search::{self, Question, Ranked, Request};
use crate::store::{Record, Scope, Store, WHOLE};
use crate::understand::Class;
use diversity::{Chooser, Facts, WINDOW};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Who is asked, and for what: the same in every step.
pub struct Arrangement<'a> {
    /// The database.
    pub store: &'a dyn Store,
    /// The call.
    pub request: &'a Request<'a>,
    /// What the call knows.
    pub question: &'a Question,
    /// Which items may come back.
    pub scope: &'a Scope,
    /// The rules that apply, of higher priority first.
    pub rules: &'a [Rule],
    /// The catalog's brand and category columns, as far as it has them.
    pub brand: Option<&'a str>,
    /// See `brand`.
    pub category: Option<&'a str>,
    /// Of everything that is left to chance.
    pub seed: u64,
}

/// Items with at least this share of the relevance of what would stand there are worth a try.
const WORTH_TRYING: f64 = 0.8;
/// Items with at least this share of the best relevance answer the query: they are found, not recommended.
const ANSWERS: f64 = 0.5;
/// A query of so many words names something: it is answered, not varied.
const EXACT_WORDS: usize = 4;

impl Arrangement<'_> {
    fn options(&self) -> &SearchOptions {
        &self.request.options
    }

    /// The chance of an intent; 0 where it is not known.
    fn intends(&self, class: Class) -> f64 {
        self.question.understanding().and_then(|u| u.intent.as_ref()).map_or(0.0, |intent| intent.of(class))
    }

    /// Whether the query names one thing: then neither variety nor recommendations are wanted.
    fn is_exact(&self) -> bool {
        let long = self.question.words().terms.len() >= EXACT_WORDS;
        self.intends(Class::BuyExact) >= 0.5 || long && self.intends(Class::Browse) < 0.5
    }

    /// Arranges a ranking, best first.
    pub fn arrange(&self, ranked: Vec<Ranked>, control: &dyn Control) -> Result<Vec<Ranked>> {
        let factor = self.options().factor(Dimension::Rules);
        let rules: &[Rule] = if factor > 0.0 { self.rules } else { &[] };
        let mut ranked = rules::apply(self.store, rules, factor, ranked)?;
        self.collapse(&mut ranked)?;
        let mut placed = rules::placed(self.store, self.question, rules, self.scope, &mut ranked)?;
        let end = self.request.k + self.options().offset;
        let mut recommended = self.recommended(&ranked, &placed, control)?;
        let facts = self.facts(&ranked)?;
        let exact = self.is_exact();
        let diversity = if exact { 0.0 } else { self.options().diversity };
        let calibration = if exact { 0.0 } else { self.options().calibration };
        let caps = self.options().caps.values().copied().collect();
        let tastes = if calibration > 0.0 { self.tastes()? } else { BTreeMap::new() };
        let mut chooser = Chooser::new(&facts, diversity, caps, calibration, tastes);
        let mut lottery = Lottery::new(self, &ranked)?;
        if placed.is_empty() && recommended.is_empty() && chooser.is_idle() && lottery.is_idle() {
            return Ok(ranked);
        }
        let mut rest: Vec<(i64, f64)> = ranked.iter().map(|r| (r.id, f64::from(r.parts.score()))).collect();
        let mut of: HashMap<i64, Ranked> = ranked.into_iter().map(|r| (r.id, r)).collect();
        let mut list: Vec<Ranked> = Vec::with_capacity(of.len() + placed.len());
        while list.len() < end {
            let place = list.len() + 1;
            if list.len().is_multiple_of(self.request.k) {
                chooser.turn_page();
                control.check()?;
            }
            let mut chance = 1.0;
            let mut item = if let Some(fixed) = placed.remove(&place) {
                fixed
            } else if self.blends_at(place) && !recommended.is_empty() {
                let item = recommended.remove(0);
                rest.retain(|(id, _)| *id != item.id);
                item
            } else if rest.is_empty() {
                // A slot behind the last row is the last row.
                let Some((_, fixed)) = placed.pop_first() else { break };
                fixed
            } else {
                let first = chooser.choose(&rest);
                let (taken, drawn) = lottery.draw(&rest, first, &of);
                chance = drawn;
                let Some(mut item) = of.remove(&rest.remove(taken).0) else { continue };
                recommended.retain(|r| r.id != item.id);
                if taken != first {
                    item.mark("explored");
                }
                item
            };
            if !lottery.is_idle() {
                item.source.push_str(&format!(" p={}", (chance * 1e6).round() / 1e6));
            }
            chooser.place(item.id, &rest);
            list.push(item);
        }
        // What comes after, for rows that are gone by the time they are fetched.
        list.extend(placed.into_values());
        list.extend(rest.iter().filter_map(|(id, _)| of.remove(id)));
        Ok(list)
    }

    /// Keeps the best of each group; an item without a value is a group of its own.
    fn collapse(&self, ranked: &mut Vec<Ranked>) -> Result<()> {
        let Some(column) = &self.options().group_by else { return Ok(()) };
        let ids: Vec<i64> = ranked.iter().map(|r| r.id).collect();
        let values = self.store.values(&ids, std::slice::from_ref(column))?;
        let mut seen = HashSet::new();
        ranked.retain(|r| match values.get(&r.id).and_then(|v| v.first().cloned().flatten()) {
            Some(group) => seen.insert(group),
            None => true,
        });
        Ok(())
    }

    /// What diversity, caps and calibration want to know of the items that may come to stand on the pages.
    fn facts(&self, ranked: &[Ranked]) -> Result<HashMap<i64, Facts>> {
        let options = self.options();
        if options.diversity == 0.0 && options.caps.is_empty() && options.calibration == 0.0 {
            return Ok(HashMap::new());
        }
        let end = WINDOW + self.request.k + options.offset;
        let ids: Vec<i64> = ranked.iter().take(end).map(|r| r.id).collect();
        let mut vectors = if options.diversity > 0.0 { self.store.vectors(&ids)? } else { HashMap::new() };
        let attributes: Vec<String> = self.brand.iter().chain(&self.category).map(|c| (*c).to_owned()).collect();
        let attributes = if options.diversity > 0.0 { attributes } else { Vec::new() };
        let category = self.category.filter(|_| options.calibration > 0.0).map(str::to_owned);
        let capped = options.caps.keys().cloned();
        let columns: Vec<String> = attributes.iter().cloned().chain(capped).chain(category.clone()).collect();
        let values = self.store.values(&ids, &columns)?;
        let facts = |id: i64| {
            let mut values = values.get(&id).cloned().unwrap_or_default();
            let category = if category.is_some() { values.pop().flatten() } else { None };
            let capped = values.split_off(attributes.len().min(values.len()));
            (id, Facts { vector: vectors.remove(&id), attributes: values, capped, category })
        };
        Ok(ids.into_iter().map(facts).collect())
    }

    /// The shares of the categories in the shopper's history.
    fn tastes(&self) -> Result<BTreeMap<String, f64>> {
        let Some(category) = self.category else { return Ok(BTreeMap::new()) };
        let taken = self.question.shopper().weighted();
        let ids: Vec<i64> = taken.iter().map(|(id, _)| *id).collect();
        let values = self.store.values(&ids, &[category.to_owned()])?;
        let mut shares: BTreeMap<String, f64> = BTreeMap::new();
        for (id, weight) in taken {
            if let Some(category) = values.get(&id).and_then(|v| v.first().cloned().flatten()) {
                *shares.entry(category).or_default() += weight;
            }
        }
        let total: f64 = shares.values().sum();
        shares.values_mut().for_each(|share| *share /= total);
        Ok(shares)
    }

    /// The share of places that go to what is recommended: the caller's, else as much as shoppers who asked this wanted
    /// other things besides, as far as the query browses.
    fn blend(&self) -> f64 {
        let asked = self.request.query.is_some_and(|q| !q.trim().is_empty());
        if !asked || self.is_exact() {
            return 0.0;
        }
        let behaviour = self.question.understanding().and_then(|u| u.behaviour);
        let learnt = || behaviour.map_or(0.0, |b| b.beside * self.intends(Class::Browse));
        self.options().blend.unwrap_or_else(|| if self.question.shopper().is_unknown() { 0.0 } else { learnt() })
    }

    fn blends_at(&self, place: usize) -> bool {
        let upto = |place: usize| (place as f64 * self.blend() + 1e-9).floor();
        upto(place) > upto(place - 1)
    }

    /// What the shopper would want without the query, without what answers the query anyway.
    fn recommended(
        &self,
        ranked: &[Ranked],
        placed: &BTreeMap<usize, Ranked>,
        control: &dyn Control,
    ) -> Result<Vec<Ranked>> {
        if self.blend() == 0.0 {
            return Ok(Vec::new());
        }
        let mut request = Request { query: None, understanding: None, ..self.request.clone() };
        request.options.exclude_seen = true;
        let question = Question::ask(self.store, &request, None)?;
        let mut list = search::search(self.store, &request, &question, self.scope, control)?;
        let factor = self.options().factor(Dimension::Rules);
        list = rules::apply(self.store, if factor > 0.0 { self.rules } else { &[] }, factor, list)?;
        let relevance = |r: &Ranked| r.parts.get(Dimension::Relevance);
        let enough = ranked.iter().map(relevance).fold(0.0, f64::max) * ANSWERS;
        let found: HashSet<i64> =
            ranked.iter().filter(|r| relevance(r) >= enough).chain(placed.values()).map(|r| r.id).collect();
        list.retain(|r| !found.contains(&r.id));
        list.iter_mut().for_each(|r| r.source = format!("recommended+{}", r.source));
        Ok(list)
    }
}

/// Gives some places to chance.
struct Lottery {
    share: f64,
    random: Random,
    records: HashMap<i64, Record>,
    /// The catalog's rate.
    mean: f64,
}

impl Lottery {
    fn new(arrangement: &Arrangement, ranked: &[Ranked]) -> Result<Lottery> {
        let share = arrangement.options().explore;
        let mut lottery =
            Lottery { share, random: Random::named(arrangement.seed, "explore"), records: HashMap::new(), mean: 0.0 };
        if share > 0.0 {
            let end = WINDOW + arrangement.request.k + arrangement.options().offset;
            let mut ids: Vec<i64> = ranked.iter().take(end).map(|r| r.id).collect();
            ids.push(WHOLE);
            lottery.records = arrangement.store.records(&ids)?;
            let whole = lottery.record(WHOLE);
            lottery.mean = if whole.shown > 0.0 { whole.taken / whole.shown } else { 0.0 };
        }
        Ok(lottery)
    }

    fn is_idle(&self) -> bool {
        self.share == 0.0
    }

    fn record(&self, id: i64) -> Record {
        self.records.get(&id).copied().unwrap_or_default()
    }

    /// The place in `rest` of the item to stand next, and the chance that it came to be this one; `first` is what would
    /// stand there otherwise.
    fn draw(&mut self, rest: &[(i64, f64)], first: usize, of: &HashMap<i64, Ranked>) -> (usize, f64) {
        if self.is_idle() {
            return (first, 1.0);
        }
        let relevance = |place: usize| of.get(&rest[place].0).map_or(0.0, |r| r.parts.get(Dimension::Relevance));
        let enough = relevance(first) * WORTH_TRYING;
        let tried: Vec<usize> = (0..rest.len().min(WINDOW)).filter(|place| relevance(*place) >= enough).collect();
        let records: Vec<Record> = tried.iter().map(|place| self.record(rest[*place].0)).collect();
        let mut chances = explore::chances(&records, self.mean);
        // What is well known stands by its score: a chance would cost clicks and teach nothing.
        let mut known = 0.0;
        for (chance, record) in chances.iter_mut().zip(&records) {
            if !explore::is_uncertain(record, self.mean) {
                known += std::mem::take(chance);
            }
        }
        let mut taken = first;
        if self.random.uniform() < self.share {
            let mut left = self.random.uniform();
            for (place, chance) in tried.iter().zip(&chances) {
                left -= chance;
                if left < 0.0 {
                    taken = *place;
                    break;
                }
            }
        }
        let of_taken =
            tried.iter().zip(&chances).find(|(place, _)| **place == taken).map_or(0.0, |(_, chance)| *chance);
        let kept = if taken == first { 1.0 - self.share + self.share * known } else { 0.0 };
        (taken, kept + self.share * of_taken)
    }
}
