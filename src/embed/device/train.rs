//! A network in training, in candle's operations: what a loss changes when a trained number does, by candle's own
//! differentiation.
//!
//! The twin of [`gradient`](crate::embed::gradient) for devices that want large matrices: it trains the same numbers, drops
//! the same ones, and agrees with it to 1e-4. The loss, the optimiser and everything that is random stay with the caller:
//! it sends the trained numbers, then texts, gets their token vectors, sends the gradient of those, and at the end of the
//! step gets that of the trained numbers. Fused operations have no gradient in candle, so norms and softmax are written out.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::network::{Linear, Net, Norm, Plain, Way};
use super::padded::Padded;
use crate::device::abi::{Ask, Call, Served};
use crate::device::softmax;
use crate::embed::gradient::{Dropout, Entry, Part, Target};
use crate::embed::network::Network;

/// Tokens of a step on a GPU, there and back.
const STEP: usize = 4 << 10;
/// Tokens of a step on the CPU, where a stand-in runs.
const STEP_CPU: usize = 256;

/// What is trained of a network.
#[derive(Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) network: Network,
    /// The runs of trained numbers.
    pub(super) entries: Vec<Entry>,
    /// The lowest layer that is trained.
    pub(super) first: usize,
    /// What low-rank matrices add is times this.
    pub(super) scaling: f32,
}

/// A run of trained numbers.
struct Trained {
    entry: Entry,
    var: Var,
    /// Its gradient so far in this step.
    sum: Option<Tensor>,
}

/// A network in training.
pub(super) struct Training {
    net: Net,
    first: usize,
    scaling: f32,
    runs: Vec<Trained>,
    /// Token vectors, and how they came about, by the caller's number.
    graphs: BTreeMap<u32, Vec<(Padded, Tensor)>>,
}

impl Training {
    pub(super) fn load(device: &str, spec: Spec, ask: Ask<'_>) -> std::result::Result<Self, String> {
        let net = Net::load(device, spec.network, ask)?;
        let run = |entry: Entry| -> Result<Trained> {
            let var = Var::zeros(&entry.shape, DType::F32, &net.device)?;
            Ok(Trained { entry, var, sum: None })
        };
        let runs = spec.entries.into_iter().map(run).collect::<Result<_>>().map_err(|e| e.to_string())?;
        Ok(Self { net, first: spec.first, scaling: spec.scaling, runs, graphs: BTreeMap::new() })
    }

    fn set(&mut self, values: &[f32]) -> Result<()> {
        for Trained { entry, var, .. } in &self.runs {
            let run = values.get(entry.at..entry.at + entry.len()).unwrap_or_default();
            var.set(&Tensor::from_slice(run, &entry.shape, &self.net.device)?)?;
        }
        Ok(())
    }

    fn forward(&self, run: &Padded, first_text: usize, dropout: Dropout) -> Result<Tensor> {
        let (mut x, masks) = self.net.rows(run)?;
        for (i, layer) in self.net.layers.iter().enumerate() {
            if i < self.first {
                x = self.net.layer(layer, &x, run, &masks, &Plain)?;
                continue;
            }
            let way = Tuned { training: self, layer: i, run, first_text, dropout };
            if i == 0 {
                x = way.dropped(Dropout::TEXT, x)?;
            }
            x = self.net.layer(layer, &x, run, &masks, &way)?;
        }
        match &self.net.last {
            Some(last) => norm(&x, &last.scale, &last.shift, self.net.shape.eps),
            None => Ok(x),
        }
    }

    fn back(&mut self, graph: &[(Padded, Tensor)], grad: &[f32]) -> Result<()> {
        let hidden = self.net.shape.hidden;
        for (run, x) in graph {
            let by = Tensor::from_vec(run.gather(grad, hidden), x.shape(), &self.net.device)?;
            let slopes = (x * by)?.sum_all()?.backward()?;
            for Trained { var, sum, .. } in &mut self.runs {
                let Some(slope) = slopes.get(var) else { continue };
                *sum = Some(match sum.take() {
                    Some(before) => (before + slope)?,
                    None => slope.clone(),
                });
            }
        }
        Ok(())
    }

