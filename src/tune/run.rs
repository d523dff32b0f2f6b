//! A run: steps down the gradient over the rows, judged after each epoch on rows that were held out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::adapter::{self, Adapter};
use super::data::Data;
use super::judge::{Judged, judge};
use super::optimizer::{Moments, Step, schedule};
use super::options::{Adopt, Options, Task};
use super::sample::{Kind, Samples};
use super::teacher::CrossEncoder;
use super::{probe, report};
use crate::control::Control;
use crate::embed::gradient::{Gradient, Method, Net, Sums, Tape};
use crate::embed::{Batch, Dropout, Encoder, Place, Scratch};
use crate::error::{Error, Result};
use crate::random::Random;

/// What is told of an epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// Which epoch, from 1; 0 is the base model.
    pub epoch: usize,
    /// Mean loss of its steps.
    pub loss: Option<f64>,
    /// What was measured on the rows held out.
    pub metric: String,
    /// How much; none without such rows.
    pub value: Option<f64>,
    /// How long it took.
    pub seconds: f64,
}

/// Everything that a run is at some moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The encoder's trained numbers, then the head's.
    pub(super) values: Vec<f32>,
    pub(super) moments: Moments,
    pub(super) epoch: usize,
    /// Steps of this epoch that are done.
    pub(super) step: usize,
    pub(super) loss: f64,
    pub(super) seconds: f64,
    /// The values that did best on the rows held out, and how they did.
    pub(super) best: Vec<f32>,
    pub(super) best_value: Option<f64>,
    /// Epochs since.
    pub(super) stale: usize,
    /// How the base model does, row by row.
    pub(super) base: Vec<f32>,
    /// What a teacher has said so far.
    pub(super) taught: Vec<f32>,
    /// What was told so far.
    pub told: Vec<Told>,
    /// Whether no step is left.
    pub done: bool,
}

impl State {
    /// As it is kept between steps.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let words = json!({"epoch": self.epoch, "step": self.step, "steps": self.moments.steps, "loss": self.loss.to_bits(),
            "seconds": self.seconds, "best": self.best_value, "stale": self.stale, "told": self.told, "done": self.done});
        adapter::write(
            &BTreeMap::from([("state".to_owned(), words.to_string())]),
            &[
                ("values", &self.values, false),
                ("first", &self.moments.first, false),
                ("second", &self.moments.second, false),
                ("best", &self.best, false),
                ("base", &self.base, false),
                ("taught", &self.taught, false),
            ],
        )
    }

    /// Reads what [`State::to_bytes`] wrote.
    pub fn read(bytes: &[u8]) -> Result<State> {
        let (words, mut arrays) = adapter::read(bytes)?;
        let broken = || Error::Adapter { reason: "the state of a run cannot be read".into() };
        let words: Value = serde_json::from_str(words.get("state").ok_or_else(broken)?).map_err(|_| broken())?;
        let number = |key: &str| words.get(key).and_then(Value::as_u64).ok_or_else(broken);
        let mut array = |key: &str| arrays.remove(key).unwrap_or_default();
        Ok(State {
            values: array("values"),
            moments: Moments { first: array("first"), second: array("second"), steps: number("steps")? },
            epoch: number("epoch")? as usize,
            step: number("step")? as usize,
            loss: f64::from_bits(number("loss")?),
            seconds: words.get("seconds").and_then(Value::as_f64).unwrap_or(0.0),
            best: array("best"),
            best_value: words.get("best").and_then(Value::as_f64),
            stale: number("stale")? as usize,
            base: array("base"),
            taught: array("taught"),
            told: words.get("told").and_then(|t| serde_json::from_value(t.clone()).ok()).ok_or_else(broken)?,
            done: words.get("done") == Some(&Value::Bool(true)),
        })
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the adapter may be used.
    pub adopted: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Figures and the report.
    pub metrics: Value,
}

