//! SQL functions, one file a family: parse, call, map.

mod catalog;
mod embed;
mod events;
pub mod forget;
mod found;
mod lexical;
mod models;
pub mod rankers;
mod recommend;
mod refresh;
mod rerank;
mod score;
mod search;
mod similar;
pub mod train;
mod trigger;