    fn collect(&mut self, out: &mut [f32]) -> Result<()> {
        self.graphs.clear();
        for Trained { entry, sum, .. } in &mut self.runs {
            let run = out.get_mut(entry.at..entry.at + entry.len()).unwrap_or_default();
            match sum.take() {
                Some(sum) => run.copy_from_slice(&sum.flatten_all()?.to_vec1::<f32>()?),
                None => run.fill(0.0),
            }
        }
        Ok(())
    }
}

impl Served for Training {
    fn step(&self) -> usize {
        if self.net.device.is_cpu() { STEP_CPU } else { STEP }
    }

    /// * `set`: the trained numbers.
    /// * `forward`: ids, types, ends, and [graph, first text, seed, its upper half]; the share that is dropped; to token
    ///   vectors, `[ids, hidden]`. How they came about is kept under the graph's number.
    /// * `back`: a graph's number; the gradient of its token vectors.
    /// * `collect`: the gradient of the trained numbers, of all since the last time. Graphs are forgotten.
    fn call(&mut self, name: &str, call: &mut Call<'_>) -> std::result::Result<(), String> {
        let wrong = |e: candle_core::Error| e.to_string();
        match name {
            "set" => {
                let [values] = call.numbers()?;
                self.set(values).map_err(wrong)
            }
            "forward" => {
                let ([ids, types, ends, place], [share]) = (call.words()?, call.numbers()?);
                let (&[number, first, low, high], &[share]) = (place, share) else {
                    return Err("a forward pass is told graph, text, seed and share".to_owned());
                };
                let dropout = Dropout { share, seed: u64::from(high) << 32 | u64::from(low) };
                let mut out = vec![0.0; ids.len() * self.net.shape.hidden];
                let mut graph = Vec::new();
                self.graphs.remove(&number);
                for run in Padded::runs(ids, types, ends)? {
                    let x = self.forward(&run, first as usize, dropout).map_err(wrong)?;
                    let values = x.flatten_all().and_then(|x| x.to_vec1()).map_err(wrong)?;
                    run.spread(&values, self.net.shape.hidden, &mut out);
                    graph.push((run, x));
                }
                self.graphs.insert(number, graph);
                call.fill(0, &out)
            }
            "back" => {
                let ([number], [grad]) = (call.words()?, call.numbers()?);
                let graph = number.first().and_then(|number| self.graphs.remove(number));
                self.back(&graph.ok_or("no forward pass has this number")?, grad).map_err(wrong)
            }
            "collect" => {
                let mut out = vec![0.0; self.runs.last().map_or(0, |run| run.entry.at + run.entry.len())];
                self.collect(&mut out).map_err(wrong)?;
                call.fill(0, &out)
            }
            _ => Err(format!("a network in training does not \"{name}\"")),
        }
    }
}

/// A trained layer.
struct Tuned<'a> {
    training: &'a Training,
    layer: usize,
    run: &'a Padded,
    first_text: usize,
    dropout: Dropout,
}

