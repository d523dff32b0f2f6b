//! Held-out behaviour replayed through the search: what each variant would have shown a shopper at that moment.
//!
//! A replay is a search as of the moment of the event: the history is what lay before it, and nothing of it or after it.
//! What all shoppers share (popularity, what goes together) is what the given store says, and it is for whoever made the
//! store to see that it says nothing of what came later.

mod target;

pub use target::{Logged, Shown, Target, pseudo_queries, sample, targets};

use crate::arrange::Arrangement;
use crate::catalog::options::{SearchOptions, Source};
use crate::catalog::rule::Rule;
use crate::control::Control;
use crate::error::Result;
use crate::measure::counterfactual::Placed;
use crate::measure::interval::Sums;
use crate::measure::metric;
use crate::measure::report::{Outcome, Replayed};
use crate::parts::Dimension;
use crate::random::Random;
use crate::rank::network::Ranker;
use crate::search::{Question, Request, search};
use crate::store::{Scope, Store};
use crate::understand::Understanding;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A way to rank that is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its name in the report.
    pub name: String,
    /// Whether it may know the shopper.
    pub knows_shopper: bool,
    /// Whether it may know what the query means, beside its words.
    pub knows_meaning: bool,
    /// How it searches.
    pub options: SearchOptions,
}

impl Variant {
    /// A search for this shopper.
    pub fn personal(name: &str, options: SearchOptions) -> Variant {
        Variant { name: name.to_owned(), knows_shopper: true, knows_meaning: true, options }
    }

    /// The same search for nobody in particular.
    pub fn unpersonalised(name: &str, options: SearchOptions) -> Variant {
        Variant { knows_shopper: false, ..Variant::personal(name, options) }
    }

    /// BM25 alone.
    pub fn lexical(name: &str) -> Variant {
        let without = crate::parts::DIMENSIONS.into_iter().filter(|d| *d != Dimension::Relevance).collect();
        let sources = vec![Source::Lexical];
        let options = SearchOptions { sources, without, understand: false, ..SearchOptions::default() };
        Variant { knows_meaning: false, ..Variant::unpersonalised(name, options) }
    }
}

/// How a replay is done.
pub struct Settings<'a> {
    /// Places that count.
    pub k: usize,
    /// Whether what the history holds is no answer, as in `recommend`.
    pub only_new: bool,
    /// The chance that a place is looked at, from the first on; `None` where it is not known.
    pub looked: Option<&'a [f64]>,
    /// How many shoppers asked a query before; empty where no queries are logged.
    pub asked: &'a HashMap<String, u64>,
    /// The ranker of a number, or without one the one that is deployed.
    pub ranker: &'a Rankers<'a>,
    /// The rules that apply to a call.
    pub rules: &'a Rules<'a>,
    /// The catalog's brand and category columns, as far as it has them.
    pub brand: Option<&'a str>,
    /// See `brand`.
    pub category: Option<&'a str>,
    /// Of what variants leave to chance.
    pub seed: u64,
}

/// Finds rankers; `None` ranks by the fixed weights.
pub type Rankers<'a> = dyn Fn(Option<i64>) -> Result<Option<Arc<Ranker>>> + 'a;

/// Finds the rules of the shop for a call in a context.
pub type Rules<'a> = dyn Fn(&Request, &Question, &[(String, String)]) -> Result<Vec<Rule>> + 'a;

/// What a query means, where a variant understands it, and its vector, where there are vectors.
pub type Reading = (Option<Arc<Understanding>>, Option<Arc<[f32]>>);

/// Reads a query as a variant would.
pub type Readings<'a> = dyn FnMut(&str, &SearchOptions) -> Result<Reading> + 'a;

