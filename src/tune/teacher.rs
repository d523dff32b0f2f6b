//! Distillation: an embedding model learns the judgement of a cross-encoder, which is better and far slower.
//!
//! Each query gets a list: its own item, and others, half of them among the nearest that the model finds. The teacher reads
//! each pair once, at the start, and the model learns how it shares a list out (RocketQAv2's listwise distillation, Ren et
//! al. 2021, <https://arxiv.org/abs/2110.07367>). Over items alone, with queries made of them, it is generative pseudo
//! labelling (Wang et al. 2022, <https://arxiv.org/abs/2112.07577>).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::adapter::Loaded;
use super::data::Pair;
use super::drawn::Drawn;
use super::options::Options;
use super::run::{Quiet, embed_all};
use super::sample::push;
use crate::control::Control;
use crate::embed::{Batch, Encoder, Reranker, Role, Scratch};
use crate::error::{Error, Result};
use crate::linear::dot;
use crate::random::Random;

/// Different items that lists are made of, beside each query's own: a sample of a large shop has neighbours enough.
const POOL: usize = 4096;
/// Times a list's hard items, how many of the nearest they are drawn from.
const NEAREST: usize = 8;
/// Queries held out whose lists the teacher judges too, to tell how far the model has come.
const HELD: usize = 200;

/// What reads a query and an item together.
#[derive(Clone)]
pub enum CrossEncoder {
    /// A bundle.
    Bundle(Arc<Reranker>),
    /// An adapter of the task `rank`.
    Adapter(Rc<Loaded>),
}

impl CrossEncoder {
    /// What tells its judgement from another's.
    pub fn hash(&self) -> &str {
        match self {
            CrossEncoder::Bundle(bundle) => bundle.hash(),
            CrossEncoder::Adapter(adapter) => &adapter.encoder.info().hash,
        }
    }

    /// How well each document answers the query, in input order; larger is better.
    pub fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        match self {
            CrossEncoder::Bundle(bundle) => bundle.rerank(query, documents, scratch, control),
            CrossEncoder::Adapter(adapter) => adapter.rerank(query, documents, scratch, control),
        }
    }

    /// The same as bare scores.
    fn logits(
        &self,
        query: &str,
        documents: &[&str],
        scratch: &mut Scratch,
        control: &dyn Control,
    ) -> Result<Vec<f32>> {
        match self {
            CrossEncoder::Bundle(bundle) => bundle.logits(query, documents, scratch, control),
            CrossEncoder::Adapter(adapter) => adapter.scores(query, documents, scratch, control),
        }
    }
}

/// Queries with their lists.
pub(super) struct Lists {
    teacher: CrossEncoder,
    /// Queries with their own items.
    pub(super) pairs: Vec<Pair>,
    /// Whether the queries were made of the items.
    pub(super) made: bool,
    texts: Vec<String>,
    /// `[pairs, size]`: places in `texts`, the pair's own first.
    items: Vec<usize>,
    size: usize,
    /// The pairs whose lists the teacher judges, in this order: those to learn from, and some held out.
    order: Vec<usize>,
    learnt: usize,
    /// What it says, `[order, size]`, and where it says it of a pair.
    scores: Vec<f32>,
    place: BTreeMap<usize, usize>,
}

impl Lists {
    /// Lists for `pairs`, of which those at `train` are learnt from and those at `held` are not; `all` are the texts of
    /// all items that could stand in them.
    pub(super) fn new(
        (pairs, made): (Vec<Pair>, bool),
        (train, held): (&[usize], &[usize]),
        all: &[&str],
        teacher: &CrossEncoder,
        options: &Options,
        encoder: &Encoder,
        control: &dyn Control,
    ) -> Result<Lists> {
        let mut pool: Vec<&str> = all.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut random = Random::named(options.seed, "lists");
        random.shuffle(&mut pool);
        pool.truncate(POOL);
        let texts: BTreeSet<&str> = pool.iter().copied().chain(pairs.iter().map(|pair| pair.item.as_str())).collect();
        let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        let find = |text: &str| texts.binary_search_by(|known| known.as_str().cmp(text)).unwrap_or_default();
        let others = options.negatives().min(pool.len().saturating_sub(1));
        if others == 0 {
            return Err(Error::TooFewRows { what: "a teacher has nothing to compare where all items are one".into() });
        }
        let known: Vec<usize> = pool.iter().map(|text| find(text)).collect();
        let vectors = embed_all(encoder, &pool, Role::Document, control)?;
        let width = encoder.info().dimension;
        let mut items = Vec::with_capacity(pairs.len() * (others + 1));
        for some in pairs.chunks(64) {
            let queries: Vec<&str> = some.iter().map(|pair| pair.query.as_str()).collect();
            let queries = embed_all(encoder, &queries, Role::Query, control)?;
            for (pair, query) in some.iter().zip(queries.chunks_exact(width)) {
                control.check()?;
                let own = find(&pair.item);
                let mut near: Vec<(f32, usize)> =
                    vectors.chunks_exact(width).map(|v| dot(query, v)).zip(known.iter().copied()).collect();
                near.retain(|(_, text)| *text != own);
                near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                let hard = others.div_ceil(2);
                items.push(own);
                items.extend(drawn(&mut near, hard, NEAREST * hard, &mut random));
                let rest = near.len();
                items.extend(drawn(&mut near, others - hard, rest, &mut random));
            }
        }
        let order: Vec<usize> = train.iter().chain(held.iter().take(HELD)).copied().collect();
        let place = order.iter().enumerate().map(|(place, row)| (*row, place)).collect();
        let (size, teacher, learnt) = (others + 1, teacher.clone(), train.len());
        Ok(Lists { teacher, pairs, made, texts, items, size, order, learnt, scores: Vec::new(), place })
    }

