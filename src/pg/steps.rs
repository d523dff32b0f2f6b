//! A refresh in bounded steps, each of which fits a transaction of its own: for `persona.work` and the background worker.

use super::refresh::Refresh;
use crate::error::Result;

/// The step that embeds; it comes again until nothing waits.
pub const VECTORS: i32 = 1;
/// The step that builds the vector index, where it is missing.
pub const INDEX: i32 = 2;

/// Runs a step, from 0; the number of the next, `None` after the last.
pub fn run(refresh: &Refresh, step: i32, batch: usize) -> Result<Option<i32>> {
    Ok(match step {
        0 => refresh.step("words", Refresh::words).map(|_| Some(VECTORS))?,
        VECTORS if refresh.catalog.wanted.is_some() => Some(if refresh.incoming(batch)? > 0 { VECTORS } else { INDEX }),
        VECTORS => Some(if refresh.vectors(batch)? > 0 { VECTORS } else { INDEX }),
        INDEX => refresh.step("index", Refresh::index).map(|_| Some(3))?,
        3 => refresh.step("terms", Refresh::terms).map(|_| Some(4))?,
        4 => refresh.step("stats", Refresh::stats).map(|_| Some(5))?,
        5 => refresh.step("pairs", Refresh::pairs).map(|_| Some(6))?,
        6 => refresh.step("baskets", Refresh::baskets).map(|_| Some(7))?,
        7 => refresh.step("segments", Refresh::segments).map(|_| Some(8))?,
        8 => refresh.step("queries", Refresh::queries).map(|_| Some(9))?,
        9 => refresh.step("synonyms", Refresh::synonyms).map(|_| Some(10))?,
        _ => refresh.step("lexicon", Refresh::lexicon).map(|_| None)?,
    })
}
