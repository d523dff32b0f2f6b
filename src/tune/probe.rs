//! What the base model knew before: a small set of general sentences, each with another that says the same.
//!
//! The score is the mean reciprocal rank at which a sentence finds its own among all others: sentences of one subject stand
//! together, so that a model that has lost its grip on meaning confuses them.

use crate::control::Control;
use crate::embed::{Encoder, Role, Scratch};
use crate::error::Result;
use crate::linear::dot;

const PAIRS: &str = include_str!("probes.tsv");

/// Pairs of sentences of the same meaning.
pub(super) fn pairs() -> Vec<(&'static str, &'static str)> {
    PAIRS.lines().filter_map(|line| line.split_once('\t')).collect()
}

/// General texts to rehearse: apart from the pairs, which only measure.
pub(super) fn rehearsed() -> Vec<&'static str> {
    include_str!("rehearsal.txt").lines().filter(|line| !line.is_empty()).collect()
}

/// How well a model still finds what means the same: 0 to 1.
pub(super) fn score(encoder: &Encoder, control: &dyn Control) -> Result<f64> {
    let pairs = pairs();
    let mut scratch = Scratch::new();
    let (left, right): (Vec<&str>, Vec<&str>) = pairs.iter().copied().unzip();
    let left = encoder.embed(&left, Role::Query, &mut scratch, control)?;
    let right = encoder.embed(&right, Role::Document, &mut scratch, control)?;
    let width = encoder.info().dimension;
    let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12);
    let mut total = 0.0;
    for (i, query) in left.chunks_exact(width).enumerate() {
        let scores: Vec<f32> = right.chunks_exact(width).map(|other| cosine(query, other)).collect();
        let own = scores.get(i).copied().unwrap_or(f32::MIN);
        total += 1.0 / (1 + scores.iter().filter(|s| **s > own).count()) as f64;
    }
    Ok(total / pairs.len().max(1) as f64)
}