/// Ranks every target by every variant.
pub fn replay(
    store: &dyn Store,
    targets: &[Target],
    variants: &[Variant],
    settings: &Settings,
    read: &mut Readings,
    control: &dyn Control,
) -> Result<Vec<Replayed>> {
    let mut replayed = Vec::new();
    let mut lengths = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (done, target) in targets.iter().enumerate() {
        control.check()?;
        control.progress("replay", done as u64, targets.len() as u64);
        let history = store.history(&target.shopper, Some(target.at), None)?;
        let known: HashSet<i64> = history.iter().map(|event| event.item).collect();
        let wanted: Vec<(i64, f64)> =
            target.taken.iter().copied().filter(|(item, _)| !(settings.only_new && known.contains(item))).collect();
        if wanted.is_empty() && target.shown.is_empty() {
            continue;
        }
        let next = numbers.len();
        let group = *numbers.entry(&target.shopper).or_insert(next);
        let query = target.query.clone().unwrap_or_default();
        let mut outcomes = Vec::with_capacity(variants.len());
        for variant in variants {
            let reading = if query.is_empty() { Reading::default() } else { read(&query, &variant.options)? };
            outcomes.push(rank(store, target, &wanted, variant, reading, settings, control)?);
        }
        lengths.push(history.len());
        replayed.push(Replayed { group, slices: Vec::new(), wanted, logged: logged(target), query, outcomes });
    }
    slice(&mut replayed, &lengths, settings);
    Ok(replayed)
}

