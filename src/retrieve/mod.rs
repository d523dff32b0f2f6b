//! Candidates: which items are worth ranking.

pub mod fuse;
pub mod lexical;
pub mod together;
pub mod trend;
pub mod variant;
