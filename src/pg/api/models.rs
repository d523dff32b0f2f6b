//! `persona.models`: the bundles there are, and which of them this backend holds.

use super::super::{error::door, session};
use pgrx::prelude::*;

/// One row a bundle.
#[pg_extern(name = "_models", stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn models() -> TableIterator<
    'static,
    (
        name!(model, String),
        name!(architecture, Option<String>),
        name!(dimension, Option<i32>),
        name!(max_length, Option<i32>),
        name!(precision, Option<String>),
        name!(device, Option<String>),
        name!(hash, Option<String>),
        name!(loaded, bool),
        name!(bytes, Option<i64>),
        name!(error, Option<String>),
    ),
> {
    TableIterator::new(door(|| {
        Ok(session::models()?.into_iter().map(|m| {
            (
                m.bundle,
                m.architecture,
                m.dimension.map(|d| d as i32),
                m.max_length.map(|d| d as i32),
                m.precision,
                m.device,
                m.hash,
                m.loaded,
                m.bytes.map(|b| b as i64),
                m.error,
            )
        }))
    }))
}
