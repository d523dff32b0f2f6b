//! Search: understand → remember → retrieve → rank.
//!
//! A `Question` is what one call knows before it sees an item: the query's words and vector, the shopper. It scores any
//! item by itself, so `persona.search` and `persona.score` give one item one score.

use crate::catalog::options::{SearchOptions, Source};
use crate::control::Control;
use crate::error::Result;
use crate::linear::dot;
use crate::parts::{DIMENSIONS, Dimension, Parts};
use crate::rank::weights;
use crate::retrieve::fuse::Candidates;
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
    total: f64,
    /// What stands in for a history: what the shoppers of the same segment take.
    segment: HashMap<i64, f64>,
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
        let weights = DIMENSIONS.map(|d| weights::gate(d, count) * request.options.factor(d));
        Ok(Question { segment: HashMap::new(), total: words.total(), words, vector, shopper, whole, weights })
    }

    /// The query's words.
    pub fn words(&self) -> &Bm25 {
        &self.words
    }

    /// For somebody unknown: what the shoppers of the same segments take, as the context names them by column and value.
    pub fn set_segments(
        &mut self,
        store: &dyn Store,
        segments: &[(String, String)],
        options: &SearchOptions,
    ) -> Result<()> {
        if !self.shopper.is_unknown() {
            return Ok(());
        }
        for (column, value) in segments {
            for (item, share) in store.segment(column, value)? {
                let known = self.segment.entry(item).or_default();
                *known = known.max(weights::SEGMENT * options.factor(Dimension::Context) * f64::from(share));
            }
        }
        Ok(())
    }

    /// What stands in for a history, the strongest first.
    fn segment(&self) -> Vec<i64> {
        let mut items: Vec<(i64, f64)> = self.segment.iter().map(|(item, share)| (*item, *share)).collect();
        items.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        items.into_iter().map(|(item, _)| item).collect()
    }

    /// Who asks.
    pub fn shopper(&self) -> &Shopper {
        &self.shopper
    }

    /// Whether the call leaves an item of the history out.
    pub fn leaves_out(&self, options: &SearchOptions, item: i64) -> bool {
        options.exclude_seen && self.shopper.has_seen(item) || options.exclude_owned && self.shopper.owns(item)
    }

    /// How many items of the history the call may leave out.
    pub fn left_out(&self, options: &SearchOptions) -> usize {
        if options.exclude_seen || options.exclude_owned { self.shopper.seen() } else { 0 }
    }

    /// An item's popularity, 0 to 1.
    pub fn popularity(&self, item: &Item) -> f64 {
        if self.whole.popularity > 0.0 { item.popularity.ln_1p() / self.whole.popularity.ln_1p() } else { 0.0 }
    }

    /// The score of an item by dimension.
    pub fn parts(&self, item: &Item) -> Parts {
        let mut parts = Parts::default();
        let cosine = |vector: Option<&[f32]>| match (vector, &item.vector) {
            (Some(one), Some(other)) => f64::from(dot(one, other)).max(0.0),
            _ => 0.0,
        };
        let (lexical, covered) = if self.total > 0.0 {
            (item.words.score / (self.total * (K1 + 1.0)), item.words.covered / self.total)
        } else {
            (0.0, 0.0)
        };
        let near = |f: fn(&Shopper, &[f32]) -> f64| item.vector.as_deref().map_or(0.0, |v| f(&self.shopper, v));
        let popularity = self.popularity(item);
        let together = self.shopper.together(item.id);
        for (dimension, weight) in DIMENSIONS.into_iter().zip(self.weights) {
            let value = match dimension {
                Dimension::Relevance => {
                    weights::LEXICAL * lexical
                        + weights::COVERED * covered
                        + cosine(self.vector.as_deref()) * (weights::DENSE + weights::UNCOVERED * (1.0 - covered))
                }
                Dimension::Taste => near(Shopper::taste),
                Dimension::Session => near(Shopper::session),
                Dimension::Popularity => popularity,
                Dimension::Together => together / (together + weights::TOGETHER_HALF),
                Dimension::Context | Dimension::Rules => 0.0,
            };
            parts.set(dimension, weight * value);
        }
        if let Some(share) = self.segment.get(&item.id) {
            parts.set(Dimension::Context, *share);
        }
        parts
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
    let items = store.items(&candidates.ids(), &question.words)?;
    Ok(ranking(&items, &candidates, |item| question.parts(item)))
}

