#![doc = include_str!("../README.md")]

pub mod control;
pub mod error;
