//! `persona.embed`: texts to vectors.

use super::super::error::door;
use super::super::interrupt::Backend;
use super::super::session;
use super::super::vector::Vector;
use crate::embed;
use crate::error::Result;
use pgrx::prelude::*;

/// Mirrors `persona.role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role(embed::Role);

impl Role {
    fn parse(word: &str) -> Role {
        Role(if word == "query" { embed::Role::Query } else { embed::Role::Document })
    }
}

fn vectors(texts: &[&str], role: Role, model: Option<&str>) -> Result<Vec<Vector>> {
    let bundle = model.map_or_else(session::default_model, |name| Ok(name.to_owned()))?;
    let encoder = session::encoder(&bundle, role.0)?;
    if let ([text], embed::Role::Query) = (texts, role.0) {
        return Ok(vec![Vector(session::embed_query(&encoder, text)?.to_vec())]);
    }
    let all = session::embed(&encoder, texts, role.0, &Backend)?;
    Ok(all.chunks(encoder.info().dimension).map(|v| Vector(v.to_vec())).collect())
}

#[pg_extern(
    stable,
    parallel_safe,
    cost = 100000,
    name = "embed",
    sql = "CREATE FUNCTION persona._embed(content text, role text, model text) RETURNS vector
        STABLE PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn embed_one(content: Option<&str>, role: Option<&str>, model: Option<&str>) -> Option<Vector> {
    let (content, role) = (content?, role?);
    door(|| Ok(vectors(&[content], Role::parse(role), model)?.into_iter().next()))
}

#[pg_extern(
    stable,
    parallel_safe,
    cost = 1000000,
    sql = "CREATE FUNCTION persona._embed(content text[], role text, model text) RETURNS vector[]
        STABLE PARALLEL SAFE COST 1000000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn embed_many(
    content: Option<Array<'_, &str>>,
    role: Option<&str>,
    model: Option<&str>,
) -> Option<Vec<Option<Vector>>> {
    let (content, role) = (content?, role?);
    door(|| {
        // A NULL among the texts stays a NULL among the vectors.
        let texts: Vec<&str> = content.iter().flatten().collect();
        let mut found = vectors_of_all(&texts, Role::parse(role), model)?.into_iter();
        Ok(Some(content.iter().map(|text| text.and_then(|_| found.next())).collect()))
    })
}

fn vectors_of_all(texts: &[&str], role: Role, model: Option<&str>) -> Result<Vec<Vector>> {
    if texts.is_empty() { Ok(Vec::new()) } else { vectors(texts, role, model) }
}
