//! A trained ranker over 1,000 candidates whose features are there: gates, networks, sum, order. For `latency/run.py`.
//!
//! Prints one JSON object: `{"ns": [...]}`, a time for each of 300 rankings of other candidates.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use pg_persona::random::Random;
use pg_persona::rank::feature::{CALL, Features, ITEM};
use pg_persona::rank::network::{self, Ranker};

const CANDIDATES: usize = 1000;
const RANKINGS: usize = 300;

fn main() {
    let mut random = Random::new(1);
    let mut drawn = |n: usize| -> Vec<f32> { (0..n).map(|_| random.uniform() as f32 - 0.3).collect() };
    let weights = drawn(network::size(&network::blocks()));
    let mut ranker = Ranker::new([1.5; ITEM.len()], weights, [0.0; 2]);
    ranker.blend = 0.2;
    let mut times = Vec::new();
    for _ in 0..RANKINGS {
        let mut call = [0.0; CALL.len()];
        call.copy_from_slice(&drawn(CALL.len()));
        let rows = drawn(CANDIDATES * ITEM.len());
        let mut features = vec![[0.0; ITEM.len()]; CANDIDATES];
        features
            .iter_mut()
            .zip(rows.chunks(ITEM.len()))
            .for_each(|(to, row): (&mut Features, _)| to.copy_from_slice(row));
        let start = Instant::now();
        let gates = ranker.blended(black_box(&call), ranker.blend);
        let score =
            |row: &Features| ranker.values(row).iter().zip(gates).map(|(value, gate)| value * gate).sum::<f32>();
        let mut ranked: Vec<(f32, usize)> = black_box(&features).iter().map(score).zip(0..).collect();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        black_box(&ranked);
        times.push(start.elapsed().as_nanos() as u64);
    }
    println!("{{\"ns\": {times:?}}}");
}
