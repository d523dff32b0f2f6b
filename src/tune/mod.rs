//! Fine-tuning: what a pretrained encoder learns from a shop's own rows, and how it is kept.
//!
//! A run is data ([`Data`]), options ([`Options`]) and a [`State`] that is all there is to resume it: the same bytes in,
//! the same bytes out, whether it ran through or was stopped between any two steps. What comes out is an [`Adapter`]: the
//! numbers that were trained, a head and labels where the task has them, in one safetensors file that a row holds.
//!
//! Every trained number is what is *added* to the base model, so weight decay pulls towards the base (L2-SP, Li et al.
//! 2018, <https://arxiv.org/abs/1802.01483>).

mod adapter;
mod data;
mod drawn;
mod judge;
mod loss;
mod optimizer;
mod options;
mod probe;
pub mod report;
mod run;
mod sample;
pub mod select;
mod teacher;

pub use adapter::{Adapter, Loaded};
pub use data::{Data, Item, Named, Pair, Tagged, stands_in};
pub use options::{Adopt, From, MethodName, Options, Task};
pub use run::{Run, State, Told, Verdict};
pub use teacher::CrossEncoder;