/// A run over its rows.
pub struct Run {
    pub(super) options: Options,
    pub(super) task: Task,
    pub(super) encoder: Arc<Encoder>,
    net: Net,
    pub(super) samples: Samples,
    /// Bytes that tapes may take.
    memory: usize,
    tapes: Vec<Tape>,
    sums: Sums,
    grad: Gradient,
}

/// A control for a part of a step, whose progress the step itself tells.
pub(super) struct Quiet<'a>(pub(super) &'a dyn Control);

impl Control for Quiet<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// What a loss sees of a batch: a vector for each text, or (tags) for each token.
struct Seen {
    vectors: Vec<f32>,
    lengths: Vec<f32>,
}

impl Run {
    /// Prepares a run. `encoder` has to be in f32, and is trained on a device if there is a `place`; `teacher` is what the
    /// options name; `memory` bounds what is kept for the way back, in bytes.
    pub fn new(
        options: Options,
        encoder: Arc<Encoder>,
        place: Option<&Place>,
        teacher: Option<CrossEncoder>,
        data: &Data,
        memory: usize,
        control: &dyn Control,
    ) -> Result<Run> {
        let task = data.task();
        options.suit(task)?;
        if options.teacher.is_some() != teacher.is_some() {
            return Err(Error::Internal("a teacher comes with the options that name it".into()));
        }
        let net = match place {
            // Nothing of a frozen network runs.
            Some(place) if options.plan().method != Method::Frozen => {
                encoder.trainable_on(place, options.plan(), control)?
            }
            _ => encoder.trainable(options.plan(), control)?,
        };
        let samples = Samples::new(data, &options, &encoder, teacher.as_ref(), control)?;
        let (tapes, sums, grad) = (Vec::new(), Sums::default(), Gradient::default());
        Ok(Run { options, task, encoder, net, samples, memory, tapes, sums, grad })
    }

    /// The state before the first step.
    pub fn start(&mut self, control: &dyn Control) -> Result<State> {
        let started = Instant::now();
        let mut random = Random::named(self.options.seed, "start");
        let mut values = vec![0.0; self.net.len()];
        for entry in self.net.entries() {
            let half = entry.start();
            if half > 0.0 {
                values[entry.at..entry.at + entry.len()]
                    .iter_mut()
                    .for_each(|x| *x = half * (2.0 * random.uniform() - 1.0) as f32);
            }
        }
        self.net.set(&values)?;
        let head = self.samples.first_head(&self.encoder, control)?;
        values.extend(&head);
        let judged = self.judge(&values, control)?;
        let told = vec![Told {
            epoch: 0,
            loss: None,
            metric: judged.metric.into(),
            value: judged.value(),
            seconds: started.elapsed().as_secs_f64(),
        }];
        let (best_value, base) = (judged.value(), judged.each);
        Ok(State { best: values.clone(), values, base, best_value, told, ..State::default() })
    }

    fn rows(&self) -> usize {
        let all = self.samples.train.len();
        self.samples.drawn.filter(|n| *n > 0).map_or(all, |n| n.min(all))
    }

    fn steps(&self) -> usize {
        self.rows().div_ceil(self.options.batch(self.task)).max(1)
    }