impl Tuned<'_> {
    fn part(&self, wanted: impl Fn(Part) -> bool) -> Option<&Tensor> {
        let found = self.training.runs.iter().find(|run| run.entry.layer == self.layer && wanted(run.entry.part));
        found.map(|run| run.var.as_tensor())
    }

    /// A product's runs of one sort, one above the other.
    fn stacked(&self, n: usize, sort: impl Fn(Part) -> bool, along: usize) -> Result<Option<Tensor>> {
        let mine = |run: &&Trained| run.entry.layer == self.layer && run.entry.part.slot() == Some(n);
        let runs = self.training.runs.iter().filter(mine).filter(|run| sort(run.entry.part));
        let parts: Vec<&Tensor> = runs.map(|run| run.var.as_tensor()).collect();
        if parts.is_empty() { Ok(None) } else { Tensor::cat(&parts, along).map(Some) }
    }

    /// What low-rank matrices beside a product add to its outputs.
    fn low(&self, n: usize, x: &Tensor) -> Result<Option<Tensor>> {
        let mut any = false;
        let mut parts = Vec::new();
        for target in Target::ALL.into_iter().filter(|target| target.slot() == n) {
            let (a, b) = (self.part(|p| p == Part::LowA(target)), self.part(|p| p == Part::LowB(target)));
            if let (Some(a), Some(b)) = (a, b) {
                any = true;
                parts.push((x.matmul(&a.t()?)?.matmul(&b.t()?)? * f64::from(self.training.scaling))?);
            } else {
                // A third of the attention's products that has none; another product has one target.
                parts.push(Tensor::zeros((x.dim(0)?, self.training.net.shape.hidden), DType::F32, x.device())?);
            }
        }
        if any { Tensor::cat(&parts, 1).map(Some) } else { Ok(None) }
    }

    fn dropped(&self, site: usize, x: Tensor) -> Result<Tensor> {
        if self.dropout.share <= 0.0 {
            return Ok(x);
        }
        let (across, width) = (self.run.across, x.dim(1)?);
        let mut mask = vec![0.0; self.run.texts.len() * across * width];
        for ((row, text), len) in self.run.texts.iter().enumerate().zip(&self.run.lengths) {
            let kept = self.dropout.mask(self.first_text + text, site, *len, width);
            mask[row * across * width..][..len * width].copy_from_slice(&kept);
        }
        x * Tensor::from_vec(mask, (self.run.texts.len() * across, width), &self.training.net.device)?
    }
}

impl Way for Tuned<'_> {
    fn norm(&self, base: &Norm, n: usize, x: &Tensor, eps: f32) -> Result<Tensor> {
        let moved = |base: &Tensor, by: Option<&Tensor>| match by {
            Some(by) => base.broadcast_add(by),
            None => Ok(base.clone()),
        };
        let scale = moved(&base.scale, self.part(|p| p == Part::Scale(n)))?;
        norm(x, &scale, &moved(&base.shift, self.part(|p| p == Part::Shift(n)))?, eps)
    }

    fn product(&self, linear: &Linear, n: usize, x: &Tensor) -> Result<Tensor> {
        let weight = self.stacked(n, |p| matches!(p, Part::Weight(_)), 0)?;
        let bias = self.stacked(n, |p| matches!(p, Part::Bias(_)), 1)?;
        let mut y = match weight {
            Some(added) => x.matmul(&(&linear.weight + added.t()?)?)?,
            None => x.matmul(&linear.weight)?,
        };
        for bias in linear.bias.iter().chain(&bias) {
            y = y.broadcast_add(bias)?;
        }
        match self.low(n, x)? {
            Some(low) => y + low,
            None => Ok(y),
        }
    }

    fn softmax(&self, x: &Tensor) -> Result<Tensor> {
        softmax(x)
    }

    fn end(&self, part: usize, y: Tensor) -> Result<Tensor> {
        let neck = [Part::DownWeight, Part::DownBias, Part::UpWeight, Part::UpBias];
        let y = match neck.map(|part| self.part(|p| p == part)) {
            [Some(down), Some(down_bias), Some(up), Some(up_bias)] if part == 1 => {
                let inside = y.matmul(&down.t()?)?.broadcast_add(down_bias)?.relu()?;
                (y + inside.matmul(&up.t()?)?.broadcast_add(up_bias)?)?
            }
            _ => y,
        };
        self.dropped(2 * self.layer + part, y)
    }
}

fn norm(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let spread = (x.sqr()?.mean_keepdim(1)? + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&spread)?.broadcast_mul(scale)?.broadcast_add(shift)
}
