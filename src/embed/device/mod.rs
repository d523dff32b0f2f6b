//! Networks on a GPU, through the library of [`device`](crate::device): the forward pass, and training.
//!
//! The extension reads, checks and hashes the bundle, tokenises and pools, with the same code as for the CPU; [`network`] is
//! what runs inside the library, [`train`] the same with a way back.
//!
//! Texts are padded to the longest of a run of like lengths, and a GPU's libraries choose a kernel by shape: vectors agree
//! with the CPU's to 1e-4, not to the bit.

mod mask;
mod network;
mod padded;
mod train;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::gradient::{Change, Dropout, Entry};
use super::network::Network;
use super::packed::Batch;
use super::weights::Tensors;
use crate::control::Control;
use crate::device::abi::{Ask, Call, Served};
use crate::device::{Library, Remote};
use crate::error::Result;

/// What the library calls a network that embeds.
pub(crate) const NETWORK: &str = "network";
/// What it calls one in training.
pub(crate) const TRAINING: &str = "training";

/// Inside the library: a network that embeds.
pub(crate) fn network(device: &str, spec: &[u8], ask: Ask<'_>) -> std::result::Result<Box<dyn Served>, String> {
    let network = serde_json::from_slice(spec).map_err(|e| e.to_string())?;
    Ok(Box::new(network::Net::load(device, network, ask)?))
}

/// Inside the library: a network in training.
pub(crate) fn training(device: &str, spec: &[u8], ask: Ask<'_>) -> std::result::Result<Box<dyn Served>, String> {
    let spec = serde_json::from_slice(spec).map_err(|e| e.to_string())?;
    Ok(Box::new(train::Training::load(device, spec, ask)?))
}

/// A bundle's weights, and what is added to them.
pub(super) struct Weights<'a> {
    pub(super) network: &'a Network,
    pub(super) tensors: &'a Tensors<'a>,
    pub(super) changes: &'a [Change],
}

/// Hands weights over, to something of a kind.
fn load(
    library: &Library,
    device: &str,
    (kind, spec): (&str, &impl serde::Serialize),
    Weights { network, tensors, changes }: &Weights<'_>,
    control: &dyn Control,
) -> Result<Remote> {
    let prefix = tensors.prefix(&["", "bert.", "roberta.", "distilbert.", "model."], network::word(network));
    let give = |upstream: &str, shape: &[usize]| -> Result<Vec<f32>> {
        control.check()?;
        let mut name = format!("{prefix}{upstream}");
        // TensorFlow's checkpoints call a norm's scale gamma and its shift beta.
        if !tensors.has(&name) {
            let old = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta");
            if tensors.has(&old) {
                name = old;
            }
        }
        let mut values = tensors.get(&name, shape)?;
        for change in changes.iter().filter(|change| change.tensor == upstream) {
            change.add_to(shape, &mut values);
        }
        Ok(values)
    };
    library.load(device, kind, spec, &give)
}

/// The ends of texts, counted from the first of them.
fn ends(batch: &Batch, texts: Range<usize>) -> Vec<u32> {
    batch.spans(texts).map(|span| span.end as u32).collect()
}

/// A network that was handed to a device.
pub(super) struct Model {
    remote: Remote,
    hidden: usize,
}

impl Model {
    /// Hands the weights over. `device` is `cuda:N`.
    pub(super) fn load(library: &Library, device: &str, weights: &Weights<'_>, control: &dyn Control) -> Result<Self> {
        let remote = load(library, device, (NETWORK, weights.network), weights, control)?;
        Ok(Self { remote, hidden: weights.network.hidden })
    }

    /// The most tokens that one step takes: what runs on a device cannot be interrupted, so steps are short.
    pub(super) fn step(&self) -> usize {
        self.remote.step
    }

    /// The token vectors of `texts`, `[tokens, hidden]`, into `out`.
    pub(super) fn forward(
        &self,
        batch: &Batch,
        texts: Range<usize>,
        out: &mut Vec<f32>,
        control: &dyn Control,
    ) -> Result<()> {
        control.check()?;
        let (ids, types) = batch.tokens(texts.clone());
        let ends = ends(batch, texts);
        out.resize(ids.len() * self.hidden, 0.0);
        let call = Call { words: vec![ids, types, &ends], out: vec![out], ..Call::default() };
        self.remote.call("forward", call)?;
        control.check()
    }
}

/// A network in training on a device.
pub(super) struct Learner {
    remote: Remote,
    graphs: AtomicU32,
}

impl Learner {
    /// Hands the weights over, and what of them is trained.
    pub(super) fn load(
        library: &Library,
        device: &str,
        weights: &Weights<'_>,
        (entries, first, scaling): (Vec<Entry>, usize, f32),
        control: &dyn Control,
    ) -> Result<Self> {
        let spec = train::Spec { network: weights.network.clone(), entries, first, scaling };
        let remote = load(library, device, (TRAINING, &spec), weights, control)?;
        Ok(Self { remote, graphs: AtomicU32::new(0) })
    }

    /// The most tokens that one step takes.
    pub(super) fn step(&self) -> usize {
        self.remote.step
    }

    /// A number for what a forward pass leaves for its way back.
    pub(super) fn graph(&self) -> u32 {
        self.graphs.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes these values for the trained numbers.
    pub(super) fn set(&self, values: &[f32]) -> Result<()> {
        self.remote.call("set", Call { numbers: vec![values], ..Call::default() })
    }

    /// The token vectors of `texts` into `out`, `[tokens, hidden]`, and what led to them kept as `graph`.
    pub(super) fn forward(
        &self,
        batch: &Batch,
        texts: Range<usize>,
        dropout: Dropout,
        graph: u32,
        out: &mut [f32],
    ) -> Result<()> {
        let (ids, types) = batch.tokens(texts.clone());
        let place = [graph, texts.start as u32, dropout.seed as u32, (dropout.seed >> 32) as u32];
        let ends = ends(batch, texts);
        let words = vec![ids, types, &ends, &place];
        self.remote.call("forward", Call { words, numbers: vec![&[dropout.share]], out: vec![out] })
    }

    /// Adds up what the gradient of a graph's token vectors, `[tokens, hidden]`, means for the trained numbers.
    pub(super) fn back(&self, graph: u32, grad: &[f32]) -> Result<()> {
        self.remote.call("back", Call { words: vec![&[graph]], numbers: vec![grad], ..Call::default() })
    }

    /// What was added up, and forgets it and every graph.
    pub(super) fn collect(&self, out: &mut [f32]) -> Result<()> {
        self.remote.call("collect", Call { out: vec![out], ..Call::default() })
    }
}
