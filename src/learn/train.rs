//! Fits the networks of a ranker to lists.
//!
//! The gradient is written out, and checked against finite differences: the networks are small, one thread is enough, and
//! the order of adding is fixed, so the same seed gives the same bytes on every run.

use super::adam::{self, Adam};
use super::loss::{self, Loss};
use super::sample::{List, Lists};
use crate::control::Control;
use crate::error::Result;
use crate::linear::dot;
use crate::random::Random;
use crate::rank::feature::{CALL, Features, ITEM};
use crate::rank::network::{self, Block, HIDDEN, Head, Ranker};
use crate::rank::weights;

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Passes over the lists, at most.
    pub epochs: usize,
    /// Passes without a better validation after which it stops.
    pub patience: usize,
    /// The largest step.
    pub rate: f32,
    /// Decay of weights.
    pub decay: f32,
    /// Lists whose gradients are added up for a step.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { epochs: 12, patience: 4, rate: 3e-3, decay: 0.1, batch: 32 }
    }
}

impl Settings {
    /// For so many lists: of few, smaller steps, so that there are enough of them to get anywhere.
    pub fn of(lists: usize) -> Settings {
        let settings = Settings::default();
        Settings { batch: (lists / STEPS).clamp(4, settings.batch), ..settings }
    }
}

/// Steps that an epoch takes at least, as far as there are lists.
const STEPS: usize = 350;

/// What an epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// Mean losses in training.
    pub loss: Loss,
    /// NDCG@10 of validation lists, by head; NaN where there are none.
    pub ndcg: [f64; 2],
}

impl Epoch {
    /// What decides which epoch is the best: the mean over the heads that have lists.
    pub fn quality(&self) -> f64 {
        let known: Vec<f64> = self.ndcg.into_iter().filter(|n| n.is_finite()).collect();
        known.iter().sum::<f64>() / known.len().max(1) as f64
    }
}

/// A fit under way.
pub struct Fit<'a> {
    lists: &'a Lists,
    blocks: Vec<Block>,
    settings: Settings,
    /// The ranker as it is.
    pub ranker: Ranker,
    /// The weights that it began with: decay pulls back to them.
    began: Vec<f32>,
    adam: Adam,
    order: Vec<usize>,
    /// What the lists of each head weigh on average.
    mean: [f32; 2],
    random: Random,
}

/// One over the spread from 0 of each feature where it says something; 0 for a feature that never does.
pub fn scale(features: &[Features]) -> Features {
    let mut squares = [(0.0f64, 0u32); ITEM.len()];
    for row in features {
        for ((sum, count), x) in squares.iter_mut().zip(row).filter(|(_, x)| x.abs() > 1e-6) {
            *sum += f64::from(*x) * f64::from(*x);
            *count += 1;
        }
    }
    squares.map(|(sum, count)| if count > 0 { (sum / f64::from(count)).sqrt().recip() as f32 } else { 0.0 })
}

/// What the fixed weights give each feature within its dimension, by name; the others begin at nothing.
const FIXED: [(&str, f64); 8] = [
    ("lexical", weights::LEXICAL),
    ("covered", weights::COVERED),
    ("cosine", weights::DENSE),
    ("uncovered_cosine", weights::UNCOVERED),
    ("near", 1.0),
    ("near_session", 1.0),
    ("popularity", 1.0),
    ("together", 1.0),
];

/// What softplus makes a value of.
fn under_softplus(value: f64) -> f64 {
    value.exp_m1().max(1e-6).ln()
}

