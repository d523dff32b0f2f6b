//! A companion's row as an item, and whether its vectors may be compared.

use super::super::spi::{self, Mode};
use super::super::tsvector::TsVector;
use super::super::vector;
use super::PgStore;
use crate::error::{Error, Result};
use crate::retrieve::lexical::{Answer, Bm25};
use crate::store::Item;
use pgrx::pg_sys;

impl PgStore<'_> {
    /// Columns id, lexemes, length, embedding, popularity, model, shoppers.
    pub(super) fn read_item(&self, row: &spi::Row, halfvec: pg_sys::Oid, words: &Bm25) -> Result<Item> {
        row.check(2, pg_sys::TSVECTOROID)?;
        row.check(4, halfvec)?;
        let answer = row.datum(2).filter(|_| !words.terms.is_empty()).map_or(Answer::default(), |datum| {
            // SAFETY: the column is a tsvector, and the row lives as long as this call.
            let lexemes = unsafe { TsVector::open(datum) };
            words.score(|lexeme| lexemes.find(lexeme), f64::from(row.get::<f32>(3).unwrap_or(0.0)))
        });
        let same = row.get::<&str>(6) == Some(self.identity.as_str());
        Ok(Item {
            id: row.need(1)?,
            words: answer,
            // SAFETY: the column is a halfvec.
            vector: row.datum(4).filter(|_| same).map(|datum| unsafe { vector::read_halfvec(datum) }),
            popularity: f64::from(row.get::<f32>(5).unwrap_or(0.0)),
            shoppers: row.get::<i64>(7).unwrap_or(0) as f64,
            own: None,
        })
    }

    /// Vectors that are all of another model are an error, not a silent lexical search.
    pub(super) fn need_identity(&self) -> Result<()> {
        let _owner = self.owner();
        let sql = format!("SELECT c.model FROM {} c WHERE c.embedding IS NOT NULL LIMIT 1", self.catalog.companion);
        match spi::first(Mode::Read, &sql, &[], |row| row.need::<String>(1))? {
            Some(other) if other != self.identity => {
                Err(Error::VectorIdentity { left: format!("model {other}"), right: format!("model {}", self.identity) })
            }
            _ => Ok(()),
        }
    }
}
