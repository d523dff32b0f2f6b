//! Where the trained numbers go: into the packed matrices, into upstream's tensors, and their gradients back.

use std::sync::Arc;

use super::super::buffer::Buffer;
use super::super::dense::Dense;
use super::super::linear::Linear;
use super::super::simd::padded;
use super::super::{Model, Norm};
use super::plan::{Entry, Method, Part, Target};
use super::{Change, Net, Sums, dense, products, slot};
use crate::error::Result;

impl Net {
    /// What these values add to upstream's tensors.
    pub fn changes(&self, values: &[f32]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut low: Option<&Entry> = None;
        for entry in &self.entries {
            let run = &values[entry.at..][..entry.len()];
            let (name, ending) = entry.name.rsplit_once('.').unwrap_or((&entry.name, ""));
            let added = match entry.part {
                Part::LowA(_) => {
                    low = Some(entry);
                    continue;
                }
                Part::LowB(_) => {
                    let Some(a) = low else { continue };
                    let (rank, inputs) = (a.shape[0], a.shape[1]);
                    let a = &values[a.at..][..a.len()];
                    let mut added = vec![0.0; entry.shape[0] * inputs];
                    for (row, b) in added.chunks_exact_mut(inputs).zip(run.chunks_exact(rank)) {
                        for (a, b) in a.chunks_exact(inputs).zip(b) {
                            row.iter_mut().zip(a).for_each(|(x, a)| *x += a * b * self.scaling());
                        }
                    }
                    added
                }
                _ => run.to_vec(),
            };
            let name = name.trim_end_matches(".lora_B");
            // ModernBERT's three are one matrix upstream.
            let fused = [".query", ".key", ".value"].iter().position(|part| name.ends_with(&format!("Wqkv{part}")));
            let (name, first_row) = match (fused, name.rsplit_once('.')) {
                (Some(part), Some((fused, _))) => (fused, part * self.model.hidden),
                _ => (name, 0),
            };
            changes.push(Change { tensor: format!("{name}.{ending}"), first_row, added });
        }
        changes
    }

