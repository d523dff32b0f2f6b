//! The kernels: small products of matrices in registers, and what is done to each number between them.
//!
//! Each instruction set has one table of functions, [`Kernels`]; the CPU is asked once, at load. The bodies are written
//! once: tiles over the trait [`Lanes`](tile::Lanes), the rest as plain loops (`map`) that the compiler turns into vector
//! code when they are instantiated under `#[target_feature]`. The portable table is the oracle of the others.
//!
//! A sum's order never depends on how many rows stand beside a row: a tile of any height adds along `k` one by one into
//! one accumulator for each number of the result. That is what makes the bits of a text the same in every batch.

mod bytes;
mod map;
mod tables;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use bytes::ByteTile;
pub(crate) use tables::{Kernels, best};
pub(crate) use tile::Tile;

/// Columns that stand together: rows of results are padded to a multiple of it.
pub(crate) const UNIT: usize = 16;

/// `n` rounded up to whole units.
pub(crate) fn padded(n: usize) -> usize {
    n.div_ceil(UNIT) * UNIT
}
