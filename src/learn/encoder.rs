//! Trains the shopper encoder: from what came before, what was taken next.
//!
//! The loss is the cross-entropy of the taken item among a sample of all (its batch's other targets, items drawn evenly,
//! items that share a word), plus the same among those of the sample that share one word of its title: whoever searches
//! tells such items apart. What was taken far down a list counts more, as its place is seldom looked at. The gradient is
//! written out and checked against finite differences; one thread, one order. On a GPU it is candle's ([`device`]).
//!
//! Tried on the games, and no better: all items instead of a sample, or a sample corrected for how it is drawn, the mean of the
//! weights over a pass's last steps, eight passes for five.

pub(crate) mod device;
mod state;

use super::adam::Adam;
use super::log::{Basket, Log, Logged};
use super::matrix;
use super::table::{Table, Taught};
use crate::control::Control;
use crate::device::Remote;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::linear::dot;
use crate::measure::propensity::Propensity;
use crate::random::Random;
use crate::shopper::sequence::{self, Encoder, LONGEST, MOMENTS, Step, WIDTH, Wide};
use std::collections::HashMap;
use std::sync::Arc;

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The largest step.
    pub rate: f32,
    /// Taken items of a step, at most.
    pub batch: usize,
    /// Items drawn evenly beside them.
    pub drawn: usize,
    /// What the cross-entropy among items that share a word counts.
    pub sharing: f32,
    /// Items of one basket that are learnt in one pass, at most.
    pub basket: usize,
    /// Newest events of a history that are read.
    pub history: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { rate: 0.01, batch: 1024, drawn: 2048, sharing: 0.5, basket: 6, history: 200 }
    }
}

impl Settings {
    /// For a log: of few taken items smaller steps, so that there are enough of them to learn something.
    pub fn of(log: &Log) -> Settings {
        let settings = Settings::default();
        let taken = |basket: &Basket| log.events[basket.rows.clone()].iter().filter(|e| e.weight > 0.0).count();
        let examples: usize = log.baskets().iter().map(|basket| taken(basket).min(settings.basket)).sum();
        let batch = (examples / STEPS).clamp(64, settings.batch);
        // As much as the batch, so that what is taken moves the weights as far in a small log as in a large one.
        let rate = settings.rate * batch as f32 / settings.batch as f32;
        Settings { batch, rate, ..settings }
    }
}

/// Steps that a pass takes at least, as far as there is something to learn from.
const STEPS: usize = 128;
/// Decay of what all items share, and of what is learnt of each.
const DECAY: (f32, f32) = (1e-3, 1e-2);
/// What a dropped number's neighbours are multiplied by: 13 of 16 stay.
const KEPT: f32 = 16.0 / 13.0;

/// A history and what was taken next.
#[derive(Debug, Clone)]
struct Example {
    steps: Vec<Step>,
    rows: Vec<usize>,
    target: usize,
    /// What it counts against the others.
    weight: f32,
    moments: Vec<usize>,
    /// Bits of each step's numbers that stay.
    masks: Vec<u64>,
}

/// What is learnt of each item: its part beside the text.
#[derive(Debug, Clone, PartialEq)]
struct Own {
    into: Vec<f32>,
    out: Vec<f32>,
    bias: Vec<f32>,
}

impl Own {
    fn zero(items: usize) -> Own {
        Own { into: vec![0.0; items * WIDTH], out: vec![0.0; items * WIDTH], bias: vec![0.0; items] }
    }
}

/// The gradient of one step.
struct Gradient {
    shared: Encoder,
    own: Own,
}

/// An encoder in training.
#[derive(Clone)]
pub struct Training<'a> {
    table: &'a Table,
    settings: Settings,
    shared: Encoder,
    own: Own,
    /// One for each group of shared weights, then into, out, bias.
    adams: Vec<Adam>,
    random: Random,
    /// How likely each position of a list is looked at.
    propensity: Propensity,
    /// What makes its gradients, if not this process.
    remote: Option<Arc<Remote>>,
    /// Whether it goes on here where that fails, and why it had to.
    lenient: bool,
    lost: Option<Error>,
}