/// The items by their scores, best first, ties by their numbers.
pub fn ranking(items: &[Item], candidates: &Candidates, parts: impl Fn(&Item) -> Parts) -> Vec<Ranked> {
    let ranked =
        |item: &Item| Ranked { id: item.id, parts: parts(item), source: candidates.source(item.id).to_owned() };
    let mut ranked: Vec<Ranked> = items.iter().map(ranked).collect();
    by_score(&mut ranked);
    ranked
}

/// The source of what is there for being new.
pub const NEW: &str = "new";

/// Sorts by score, best first, ties by the items' numbers; of what is there for being new, the newest first.
pub fn by_score(ranked: &mut [Ranked]) {
    let tie = |r: &Ranked| if r.source == NEW { (true, -r.id) } else { (false, r.id) };
    ranked.sort_unstable_by(|a, b| b.parts.score().total_cmp(&a.parts.score()).then_with(|| tie(a).cmp(&tie(b))));
}

impl Ranked {
    /// Says of an item what brought it to its place.
    pub fn mark(&mut self, label: &str) {
        if !self.source.is_empty() {
            self.source.push('+');
        }
        self.source.push_str(label);
    }
}

/// Asks the sources side by side; what is filtered or seen is left out inside each, so that `k` rows remain.
fn retrieve(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Candidates> {
    let options = &request.options;
    let wanted = request.k + options.offset;
    let unseen = |id: &i64| !question.leaves_out(options, *id);
    let more = question.left_out(options);
    let mut found = Candidates::default();
    let browsing = request.query.is_none_or(|q| q.trim().is_empty());
    if options.asks(Source::Lexical) && !question.words.terms.is_empty() {
        let n = options.candidates.max(wanted) + more;
        found.add("lexical", store.lexical(&question.words, weights::PRIOR, n, scope)?.into_iter().filter(unseen));
        control.check()?;
    }
    if options.asks(Source::Dense) {
        let taste = || question.shopper.vector();
        if let Some(vector) = question.vector.as_deref().map(<[f32]>::to_vec).or_else(taste) {
            let nearest = store.dense(&vector, weights::DENSE_CAP.max(wanted) + more, scope)?;
            found.add("dense", nearest.into_iter().filter(unseen));
            control.check()?;
        }
    }
    if options.asks(Source::Together) && !question.shopper.is_unknown() {
        let neighbours: Vec<i64> = question.shopper.neighbours().into_iter().filter(unseen).collect();
        // In a search, what goes with the history has to answer the query too: it is ranked among the others.
        let mut within = store.within(&neighbours, scope)?;
        within.truncate(if browsing { weights::BROWSE_CAP } else { weights::TOGETHER_CAP }.max(wanted));
        found.add("together", within);
    }
    if browsing && !question.segment.is_empty() {
        found.add("segment", store.within(&question.segment(), scope)?);
    }
    if browsing && found.is_empty() && !question.shopper.is_unknown() {
        // Everything that was taken is new to us; its kind is not.
        let kin = store.category(&question.shopper.items(), weights::FALLBACK_CAP.max(wanted) + more, scope)?;
        found.add("category", kin.into_iter().filter(unseen));
    }
    if browsing || found.len() < wanted {
        let popular = store.popular(weights::TOGETHER_CAP.max(wanted) + more, scope)?;
        found.add("popular", popular.into_iter().filter(unseen));
    }
    if found.len() < wanted {
        let newest = store.newest(weights::FALLBACK_CAP.max(wanted) + found.len() + more, scope)?;
        let others: Vec<i64> = newest.into_iter().filter(|id| unseen(id) && found.source(*id).is_empty()).collect();
        found.add(NEW, others);
    }
    Ok(found)
}
