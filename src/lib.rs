#![doc = include_str!("../README.md")]

pub mod arrange;
pub mod catalog;
pub mod control;
pub mod device;
pub mod embed;
pub mod error;
pub mod event;
pub mod fault;
pub mod learn;
pub mod linear;
pub mod measure;
pub mod memory;
pub mod parts;
#[cfg(feature = "pg")]
mod pg;
pub mod random;
pub mod rank;
pub mod recommend;
pub mod replay;
pub mod retrieve;
pub mod search;
pub mod served;
pub mod shopper;
pub mod store;
pub mod tune;
pub mod understand;
