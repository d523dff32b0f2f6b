//! The weights file: safetensors, read whole, every tensor asked for by name and shape.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::bundle::Bundle;
use crate::control::Control;
use crate::error::Result;

const FILE: &str = "model.safetensors";

/// A weights file in memory.
pub(super) struct Weights<'a> {
    bundle: &'a Bundle,
    bytes: Vec<u8>,
}

impl<'a> Weights<'a> {
    /// Reads the file and checks its header against its length.
    pub(super) fn read(bundle: &'a Bundle, control: &dyn Control) -> Result<Self> {
        let bytes = bundle.weights(control)?;
        SafeTensors::deserialize(&bytes).map_err(|e| bundle.broken(FILE, e))?;
        Ok(Self { bundle, bytes })
    }

    /// The file as it is.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The tensors, to ask by name.
    pub(super) fn tensors(&self) -> Result<Tensors<'_>> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|e| self.bundle.broken(FILE, e))?;
        Ok(Tensors { bundle: self.bundle, tensors })
    }
}

/// Tensors by name. A prefix found once (`bert.`, `model.`) is put before every name.
pub(super) struct Tensors<'a> {
    pub(super) bundle: &'a Bundle,
    tensors: SafeTensors<'a>,
}

impl Tensors<'_> {
    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The first of `prefixes` under which `name` exists; the empty one if none does.
    pub(super) fn prefix(&self, prefixes: &[&'static str], name: &str) -> &'static str {
        prefixes.iter().copied().find(|prefix| self.has(&format!("{prefix}{name}"))).unwrap_or("")
    }

    /// The numbers of tensor `name`, which must have this shape and be finite. Half precisions are widened.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor =
            self.tensors.tensor(name).map_err(|_| self.bundle.broken(FILE, format!("no tensor \"{name}\"")))?;
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(self.bundle.broken(FILE, format!("tensor \"{name}\" has shape {found:?}, not {shape:?}")));
        }
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => {
                return Err(self.bundle.unsupported(format!("tensor \"{name}\" is of type {other:?}")));
            }
        };
        if values.len() != shape.iter().product::<usize>() {
            return Err(self.bundle.broken(FILE, format!("tensor \"{name}\" is cut short")));
        }
        if !values.iter().all(|x| x.is_finite()) {
            return Err(self.bundle.broken(FILE, format!("tensor \"{name}\" holds a number that is not finite")));
        }
        Ok(values)
    }
}
