//! Search: understand → remember → retrieve → rank.
//!
//! A `Question` is what one call knows before it sees an item: the query's words and vector, the shopper. It scores any
//! item by itself, so `persona.search` and `persona.score` give one item one score.

use crate::catalog::options::{SearchOptions, Source};
use crate::control::Control;
use crate::error::Result;
use crate::linear::dot;
use crate::parts::{DIMENSIONS, Dimension, Parts};
use crate::rank::feature::{self, Known, Learnt};
use crate::rank::network::{Head, Ranker};
use crate::rank::weights;
use crate::retrieve::lexical::{Bm25, K1};
use crate::shopper::Shopper;
use crate::store::{Item, Scope, Store, Whole};
use std::collections::HashMap;
use std::sync::Arc;

/// What the caller asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// The query; `None` or blank is browsing.
    pub query: Option<&'a str>,
    /// The shopper; `None` is somebody unknown.
    pub user_id: Option<&'a str>,
    /// A moment to search as of, in seconds since 1970-01-01 UTC; `None` is now.
    pub at: Option<f64>,
    /// The session that is being served.
    pub session: Option<&'a str>,
    /// Rows wanted.
    pub k: usize,
    /// How to search.
    pub options: SearchOptions,
}

/// What a call knows before it sees an item.
pub struct Question {
    words: Bm25,
    vector: Option<Arc<[f32]>>,
    shopper: Shopper,
    whole: Whole,
    weights: [f64; DIMENSIONS.len()],
    trained: Option<Trained>,
}

/// A ranker, and what it makes of the call.
struct Trained {
    ranker: Arc<Ranker>,
    /// The gate of each dimension, times the caller's factor.
    gates: [f32; DIMENSIONS.len()],
    /// The query's closeness to each item of the history.
    closeness: Vec<f64>,
    /// The moment, in seconds since 1970.
    at: f64,
}

/// An item with its place in the ranking explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The item's number.
    pub id: i64,
    /// Its score by dimension.
    pub parts: Parts,
    /// Which sources brought it, joined by `+`.
    pub source: String,
}

impl Question {
    /// Reads the query and the shopper. `vector` is the query's, of length 1; `None` while browsing or without vectors.
    pub fn ask(store: &dyn Store, request: &Request, vector: Option<Arc<[f32]>>) -> Result<Question> {
        let query = request.query.map(str::trim).filter(|q| !q.is_empty());
        let words = query.map_or(Ok(Bm25::default()), |query| store.words(query))?;
        let whole = store.whole()?;
        let mut shopper = Shopper::default();
        if let Some(user_id) = request.user_id {
            let events = store.history(user_id, request.at, request.session)?;
            shopper = Shopper::new(&events, &weights::SHOPPER);
            let items = shopper.items();
            if !items.is_empty() {
                shopper.set_vectors(&store.vectors(&items)?, &whole.mean);
                shopper.set_pairs(&store.pairs(&items)?);
            }
        }
        let count = query.map(|_| words.terms.len());
        let weights = fixed(count, &request.options);
        Ok(Question { words, vector, shopper, whole, weights, trained: None })
    }

    /// The same question ranked by a ranker, whose gates this call opens.
    pub fn rank_by(mut self, ranker: Arc<Ranker>, request: &Request) -> Question {
        let asked = request.query.is_some_and(|q| !q.trim().is_empty());
        let closeness = self.vector.as_deref().map(|v| self.shopper.closeness(v)).unwrap_or_default();
        let at = moment(request.at, self.whole.newest);
        let head = if asked { Head::Answer } else { Head::Want };
        let call = feature::call(&self.known(&closeness, at));
        let mut gates = ranker.gates(head, &call);
        for (gate, dimension) in gates.iter_mut().zip(DIMENSIONS) {
            *gate *= request.options.factor(dimension) as f32;
        }
        self.trained = Some(Trained { ranker, gates, closeness, at });
        self
    }

    fn known<'a>(&'a self, closeness: &'a [f64], at: f64) -> Known<'a> {
        let (words, shopper, whole) = (&self.words, &self.shopper, &self.whole);
        Known { words, vector: self.vector.as_deref(), shopper, closeness, whole, at }
    }

    /// The query's words.
    pub fn words(&self) -> &Bm25 {
        &self.words
    }

    /// The score of an item by dimension.
    pub fn parts(&self, item: &Item) -> Parts {
        if let Some(trained) = &self.trained {
            return self.trained(trained, item);
        }
        untrained(&self.known(&[], 0.0), item, &self.weights)
    }
}

/// The weights of the dimensions before anything is trained, for a query of so many words; `None` is no query.
pub fn fixed(words: Option<usize>, options: &SearchOptions) -> [f64; DIMENSIONS.len()] {
    DIMENSIONS.map(|d| weights::gate(d, words) * options.factor(d))
}