    /// Takes steps until `enough` says so, or all are taken. An epoch's end is a step of its own: the rows held out. So is
    /// each list that a teacher judges.
    pub fn advance(
        &mut self,
        state: &mut State,
        enough: &mut dyn FnMut() -> bool,
        control: &dyn Control,
    ) -> Result<()> {
        let (epochs, steps) = (self.options.epochs(self.task), self.steps());
        if let Kind::Taught(lists) = &mut self.samples.kind {
            let (started, length) = (Instant::now(), self.options.length(self.task));
            let all = lists.teach(&mut state.taught, &self.encoder, length, enough, control)?;
            state.seconds += started.elapsed().as_secs_f64();
            if !all {
                return Ok(());
            }
        }
        self.net.set(&state.values[..self.net.len()])?;
        while !state.done {
            let started = Instant::now();
            control.progress("fine_tune", (state.epoch * steps + state.step) as u64, (epochs * steps) as u64);
            if state.step < steps {
                let loss = self.step(state, control)?;
                state.loss += loss / steps as f64;
                state.step += 1;
                state.seconds += started.elapsed().as_secs_f64();
            } else {
                let judged = self.judge(&state.values, control)?;
                state.epoch += 1;
                let value = judged.value();
                state.seconds += started.elapsed().as_secs_f64();
                state.told.push(Told {
                    epoch: state.epoch,
                    loss: Some(state.loss),
                    metric: judged.metric.into(),
                    value,
                    seconds: state.seconds,
                });
                // Without rows held out, the last is the best.
                // One that does as well as the best has seen more, and takes its place.
                state.stale = if value.is_none() || value > state.best_value { 0 } else { state.stale + 1 };
                if value.is_none() || value >= state.best_value {
                    state.best_value = value;
                    state.best.clone_from(&state.values);
                }
                (state.step, state.loss, state.seconds) = (0, 0.0, 0.0);
                let tired = self.options.patience > 0 && state.stale >= self.options.patience;
                state.done = state.epoch >= epochs || tired;
            }
            if enough() {
                break;
            }
        }
        Ok(())
    }

    /// One step down the gradient; its loss.
    fn step(&mut self, state: &mut State, control: &dyn Control) -> Result<f64> {
        let (task, seed) = (self.task, self.options.seed);
        let size = self.options.batch(task);
        let mut order: Vec<usize> = self.samples.train.clone();
        Random::named(seed, &format!("epoch {}", state.epoch)).shuffle(&mut order);
        order.truncate(self.rows());
        let batch = &order[(state.step * size).min(order.len())..((state.step + 1) * size).min(order.len())];
        let total = (self.options.epochs(task) * self.steps()) as u64;
        let mut random = Random::named(seed, &format!("step {}", state.moments.steps));
        let dropout = Dropout { share: self.options.dropout, seed: random.bits() };
        let border = self.net.len();
        let mut gradient = vec![0.0; state.values.len()];
        let loss = if self.net.is_empty() && self.samples.frozen() {
            let head = state.values[border..].to_vec();
            self.samples.frozen_loss(batch, &head, &mut gradient[border..], self.options.smoothing)?
        } else {
            let length = self.options.length(task);
            let mut texts = self.samples.draw(batch, &self.encoder, &mut random, length, control)?;
            texts.rehearse(self.options.rehearsal, &self.encoder, length, &mut random, control)?;
            self.tuned_loss(batch, texts, dropout, &state.values, &mut gradient, control)?
        };
        if !loss.is_finite() {
            return Err(Error::Diverged { step: state.moments.steps });
        }
        let share = schedule(state.moments.steps, total, self.options.warmup);
        let step = Step {
            rate: self.options.rate() * share,
            head_rate: self.options.head_learning_rate * share,
            border,
            pull: self.options.pull,
            clip: self.options.clip,
        };
        state.moments.step(&mut state.values, &mut gradient, &step);
        if border > 0 {
            self.net.set(&state.values[..border])?;
        }
        Ok(loss)
    }

