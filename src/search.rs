//! Search: understand → remember → retrieve → rank.
//!
//! A `Question` is what one call knows before it sees an item: the query's words and vector, the shopper. It scores any
//! item by itself, so `persona.search` and `persona.score` give one item one score.

use crate::catalog::options::{SearchOptions, Source};
use crate::control::Control;
use crate::error::Result;
use crate::event::Event;
use crate::parts::{DIMENSIONS, Dimension, Parts};
use crate::rank::feature::Known;
use crate::rank::network::{Head, Ranker};
use crate::rank::trained::Trained;
use crate::rank::{fixed, weights};
use crate::retrieve::fuse::Candidates;
use crate::retrieve::lexical::Bm25;
use crate::shopper::Shopper;
use crate::shopper::sequence::{self, Reading};
use crate::store::{Item, Scope, Store, Whole};
use crate::understand::Understanding;
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
    /// What the query is understood to mean, its intent with it; `None` where that is off.
    pub understanding: Option<Arc<Understanding>>,
}

impl Request<'_> {
    /// What is searched: the query as it is understood, or as it was typed.
    pub fn text(&self) -> Option<&str> {
        let text = self.understanding.as_deref().map(|u| u.text.as_str()).or(self.query);
        text.map(str::trim).filter(|text| !text.is_empty())
    }
}

