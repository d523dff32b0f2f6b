//! SQL functions, one file a family: parse, call, map.

mod catalog;
mod compare;
mod embed;
mod evaluate;
mod events;
pub mod found;
mod lexical;
mod models;
mod recommend;
mod refresh;
mod rerank;
mod rules;
mod score;
mod search;
mod similar;
mod trending;
mod trigger;
pub mod tune;