/// A ranker before it has learnt: it ranks as the fixed weights do, but for rounding, and what it learns moves it from
/// there. So little behaviour, or behaviour that says nothing, leaves a sensible ranking.
pub fn start(lists: &Lists, seed: u64) -> Ranker {
    let blocks = network::blocks();
    let scale = scale(&lists.features);
    let mut random = Random::named(seed, "network");
    let mut packed = vec![0.0; network::size(&blocks)];
    for (place, block) in blocks.iter().enumerate() {
        // How far a query of one word opens the gate goes into the network, so that gates begin at 1 or near it; what the
        // fixed weights leave out has an open gate, and networks that say nothing yet.
        let weight = |room: Option<f64>| Some(weights::gate(block.dimension, room)).filter(|weight| *weight > 0.0);
        let broad = weight(Some(1.0)).unwrap_or(1.0);
        let own = &mut packed[block.at..block.at + block.len()];
        let (linear, hidden) = own.split_at_mut(block.count);
        for (n, w) in linear.iter_mut().enumerate() {
            let feature = block.first + n;
            let known = FIXED.iter().find(|(name, _)| *name == ITEM[feature].1);
            *w = if scale[feature] > 0.0 { known.map_or(0.0, |k| k.1 * broad) as f32 / scale[feature] } else { 0.0 };
        }
        let spread = (2.0 / block.count as f64).sqrt();
        hidden.iter_mut().for_each(|w| *w = ((random.uniform() * 2.0 - 1.0) * spread) as f32);
        // Out of the hidden layer: nothing yet.
        let tail = hidden.len() - HIDDEN;
        hidden[tail..].fill(0.0);
        for head in network::HEADS {
            // The room that a query of n words leaves is 1/√n, which is the call's "words": a line through one word and four.
            let open = |room: Option<f64>| under_softplus(weight(room).map_or(1.0, |weight| weight / broad));
            let (slope, constant) = match head {
                Head::Answer => {
                    let (one, four) = (open(Some(1.0)), open(Some(0.5)));
                    (2.0 * (one - four), 2.0 * four - one)
                }
                Head::Want => (0.0, open(None)),
            };
            let at = network::gate_at(&blocks, head, place);
            packed[at + WORDS] = slope as f32;
            packed[at + CALL.len()] = constant as f32;
        }
    }
    let mut ranker = Ranker::new(scale, packed, [0.0; 2]);
    ranker.bias = network::HEADS.map(|head| bias(&ranker, head, lists));
    ranker
}

/// The constant with which the chances of a head add up to what was taken. Without it the networks would have to make it
/// of their features, and an item of which nothing is known, which has none, would seem better than all others.
fn bias(ranker: &Ranker, head: Head, lists: &Lists) -> f32 {
    let own: Vec<&List> = lists.lists.iter().filter(|list| list.head == head).collect();
    let some = own.iter().step_by((own.len() / 500).max(1));
    let (mut scored, mut taken) = (Vec::new(), 0.0);
    for list in some {
        scored.extend(scores(ranker, list, lists).into_iter().zip(&lists.counts[list.range.clone()]));
        taken += lists.labels[list.range.clone()].iter().map(|label| f64::from(label.min(1.0))).sum::<f64>();
    }
    let chance = |score: f32, bias: f64| 1.0 / (1.0 + (-f64::from(score) - bias).exp());
    let chances = |bias: f64| scored.iter().map(|(s, count)| f64::from(**count) * chance(*s, bias)).sum::<f64>();
    let (mut low, mut high) = (-40.0, 10.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if chances(middle) > taken { high = middle } else { low = middle }
    }
    low as f32
}

/// The place of "words" among the features of a call.
const WORDS: usize = 1;

