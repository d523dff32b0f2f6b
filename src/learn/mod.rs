//! Learning to rank from behaviour.
//!
//! `log` is the behaviour as read, cleaned; `sample` the lists that a ranker learns from, each asked of the search itself as of
//! its moment; `train` fits the networks of `rank::network` to them by the joint `loss`
//! with `adam`, `blend` says how much of r a search takes; `plan` says in which order, and what is held out.

pub mod adam;
pub mod blend;
pub mod encoder;
pub mod log;
pub mod loss;
pub mod matrix;
pub mod plan;
pub mod sample;
pub mod table;
pub mod train;
