//! `persona.rerank`: a cross-encoder reads the query and each document together.

use super::super::error::door;
use super::super::session;
use pgrx::prelude::*;

/// Scores in input order; a NULL document has a NULL score.
#[pg_extern(name = "_rerank", stable, parallel_safe, cost = 1000000)]
fn rerank(query: Option<&str>, documents: Option<Array<'_, &str>>, model: Option<&str>) -> Option<Vec<Option<f32>>> {
    let (query, documents) = (query?, documents?);
    door(|| {
        let texts: Vec<&str> = documents.iter().flatten().collect();
        let mut scores = session::rerank(model, query, &texts)?.into_iter();
        Ok(Some(documents.iter().map(|d| d.and_then(|_| scores.next())).collect()))
    })
}
