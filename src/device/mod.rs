//! What runs on a GPU, in a second library that is opened on demand.
//!
//! A library that is linked against CUDA does not load where there is no driver, so the extension itself never is. The
//! GPU engine is this same crate, built with the feature `cuda` and without `pg`, behind a table of C functions
//! ([`abi`]): [`library`] opens it and calls it, `served` is what it serves, in plain candle operations.
//! Nothing but numbers crosses.
//!
//! Without the feature the same functions run on candle's CPU device: a copy of the extension under the library's name is a
//! stand-in, with which the tests go the whole way without a card.

pub mod abi;
mod library;

pub use library::{Library, Remote};

use crate::error::Error;
use candle_core::{D, Device, Tensor};

/// The error of a device.
pub(crate) fn failed(device: &str, reason: impl std::fmt::Display) -> Error {
    let reason: String = reason.to_string().chars().take(300).collect();
    Error::Device { device: device.to_owned(), reason }
}

/// Inside the library: candle's device for `cuda:N`. In a build without CUDA every device is candle's CPU, a stand-in for
/// tests.
pub(crate) fn open(device: &str) -> Result<Device, String> {
    let ordinal = device.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok());
    ordinal.ok_or_else(|| format!("there is no device \"{device}\"")).and_then(numbered)
}

#[cfg(feature = "cuda")]
fn numbered(ordinal: usize) -> Result<Device, String> {
    Device::new_cuda(ordinal).map_err(|e| e.to_string())
}

#[cfg(not(feature = "cuda"))]
fn numbered(ordinal: usize) -> Result<Device, String> {
    // One card, as far as a test can tell.
    if ordinal == 0 { Ok(Device::Cpu) } else { Err(format!("there is no device {ordinal}")) }
}

/// Inside the library: shares of each last dimension, in operations that have a gradient. The largest is taken off to stay
/// finite; the shares do not depend on it.
pub(crate) fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let parts = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    parts.broadcast_div(&parts.sum_keepdim(D::Minus1)?)
}
