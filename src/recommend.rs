//! Recommend: lists that begin at an item instead of a query.
//!
//! `similar` gives what could be taken instead: alike in meaning, in words and attributes, and to the shoppers who take
//! it. `bought_together` gives what could be taken besides: what stands in one basket with it more often than chance
//! has it, without the item itself in another colour. Where nothing is known of the item, its category stands in, then
//! what is popular, then what is new; `source` says which.

use crate::control::Control;
use crate::error::Result;
use crate::linear::dot;
use crate::parts::{Dimension, Parts};
use crate::rank::weights;
use crate::retrieve::fuse::Candidates;
use crate::retrieve::lexical::Bm25;
use crate::retrieve::trend;
use crate::retrieve::variant::{Naming, SAME};
use crate::search::{NEW, Question, Ranked, Request, ranking};
use crate::store::{Item, Scope, Store, Trend};
use std::collections::HashMap;

/// What a list begins at: the item on the page, then what else lies in the basket.
pub struct Anchors {
    items: Vec<i64>,
    vectors: HashMap<i64, Vec<f32>>,
    together: HashMap<i64, f64>,
    words: Bm25,
}

impl Anchors {
    /// Reads what goes with the items by behaviour, and their vectors.
    fn read(store: &dyn Store, items: &[i64], in_baskets: bool) -> Result<Anchors> {
        let pairs = if in_baskets { store.baskets(items)? } else { store.pairs(items)? };
        let mut together: HashMap<i64, f64> = HashMap::new();
        // In the order of the items, so that sums are the same each time.
        for (other, weight) in items.iter().filter_map(|item| pairs.get(item)).flatten() {
            *together.entry(*other).or_default() += f64::from(*weight);
        }
        Ok(Anchors { items: items.to_vec(), vectors: store.vectors(items)?, together, words: Bm25::default() })
    }

    fn cosine(&self, vector: Option<&[f32]>) -> f64 {
        let first = self.items.first().and_then(|item| self.vectors.get(item));
        first.zip(vector).map_or(0.0, |(one, other)| f64::from(dot(one, other)).max(0.0))
    }

    /// What goes with them, the strongest first.
    fn neighbours(&self) -> Vec<i64> {
        let mut all: Vec<(i64, f64)> = self.together.iter().map(|(item, weight)| (*item, *weight)).collect();
        all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.into_iter().map(|(item, _)| item).collect()
    }
}

/// What could be taken instead of the item; the item itself is not in it.
pub fn similar(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    item: i64,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<Ranked>> {
    let wanted = request.k + request.options.offset;
    let mut anchors = Anchors::read(store, &[item], false)?;
    anchors.words = store.own_words(item, weights::SIMILAR_WORDS)?;
    let mut fill = Fill::new(store, request, question, &anchors.items, scope);
    if let Some(vector) = anchors.vectors.get(&item) {
        fill.add("dense", store.dense(vector, weights::DENSE_CAP.max(wanted) + 1 + fill.more, scope)?)?;
        control.check()?;
    }
    let mut neighbours = store.within(&anchors.neighbours(), scope)?;
    neighbours.truncate(weights::DENSE_CAP.max(wanted) + fill.more);
    fill.add("together", neighbours)?;
    fill.rest(wanted)?;
    control.check()?;
    let items = store.items(&fill.found.ids(), &anchors.words)?;
    let total = anchors.words.total();
    Ok(ranking(&items, &fill.found, |other| {
        let covered = if total > 0.0 { other.words.covered / total } else { 0.0 };
        let cosine = anchors.cosine(other.vector.as_deref());
        let relevance = weights::SIMILAR_DENSE * cosine + weights::SIMILAR_COVERED * covered + fill.kin(other);
        let together = anchors.together.get(&other.id).copied().unwrap_or_default();
        let together = together / (together + weights::TOGETHER_HALF);
        parts(request, question, other, &weights::SIMILAR, relevance, together)
    }))
}

/// What could be taken besides the items: complements of a basket, none of them a variant of what is in it.
pub fn bought_together(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    items: &[i64],
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<Ranked>> {
    let wanted = request.k + request.options.offset;
    let anchors = Anchors::read(store, items, true)?;
    let mut fill = Fill::new(store, request, question, items, scope);
    fill.variants = Some(Variants { items, vectors: anchors.vectors.clone(), namings: store.namings(items)? });
    let mut neighbours = store.within(&anchors.neighbours(), scope)?;
    neighbours.truncate(weights::BROWSE_CAP.max(wanted) + fill.more);
    fill.add("baskets", neighbours)?;
    control.check()?;
    // Too few baskets: what the same shoppers take at other times is the next best thing.
    if fill.found.len() < wanted {
        let others = Anchors::read(store, items, false)?;
        let mut neighbours = store.within(&others.neighbours(), scope)?;
        neighbours.truncate(weights::BROWSE_CAP.max(wanted) + fill.more);
        fill.add("together", neighbours)?;
    }
    fill.rest(wanted)?;
    control.check()?;
    let found = store.items(&fill.found.ids(), &anchors.words)?;
    Ok(ranking(&found, &fill.found, |other| {
        let together = anchors.together.get(&other.id).copied().unwrap_or_default();
        let together = together / (together + weights::BASKET_HALF);
        parts(request, question, other, &weights::BASKET, fill.kin(other), together)
    }))
}

/// Tells the items of a basket in another colour.
struct Variants<'a> {
    items: &'a [i64],
    vectors: HashMap<i64, Vec<f32>>,
    namings: HashMap<i64, Naming>,
}

impl Variants<'_> {
    /// Those of the others that are none.
    fn without(&self, store: &dyn Store, others: Vec<i64>) -> Result<Vec<i64>> {
        let (vectors, namings) = (store.vectors(&others)?, store.namings(&others)?);
        let alike = |item: &i64, other: &i64| {
            let same = self.vectors.get(item).zip(vectors.get(other));
            let named = self.namings.get(item).zip(namings.get(other));
            same.is_some_and(|(one, two)| f64::from(dot(one, two)) > SAME)
                || named.is_some_and(|(one, two)| one.is_variant_of(two))
        };
        Ok(others.into_iter().filter(|other| !self.items.iter().any(|item| alike(item, other))).collect())
    }
}