    /// Loss and gradient of drawn texts. The vectors of all are made before the loss, as it may compare each with each;
    /// what does not fit into memory is made a second time for its way back (Gao et al. 2021,
    /// <https://arxiv.org/abs/2101.06983>).
    fn tuned_loss(
        &mut self,
        batch: &[usize],
        texts: super::drawn::Drawn,
        dropout: Dropout,
        values: &[f32],
        gradient: &mut [f32],
        control: &dyn Control,
    ) -> Result<f64> {
        let border = self.net.len();
        let waves: Vec<Range<usize>> = texts.batch.waves(self.net.wave()).collect();
        let longest = waves.iter().flat_map(|w| texts.batch.spans(w.clone())).map(|s| s.len()).max().unwrap_or(1);
        let each = self.net.bytes_per_token(longest) * self.net.wave();
        let by_memory = (self.memory / each.max(1)).max(1);
        let kept = if self.options.accumulate > 0 {
            by_memory.min(self.options.accumulate.div_ceil((batch.len() / waves.len().max(1)).max(1)))
        } else {
            by_memory
        };
        // All of them, or one at a time.
        let keep_all = waves.len() <= kept;
        self.tapes.resize_with(if keep_all { waves.len().max(1) } else { 1 }, Tape::default);
        let mut seen = Seen { vectors: Vec::new(), lengths: Vec::new() };
        for (i, wave) in waves.iter().enumerate() {
            let tape = &mut self.tapes[if keep_all { i } else { 0 }];
            self.net.forward(&texts.batch, wave.clone(), dropout, tape, &mut self.sums, control)?;
            see(&self.encoder, self.task, tape, &mut seen);
        }
        let mut of_vectors = vec![0.0; seen.vectors.len()];
        let head = &values[border..];
        let loss =
            texts.loss(&self.samples, &self.options, &seen.vectors, head, &mut of_vectors, &mut gradient[border..])?;
        let width = self.net.hidden();
        let mut at = 0;
        for (i, wave) in waves.iter().enumerate() {
            let tape = &mut self.tapes[if keep_all { i } else { 0 }];
            if !keep_all {
                self.net.forward(&texts.batch, wave.clone(), dropout, tape, &mut self.sums, control)?;
            }
            let into = self.grad.zeros(tape);
            for rows in tape.spans().iter().cloned() {
                if self.task == Task::Tag {
                    for row in rows {
                        into[row * tape.stride()..][..width].copy_from_slice(&of_vectors[at * width..][..width]);
                        at += 1;
                    }
                } else {
                    let (vector, grad) = (&seen.vectors[at * width..][..width], &of_vectors[at * width..][..width]);
                    let length = seen.lengths[at];
                    self.encoder.vector_back(tape.hidden(), tape.stride(), rows, vector, length, grad, into);
                    at += 1;
                }
            }
            self.net.backward(tape, &mut self.grad, &mut self.sums, control)?;
        }
        self.net.collect(&mut self.sums, &mut gradient[..border])?;
        Ok(loss)
    }

    /// The vectors (tags: token rows) that the network with these values makes, without dropout.
    fn vectors(&mut self, batch: &Batch, control: &dyn Control) -> Result<Vec<f32>> {
        let mut seen = Seen { vectors: Vec::new(), lengths: Vec::new() };
        self.tapes.resize_with(self.tapes.len().max(1), Tape::default);
        for wave in batch.waves(self.net.wave()).collect::<Vec<_>>() {
            let tape = &mut self.tapes[0];
            self.net.forward(batch, wave, Dropout::NONE, tape, &mut self.sums, control)?;
            see(&self.encoder, self.task, tape, &mut seen);
        }
        Ok(seen.vectors)
    }

    /// How these values do on the rows held out.
    fn judge(&mut self, values: &[f32], control: &dyn Control) -> Result<Judged> {
        let border = self.net.len();
        if border > 0 {
            self.net.set(&values[..border])?;
        }
        let vectors = match self.samples.frozen_held() {
            Some(vectors) if border == 0 => vectors,
            _ => {
                let batch = self.samples.held_batch();
                let vectors = self.vectors(&batch, control)?;
                self.samples.put_back(batch);
                vectors
            }
        };
        judge(&self.samples, &self.options, &vectors, &values[border..])
    }

