//! Order: from what is known of an item to its explained score.

pub mod feature;
pub mod fixed;
pub mod network;
pub mod trained;
pub mod weights;
