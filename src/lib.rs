#![doc = include_str!("../README.md")]

pub mod control;
pub mod embed;
pub mod error;