impl<'a> Fit<'a> {
    /// Begins from a ranker: a new one, or one that was trained before.
    pub fn new(lists: &'a Lists, ranker: Ranker, settings: Settings, seed: u64) -> Fit<'a> {
        let blocks = network::blocks();
        let adam = Adam::new(ranker.weights.len() + ranker.bias.len());
        let order = (0..lists.lists.len()).collect();
        let began = ranker.weights.iter().chain(&ranker.bias).copied().collect();
        let mean = network::HEADS.map(|head| mean_weight(lists, head));
        Fit { lists, blocks, settings, ranker, began, adam, order, mean, random: Random::named(seed, "order") }
    }

    /// One pass over the lists.
    pub fn epoch(&mut self, number: usize, control: &dyn Control) -> Result<Loss> {
        self.random.shuffle(&mut self.order);
        let batches = self.order.len().div_ceil(self.settings.batch);
        let steps = batches * self.settings.epochs;
        let warm = (steps / 20).clamp(1, 100);
        let mut total = Loss::default();
        let mut gradient = vec![0.0; self.ranker.weights.len() + self.ranker.bias.len()];
        for (place, batch) in self.order.clone().chunks(self.settings.batch).enumerate() {
            control.check()?;
            gradient.fill(0.0);
            for list in batch {
                let loss = self.list(&self.lists.lists[*list], 1.0 / batch.len() as f32, &mut gradient);
                total.listwise += loss.listwise;
                total.pointwise += loss.pointwise;
            }
            adam::clip(&mut gradient, 1.0);
            let rate = adam::rate(self.settings.rate, (number - 1) * batches + place, warm, steps);
            let now = self.ranker.weights.iter().chain(&self.ranker.bias);
            let mut all: Vec<f32> = now.zip(&self.began).map(|(now, began)| now - began).collect();
            self.adam.step(&mut all, &gradient, rate, self.settings.decay);
            all.iter_mut().zip(&self.began).for_each(|(moved, began)| *moved += began);
            let (weights, bias) = all.split_at(self.ranker.weights.len());
            self.ranker.weights.copy_from_slice(weights);
            self.ranker.bias.copy_from_slice(bias);
        }
        let count = self.order.len().max(1) as f32;
        Ok(Loss { listwise: total.listwise / count, pointwise: total.pointwise / count })
    }

    /// Adds the gradient of one list.
    fn list(&self, list: &List, weight: f32, gradient: &mut [f32]) -> Loss {
        let (weights, bias) = gradient.split_at_mut(self.ranker.weights.len());
        let mut work = Work::of(&self.ranker, &self.blocks, list, self.lists);
        let labels = &self.lists.labels[list.range.clone()];
        let mut by_score = vec![0.0; labels.len()];
        let head = list.head as usize;
        let counts = &self.lists.counts[list.range.clone()];
        // Against the average, so that rare places change the direction of a step and not its length.
        let order = list.weight / self.mean[head];
        let (loss, by_bias) =
            loss::list(&work.scores, labels, counts, self.ranker.bias[head], order, weight, &mut by_score);
        bias[head] += by_bias;
        work.back(&self.ranker, &self.blocks, list, &by_score, weights);
        loss
    }
}

/// A list's forward pass, kept for the way back.
struct Work {
    /// Features over their spread.
    scaled: Vec<Features>,
    /// What each network says, `[block][candidate]`.
    values: Vec<Vec<f32>>,
    /// The gates, before softplus.
    gates: Vec<f32>,
    scores: Vec<f32>,
}

impl Work {
    fn of(ranker: &Ranker, blocks: &[Block], list: &List, lists: &Lists) -> Work {
        let mut scaled = lists.features[list.range.clone()].to_vec();
        for row in &mut scaled {
            *row = ranker.scaled(row);
        }
        let gates: Vec<f32> = (0..blocks.len())
            .map(|place| network::gate(blocks, &ranker.weights, list.head, place, &list.call))
            .collect();
        let value = |block: &Block, row: &Features| {
            network::forward(block, &ranker.weights, &row[block.first..block.first + block.count])
        };
        let values: Vec<Vec<f32>> =
            blocks.iter().map(|block| scaled.iter().map(|row| value(block, row)).collect()).collect();
        let mut scores = vec![0.0; scaled.len()];
        for (values, gate) in values.iter().zip(&gates) {
            let gate = network::softplus(*gate);
            scores.iter_mut().zip(values).for_each(|(score, value)| *score += gate * value);
        }
        Work { scaled, values, gates, scores }
    }