impl<'a> Training<'a> {
    /// From nothing: projections that the seed decides, newer items counting more.
    pub fn new(table: &'a Table, settings: Settings, log: &Log, seed: u64) -> Training<'a> {
        let mut random = Random::named(seed, "encoder");
        let mut shared = Encoder::zero(table.text, &log.values);
        let spread = 1.0 / (table.text.max(1) as f64).sqrt();
        for matrix in [&mut shared.into, &mut shared.out] {
            matrix.iter_mut().for_each(|w| *w = ((random.uniform() * 2.0 - 1.0) * spread) as f32);
        }
        shared.place.iter_mut().enumerate().for_each(|(n, w)| *w = -2.0 * n as f32 / (LONGEST - 1) as f32);
        Training::with(table, settings, shared, Own::zero(table.len()), random)
    }

    /// From what was learnt before; items that are new begin with their text alone.
    pub fn from(
        table: &'a Table,
        settings: Settings,
        shared: Encoder,
        known: &HashMap<i64, sequence::Own>,
        seed: u64,
    ) -> Training<'a> {
        let mut own = Own::zero(table.len());
        for (row, id) in table.ids.iter().enumerate() {
            let Some(learnt) = known.get(id) else { continue };
            let text = &table.vectors[row * table.text..(row + 1) * table.text];
            let (into, out) = (sequence::project(text, &shared.into), sequence::project(text, &shared.out));
            for n in 0..WIDTH {
                own.into[row * WIDTH + n] = learnt.into[n] - into[n];
                own.out[row * WIDTH + n] = learnt.out[n] - out[n];
            }
            own.bias[row] = learnt.bias;
        }
        Training::with(table, settings, shared, own, Random::named(seed, "encoder goes on"))
    }

    fn with(table: &'a Table, settings: Settings, shared: Encoder, own: Own, random: Random) -> Training<'a> {
        let sizes = shared.groups().map(|group| group.len());
        let mut adams: Vec<Adam> = sizes.into_iter().map(Adam::new).collect();
        adams.extend([own.into.len(), own.out.len(), own.bias.len()].map(Adam::new));
        let propensity = Propensity::default();
        Training { table, settings, shared, own, adams, random, propensity, remote: None, lenient: false, lost: None }
    }

    /// The same, where what was taken counts by how seldom its place is looked at.
    pub fn weighted(self, propensity: Propensity) -> Training<'a> {
        Training { propensity, ..self }
    }

    /// What is learnt by now.
    pub fn taught(&self) -> Taught {
        let rows: Vec<usize> = (0..self.table.len()).collect();
        let (into, out) = (self.project(&rows, true), self.project(&rows, false));
        Taught { encoder: self.shared.clone(), into, out, bias: self.own.bias.clone() }
    }

    /// One pass over baskets, at a rate that falls from `from` to `to` of the largest; the mean loss.
    pub fn pass(
        &mut self,
        log: &Log,
        baskets: &[Basket],
        (from, to): (f32, f32),
        control: &dyn Control,
    ) -> Result<f32> {
        let mut order: Vec<usize> = (0..baskets.len()).collect();
        self.random.shuffle(&mut order);
        let (mut total, mut count) = (0.0f64, 0usize);
        let mut examples = Vec::new();
        for (done, place) in order.iter().enumerate() {
            self.examples(log, &baskets[*place], &mut examples);
            let last = done + 1 == order.len();
            if examples.len() >= self.settings.batch || (last && !examples.is_empty()) {
                control.check()?;
                control.progress("sequence", done as u64, order.len() as u64);
                let share = done as f32 / order.len() as f32;
                let (loss, gradient) = self.gradient(&examples)?;
                let warm = ((self.adams[0].steps + 1) as f32 / 100.0).min(1.0);
                self.step(gradient, self.settings.rate * warm * (from + (to - from) * share));
                total += f64::from(loss) * examples.len() as f64;
                count += examples.len();
                examples.clear();
            }
        }
        Ok((total / count.max(1) as f64) as f32)
    }

