//! The forward pass on a GPU, in a second library that is opened on demand.
//!
//! A library that is linked against CUDA does not load where there is no driver, so the extension itself never is. The
//! GPU engine is this same crate, built with the feature `cuda` and without `pg`, behind a table of C functions
//! ([`abi`]): [`library`] opens it, [`network`] is what runs inside it, in plain candle operations. Nothing but numbers
//! crosses: the extension reads, checks and hashes the bundle, tokenises and pools, with the same code as for the CPU.
//!
//! Without the feature the same functions run on candle's CPU device: a copy of the extension under the library's name is a
//! stand-in, with which the tests go the whole way without a card.
//!
//! Texts are padded to the longest of a run of like lengths, and a GPU's libraries choose a kernel by shape: vectors agree
//! with the CPU's to 1e-4, not to the bit.

mod abi;
mod library;
mod mask;
mod network;

use std::ops::Range;

pub use library::Library;
pub(super) use library::Remote;

use super::network::Network;
use super::packed::Batch;
use super::weights::Tensors;
use crate::control::Control;
use crate::error::{Error, Result};

/// A network that was handed to a device.
pub(super) struct Model {
    remote: Remote,
    hidden: usize,
}

impl Model {
    /// Hands the weights over. `device` is `cuda:N`.
    pub(super) fn load(
        library: &Library,
        device: &str,
        network: &Network,
        tensors: &Tensors<'_>,
        control: &dyn Control,
    ) -> Result<Self> {
        let prefix = tensors.prefix(&["", "bert.", "roberta.", "distilbert.", "model."], network::word(network));
        let give = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            control.check()?;
            let mut name = format!("{prefix}{name}");
            // TensorFlow's checkpoints call a norm's scale gamma and its shift beta.
            if !tensors.has(&name) {
                let old = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta");
                if tensors.has(&old) {
                    name = old;
                }
            }
            tensors.get(&name, shape)
        };
        let remote = library.load(device, network, &give)?;
        Ok(Self { remote, hidden: network.hidden })
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
        let ends: Vec<u32> = batch.spans(texts).map(|span| span.end as u32).collect();
        out.resize(ids.len() * self.hidden, 0.0);
        self.remote.forward(ids, types, &ends, out)?;
        control.check()
    }
}

/// The error of a device.
fn failed(device: &str, reason: impl std::fmt::Display) -> Error {
    let reason: String = reason.to_string().chars().take(300).collect();
    Error::Device { device: device.to_owned(), reason }
}
