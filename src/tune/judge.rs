//! How the rows that were held out are answered.

use std::collections::BTreeMap;

use super::adapter::{logits, spans};
use super::data::{Pair, words};
use super::drawn::excuses;
use super::options::Options;
use super::report::{self, Line};
use super::sample::{Kind, NO_LABEL, Samples};
use crate::error::Result;
use crate::linear::dot;
use crate::measure::metric;

/// A metric row by row, and the report.
pub(super) struct Judged {
    pub(super) metric: &'static str,
    /// One number for each row (`rank`: each query) that was held out.
    pub(super) each: Vec<f32>,
    pub(super) lines: Vec<Line>,
}

impl Judged {
    pub(super) fn mean(each: &[f32]) -> Option<f64> {
        (!each.is_empty()).then(|| each.iter().map(|x| f64::from(*x)).sum::<f64>() / each.len() as f64)
    }

    pub(super) fn value(&self) -> Option<f64> {
        Judged::mean(&self.each)
    }
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap_or(0)
}

/// NDCG at 10 of one right answer at `rank`, from 0.
fn single(rank: usize) -> f32 {
    if rank < 10 { metric::discount(rank) as f32 } else { 0.0 }
}

/// Judges the vectors of the rows held out, in their order.
pub(super) fn judge(samples: &Samples, _options: &Options, vectors: &[f32], head: &[f32]) -> Result<Judged> {
    let width = samples.width;
    let mut lines = Vec::new();
    let (metric, each) = match &samples.kind {
        Kind::Labelled { label_of, .. } => {
            let truth: Vec<usize> = samples.held.iter().map(|i| label_of[*i]).collect();
            let given: Vec<usize> = vectors.chunks_exact(width).map(|v| best(&logits(head, v))).collect();
            lines = report::classification(&samples.labels, &truth, &given);
            ("accuracy", truth.iter().zip(&given).map(|(t, g)| f32::from(u8::from(t == g))).collect())
        }
        Kind::Tagged { label_of, .. } => {
            let mut counts: BTreeMap<String, (usize, usize, usize)> = BTreeMap::new();
            let mut rows = vectors.chunks_exact(width);
            let mut each = Vec::new();
            for i in &samples.held {
                let mut given = Vec::new();
                let mut truth = Vec::new();
                for (place, label) in label_of[*i].iter().enumerate() {
                    let Some(row) = rows.next() else { continue };
                    // Places stand for bytes: a piece is apart from the next, as words are.
                    if *label != NO_LABEL {
                        truth.push((2 * place..2 * place + 1, *label, 1.0));
                        given.push((2 * place..2 * place + 1, best(&logits(head, row)), 1.0));
                    }
                }
                let (truth, given) = (spans(&samples.labels, &truth), spans(&samples.labels, &given));
                let same = |a: &(std::ops::Range<usize>, String, f32), b: &(std::ops::Range<usize>, String, f32)| {
                    a.0 == b.0 && a.1 == b.1
                };
                let mut right = 0;
                for span in &given {
                    let hit = truth.iter().any(|t| same(t, span));
                    right += usize::from(hit);
                    let count = counts.entry(span.1.clone()).or_default();
                    count.0 += usize::from(hit);
                    count.1 += 1;
                }
                truth.iter().for_each(|span| counts.entry(span.1.clone()).or_default().2 += 1);
                let of = truth.len() + given.len();
                each.push(if of == 0 { 1.0 } else { 2.0 * right as f32 / of as f32 });
            }
            lines = counts.iter().map(|(label, (right, said, all))| report::line(label, *right, *said, *all)).collect();
            report::means(&mut lines);
            ("F1", each)
        }
        Kind::Pairs { .. } | Kind::Items { .. } | Kind::Taught(_) => {
            let count = samples.held_pairs.len();
            let (queries, items) = vectors.split_at(count * width);
            let known = |text: &String| (text.clone(), words(text));
            let said =
                |(i, pair): (usize, &Pair)| (pair.item.clone(), words(samples.held_said.get(i).unwrap_or(&pair.item)));
            let asked: Vec<_> = samples.held_pairs.iter().map(|pair| known(&pair.query)).collect();
            let texts: Vec<_> = samples.held_pairs.iter().enumerate().map(said).collect();
            let mut each = Vec::new();
            for (i, query) in queries.chunks_exact(width).enumerate() {
                let own = dot(query, &items[i * width..][..width]);
                let above = |j: &usize| dot(query, &items[j * width..][..width]) > own;
                let over = (0..count).filter(|j| *j != i).filter(above);
                each.push(single(over.filter(|j| !excuses(&asked[i], &texts[i], &texts[*j])).count()));
            }
            ("NDCG@10", each)
        }
        Kind::Graded { .. } => {
            let mut groups: BTreeMap<&str, Vec<(f32, f32)>> = BTreeMap::new();
            for (pair, vector) in samples.held_pairs.iter().zip(vectors.chunks_exact(width)) {
                let score = logits(head, vector).first().copied().unwrap_or(0.0);
                groups.entry(&pair.query).or_default().push((score, pair.grade));
            }
            ("NDCG@10", groups.values().filter_map(|group| ndcg(group)).collect())
        }
    };
    Ok(Judged { metric, each, lines })
}

/// NDCG at 10 of (score, grade); none where no grade is above 0. Ties count as badly as they can.
fn ndcg(group: &[(f32, f32)]) -> Option<f32> {
    let mut order = group.to_vec();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
    let gains: Vec<f64> = order.iter().map(|(_, grade)| f64::from(*grade)).collect();
    metric::ndcg(&gains, &gains, 10).map(|n| n as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graded_answers_are_judged_by_their_order() {
        assert_eq!(ndcg(&[(0.9, 1.0), (0.1, 0.0)]), Some(1.0));
        assert!(ndcg(&[(0.1, 1.0), (0.9, 0.0)]).is_some_and(|x| (x - 0.630_93).abs() < 1e-4));
        // All alike: no merit.
        assert!(ndcg(&[(0.0, 1.0), (0.0, 0.0)]).is_some_and(|x| x < 0.7));
        assert_eq!(ndcg(&[(0.1, 0.0)]), None);
    }
}
