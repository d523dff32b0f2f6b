//! Titles and query vectors, for training's samples.

use crate::embed::{Encoder, Role};
use crate::error::Result;
use crate::learn::sample::Texts;
use crate::pg::catalog::Catalog;
use crate::pg::companion::{self, ident};
use crate::pg::interrupt::Silent;
use crate::pg::session;
use crate::pg::spi::{self, Arg, Mode};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Titles and query vectors for the samples.
pub struct ShopTexts<'a> {
    catalog: &'a Catalog,
    encoder: Arc<Encoder>,
    queries: RefCell<HashMap<String, Arc<[f32]>>>,
}

impl<'a> ShopTexts<'a> {
    /// Of a catalog, with its encoder.
    pub fn new(catalog: &'a Catalog, encoder: Arc<Encoder>) -> ShopTexts<'a> {
        ShopTexts { catalog, encoder, queries: RefCell::default() }
    }
}

impl Texts for ShopTexts<'_> {
    fn titles(&self, items: &[i64]) -> Result<HashMap<i64, String>> {
        let c = self.catalog;
        let named = std::iter::once(&c.title).chain(&c.brand).chain(&c.category);
        let named: Vec<String> = named.map(|n| format!("i.{}::text", ident(n))).collect();
        let sql = format!(
            "SELECT c.id, left({}, 1000) FROM {} c JOIN {} i ON i.{} {} c.key WHERE c.id = ANY ($1)",
            companion::plain(&format!("concat_ws(' ', {})", named.join(", "))),
            c.companion,
            c.name,
            ident(&c.key),
            c.key_equal
        );
        let rows = spi::query(Mode::Write, &sql, &[Arg::of(items.to_vec())], |row| Ok((row.need(1)?, row.need(2)?)))?;
        Ok(rows.into_iter().collect())
    }

    fn embed(&self, query: &str) -> Result<Arc<[f32]>> {
        if let Some(known) = self.queries.borrow().get(query) {
            return Ok(known.clone());
        }
        let vector: Arc<[f32]> = session::embed(&self.encoder, &[query], Role::Query, &Silent)?.into();
        self.queries.borrow_mut().insert(query.to_owned(), vector.clone());
        Ok(vector)
    }
}