/// The score of an item by dimension, by the fixed weights.
pub fn untrained(known: &Known, item: &Item, weights: &[f64; DIMENSIONS.len()]) -> Parts {
    let mut parts = Parts::default();
    let total = known.words.total();
    let cosine = |vector: Option<&[f32]>| match (vector, &item.vector) {
        (Some(one), Some(other)) => f64::from(dot(one, other)).max(0.0),
        _ => 0.0,
    };
    let (lexical, covered) =
        if total > 0.0 { (item.words.score / (total * (K1 + 1.0)), item.words.covered / total) } else { (0.0, 0.0) };
    let near = |f: fn(&Shopper, &[f32]) -> f64| item.vector.as_deref().map_or(0.0, |v| f(known.shopper, v));
    let popularity =
        if known.whole.popularity > 0.0 { item.popularity.ln_1p() / known.whole.popularity.ln_1p() } else { 0.0 };
    let together = known.shopper.together(item.id);
    for (dimension, weight) in DIMENSIONS.into_iter().zip(weights) {
        let value = match dimension {
            Dimension::Relevance => {
                weights::LEXICAL * lexical
                    + weights::COVERED * covered
                    + cosine(known.vector) * (weights::DENSE + weights::UNCOVERED * (1.0 - covered))
            }
            Dimension::Taste => near(Shopper::taste),
            Dimension::Session => near(Shopper::session),
            Dimension::Popularity => popularity,
            Dimension::Together => together / (together + weights::TOGETHER_HALF),
            Dimension::Context | Dimension::Rules => 0.0,
        };
        parts.set(dimension, weight * value);
    }
    parts
}

impl Question {
    /// The same by a trained ranker: the terms of its sum.
    fn trained(&self, trained: &Trained, item: &Item) -> Parts {
        let known = self.known(&trained.closeness, trained.at);
        let values = trained.ranker.values(&feature::of(&known, item, Learnt::default()));
        let mut parts = Parts::default();
        for ((dimension, value), gate) in DIMENSIONS.into_iter().zip(values).zip(trained.gates) {
            parts.set(dimension, f64::from(gate * value));
        }
        parts
    }
}

/// The moment that a call is for: the caller's, but no later than the newest event, from which decay and windows count.
fn moment(at: Option<f64>, newest: Option<f64>) -> f64 {
    match (at, newest) {
        (Some(at), Some(newest)) => at.min(newest),
        (at, newest) => newest.or(at).unwrap_or(0.0),
    }
}

/// Ranks the candidates: best first, ties by the items' numbers; what `offset` passes over is still in it.
pub fn search(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<Ranked>> {
    let candidates = retrieve(store, request, question, scope, control)?;
    control.check()?;
    let ids: Vec<i64> = candidates.iter().map(|(id, _)| *id).collect();
    let sources: HashMap<i64, String> = candidates.into_iter().collect();
    let mut ranked: Vec<Ranked> = store
        .items(&ids, &question.words)?
        .iter()
        .map(|item| Ranked {
            id: item.id,
            parts: question.parts(item),
            source: sources.get(&item.id).cloned().unwrap_or_default(),
        })
        .collect();
    ranked.sort_unstable_by(|a, b| b.parts.score().total_cmp(&a.parts.score()).then(a.id.cmp(&b.id)));
    Ok(ranked)
}

/// Asks the sources side by side; what is filtered or seen is left out inside each, so that `k` rows remain.
fn retrieve(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<(i64, String)>> {
    let options = &request.options;
    let wanted = request.k + options.offset;
    let unseen = |id: &i64| !(options.exclude_seen && question.shopper.has_seen(*id));
    let more = if options.exclude_seen { question.shopper.seen() } else { 0 };
    let mut found: Vec<(i64, String)> = Vec::new();
    let mut place: HashMap<i64, usize> = HashMap::new();
    let mut add = |name: &str, ids: Vec<i64>| {
        for id in ids.into_iter().filter(unseen) {
            match place.get(&id) {
                Some(at) => {
                    let sources: &mut String = &mut found[*at].1;
                    if !sources.split('+').any(|s| s == name) {
                        sources.push('+');
                        sources.push_str(name);
                    }
                }
                None => {
                    place.insert(id, found.len());
                    found.push((id, name.to_owned()));
                }
            }
        }
        found.len()
    };
    let browsing = request.query.is_none_or(|q| q.trim().is_empty());
    let mut count = 0;
    if options.asks(Source::Lexical) && !question.words.terms.is_empty() {
        let n = options.candidates.max(wanted) + more;
        count = add("lexical", store.lexical(&question.words, weights::PRIOR, n, scope)?);
        control.check()?;
    }
    if options.asks(Source::Dense) {
        let taste = || question.shopper.vector();
        if let Some(vector) = question.vector.as_deref().map(<[f32]>::to_vec).or_else(taste) {
            count = add("dense", store.dense(&vector, weights::DENSE_CAP.max(wanted) + more, scope)?);
            control.check()?;
        }
    }
    if options.asks(Source::Together) && !question.shopper.is_unknown() {
        let neighbours: Vec<i64> = question.shopper.neighbours().into_iter().filter(unseen).collect();
        // In a search, what goes with the history has to answer the query too: it is ranked among the others.
        let mut within = store.within(&neighbours, scope)?;
        within.truncate(if browsing { weights::BROWSE_CAP } else { weights::TOGETHER_CAP }.max(wanted));
        count = add("together", within);
    }
    if browsing || count < wanted {
        add("popular", store.popular(weights::TOGETHER_CAP.max(wanted) + more, scope)?);
    }
    Ok(found)
}