    fn back(&mut self, ranker: &Ranker, blocks: &[Block], list: &List, by_score: &[f32], gradient: &mut [f32]) {
        for (place, block) in blocks.iter().enumerate() {
            let open = network::softplus(self.gates[place]);
            let slope = 1.0 / (1.0 + (-self.gates[place]).exp());
            let by_gate = dot(by_score, &self.values[place]) * slope;
            let at = network::gate_at(blocks, list.head, place);
            for (to, call) in gradient[at..at + CALL.len()].iter_mut().zip(&list.call) {
                *to += by_gate * call;
            }
            gradient[at + CALL.len()] += by_gate;
            let tail = block.at + block.count * (HIDDEN + 1);
            let (bias, out) = ranker.weights[tail..tail + 2 * HIDDEN].split_at(HIDDEN);
            for (row, by_score) in self.scaled.iter().zip(by_score) {
                let by_value = by_score * open;
                let features = &row[block.first..block.first + block.count];
                let units = network::hidden(block, &ranker.weights, features);
                let own = &mut gradient[block.at..block.at + block.len()];
                let (linear, rest) = own.split_at_mut(block.count);
                linear.iter_mut().zip(features).for_each(|(to, x)| *to += by_value * x);
                let (rows, rest) = rest.split_at_mut(block.count * HIDDEN);
                let (by_bias, by_out) = rest.split_at_mut(HIDDEN);
                let mut by_unit = [0.0; HIDDEN];
                for h in 0..HIDDEN {
                    by_out[h] += by_value * (units[h].max(0.0) - bias[h].max(0.0));
                    by_unit[h] = if units[h] > 0.0 { by_value * out[h] } else { 0.0 };
                    by_bias[h] += by_unit[h] - if bias[h] > 0.0 { by_value * out[h] } else { 0.0 };
                }
                for (to, x) in rows.chunks_exact_mut(HIDDEN).zip(features) {
                    to.iter_mut().zip(&by_unit).for_each(|(to, by)| *to += by * x);
                }
            }
        }
    }
}

/// The scores that a ranker gives the candidates of a list.
pub fn scores(ranker: &Ranker, list: &List, lists: &Lists) -> Vec<f32> {
    let gates = match list.head {
        Head::Answer => ranker.blended(&list.call, ranker.blend * list.call[WORDS]),
        Head::Want => ranker.gates(list.head, &list.call),
    };
    let score =
        |features: &Features| ranker.values(features).iter().zip(gates).map(|(value, gate)| value * gate).sum::<f32>();
    lists.features[list.range.clone()].iter().map(score).collect()
}

/// NDCG@10 of a list by scores.
pub fn ndcg(lists: &Lists, list: &List, scores: &[f32]) -> f64 {
    let range = list.range.clone();
    loss::ndcg(scores, &lists.labels[range.clone()], &lists.counts[range.clone()], &lists.items[range])
}

/// What the lists of a head weigh on average; 1 where there are none.
fn mean_weight(lists: &Lists, head: Head) -> f32 {
    let (sum, count) =
        lists.lists.iter().filter(|l| l.head == head).fold((0.0, 0.0f32), |(s, n), l| (s + l.weight, n + 1.0));
    if sum > 0.0 { sum / count } else { 1.0 }
}

/// The mean NDCG@10 by head, over the lists as they weigh; NaN where a head has no list.
pub fn validate(ranker: &Ranker, lists: &Lists) -> [f64; 2] {
    network::HEADS.map(|head| {
        let own = lists.lists.iter().filter(|list| list.head == head);
        let weighed = |list: &List| {
            let weight = f64::from(list.weight);
            (weight * ndcg(lists, list, &scores(ranker, list, lists)), weight)
        };
        let (sum, weights) = own.map(weighed).fold((0.0, 0.0), |(a, b), (x, w)| (a + x, b + w));
        sum / weights
    })
}

/// Fits until validation no longer gains; `tell` hears of each epoch. Returns the best ranker, be it the one that it began
/// with, and what the epochs came to.
pub fn fit(
    lists: &Lists,
    validation: &Lists,
    ranker: Ranker,
    settings: Settings,
    seed: u64,
    control: &dyn Control,
    tell: &mut dyn FnMut(&Epoch),
) -> Result<(Ranker, Vec<Epoch>)> {
    let mut fit = Fit::new(lists, ranker, settings, seed);
    let began = Epoch { ndcg: validate(&fit.ranker, validation), ..Epoch::default() };
    tell(&began);
    let mut best = (fit.ranker.clone(), began.quality(), 0);
    let mut epochs = Vec::new();
    for number in 1..=settings.epochs {
        let loss = fit.epoch(number, control)?;
        let epoch = Epoch { epoch: number, loss, ndcg: validate(&fit.ranker, validation) };
        tell(&epoch);
        epochs.push(epoch);
        if epoch.quality() > best.1 {
            best = (fit.ranker.clone(), epoch.quality(), number);
        } else if number - best.2 >= settings.patience {
            break;
        }
    }
    Ok((best.0, epochs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Free;

    /// Lists in which `popularity` decides for one head and `together_log` for the other.
    fn lists(seed: u64, count: usize) -> Lists {
        let mut random = Random::new(seed);
        let mut lists = Lists::default();
        for n in 0..count {
            let head = network::HEADS[n % 2];
            let first = lists.features.len();
            let mut worth = Vec::new();
            for item in 0..12 {
                let mut row = [0.0; ITEM.len()];
                row.iter_mut().for_each(|x| *x = random.uniform() as f32);
                worth.push(if head == Head::Answer { row[18] } else { row[22] });
                lists.features.push(row);
                lists.items.push(item);
                lists.before.push(0.0);
                lists.counts.push(1.0);
            }
            let most = worth.iter().copied().fold(0.0, f32::max);
            lists.labels.extend(worth.iter().map(|w| f32::from(u8::from(*w == most))));
            let mut call = [0.0; CALL.len()];
            call[0] = f32::from(u8::from(head == Head::Answer));
            let range = first..lists.features.len();
            lists.lists.push(List { head, call, range, shopper: n as u32, weight: 1.0 });
        }
        lists
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let lists = lists(5, 2);
        let mut random = Random::new(9);
        let mut ranker = start(&lists, 1);
        ranker.weights.iter_mut().for_each(|w| *w += (random.uniform() - 0.5) as f32 * 0.4);
        let fit = Fit::new(&lists, ranker.clone(), Settings::default(), 1);
        for list in &lists.lists {
            let mut gradient = vec![0.0; ranker.weights.len() + 2];
            fit.list(list, 1.0, &mut gradient);
            let at = |ranker: Ranker| {
                let fit = Fit::new(&lists, ranker, Settings::default(), 1);
                f64::from(fit.list(list, 1.0, &mut vec![0.0; gradient.len()]).joint())
            };
            let mut wrong = 0;
            for n in (0..ranker.weights.len()).step_by(7) {
                let (mut up, mut down) = (ranker.clone(), ranker.clone());
                up.weights[n] += 4e-3;
                down.weights[n] -= 4e-3;
                let slope = (at(up) - at(down)) / 8e-3;
                // A kink of relu between the two points may fall on a few.
                wrong += usize::from((slope - f64::from(gradient[n])).abs() > 2e-3 + 0.02 * slope.abs());
            }
            assert!(wrong <= ranker.weights.len() / 7 / 50, "{wrong}");
        }
    }

    #[test]
    fn before_it_learns_it_ranks_as_the_fixed_weights_do() {
        let mut lists = lists(3, 2);
        // As in browsing: no query, no relevance.
        lists.features.iter_mut().for_each(|row| row[..4].fill(0.0));
        let ranker = start(&lists, 1);
        let blocks = network::blocks();
        let fixed = |row: &Features, words: f64, head: Head| -> f64 {
            let room = (head == Head::Answer).then_some(1.0 / words.sqrt());
            let value = |block: &Block| {
                let own = |(n, x): (usize, &f32)| {
                    FIXED.iter().find(|k| k.0 == ITEM[block.first + n].1).map_or(0.0, |k| k.1 * f64::from(*x))
                };
                let features = &row[block.first..block.first + block.count];
                weights::gate(block.dimension, room) * features.iter().enumerate().map(own).sum::<f64>()
            };
            blocks.iter().map(value).sum()
        };
        for (words, head) in [(1.0, Head::Answer), (4.0, Head::Answer), (1.0, Head::Want)] {
            let mut call = [0.0; CALL.len()];
            if head == Head::Answer {
                call[WORDS] = 1.0 / f64::sqrt(words) as f32;
            }
            let list = List { head, call, ..lists.lists[0].clone() };
            for (score, row) in scores(&ranker, &list, &lists).into_iter().zip(&lists.features[list.range.clone()]) {
                let wanted = fixed(row, words, head);
                assert!((f64::from(score) - wanted).abs() < 0.02 + 0.02 * wanted.abs(), "{head:?} {score} {wanted}");
            }
        }
        assert_eq!(CALL[WORDS], "words");
    }

    #[test]
    fn both_heads_are_learnt_and_the_seed_decides_every_byte() {
        let (train, held) = (lists(1, 600), lists(2, 200));
        let settings = Settings { epochs: 25, ..Settings::default() };
        let run = || fit(&train, &held, start(&train, 7), settings, 7, &Free, &mut |_| ()).unwrap();
        let (ranker, epochs) = run();
        let quality = validate(&ranker, &held);
        let before = validate(&start(&train, 7), &held);
        assert!(quality[0] > 0.8 && quality[1] > 0.7, "{before:?} {quality:?} after {} epochs", epochs.len());
        assert_eq!(run().0.to_bytes(), ranker.to_bytes());
    }
}
