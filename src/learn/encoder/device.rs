//! The loss of the shopper encoder and its gradient on a GPU, in candle's operations and by candle's own differentiation:
//! the twin of the gradient that is written out, to 1e-4.
//!
//! The items' text vectors are on the card; with each step go the weights that it needs, some hundred thousand numbers, and
//! their gradient comes back. What is drawn, the optimiser and what is kept stay with the caller, so a training may go on
//! elsewhere.

use std::sync::Arc;

use candle_core::{D, Device, Result as Done, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::{Example, Gradient, KEPT, Own, Training};
use crate::control::Control;
use crate::device::abi::{Ask, Call, Served};
use crate::device::{Library, Remote, open, softmax};
use crate::error::{Error, Result};
use crate::event::Kind;
use crate::shopper::sequence::{Encoder, GAPS, LONGEST, WIDTH};

/// What the library calls it.
pub(crate) const SHOPPERS: &str = "shoppers";
/// Items whose text vectors are handed over at once.
const BLOCK: usize = 1 << 14;
/// What keeps a score out of a softmax.
const UNSEEN: f32 = -1e30;

#[derive(Serialize, Deserialize)]
struct Spec {
    items: usize,
    text: usize,
    /// Vectors of the moment.
    moments: usize,
    /// What the cross-entropy among items that share a word counts.
    sharing: f32,
}

/// Inside the library: a shopper encoder's loss.
pub(crate) fn shoppers(device: &str, spec: &[u8], ask: Ask<'_>) -> std::result::Result<Box<dyn Served>, String> {
    let spec: Spec = serde_json::from_slice(spec).map_err(|e| e.to_string())?;
    let device = open(device)?;
    let mut blocks = Vec::new();
    for first in (0..spec.items).step_by(BLOCK) {
        let rows = BLOCK.min(spec.items - first);
        let block = ask(&format!("vectors from {first}"), &[rows, spec.text])?;
        blocks.push(Tensor::from_vec(block, (rows, spec.text), &device).map_err(|e| e.to_string())?);
    }
    let vectors = Tensor::cat(&blocks, 0).map_err(|e| e.to_string())?;
    Ok(Box::new(Shoppers { vectors, spec, device }))
}

struct Shoppers {
    /// `[items, text]`.
    vectors: Tensor,
    spec: Spec,
    device: Device,
}

/// Examples, told in runs of numbers.
#[derive(Default)]
struct Told {
    /// Steps of each example, then its target among the candidates.
    lengths: Vec<u32>,
    targets: Vec<u32>,
    /// Of each step: its row among the taken, its gap, its kind, the bits of its numbers that stay.
    rows: Vec<u32>,
    gaps: Vec<u32>,
    kinds: Vec<u32>,
    masks: Vec<u32>,
    /// Example and moment, two by two.
    moments: Vec<u32>,
    /// Example and candidate that holds its word, two by two.
    holders: Vec<u32>,
    weights: Vec<f32>,
}

impl Training<'_> {
    /// From now on gradients are made on a device. Fails with `Device` where that, or memory on it, is not to be had; what
    /// is `lenient` goes on here where the device fails later, see [`Training::lost`].
    pub fn on(&mut self, library: &Library, device: &str, lenient: bool, control: &dyn Control) -> Result<()> {
        let (items, text) = (self.table.len(), self.table.text);
        // Items without text vectors leave nothing to multiply.
        if items == 0 || text == 0 {
            return Ok(());
        }
        let moments = self.shared.moments.len() / WIDTH;
        let spec = Spec { items, text, moments, sharing: self.settings.sharing };
        let give = |name: &str, shape: &[usize]| {
            control.check()?;
            let first: usize = name.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(items);
            let rows = shape.first().copied().unwrap_or(0);
            Ok(self.table.vectors.get(first * text..(first + rows) * text).unwrap_or_default().to_vec())
        };
        let remote = library.load(device, SHOPPERS, &spec, &give)?;
        (self.remote, self.lenient) = (Some(Arc::new(remote)), lenient);
        Ok(())
    }

    /// Why it went on here, told once.
    pub fn lost(&mut self) -> Option<Error> {
        self.lost.take()
    }

    /// The loss of examples and its gradient, by a device. `taken` and `candidates` are rows, `place` and `among` where each
    /// row stands in them.
    pub(super) fn back_on(
        &self,
        remote: &Remote,
        examples: &[Example],
        (taken, place): (&[usize], &[usize]),
        (candidates, among): (&[usize], &[usize]),
        words: &[Option<usize>],
    ) -> Result<(f32, Gradient)> {
        let mut told = Told::default();
        let all: f32 = examples.iter().map(|e| e.weight).sum();
        for (n, (example, word)) in examples.iter().zip(words).enumerate() {
            told.lengths.push(example.steps.len() as u32);
            told.targets.push(among[example.target] as u32);
            told.weights.push(example.weight / all);
            for ((step, row), mask) in example.steps.iter().zip(&example.rows).zip(&example.masks) {
                told.rows.push(place[*row] as u32);
                told.gaps.push(step.gap as u32);
                told.kinds.push(step.kind as u32);
                told.masks.extend([*mask as u32, (mask >> 32) as u32]);
            }
            told.moments.extend(example.moments.iter().flat_map(|moment| [n as u32, *moment as u32]));
            let held = word.map(|word| self.table.holders[word].as_slice()).unwrap_or_default();
            let here = held.iter().map(|row| among[*row as usize]).filter(|c| *c != usize::MAX);
            told.holders.extend(here.flat_map(|candidate| [n as u32, candidate as u32]));
        }
        let numbers = |rows: &[usize]| rows.iter().map(|row| *row as u32).collect::<Vec<_>>();
        let (taken_words, candidate_words) = (numbers(taken), numbers(candidates));
        let of = |all: &[f32], rows: &[usize], width: usize| -> Vec<f32> {
            rows.iter().flat_map(|row| &all[row * width..(row + 1) * width]).copied().collect()
        };
        let into = of(&self.own.into, taken, WIDTH);
        let (out, bias) = (of(&self.own.out, candidates, WIDTH), of(&self.own.bias, candidates, 1));

        let mut shared = Encoder::zero(self.table.text, &self.shared.values);
        let (mut by_into, mut by_out) = (vec![0.0; into.len()], vec![0.0; out.len()]);
        let (mut by_bias, mut loss) = (vec![0.0; bias.len()], [0.0]);
        let mut fill: Vec<&mut [f32]> = vec![&mut loss];
        fill.extend(shared.groups_mut());
        fill.extend([&mut by_into, &mut by_out, &mut by_bias].map(Vec::as_mut_slice));
        let mut given: Vec<&[f32]> = self.shared.groups().to_vec();
        given.extend([&into, &out, &bias, &told.weights].map(Vec::as_slice));
        let Told { lengths, targets, rows, gaps, kinds, masks, moments, holders, .. } = &told;
        let words = [&taken_words, &candidate_words, lengths, targets, rows, gaps, kinds, masks, moments, holders];
        let words = words.map(Vec::as_slice).to_vec();
        remote.call("gradient", Call { words, numbers: given, out: fill })?;

        let mut own = Own::zero(self.table.len());
        let put = |to: &mut [f32], from: &[f32], rows: &[usize], width: usize| {
            for (row, from) in rows.iter().zip(from.chunks_exact(width)) {
                to[row * width..(row + 1) * width].copy_from_slice(from);
            }
        };
        put(&mut own.into, &by_into, taken, WIDTH);
        put(&mut own.out, &by_out, candidates, WIDTH);
        put(&mut own.bias, &by_bias, candidates, 1);
        Ok((loss[0], Gradient { shared, own }))
    }
}