    /// What came of it: the adapter with the values that did best, judged against the base model.
    pub fn finish(&mut self, state: &State, control: &dyn Control) -> Result<(Adapter, Verdict)> {
        let border = self.net.len();
        let kept = self.options.kept(self.task, matches!(self.samples.kind, Kind::Items { .. }));
        let adapter = Adapter {
            task: self.task,
            plan: self.options.plan(),
            labels: self.samples.labels.clone(),
            values: state.best[..border].iter().map(|value| value * kept).collect(),
            head: state.best[border..].to_vec(),
        }
        .rounded();
        let values = [adapter.values.as_slice(), &adapter.head].concat();
        let judged = self.judge(&values, control)?;
        let (gain, low, high) = report::gain(&judged.each, &state.base, self.options.seed);
        let round = |x: f64| (x * 1e4).round() / 1e4;
        let control = &Quiet(control);
        let before = probe::score(&self.encoder, control)?;
        let (mut after, mut teacher) = (before, Value::Null);
        if border > 0 {
            let merged = self.encoder.adapted("probe", "probe", &self.net, &adapter.values)?;
            after = probe::score(&merged, control)?;
            if let Kind::Taught(lists) = &mut self.samples.kind {
                lists.hear(&state.taught);
                let length = self.options.length(self.task);
                let agreement = |encoder: &Encoder| lists.agreement(encoder, length, control);
                teacher =
                    json!({"before": agreement(&self.encoder)?.map(round), "after": agreement(&merged)?.map(round)});
            }
        }
        let mut why = Vec::new();
        if judged.each.is_empty() {
            why.push("no rows were held out to judge it by".to_owned());
        } else if low <= 0.0 {
            why.push(format!(
                "its gain on held-out rows is {gain:.4} (95 %: {low:.4} to {high:.4}), not surely above 0"
            ));
        }
        // Measured: +.14 on such queries, and nothing on those that people ask.
        if self.samples.made() {
            why.push("it was judged by queries made of the items, which say little of what shoppers ask".to_owned());
        }
        // A classifier's vectors are its own affair; those of an embedding model are compared with anything.
        if self.task == Task::Embed && after < 0.99 * before {
            why.push(format!("it forgot: general probes score {after:.4}, and {before:.4} before"));
        }
        let adopted = why.is_empty() || self.options.adopt == Adopt::Always;
        let mut metrics = json!({
            "metric": judged.metric,
            "value": judged.value().map(round),
            "base": Judged::mean(&state.base).map(round),
            "gain": round(gain), "low": round(low), "high": round(high),
            "probe": {"before": round(before), "after": round(after)},
            "rows": {"train": self.samples.train.len(), "held_out": judged.each.len()},
            "epochs": state.told.iter().map(|t| json!({"epoch": t.epoch, "loss": t.loss.map(round),
                "value": t.value.map(round), "seconds": round(t.seconds)})).collect::<Vec<_>>(),
            "seconds": round(state.told.iter().map(|t| t.seconds).sum()),
            "report": report::to_json(&judged.lines),
        });
        if !teacher.is_null() {
            metrics["agreement"] = teacher;
        }
        let reason = (!why.is_empty()).then(|| why.join("; "));
        Ok((adapter, Verdict { adopted, reason, metrics }))
    }
}

/// Reads what a loss sees off a tape.
fn see(encoder: &Encoder, task: Task, tape: &Tape, seen: &mut Seen) {
    let width = encoder.info().dimension;
    for rows in tape.spans() {
        if task == Task::Tag {
            for row in rows.clone() {
                seen.vectors.extend_from_slice(&tape.hidden()[row * tape.stride()..][..width]);
            }
        } else {
            let at = seen.vectors.len();
            seen.vectors.resize(at + width, 0.0);
            seen.lengths.push(encoder.vector(tape.hidden(), tape.stride(), rows.clone(), &mut seen.vectors[at..]));
        }
    }
}

/// Vectors of many texts by an encoder as it is.
pub(super) fn embed_all(
    encoder: &Encoder,
    texts: &[&str],
    role: crate::embed::Role,
    control: &dyn Control,
) -> Result<Vec<f32>> {
    let mut scratch = Scratch::new();
    let mut all = Vec::with_capacity(texts.len() * encoder.info().dimension);
    for texts in texts.chunks(64) {
        control.check()?;
        all.append(&mut encoder.embed(texts, role, &mut scratch, &Quiet(control))?);
    }
    Ok(all)
}