    /// The examples of a basket: its items after its history.
    fn examples(&mut self, log: &Log, basket: &Basket, examples: &mut Vec<Example>) {
        let history: Vec<Event> = basket.history(log, self.settings.history);
        let mut steps = sequence::steps(&history, log.asked(basket.at));
        steps.retain(|step| self.table.row(step.item).is_some());
        if steps.is_empty() {
            return;
        }
        let rows: Vec<usize> = steps.iter().filter_map(|step| self.table.row(step.item)).collect();
        let seasons = log.seasons;
        let known = |place: &usize| match place {
            0..8 => seasons[0],
            8..15 => seasons[1],
            15..MOMENTS => seasons[2],
            _ => true,
        };
        let moment = log.moment_of(&log.events[basket.rows.start]);
        let moments: Vec<usize> = self.shared.places(&moment).into_iter().filter(known).collect();
        let taken = log.events[basket.rows.clone()].iter().filter(|e| e.weight > 0.0);
        let weight = |e: &Logged| if e.position > 0 { self.propensity.weight(e.position) } else { 1.0 };
        let mut targets: Vec<(usize, f32)> = taken.filter_map(|e| Some((self.table.row(e.item)?, weight(e)))).collect();
        targets.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        targets.dedup_by_key(|(row, _)| *row);
        self.random.shuffle(&mut targets);
        for (target, weight) in targets.into_iter().take(self.settings.basket) {
            let mut mask = || {
                let (a, b, c, d) = (self.random.bits(), self.random.bits(), self.random.bits(), self.random.bits());
                a | b | (c & d)
            };
            let masks = rows.iter().map(|_| mask()).collect();
            let moments = moments.clone();
            examples.push(Example { steps: steps.clone(), rows: rows.clone(), target, weight, moments, masks });
        }
    }

    /// x or o of some rows.
    fn project(&self, rows: &[usize], into: bool) -> Vec<f32> {
        let text = self.table.text;
        let vectors = self.gather(rows);
        let (matrix, own) = if into { (&self.shared.into, &self.own.into) } else { (&self.shared.out, &self.own.out) };
        let mut all = matrix::product(&vectors, matrix, rows.len(), text, WIDTH);
        for (to, row) in all.chunks_exact_mut(WIDTH).zip(rows) {
            to.iter_mut().zip(&own[row * WIDTH..(row + 1) * WIDTH]).for_each(|(to, own)| *to += own);
        }
        all
    }

    fn gather(&self, rows: &[usize]) -> Vec<f32> {
        let text = self.table.text;
        rows.iter().flat_map(|row| &self.table.vectors[row * text..(row + 1) * text]).copied().collect()
    }

