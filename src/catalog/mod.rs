//! The shop's side of a call: what a filter, an option and a context may say.

pub mod companion;
pub mod filter;
pub mod options;
pub mod rule;
