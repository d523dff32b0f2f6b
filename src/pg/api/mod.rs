//! SQL functions, one file a family: parse, call, map.

mod catalog;
mod embed;
mod events;
mod found;
mod lexical;
mod models;
mod recommend;
mod refresh;
mod rerank;
mod score;
mod search;
mod similar;
mod trigger;
pub mod understand;
