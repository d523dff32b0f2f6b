//! Learning to rank from behaviour.
//!
//! `log` is the behaviour as read, cleaned; `past` what could be known of it at a moment; `sample` the lists that a ranker
//! learns from, each feature as of its moment; `train` fits the networks of `rank::network` to them by the joint `loss`
//! with `adam`; `plan` says in which order, and what is held out.

pub mod adam;
pub mod encoder;
pub mod log;
pub mod loss;
pub mod matrix;
pub mod past;
pub mod plan;
pub mod propensity;
pub mod sample;
pub mod table;
pub mod train;
