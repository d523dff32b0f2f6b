//! Figures: how sure they are.

pub mod interval;