impl Served for Shoppers {
    fn step(&self) -> usize {
        1
    }

    /// `gradient`: see [`Training::back_on`] for the runs; the loss, then the gradient of each run of weights.
    fn call(&mut self, name: &str, call: &mut Call<'_>) -> std::result::Result<(), String> {
        if name != "gradient" {
            return Err(format!("a shopper encoder does not \"{name}\""));
        }
        let words: [&[u32]; 10] = call.words()?;
        let numbers: [&[f32]; 11] = call.numbers()?;
        let found = self.gradient(words, numbers).map_err(|e| e.to_string())?;
        for (n, values) in found.iter().enumerate() {
            call.fill(n, values)?;
        }
        Ok(())
    }
}

impl Shoppers {
    fn gradient(&self, words: [&[u32]; 10], numbers: [&[f32]; 11]) -> Done<Vec<Vec<f32>>> {
        let [taken, candidates, lengths, targets, rows, gaps, kinds, masks, moments, holders] = words;
        let text = self.spec.text;
        let shapes: [&[usize]; 10] = [
            &[text, WIDTH],
            &[text, WIDTH],
            &[LONGEST],
            &[GAPS],
            &[Kind::ALL.len()],
            &[WIDTH, WIDTH],
            &[self.spec.moments, WIDTH],
            &[taken.len(), WIDTH],
            &[candidates.len(), WIDTH],
            &[candidates.len()],
        ];
        let mut vars = Vec::new();
        for (values, shape) in numbers.iter().zip(shapes) {
            vars.push(Var::from_tensor(&Tensor::from_slice(values, shape, &self.device)?)?);
        }
        let [w_into, w_out, by_place, by_gap, by_kind, attend, moment, own_into, own_out, bias] = vars.as_slice()
        else {
            candle_core::bail!("a shopper encoder has ten runs of weights");
        };
        let weights = Tensor::from_slice(numbers[10], numbers[10].len(), &self.device)?;

        // Items.
        let items = |rows: &[u32], w: &Var, own: &Var| -> Done<Tensor> {
            let rows = Tensor::from_slice(rows, rows.len(), &self.device)?;
            self.vectors.index_select(&rows, 0)?.matmul(w)? + own.as_tensor()
        };
        let (x, out) = (items(taken, w_into, own_into)?, items(candidates, w_out, own_out)?);

        // Histories, padded to the longest.
        let (count, across) = (lengths.len(), lengths.iter().copied().max().unwrap_or(1) as usize);
        let mut at = 0;
        let (mut row, mut gap, mut kind) =
            (vec![0u32; count * across], vec![0u32; count * across], vec![0u32; count * across]);
        let mut unseen = vec![UNSEEN; count * across];
        let mut kept = vec![0.0f32; count * across * WIDTH];
        for (n, len) in lengths.iter().map(|len| *len as usize).enumerate() {
            for (to, from) in (n * across..).zip(at..at + len) {
                (row[to], gap[to], kind[to], unseen[to]) = (rows[from], gaps[from], kinds[from], 0.0);
                let mask = u64::from(masks[2 * from]) | u64::from(masks[2 * from + 1]) << 32;
                for (bit, kept) in kept[to * WIDTH..(to + 1) * WIDTH].iter_mut().enumerate() {
                    *kept = if mask >> bit & 1 == 1 { KEPT } else { 0.0 };
                }
            }
            at += len;
        }
        let all = count * across;
        let select = |from: &Tensor, by: Vec<u32>| from.index_select(&Tensor::from_vec(by, all, &self.device)?, 0);
        let first: Vec<u32> = (0..count).map(|n| row[n * across]).collect();
        let seen = select(&x, row)?.reshape((count, across, WIDTH))?;
        let asks = x.index_select(&Tensor::from_vec(first, count, &self.device)?, 0)?.matmul(attend)?;
        let asked = (seen.broadcast_mul(&asks.unsqueeze(1)?)?.sum(D::Minus1)? / (WIDTH as f64).sqrt())?;
        let told = (select(by_gap, gap)? + select(by_kind, kind)?)?.reshape((count, across))?;
        let unseen = Tensor::from_vec(unseen, (count, across), &self.device)?;
        let logits = (asked + told)?.broadcast_add(&by_place.narrow(0, 0, across)?)?.add(&unseen)?;
        let shares = softmax(&logits)?;
        let kept = Tensor::from_vec(kept, (count, across, WIDTH), &self.device)?;
        let pooled = (seen * kept)?.broadcast_mul(&shares.unsqueeze(2)?)?.sum(1)?;
        let mut told = vec![0.0f32; count * self.spec.moments];
        for pair in moments.chunks_exact(2) {
            told[pair[0] as usize * self.spec.moments + pair[1] as usize] += 1.0;
        }
        let told = Tensor::from_vec(told, (count, self.spec.moments), &self.device)?;
        let users = (pooled + told.matmul(moment)?)?;

        // The two cross-entropies.
        let scores = users.matmul(&out.t()?)?.broadcast_add(bias)?;
        let targets = Tensor::from_slice(targets, (count, 1), &self.device)?;
        let aims = scores.gather(&targets, 1)?.squeeze(1)?;
        let each = (log_sum_exp(&scores)? - &aims)?;
        let mut holds = vec![UNSEEN; count * candidates.len()];
        let mut any = vec![0.0f32; count];
        for pair in holders.chunks_exact(2) {
            holds[pair[0] as usize * candidates.len() + pair[1] as usize] = 0.0;
            any[pair[0] as usize] = self.spec.sharing;
        }
        let holds = Tensor::from_vec(holds, (count, candidates.len()), &self.device)?;
        let sharing = (log_sum_exp(&(scores + holds)?)? - aims)?;
        let sharing = (sharing * Tensor::from_vec(any, count, &self.device)?)?;
        let loss = ((each + sharing)? * weights)?.sum_all()?;

        let slopes = loss.backward()?;
        let mut found = vec![vec![loss.to_scalar::<f32>()?]];
        for var in &vars {
            found.push(match slopes.get(var) {
                Some(slope) => slope.flatten_all()?.to_vec1()?,
                None => vec![0.0; var.elem_count()],
            });
        }
        Ok(found)
    }
}

fn log_sum_exp(x: &Tensor) -> Done<Tensor> {
    let most = x.max_keepdim(D::Minus1)?.detach();
    x.broadcast_sub(&most)?.exp()?.sum(D::Minus1)?.log()? + most.squeeze(D::Minus1)?
}