    pub(super) fn of_layer(&self, layer: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.layer == layer)
    }

    /// The narrow matrices beside one product: `[R, inputs]`, `[outputs, R]` scaled, and R, the sum of its targets' ranks.
    pub(super) fn low(
        &self,
        layer: usize,
        slot: usize,
        rank: usize,
        values: &[f32],
    ) -> Option<(Vec<f32>, Vec<f32>, usize)> {
        let dense = dense(products(&self.model.layers[layer])[slot]).ok()?;
        let (inputs, outputs) = (dense.inputs(), dense.columns());
        let mine: Vec<&Entry> = self
            .of_layer(layer)
            .filter(|e| matches!(e.part, Part::LowA(t) | Part::LowB(t) if t.slot() == slot))
            .collect();
        let all = mine.len() / 2 * rank;
        if all == 0 {
            return None;
        }
        let (mut a, mut b) = (vec![0.0; all * inputs], vec![0.0; outputs * all]);
        for (block, pair) in mine.chunks_exact(2).enumerate() {
            let [low_a, low_b] = pair else { continue };
            let Part::LowA(target) = low_a.part else { continue };
            let by = self.scaling() * self.model.factor(target);
            for (q, row) in values[low_a.at..][..low_a.len()].chunks_exact(low_a.shape[1]).enumerate() {
                for (i, x) in row.iter().enumerate() {
                    a[(block * rank + q) * inputs + self.model.column(target, i)] = *x;
                }
            }
            for (o, row) in values[low_b.at..][..low_b.len()].chunks_exact(rank).enumerate() {
                for (q, x) in row.iter().enumerate() {
                    b[self.model.row(target, o) * all + block * rank + q] = *x * by;
                }
            }
        }
        Some((a, b, all))
    }

    pub(super) fn scaling(&self) -> f32 {
        match self.plan.method {
            Method::Lora { rank, alpha, .. } => alpha / rank as f32,
            _ => 1.0,
        }
    }

    /// Adds what is trained of a product to its packed weight and bias.
    pub(super) fn add(&self, layer: usize, slot: usize, values: &[f32], weight: &mut [f32], bias: &mut [f32]) {
        let model = &self.model;
        let inputs = weight.len() / bias.len().max(1);
        for entry in self.of_layer(layer) {
            let run = &values[entry.at..][..entry.len()];
            match entry.part {
                Part::Weight(target) if target.slot() == slot => {
                    for (o, row) in run.chunks_exact(entry.shape[1]).enumerate() {
                        for (i, x) in row.iter().enumerate() {
                            weight[model.row(target, o) * inputs + model.column(target, i)] +=
                                *x * model.factor(target);
                        }
                    }
                }
                Part::Bias(target) if target.slot() == slot => {
                    for (o, x) in run.iter().enumerate() {
                        bias[model.row(target, o)] += *x * model.factor(target);
                    }
                }
                _ => {}
            }
        }
        if let Method::Lora { rank, .. } = self.plan.method
            && let Some((a, b, all)) = self.low(layer, slot, rank, values)
        {
            for (row, b) in weight.chunks_exact_mut(inputs).zip(b.chunks_exact(all)) {
                for (a, b) in a.chunks_exact(inputs).zip(b).filter(|(_, b)| **b != 0.0) {
                    row.iter_mut().zip(a).for_each(|(w, a)| *w += a * b);
                }
            }
        }
    }

    pub(super) fn norms(&self, layer: usize, values: &[f32]) -> [Option<Norm>; 3] {
        let base = &self.model.layers[layer];
        let mut norms = [base.before.clone(), Some(base.middle.clone()), base.after.clone()];
        for entry in self.of_layer(layer) {
            let (Part::Scale(n) | Part::Shift(n)) = entry.part else { continue };
            let Some(norm) = norms.get_mut(n).and_then(Option::as_mut) else { continue };
            let buffer = if matches!(entry.part, Part::Scale(_)) { &mut norm.scale } else { &mut norm.shift };
            let mut changed = Buffer::padded(buffer, 0);
            changed.iter_mut().zip(&values[entry.at..]).for_each(|(x, d)| *x += d);
            *buffer = Arc::new(changed);
        }
        norms
    }

    /// Weight and bias of the two products of a bottleneck.
    pub(super) fn neck(&self, layer: usize, size: usize, values: &[f32]) -> [(Vec<f32>, Vec<f32>); 2] {
        let run = |part: Part| {
            let entry = self.of_layer(layer).find(|e| e.part == part);
            entry.map_or(Vec::new(), |e| values[e.at..][..e.len()].to_vec())
        };
        debug_assert!(size > 0);
        [(run(Part::DownWeight), run(Part::DownBias)), (run(Part::UpWeight), run(Part::UpBias))]
    }

    /// The packed model with these values merged in: what did not change is shared with the base.
    pub(in crate::embed) fn merged(&self, values: &[f32]) -> Result<Model> {
        let mut model = self.model.clone();
        for at in self.first..model.layers.len() {
            let norms = self.norms(at, values);
            let layer = &mut model.layers[at];
            for (n, linear) in [&mut layer.qkv, &mut layer.out, &mut layer.up, &mut layer.down].into_iter().enumerate()
            {
                if !self.of_layer(at).any(|entry| entry.part.slot() == Some(n)) {
                    continue;
                }
                let base = dense(linear)?;
                let (mut weight, mut bias) = base.unpack();
                self.add(at, n, values, &mut weight, &mut bias);
                *linear = Linear::Float(base.changed(&weight, &bias));
            }
            let [before, middle, after] = norms;
            layer.before = before;
            layer.after = after;
            if let Some(middle) = middle {
                layer.middle = middle;
            }
            if let Method::Bottleneck { size } = self.plan.method {
                let [(down, down_bias), (up, up_bias)] = self.neck(at, size, values);
                let down = Linear::Float(Dense::pack(&down, &down_bias, self.model.hidden));
                layer.neck = Some(Arc::new([down, Linear::Float(Dense::pack(&up, &up_bias, size))]));
            }
        }
        Ok(model)
    }

    /// Adds the gradients that were summed to `out`, in the order of [`Net::entries`], and forgets them.
    pub fn collect(&self, sums: &mut Sums, out: &mut [f32]) -> Result<()> {
        let model = &self.model;
        if let Some(learner) = &self.learner {
            let mut sum = vec![0.0; self.len()];
            learner.collect(&mut sum)?;
            out.iter_mut().zip(sum).for_each(|(x, g)| *x += g);
            return Ok(());
        }
        for (i, sum) in sums.layers.iter_mut().enumerate() {
            let at = self.first + i;
            let mut block = 0;
            let mut before = None;
            for entry in self.entries.iter().filter(|e| e.layer == at) {
                let run = &mut out[entry.at..][..entry.len()];
                match entry.part {
                    Part::LowA(target) | Part::LowB(target) => {
                        let slot = &sum.slots[target.slot()];
                        let Method::Lora { rank, .. } = self.plan.method else { continue };
                        if before != Some(target) {
                            block =
                                if before.is_some_and(|t: Target| t.slot() == target.slot()) { block + 1 } else { 0 };
                            before = Some(target);
                        }
                        let dense = &self.layers[i].slots[target.slot()].forward;
                        let (inputs, columns) = (padded(dense.inputs()), dense.columns());
                        if matches!(entry.part, Part::LowA(_)) {
                            for (q, run) in run.chunks_exact_mut(entry.shape[1]).enumerate() {
                                let row = &slot.a[(block * rank + q) * inputs..][..inputs];
                                for (j, g) in run.iter_mut().enumerate() {
                                    *g += row[model.column(target, j)];
                                }
                            }
                        } else {
                            let by = self.scaling() * model.factor(target);
                            for (o, run) in run.chunks_exact_mut(rank).enumerate() {
                                for (q, g) in run.iter_mut().enumerate() {
                                    *g += slot.b[(block * rank + q) * columns + model.row(target, o)] * by;
                                }
                            }
                        }
                    }
                    Part::Weight(target) => {
                        let slot = &sum.slots[target.slot()];
                        let inputs = padded(self.layers[i].slots[target.slot()].forward.inputs());
                        for (o, run) in run.chunks_exact_mut(entry.shape[1]).enumerate() {
                            let row = &slot.weight[model.row(target, o) * inputs..][..inputs];
                            for (j, g) in run.iter_mut().enumerate() {
                                *g += row[model.column(target, j)] * model.factor(target);
                            }
                        }
                    }
                    Part::Bias(target) => {
                        for (o, g) in run.iter_mut().enumerate() {
                            *g += sum.slots[target.slot()].bias[model.row(target, o)] * model.factor(target);
                        }
                    }
                    Part::Scale(n) => run.iter_mut().zip(&sum.scale[n]).for_each(|(g, x)| *g += x),
                    Part::Shift(n) => run.iter_mut().zip(&sum.shift[n]).for_each(|(g, x)| *g += x),
                    Part::DownWeight | Part::UpWeight => {
                        let slot = &sum.neck[usize::from(entry.part == Part::UpWeight)];
                        let across = padded(entry.shape[1]);
                        for (run, row) in run.chunks_exact_mut(entry.shape[1]).zip(slot.weight.chunks_exact(across)) {
                            run.iter_mut().zip(row).for_each(|(g, x)| *g += x);
                        }
                    }
                    Part::DownBias => run.iter_mut().zip(sum.neck[0].bias.iter()).for_each(|(g, x)| *g += x),
                    Part::UpBias => run.iter_mut().zip(sum.neck[1].bias.iter()).for_each(|(g, x)| *g += x),
                }
            }
            sum.slots.iter_mut().chain(&mut sum.neck).for_each(slot::SlotGrad::clear);
            sum.scale.iter_mut().chain(&mut sum.shift).for_each(|v| v.fill(0.0));
        }
        Ok(())
    }
}