/// What a call knows before it sees an item.
pub struct Question {
    words: Bm25,
    vector: Option<Arc<[f32]>>,
    shopper: Shopper,
    whole: Whole,
    weights: [f64; DIMENSIONS.len()],
    understanding: Option<Arc<Understanding>>,
    history: Vec<Event>,
    trained: Option<Trained>,
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
        let history = match request.user_id {
            Some(user_id) => store.history(user_id, request.at, request.session)?,
            None => Vec::new(),
        };
        Question::after(store, request, vector, history)
    }

    /// The same after a history that is at hand, newest first.
    pub fn after(
        store: &dyn Store,
        request: &Request,
        vector: Option<Arc<[f32]>>,
        history: Vec<Event>,
    ) -> Result<Question> {
        let query = request.text();
        let words = query.map_or(Ok(Bm25::default()), |query| store.words(query))?;
        let whole = store.whole()?;
        let mut shopper = Shopper::new(&history, &weights::SHOPPER);
        let items = shopper.items();
        if !items.is_empty() {
            shopper.set_vectors(&store.vectors(&items)?, &whole.mean);
            shopper.set_pairs(&store.pairs(&items)?);
        }
        let intent = request.understanding.as_deref().and_then(|u| u.intent.as_ref());
        let room = query.map(|_| weights::room(words.terms.len(), intent));
        let weights = fixed::gates(room, |d| request.options.factor(d));
        let understanding = request.understanding.clone();
        let (trained, segment) = (None, HashMap::new());
        Ok(Question { words, vector, shopper, whole, weights, understanding, history, trained, segment })
    }

    /// The query's words.
    pub fn words(&self) -> &Bm25 {
        &self.words
    }

    /// What the query is understood to mean; `None` where that is off, or while browsing.
    pub fn understanding(&self) -> Option<&Understanding> {
        self.understanding.as_deref()
    }

    /// For somebody unknown without a query: what the shoppers of the same segments take, as the context names them by column
    /// and value.
    pub fn set_segments(&mut self, store: &dyn Store, context: &[(String, String)], request: &Request) -> Result<()> {
        if !self.shopper.is_unknown() || request.query.is_some_and(|query| !query.trim().is_empty()) {
            return Ok(());
        }
        for (column, value) in context {
            for (item, share) in store.segment(column, value)? {
                let known = self.segment.entry(item).or_default();
                *known = known.max(weights::SEGMENT * request.options.factor(Dimension::Context) * f64::from(share));
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
        fixed::popularity(&self.whole, item)
    }

    /// Whether a ranker may rank. What it learns it learns of shoppers with a past: for somebody unknown the fixed weights
    /// stay, and none need be loaded, unless the call names it.
    pub fn takes_ranker(&self, request: &Request) -> bool {
        !self.shopper.is_unknown() || request.options.ranker.is_some()
    }

    /// The same question ranked by a ranker, whose gates this call opens, where [`Question::takes_ranker`] says so.
    ///
    /// `context` holds the caller's values of context columns.
    pub fn rank_by(
        mut self,
        store: &dyn Store,
        ranker: Arc<Ranker>,
        request: &Request,
        context: &[(String, String)],
    ) -> Result<Question> {
        if !self.takes_ranker(request) {
            return Ok(self);
        }
        let asked = request.query.is_some_and(|q| !q.trim().is_empty());
        let moment = store.local(self.moment(request));
        let reading = match &ranker.encoder {
            Some(encoder) => {
                let steps = sequence::steps(&self.history, self.at(request));
                let ids: Vec<i64> = steps.iter().map(|step| step.item).collect();
                let own = if ids.is_empty() { HashMap::new() } else { store.learned(ranker.number, &ids)? };
                encoder.read(&steps, |item| own.get(&item).cloned(), &encoder.moment_of(moment, context))
            }
            None => Reading::default(),
        };
        let head = if asked { Head::Answer } else { Head::Want };
        let factor = |dimension| request.options.factor(dimension);
        let intent = self.understanding.as_deref().and_then(|u| u.intent.as_ref());
        let room = weights::room(self.words.terms.len(), intent);
        let trained = Trained::open(ranker, &self.known_at(request, &[]), head, reading, room, factor);
        self.trained = Some(trained);
        Ok(self)
    }

    /// The hour that a call is for: the caller's, or now.
    pub fn moment(&self, request: &Request) -> f64 {
        request.at.unwrap_or(self.whole.now)
    }

    /// The moment that gaps, decay and windows count to: the caller's, but no later than the newest event.
    pub fn at(&self, request: &Request) -> f64 {
        match (request.at, self.whole.newest) {
            (Some(at), Some(newest)) => at.min(newest),
            (at, newest) => newest.or(at).unwrap_or(0.0),
        }
    }

    /// What a ranker sees of the call; `closeness` is that of the query to each item of the history.
    pub fn known_at<'a>(&'a self, request: &Request, closeness: &'a [f64]) -> Known<'a> {
        Known { at: self.at(request), closeness, ..self.known() }
    }

    /// The query's closeness to each item of the history.
    pub fn closeness(&self) -> Vec<f64> {
        self.vector.as_deref().map(|v| self.shopper.closeness(v)).unwrap_or_default()
    }

    /// The history, newest first.
    pub fn history(&self) -> &[Event] {
        &self.history
    }

    fn known(&self) -> Known<'_> {
        let (words, shopper, whole) = (&self.words, &self.shopper, &self.whole);
        Known { words, vector: self.vector.as_deref(), shopper, closeness: &[], whole, at: 0.0 }
    }

    /// The items, with what the ranker has learnt of each.
    pub fn items(&self, store: &dyn Store, ids: &[i64], words: &Bm25) -> Result<Vec<Item>> {
        let mut items = store.items(ids, words)?;
        if let Some(trained) = &self.trained {
            let mut own = store.learned(trained.number(), ids)?;
            items.iter_mut().for_each(|item| item.own = own.remove(&item.id).map(Box::new));
        }
        Ok(items)
    }

    /// The same for an item that is there already.
    pub fn learn(&self, store: &dyn Store, item: &mut Item) -> Result<()> {
        if let Some(trained) = &self.trained {
            item.own = store.learned(trained.number(), &[item.id])?.remove(&item.id).map(Box::new);
        }
        Ok(())
    }

    /// The score of an item by dimension.
    pub fn parts(&self, item: &Item) -> Parts {
        let mut parts = match &self.trained {
            Some(trained) => trained.parts(&self.known(), item),
            None => fixed::parts(&self.known(), item, &self.weights),
        };
        if let Some(share) = self.segment.get(&item.id) {
            parts.set(Dimension::Context, *share);
        }
        parts
    }
}

/// Share of the query's idf that the best item has to hold, or the result is called relaxed: all of it, but for synonyms.
const RELAXED: f64 = 0.89;

/// Ranks the candidates: best first, ties by the items' numbers; what `offset` passes over is still in it.
pub fn search(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<Ranked>> {
    let mut candidates = retrieve(store, request, question, scope, control)?;
    control.check()?;
    let items = question.items(store, &candidates.ids(), &question.words)?;
    // No item holds every word: what is shown answers a part of the query, or its meaning, and says so.
    let total = question.words.total();
    let most = items.iter().map(|item| item.words.covered).fold(0.0, f64::max);
    if total > 0.0 && most < total * RELAXED {
        candidates.add("relaxed", candidates.ids());
    }
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
pub fn retrieve(
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
    let browsing = request.text().is_none();
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
    if let (true, Some(trained)) = (browsing && options.asks(Source::Together), &question.trained)
        && let Some(shopper) = &trained.reading().shopper
    {
        let brought = store.wanted(trained.number(), shopper, weights::TOGETHER_CAP.max(wanted) + more, scope)?;
        found.add("sequence", brought.into_iter().filter(unseen));
        control.check()?;
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