/// What is taken more often of late than its own past has it; `hours` is what counts as late.
///
/// What is no trend comes after, by its popularity less 1, so that `k` rows come back.
pub fn trending(
    store: &dyn Store,
    request: &Request,
    question: &Question,
    hours: f64,
    scope: &Scope,
    control: &dyn Control,
) -> Result<Vec<Ranked>> {
    let wanted = request.k + request.options.offset;
    let lift = |trend: &Trend| (trend.id, trend::lift(&trend.own, &trend.kin, hours));
    let mut lifts: Vec<(i64, f64)> = store.trends(hours)?.iter().map(lift).filter(|(_, lift)| *lift > 0.0).collect();
    control.check()?;
    lifts.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut fill = Fill::new(store, request, question, &[], scope);
    let ids: Vec<i64> = lifts.iter().map(|(id, _)| *id).collect();
    let mut rising = store.within(&ids, scope)?;
    rising.truncate(weights::FALLBACK_CAP.max(wanted) + fill.more);
    fill.add("trending", rising)?;
    fill.rest(wanted)?;
    let lifts: HashMap<i64, f64> = lifts.into_iter().collect();
    let items = store.items(&fill.found.ids(), question.words())?;
    Ok(ranking(&items, &fill.found, |item| {
        let value = lifts.get(&item.id).copied().unwrap_or_else(|| question.popularity(item) - 1.0);
        let mut parts = Parts::default();
        parts.set(Dimension::Popularity, request.options.factor(Dimension::Popularity) * value);
        parts
    }))
}

fn parts(
    request: &Request,
    question: &Question,
    item: &Item,
    weights: &[(Dimension, f64)],
    relevance: f64,
    together: f64,
) -> Parts {
    let vector = item.vector.as_deref();
    let mut parts = Parts::default();
    for (dimension, weight) in weights {
        let value = match dimension {
            Dimension::Relevance => relevance,
            Dimension::Together => together,
            Dimension::Popularity => question.popularity(item),
            Dimension::Taste => vector.map_or(0.0, |v| question.shopper().taste(v)),
            Dimension::Session => vector.map_or(0.0, |v| question.shopper().session(v)),
            Dimension::Context | Dimension::Rules => 0.0,
        };
        parts.set(*dimension, weight * request.options.factor(*dimension) * value);
    }
    parts
}

/// Candidates without what must not come back, filled up from what is known to everybody where they do not suffice.
struct Fill<'a> {
    store: &'a dyn Store,
    question: &'a Question,
    request: &'a Request<'a>,
    items: &'a [i64],
    scope: &'a Scope,
    variants: Option<Variants<'a>>,
    /// How many more to ask a source for, since so many may be left out.
    more: usize,
    found: Candidates,
}

impl<'a> Fill<'a> {
    fn new(
        store: &'a dyn Store,
        request: &'a Request<'a>,
        question: &'a Question,
        items: &'a [i64],
        scope: &'a Scope,
    ) -> Fill<'a> {
        let more = items.len() + question.left_out(&request.options);
        Fill { store, question, request, items, scope, variants: None, more, found: Candidates::default() }
    }

    fn add(&mut self, source: &str, ids: Vec<i64>) -> Result<()> {
        let left_out = |id: &i64| self.items.contains(id) || self.question.leaves_out(&self.request.options, *id);
        let mut kept: Vec<i64> = ids.into_iter().filter(|id| !left_out(id)).collect();
        if let Some(variants) = &self.variants {
            kept = variants.without(self.store, kept)?;
        }
        self.found.add(source, kept);
        Ok(())
    }

    /// What being of the same category says of an item that nothing else brought.
    fn kin(&self, item: &Item) -> f64 {
        if self.found.source(item.id) == CATEGORY { weights::SAME_CATEGORY } else { 0.0 }
    }

    /// The chain for what nobody knows: category, popular, new. Each says only what it adds.
    fn rest(&mut self, wanted: usize) -> Result<()> {
        let most = weights::FALLBACK_CAP.max(wanted) + self.more;
        for (source, ask) in FALLBACKS {
            if self.found.len() >= wanted {
                break;
            }
            let ids = ask(self.store, self.items, most, self.scope)?;
            let added = ids.into_iter().filter(|id| self.found.source(*id).is_empty()).collect();
            self.add(source, added)?;
        }
        Ok(())
    }
}

type Ask = fn(&dyn Store, &[i64], usize, &Scope) -> Result<Vec<i64>>;

const FALLBACKS: [(&str, Ask); 3] = [
    (CATEGORY, |store, items, n, scope| store.category(items, n, scope)),
    ("popular", |store, _, n, scope| store.popular(n, scope)),
    (NEW, |store, _, n, scope| store.newest(n, scope)),
];
const CATEGORY: &str = "category";