    /// The candidates of a batch: its targets, some drawn evenly, some that share a word with a target.
    fn candidates(&mut self, examples: &[Example]) -> Vec<usize> {
        let mut rows: Vec<usize> = examples.iter().map(|e| e.target).collect();
        for _ in 0..self.settings.drawn {
            rows.push(self.random.below(self.table.len()));
        }
        for example in examples {
            let words = &self.table.words[example.target];
            if !words.is_empty() {
                let held = &self.table.holders[words[self.random.below(words.len())] as usize];
                rows.push(held[self.random.below(held.len())] as usize);
            }
        }
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// The loss of examples and its gradient.
    fn gradient(&mut self, examples: &[Example]) -> Result<(f32, Gradient)> {
        let candidates = self.candidates(examples);
        // A word of each target, by which others are told apart from it.
        let words: Vec<Option<usize>> = examples
            .iter()
            .map(|e| {
                let words = &self.table.words[e.target];
                (!words.is_empty()).then(|| words[self.random.below(words.len())] as usize)
            })
            .collect();
        match self.back(examples, &candidates, &words) {
            Err(error @ Error::Device { .. }) if self.lenient => {
                (self.remote, self.lost) = (None, Some(error));
                self.back(examples, &candidates, &words)
            }
            other => other,
        }
    }

    fn back(&self, examples: &[Example], candidates: &[usize], words: &[Option<usize>]) -> Result<(f32, Gradient)> {
        let mut taken: Vec<usize> = examples.iter().flat_map(|e| e.rows.iter().copied()).collect();
        taken.sort_unstable();
        taken.dedup();
        let mut place = vec![usize::MAX; self.table.len()];
        taken.iter().enumerate().for_each(|(n, row)| place[*row] = n);
        let mut among = vec![usize::MAX; self.table.len()];
        candidates.iter().enumerate().for_each(|(n, row)| among[*row] = n);
        if let Some(remote) = &self.remote {
            return self.back_on(remote, examples, (&taken, &place), (candidates, &among), words);
        }
        let x = self.project(&taken, true);
        let x_of = |row: usize| -> &Wide { wide(&x, place[row]) };
        let out = self.project(candidates, false);

        // Forward: u with dropped numbers, plus the moment.
        let mut users = vec![0.0f32; examples.len() * WIDTH];
        let mut pooled = Vec::with_capacity(examples.len());
        for (example, user) in examples.iter().zip(users.chunks_exact_mut(WIDTH)) {
            let pool = self.shared.pool(&example.steps, |n| x_of(example.rows[n]));
            let shares = pool.as_ref().map(|p| p.shares.as_slice()).unwrap_or_default();
            for ((share, row), mask) in shares.iter().zip(&example.rows).zip(&example.masks) {
                for (n, (user, x)) in user.iter_mut().zip(x_of(*row)).enumerate() {
                    *user += if mask >> n & 1 == 1 { share * x * KEPT } else { 0.0 };
                }
            }
            for moment in &example.moments {
                let own = &self.shared.moments[moment * WIDTH..(moment + 1) * WIDTH];
                user.iter_mut().zip(own).for_each(|(user, m)| *user += m);
            }
            pooled.push(pool);
        }
        let count = candidates.len();
        let mut scores = matrix::by_rows(&users, &out, examples.len(), WIDTH, count);
        let all: f32 = examples.iter().map(|e| e.weight).sum();
        let mut loss = 0.0;
        let mut by_bias = vec![0.0; count];
        for ((example, word), scores) in examples.iter().zip(words).zip(scores.chunks_exact_mut(count)) {
            scores.iter_mut().zip(candidates).for_each(|(s, row)| *s += self.own.bias[*row]);
            let target = among[example.target];
            let each = example.weight / all;
            let sharing = word.map(|word| self.sharing(word, target, scores, &among)).unwrap_or_default();
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let aim = scores[target] - most;
            scores.iter_mut().for_each(|s| *s = exp(*s - most));
            let sum: f32 = scores.iter().sum();
            loss += each * (sum.ln() - aim);
            scores.iter_mut().for_each(|s| *s *= each / sum);
            scores[target] -= each;
            for (n, slope) in &sharing.1 {
                scores[*n] += each * self.settings.sharing * slope;
            }
            loss += each * self.settings.sharing * sharing.0;
            by_bias.iter_mut().zip(scores.iter()).for_each(|(to, s)| *to += s);
        }

        // Back, from scores to users and candidates.
        let mut by_user = matrix::product(&scores, &out, examples.len(), count, WIDTH);
        let by_out = matrix::by_columns(&scores, &users, count, examples.len(), WIDTH);
        drop(scores);
        let mut gradient =
            Gradient { shared: Encoder::zero(self.table.text, &self.shared.values), own: Own::zero(self.table.len()) };
        let mut by_x = vec![0.0f32; taken.len() * WIDTH];
        for ((example, pool), by_user) in examples.iter().zip(&pooled).zip(by_user.chunks_exact_mut(WIDTH)) {
            for moment in &example.moments {
                let own = &mut gradient.shared.moments[moment * WIDTH..(moment + 1) * WIDTH];
                own.iter_mut().zip(by_user.iter()).for_each(|(to, by)| *to += by);
            }
            let Some(pool) = pool else { continue };
            let root = (WIDTH as f32).sqrt();
            let by_share: Vec<f32> = example
                .rows
                .iter()
                .zip(&example.masks)
                .map(|(row, mask)| {
                    let kept =
                        |(n, (by, x)): (usize, (&f32, &f32))| if mask >> n & 1 == 1 { by * x * KEPT } else { 0.0 };
                    by_user.iter().zip(x_of(*row)).enumerate().map(kept).sum()
                })
                .collect();
            let mean: f32 = pool.shares.iter().zip(&by_share).map(|(a, by)| a * by).sum();
            let mut by_asks = [0.0f32; WIDTH];
            for (n, step) in example.steps.iter().enumerate() {
                let row = place[example.rows[n]];
                let to = &mut by_x[row * WIDTH..(row + 1) * WIDTH];
                let share = pool.shares[n];
                for (bit, (to, by)) in to.iter_mut().zip(by_user.iter()).enumerate() {
                    *to += if example.masks[n] >> bit & 1 == 1 { share * by * KEPT } else { 0.0 };
                }
                let by_logit = share * (by_share[n] - mean);
                gradient.shared.place[n] += by_logit;
                gradient.shared.gap[step.gap] += by_logit;
                gradient.shared.kind[step.kind] += by_logit;
                let x = wide(&x, row);
                to.iter_mut().zip(&pool.asks).for_each(|(to, ask)| *to += by_logit * ask / root);
                by_asks.iter_mut().zip(x).for_each(|(to, x)| *to += by_logit * x / root);
            }
            // asks = x₁' A.
            let row = place[example.rows[0]];
            let first = *wide(&x, row);
            let to = &mut by_x[row * WIDTH..(row + 1) * WIDTH];
            for (n, (line, by)) in
                self.shared.attend.chunks_exact(WIDTH).zip(gradient.shared.attend.chunks_exact_mut(WIDTH)).enumerate()
            {
                to[n] += dot(line, &by_asks);
                by.iter_mut().zip(&by_asks).for_each(|(by, ask)| *by += first[n] * ask);
            }
        }
        let text = self.table.text;
        gradient.shared.into = matrix::by_columns(&self.gather(&taken), &by_x, text, taken.len(), WIDTH);
        gradient.shared.out = matrix::by_columns(&self.gather(candidates), &by_out, text, count, WIDTH);
        for (row, by) in taken.iter().zip(by_x.chunks_exact(WIDTH)) {
            gradient.own.into[row * WIDTH..(row + 1) * WIDTH].copy_from_slice(by);
        }
        for ((row, by), bias) in candidates.iter().zip(by_out.chunks_exact(WIDTH)).zip(by_bias) {
            gradient.own.out[row * WIDTH..(row + 1) * WIDTH].copy_from_slice(by);
            gradient.own.bias[*row] = bias;
        }
        Ok((loss, gradient))
    }

    /// The cross-entropy among the candidates that hold a word, and its slope by their places.
    fn sharing(&self, word: usize, target: usize, scores: &[f32], among: &[usize]) -> (f32, Vec<(usize, f32)>) {
        let held = self.table.holders[word].iter().map(|row| among[*row as usize]);
        let mut shares: Vec<(usize, f32)> = held.filter(|n| *n != usize::MAX).map(|n| (n, scores[n])).collect();
        let most = shares.iter().map(|(_, s)| *s).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (_, score) in &mut shares {
            *score = exp(*score - most);
            sum += *score;
        }
        let loss = sum.ln() - (scores[target] - most);
        for (n, slope) in &mut shares {
            *slope = *slope / sum - f32::from(u8::from(*n == target));
        }
        (loss, shares)
    }

    fn step(&mut self, mut gradient: Gradient, rate: f32) {
        let own = [&mut gradient.own.into, &mut gradient.own.out, &mut gradient.own.bias];
        let mut groups: Vec<&mut [f32]> = gradient.shared.groups_mut().into_iter().collect();
        groups.extend(own.into_iter().map(Vec::as_mut_slice));
        let square = groups.iter().flat_map(|g| g.iter()).map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
        let length = square.sqrt() as f32;
        if length > 1.0 {
            groups.iter_mut().flat_map(|g| g.iter_mut()).for_each(|g| *g /= length);
        }
        let mut weights: Vec<(&mut [f32], f32)> = self.shared.groups_mut().into_iter().map(|g| (g, DECAY.0)).collect();
        weights
            .extend([&mut self.own.into, &mut self.own.out, &mut self.own.bias].map(|g| (g.as_mut_slice(), DECAY.1)));
        for (((weights, decay), gradient), adam) in weights.into_iter().zip(groups).zip(&mut self.adams) {
            adam.step(weights, gradient, rate, decay);
        }
    }
}

fn wide(all: &[f32], row: usize) -> &Wide {
    all[row * WIDTH..].first_chunk().unwrap_or(&[0.0; WIDTH])
}

/// eˣ for x up to 0, to a few parts in ten million: what the compiler turns into vector instructions.
fn exp(x: f32) -> f32 {
    let x = x.max(-80.0) * std::f32::consts::LOG2_E;
    let whole = x.floor();
    let part = x - whole;
    // 2^part on [0, 1), by a polynomial of degree 6 (the Taylor series at ½ would do as well).
    let two = 1.0
        + part
            * (std::f32::consts::LN_2
                + part
                    * (0.240_226_5
                        + part * (0.055_504_1 + part * (0.009_618_1 + part * (0.001_333_4 + part * 0.000_154_4)))));
    f32::from_bits(((whole as i32 + 127) << 23) as u32) * two
}

#[cfg(test)]
mod tests;
