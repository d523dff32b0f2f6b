//! The vectors of a refresh: which items wait for one, and how they get it.

use super::super::catalog::{self, Catalog};
use super::super::companion::{Document, ident};
use super::super::identity::{self, Acting};
use super::super::interrupt::Silent;
use super::super::session;
use super::super::spi::{self, Arg, Mode};
use super::super::vector::HalfVec;
use super::Refresh;
use crate::control::Control;
use crate::embed::Role;
use crate::error::Result;
use pgrx::pg_sys;

/// Texts that are read, embedded and written at once.
const AT_ONCE: usize = 64;
/// As far as a queue is counted: how long it is only says how far the work is.
const COUNTED: i64 = 10_000;

impl Refresh<'_> {
    /// The model whose vectors the items get: the one that the catalog changes to, if it does.
    fn model(&self) -> &str {
        self.catalog.wanted.as_deref().unwrap_or(&self.catalog.model)
    }

    /// How many items wait for a vector of the catalog's model.
    pub fn pending(&self) -> Result<i64> {
        let encoder = session::encoder(self.model(), Role::Document)?;
        let _owner = Acting::as_owner(self.catalog.owner());
        let sql = format!("SELECT count(*) FROM {} c WHERE {}", self.catalog.companion, PENDING);
        let identity = session::identity(&encoder);
        Ok(spi::first(Mode::Write, &sql, &[Arg::of(identity)], |row| row.need(1))?.unwrap_or(0))
    }

    /// Embeds all items that wait, and with that changes to the model that is wanted; how many it embedded. In one
    /// transaction others see all of it at once.
    pub fn vectors_at_once(&self) -> Result<i64> {
        let done = self.vectors(usize::MAX)?;
        if self.catalog.wanted.is_some() {
            self.changed()?;
        }
        Ok(done)
    }

    /// Embeds at most `most` items that wait; how many it embedded.
    pub fn vectors(&self, most: usize) -> Result<i64> {
        self.embed(most, self.pending()?, PENDING, "", &self.write())
    }

    /// Embeds at most `most` items whose text is newer than their vector; how many it embedded. An item that somebody else
    /// is writing is left to a later call: who waits for no row is part of no deadlock, and no writer its victim.
    pub fn newer(&self, most: usize) -> Result<i64> {
        self.embed(most, queued(self.catalog, COUNTED)?, QUEUED, FREE, &self.write())
    }

    /// The same of all items that wait, those with a vector of another model among them.
    pub fn free(&self, most: usize) -> Result<i64> {
        self.embed(most, self.pending()?, PENDING, FREE, &self.write())
    }

    fn write(&self) -> String {
        format!(
            "UPDATE {} c SET embedding = w.embedding, embedded = w.hash, model = $1
             FROM unnest($2, $3, $4) w(id, embedding, hash) WHERE c.id = w.id",
            self.catalog.companion
        )
    }

    /// The same beside the vectors that searches go by, for a change of model over many transactions; 0 when the last was
    /// embedded, and all have taken their places.
    pub fn incoming(&self, most: usize) -> Result<i64> {
        let c = self.catalog;
        let Some(incoming) = &c.incoming else { return self.vectors_at_once() };
        let waits =
            format!("NOT EXISTS (SELECT FROM {incoming} n WHERE n.id = c.id AND n.hash = c.hash AND n.model = $1)");
        let write = format!(
            "INSERT INTO {incoming} AS n (id, embedding, hash, model)
             SELECT w.id, w.embedding, w.hash, $1 FROM unnest($2, $3, $4) w(id, embedding, hash)
             ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding, hash = EXCLUDED.hash, model = EXCLUDED.model"
        );
        let identity = session::identity(&*session::encoder(self.model(), Role::Document)?);
        let count = {
            let _owner = Acting::as_owner(c.owner());
            let sql = format!("SELECT count(*) FROM {} c WHERE {waits}", c.companion);
            spi::first(Mode::Write, &sql, &[Arg::of(identity.as_str())], |row| row.need(1))?.unwrap_or(0)
        };
        let done = self.embed(most, count, &waits, "", &write)?;
        if done == 0 {
            let _owner = Acting::as_owner(c.owner());
            let swap = format!(
                "UPDATE {} c SET embedding = n.embedding, embedded = n.hash, model = n.model
                 FROM {incoming} n WHERE n.id = c.id AND n.model = $1",
                c.companion
            );
            spi::run(&swap, &[Arg::of(identity)])?;
            spi::run(&format!("DELETE FROM {incoming}"), &[])?;
            drop(_owner);
            self.changed()?;
        }
        Ok(done)
    }

    /// The catalog's model is from now on the one that was wanted.
    fn changed(&self) -> Result<()> {
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let items = pg_sys::Oid::from(self.catalog.items);
        let sql = "UPDATE persona.catalog SET model = wanted, wanted = NULL WHERE items = $1 AND wanted = $2";
        spi::run(sql, &[Arg::of(items), Arg::of(self.model())])?;
        catalog::changed(items);
        Ok(())
    }

    fn embed(&self, most: usize, pending: i64, waits: &str, lock: &str, write: &str) -> Result<i64> {
        let c = self.catalog;
        let encoder = session::encoder(self.model(), Role::Document)?;
        let identity = session::identity(&encoder);
        let total = pending.min(i64::try_from(most).unwrap_or(i64::MAX));
        let document = Document::of(c)?;
        let next = format!(
            "SELECT w.id, w.hash, d.text FROM (SELECT c.id, c.key, c.hash FROM {companion} c WHERE {waits} ORDER BY c.id LIMIT $2 {lock}) w
             CROSS JOIN LATERAL (SELECT {text} AS text FROM {items} i WHERE i.{key} {equal} w.key LIMIT 1) d",
            text = document.text,
            companion = c.companion,
            items = c.name,
            key = ident(&c.key),
            equal = c.key_equal,
        );
        let mut done = 0;
        while done < total {
            let batch = AT_ONCE.min((total - done) as usize);
            self.control.check()?;
            let owner = Acting::as_owner(c.owner());
            let rows = spi::query(Mode::Write, &next, &[Arg::of(identity.as_str()), Arg::of(batch as i64)], |row| {
                Ok((row.need::<i64>(1)?, row.need::<Vec<u8>>(2)?, row.need::<String>(3)?))
            })?;
            if rows.is_empty() {
                break;
            }
            let texts: Vec<&str> = rows.iter().map(|(_, _, text)| text.as_str()).collect();
            let vectors = session::embed(&encoder, &texts, Role::Document, &Silent)?;
            let dimension = encoder.info().dimension;
            let ids: Vec<i64> = rows.iter().map(|(id, _, _)| *id).collect();
            let halves: Vec<HalfVec> = vectors.chunks(dimension).map(|v| HalfVec(v.to_vec())).collect();
            let hashes: Vec<Vec<u8>> = rows.iter().map(|(_, hash, _)| hash.clone()).collect();
            spi::run(write, &[Arg::of(identity.as_str()), Arg::of(ids), Arg::of(halves), Arg::of(hashes)])?;
            drop(owner);
            done += rows.len() as i64;
            self.control.progress("vectors", done as u64, pending as u64);
        }
        Ok(done)
    }
}

/// How many items of a catalog have a text that is newer than their vector, counted up to `most`. Their own index knows
/// them, so this costs what is found; vectors of another model it does not see.
pub fn queued(catalog: &Catalog, most: i64) -> Result<i64> {
    let _owner = Acting::as_owner(catalog.owner());
    let sql = format!("SELECT count(*) FROM (SELECT FROM {} c WHERE {QUEUED} LIMIT $1) q", catalog.companion);
    Ok(spi::first(Mode::Write, &sql, &[Arg::of(most)], |row| row.need(1))?.unwrap_or(0))
}

/// An item whose vector is missing, of an older text, or of another model (`$1`).
const PENDING: &str = "(c.embedded IS DISTINCT FROM c.hash OR c.model IS DISTINCT FROM $1)";
/// Rows that nobody else is writing, and nobody else writes until this is committed.
const FREE: &str = "FOR NO KEY UPDATE SKIP LOCKED";
/// An item whose vector is missing or of an older text.
const QUEUED: &str = "c.embedded IS DISTINCT FROM c.hash";
