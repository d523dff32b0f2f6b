//! SQL functions, one file a family: parse, call, map.

pub mod catalog;
mod compare;
mod embed;
mod evaluate;
mod events;
pub mod forget;
pub mod found;
mod lexical;
mod models;
pub mod rankers;
mod recommend;
mod refresh;
mod rerank;
mod rules;
mod score;
mod search;
mod similar;
pub mod train;
mod trending;
mod trigger;
pub mod tune;
pub mod understand;
