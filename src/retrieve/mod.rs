//! Candidates: which items are worth ranking.

pub mod lexical;
pub mod together;
