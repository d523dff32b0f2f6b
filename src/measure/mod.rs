//! Figures: how good a ranking is, how sure that is, and which of two is better.

pub mod counterfactual;
pub mod interleave;
pub mod interval;
pub mod metric;
pub mod propensity;
pub mod report;