/// A logged list whose every place and propensity is known.
fn logged(target: &Target) -> Vec<Placed> {
    let placed = target.shown.iter().map(|shown| {
        let taken = target.taken.iter().any(|(item, _)| *item == shown.item);
        let propensity = shown.propensity.filter(|p| *p > 0.0 && *p <= 1.0)?;
        Some(Placed { item: shown.item, place: shown.place?, propensity, taken })
    });
    placed.collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn rank(
    store: &dyn Store,
    target: &Target,
    wanted: &[(i64, f64)],
    variant: &Variant,
    (understanding, vector): Reading,
    settings: &Settings,
    control: &dyn Control,
) -> Result<Outcome> {
    let request = Request {
        query: target.query.as_deref(),
        user_id: variant.knows_shopper.then_some(target.shopper.as_str()),
        at: Some(target.at),
        session: target.session.as_deref().filter(|_| variant.knows_shopper),
        k: settings.k,
        options: variant.options.clone(),
        understanding,
    };
    // Device and place are of this shopper's call: whoever is nobody in particular has none.
    let context = if variant.knows_shopper { target.context.as_slice() } else { &[] };
    let mut question = Question::ask(store, &request, vector.filter(|_| variant.knows_meaning))?;
    if let Some(ranker) = (settings.ranker)(variant.options.ranker)? {
        question = question.rank_by(store, ranker, &request, context)?;
    }
    question.set_segments(store, context, &request)?;
    let ranked = search(store, &request, &question, &Scope::All, control)?;
    let rules = (settings.rules)(&request, &question, context)?;
    let page = Arrangement {
        store,
        request: &request,
        question: &question,
        scope: &Scope::All,
        rules: &rules,
        brand: settings.brand,
        category: settings.category,
        seed: Random::named(settings.seed, &format!("{} {}", target.shopper, target.at)).bits(),
    };
    let ranked = page.arrange(ranked, control)?;
    let gain: HashMap<i64, f64> = wanted.iter().copied().collect();
    let gains: Vec<f64> = ranked.iter().map(|row| gain.get(&row.id).copied().unwrap_or(0.0)).collect();
    let all: Vec<f64> = gain.values().copied().collect();
    let mut outcome = Outcome { top: ranked.iter().take(settings.k).map(|row| row.id).collect(), ..Outcome::default() };
    // Where it is known what was shown, only that was judged: an item that nobody saw was not turned down.
    let judged: Vec<i64> = if target.shown.is_empty() {
        let found: HashSet<i64> = ranked.iter().map(|row| row.id).collect();
        let unfound = gain.keys().copied().filter(|item| !found.contains(item));
        ranked.iter().map(|row| row.id).chain(unfound).collect()
    } else {
        target.shown.iter().map(|shown| shown.item).collect()
    };
    let scores: HashMap<i64, f64> = ranked.iter().map(|row| (row.id, f64::from(row.parts.score()))).collect();
    let unscored: Vec<i64> = judged.iter().copied().filter(|item| !scores.contains_key(item)).collect();
    let mut scores = scores;
    if !unscored.is_empty() {
        let items = question.items(store, &unscored, question.words())?;
        scores.extend(items.iter().map(|item| (item.id, f64::from(question.parts(item).score()))));
    }
    outcome.scored = judged.iter().filter_map(|item| Some((*scores.get(item)?, gain.contains_key(item)))).collect();
    if !gain.is_empty() {
        let k = settings.k;
        outcome.means = [
            metric::ndcg(&gains, &all, k),
            Some(metric::reciprocal_rank(&gains)),
            Some(metric::recall(&gains, all.len(), k)),
            Some(f64::from(u8::from(gains.iter().take(k).any(|gain| *gain > 0.0)))),
            metric::auc(&outcome.scored),
        ];
    }
    outcome.unbiased =
        settings.looked.and_then(|looked| unbiased(target, &gain, &ranked_places(&outcome.top), looked, settings.k));
    Ok(outcome)
}

fn ranked_places(top: &[i64]) -> HashMap<i64, usize> {
    top.iter().enumerate().map(|(place, item)| (*item, place)).collect()
}

/// DCG over the best DCG where a gain counts as often as its place is overlooked (Joachims, Swaminathan and Schnabel, 2017).
fn unbiased(
    target: &Target,
    gain: &HashMap<i64, f64>,
    places: &HashMap<i64, usize>,
    looked: &[f64],
    k: usize,
) -> Option<Sums> {
    let mut weighted = Vec::new();
    let mut over = 0.0;
    for shown in &target.shown {
        let (Some(gain), Some(place)) = (gain.get(&shown.item), shown.place) else { continue };
        let gain = gain / looked.get(place.checked_sub(1)?).or(looked.last())?;
        weighted.push(gain);
        over += places.get(&shown.item).map_or(0.0, |place| gain * metric::discount(*place));
    }
    let under = metric::ideal(&weighted, k);
    (under > 0.0).then_some(Sums { over, under })
}

/// Says who is new and who is heavy (the fifth with the longest histories), which query is often asked (those that make
/// half of the searches) and which is not (by one shopper before, at most).
fn slice(replayed: &mut [Replayed], lengths: &[usize], settings: &Settings) {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let heavy = sorted.get(sorted.len() * 4 / 5).copied().unwrap_or(0).max(5);
    let asked = |query: &str| settings.asked.get(&query.to_lowercase()).copied().unwrap_or(0);
    let mut times: Vec<u64> = replayed.iter().map(|search| asked(&search.query)).collect();
    times.sort_unstable();
    let head = times.get(times.len() / 2).copied().unwrap_or(0).max(2);
    for (search, length) in replayed.iter_mut().zip(lengths) {
        if *length == 0 {
            search.slices.push("new shoppers");
        } else if *length >= heavy {
            search.slices.push("heavy shoppers");
        }
        if !settings.asked.is_empty() && !search.query.is_empty() {
            match asked(&search.query) {
                times if times >= head => search.slices.push("head queries"),
                0 | 1 => search.slices.push("tail queries"),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gain_counts_as_often_as_its_place_is_overlooked() {
        let shown = |item, place| Shown { item, place: Some(place), propensity: None };
        let target = Target { shown: vec![shown(5, 1), shown(6, 2)], ..Target::default() };
        let places = HashMap::from([(5, 1), (6, 0)]);
        let gain = HashMap::from([(5, 1.0), (6, 1.0)]);
        let sums = unbiased(&target, &gain, &places, &[1.0, 0.5], 10).unwrap();
        let second = metric::discount(1);
        assert!((sums.over - (2.0 + second)).abs() < 1e-12 && (sums.under - (2.0 + second)).abs() < 1e-12);
    }
}
