//! What was drawn for a step, and its loss.

use std::collections::HashSet;

use super::adapter::logits;
use super::data::words;
use super::loss;
use super::options::Options;
use super::sample::{Kind, NO_LABEL, Samples, push};
use crate::control::Control;
use crate::embed::{Batch, Encoder, Role};
use crate::error::Result;
use crate::random::Random;

/// Adds the loss of one vector under a head; its gradients are added, the vector's where it is wanted.
pub(super) fn head_loss(
    vector: &[f32],
    label: usize,
    head: &[f32],
    of_head: &mut [f32],
    of_vector: Option<&mut [f32]>,
    smoothing: f32,
    by: f32,
) -> f64 {
    let width = vector.len();
    let mut logits = logits(head, vector);
    let loss = loss::cross_entropy(&mut logits, label, smoothing, by);
    let (weights, biases) = of_head.split_at_mut(logits.len() * width);
    for ((row, bias), g) in weights.chunks_exact_mut(width).zip(biases).zip(&logits) {
        row.iter_mut().zip(vector).for_each(|(x, v)| *x += g * v);
        *bias += g;
    }
    if let Some(of_vector) = of_vector {
        for (row, g) in head.chunks_exact(width).zip(&logits) {
            of_vector.iter_mut().zip(row).for_each(|(x, w)| *x += g * w);
        }
    }
    loss
}

/// The texts of a step, and what is known of them.
pub(super) struct Drawn {
    pub(super) batch: Batch,
    /// Words of each query and item, for whether an item could answer another's query.
    pub(super) queries: Vec<(String, HashSet<u64>)>,
    pub(super) items: Vec<(String, HashSet<u64>)>,
    pub(super) labels: Vec<usize>,
    /// Grades of pairs, or a teacher's of the queries' lists.
    pub(super) grades: Vec<f32>,
    /// Vectors that the base model makes of the last texts, to be kept to.
    pub(super) base: Vec<f32>,
}

impl Drawn {
    pub(super) fn contrast<'a>(
        &mut self,
        texts: impl Iterator<Item = (String, &'a str, String, usize)>,
        more: impl Fn(usize, &mut Random) -> Option<(&'a str, String)>,
        encoder: &Encoder,
        random: &mut Random,
        length: usize,
        batch: &mut Batch,
    ) -> Result<()> {
        let mut negatives = Vec::new();
        for (query, item, said, i) in texts {
            push(encoder, &query, Role::Query, length, batch)?;
            self.queries.push((query.clone(), words(&query)));
            self.items.push((item.to_owned(), words(&said)));
            negatives.extend(more(i, random));
        }
        self.items.extend(negatives.into_iter().map(|(text, said)| (text.to_owned(), words(&said))));
        for (item, _) in &self.items {
            push(encoder, item, Role::Document, length, batch)?;
        }
        Ok(())
    }

    /// The loss of all, with the gradients of their vectors and of the head.
    pub(super) fn loss(
        &self,
        samples: &Samples,
        options: &Options,
        vectors: &[f32],
        head: &[f32],
        of_vectors: &mut [f32],
        of_head: &mut [f32],
    ) -> Result<f64> {
        let width = samples.width;
        match &samples.kind {
            Kind::Labelled { .. } | Kind::Tagged { .. } => {
                let count = self.labels.iter().filter(|l| **l != NO_LABEL).count().max(1);
                let by = 1.0 / count as f32;
                let mut total = 0.0;
                let rows = vectors.chunks_exact(width).zip(of_vectors.chunks_exact_mut(width)).zip(&self.labels);
                for ((vector, of_vector), label) in rows.filter(|(_, label)| **label != NO_LABEL) {
                    total += head_loss(vector, *label, head, of_head, Some(of_vector), options.smoothing, by);
                }
                Ok(total / count as f64)
            }
            Kind::Graded { .. } => {
                let by = 1.0 / self.grades.len().max(1) as f32;
                let mut total = 0.0;
                let rows = vectors.chunks_exact(width).zip(of_vectors.chunks_exact_mut(width)).zip(&self.grades);
                for ((vector, of_vector), grade) in rows {
                    let logit = logits(head, vector).first().copied().unwrap_or(0.0);
                    let (loss, g) = loss::logistic(logit, *grade);
                    let g = g * by;
                    of_vector.iter_mut().zip(head).for_each(|(x, w)| *x += g * w);
                    of_head.iter_mut().zip(vector).for_each(|(x, v)| *x += g * v);
                    of_head[width] += g;
                    total += loss;
                }
                Ok(total * f64::from(by))
            }
            Kind::Pairs { .. } | Kind::Items { .. } => {
                let border = self.queries.len() * width;
                let end = border + self.items.len() * width;
                let excused = |i: usize, j: usize| excuses(&self.queries[i], &self.items[i], &self.items[j]);
                let (of_queries, rest) = of_vectors.split_at_mut(border);
                let (of_items, of_base) = rest.split_at_mut(end - border);
                let (queries, items) = (&vectors[..border], &vectors[border..end]);
                let contrast =
                    loss::contrast(queries, items, width, options.temperature, excused, of_queries, of_items);
                Ok(contrast + self.rehearsal(&vectors[end..], of_base, width))
            }
            Kind::Taught(_) => {
                let border = self.queries.len() * width;
                let end = border + self.grades.len() * width;
                let (of_queries, rest) = of_vectors.split_at_mut(border);
                let (of_items, of_base) = rest.split_at_mut(end - border);
                let (queries, items) = (&vectors[..border], &vectors[border..end]);
                let (temperature, grades) = (options.temperature, &self.grades);
                let taught = loss::listwise(queries, items, width, temperature, grades, of_queries, of_items);
                Ok(taught + self.rehearsal(&vectors[end..], of_base, width))
            }
        }
    }

    /// What is rehearsed: half the square of the distance to the base model's vectors.
    fn rehearsal(&self, vectors: &[f32], of_vectors: &mut [f32], width: usize) -> f64 {
        let count = (self.base.len() / width).max(1) as f32;
        let mut total = 0.0;
        for ((x, base), g) in vectors.iter().zip(&self.base).zip(of_vectors) {
            *g += (x - base) / count;
            total += f64::from((x - base) * (x - base) / (2.0 * count));
        }
        total
    }

    /// Adds texts that are to keep the vectors that the base model makes of them (Li and Hoiem 2016,
    /// <https://arxiv.org/abs/1606.09282>): a `share` of all.
    pub(super) fn rehearse(
        &mut self,
        share: f32,
        encoder: &Encoder,
        length: usize,
        random: &mut Random,
        control: &dyn Control,
    ) -> Result<()> {
        if share <= 0.0 || self.queries.is_empty() {
            return Ok(());
        }
        let count = (self.queries.len() as f32 * share / (1.0 - share)).ceil() as usize;
        let general = super::probe::rehearsed();
        let mut batch = Batch::default();
        for _ in 0..count {
            let text = general.get(random.below(general.len())).copied().unwrap_or_default();
            push(encoder, text, Role::Document, length, &mut batch)?;
            push(encoder, text, Role::Document, length, &mut self.batch)?;
        }
        self.base = encoder.embed_batch(&batch, control)?;
        Ok(())
    }
}

/// Whether an item is no negative of a query, as it might answer it: it is the answer's own text, or every word of the
/// query is said of it.
pub(super) fn excuses(
    query: &(String, HashSet<u64>),
    answer: &(String, HashSet<u64>),
    item: &(String, HashSet<u64>),
) -> bool {
    item.0 == answer.0 || (!query.1.is_empty() && query.1.is_subset(&item.1))
}