    fn list(&self, row: usize) -> impl Iterator<Item = &str> {
        self.items[row * self.size..][..self.size].iter().map(|text| self.texts[*text].as_str())
    }

    /// Lets the teacher judge, list by list, until it has judged all or `enough` says so; whether all are judged. It reads
    /// of a text what the model reads, `length` tokens. `said` is all that there is to go on from.
    pub(super) fn teach(
        &mut self,
        said: &mut Vec<f32>,
        encoder: &Encoder,
        length: usize,
        enough: &mut dyn FnMut() -> bool,
        control: &dyn Control,
    ) -> Result<bool> {
        let mut scratch = Scratch::new();
        while said.len() < self.order.len() * self.size {
            let done = said.len() / self.size;
            control.progress("teacher", done as u64, self.order.len() as u64);
            let row = self.order[done];
            let query = front(encoder, &self.pairs[row].query, length)?;
            let items: Vec<&str> = self.list(row).map(|text| front(encoder, text, length)).collect::<Result<_>>()?;
            said.extend(self.teacher.logits(query, &items, &mut scratch, &Quiet(control))?);
            if enough() {
                return Ok(false);
            }
        }
        self.hear(said);
        Ok(true)
    }

    /// Takes what the teacher said in a run before.
    pub(super) fn hear(&mut self, said: &[f32]) {
        if self.scores.len() != said.len() {
            self.scores = said.to_vec();
        }
    }

    /// The texts of some pairs' lists, with what the teacher says of them.
    pub(super) fn draw(
        &self,
        rows: &[usize],
        encoder: &Encoder,
        length: usize,
        drawn: &mut Drawn,
        batch: &mut Batch,
    ) -> Result<()> {
        for row in rows {
            push(encoder, &self.pairs[*row].query, Role::Query, length, batch)?;
            drawn.queries.push((self.pairs[*row].query.clone(), HashSet::new()));
        }
        for row in rows {
            for text in self.list(*row) {
                push(encoder, text, Role::Document, length, batch)?;
            }
            drawn.grades.extend(self.said(*row)?);
        }
        Ok(())
    }

    fn said(&self, row: usize) -> Result<&[f32]> {
        let place = self.place.get(&row).map(|place| place * self.size);
        place
            .and_then(|place| self.scores.get(place..place + self.size))
            .ok_or_else(|| Error::Internal("a list was not judged".into()))
    }

    /// How often a model puts two items of a list held out in the teacher's order, 0 to 1; none without such lists.
    pub(super) fn agreement(&self, encoder: &Encoder, length: usize, control: &dyn Control) -> Result<Option<f64>> {
        let (mut total, mut count) = (0.0, 0);
        let width = encoder.info().dimension;
        for row in &self.order[self.learnt..] {
            let mut batch = Batch::default();
            push(encoder, &self.pairs[*row].query, Role::Query, length, &mut batch)?;
            for text in self.list(*row) {
                push(encoder, text, Role::Document, length, &mut batch)?;
            }
            let vectors = encoder.embed_batch(&batch, control)?;
            let (query, items) = vectors.split_at(width);
            let cosines: Vec<f32> = items.chunks_exact(width).map(|item| dot(query, item)).collect();
            total += concordance(&cosines, self.said(*row)?);
            count += 1;
        }
        Ok((count > 0).then(|| total / f64::from(count)))
    }
}

/// Takes `count` of the first `among` out of a list.
fn drawn(near: &mut Vec<(f32, usize)>, count: usize, among: usize, random: &mut Random) -> Vec<usize> {
    (0..count).map(|taken| near.remove(random.below(among.min(near.len() + taken) - taken)).1).collect()
}

/// The front of a text that a model reads in `length` tokens.
fn front<'a>(encoder: &Encoder, text: &'a str, length: usize) -> Result<&'a str> {
    let pieces = encoder.cut(text)?;
    let end = pieces.iter().take(length).map(|piece| piece.bytes.end).max().unwrap_or(0);
    Ok(text.get(..end).filter(|front| !front.is_empty()).unwrap_or(text))
}

/// The share of pairs that two lists of scores put into one order; a tie is half right.
fn concordance(ours: &[f32], theirs: &[f32]) -> f64 {
    let (mut right, mut pairs) = (0.0, 0);
    for i in 0..ours.len() {
        for j in 0..i {
            let product = (ours[i] - ours[j]) * (theirs[i] - theirs[j]);
            right += if product > 0.0 { 1.0 } else { f64::from(u8::from(product == 0.0)) / 2.0 };
            pairs += 1;
        }
    }
    if pairs == 0 { 0.5 } else { right / f64::from(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_order_agrees_with_itself() {
        assert_eq!(concordance(&[0.9, 0.1, 0.5], &[3.0, -1.0, 2.0]), 1.0);
        assert_eq!(concordance(&[0.9, 0.1, 0.5], &[-3.0, 1.0, -2.0]), 0.0);
        assert_eq!(concordance(&[0.5, 0.5], &[1.0, 2.0]), 0.5);
    }

    #[test]
    fn what_is_drawn_is_drawn_once_and_from_the_front() {
        let mut random = Random::named(1, "drawn");
        for _ in 0..50 {
            let mut near: Vec<(f32, usize)> = (0..9).map(|i| (0.0, i)).collect();
            let mut some = drawn(&mut near, 3, 5, &mut random);
            assert!(some.iter().all(|i| *i < 5), "{some:?}");
            some.extend(drawn(&mut near, 6, 6, &mut random));
            some.sort_unstable();
            assert_eq!(some, (0..9).collect::<Vec<_>>());
        }
    }
}
