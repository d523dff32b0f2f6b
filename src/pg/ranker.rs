//! Rankers as rows: which one ranks, read with the statement's own snapshot, and kept decoded.
//!
//! The number is read anew by every statement, so a switch counts from the next one on, and one that is rolled back never
//! counted. A number stands for the same weights for ever: rows are never changed but for which is deployed.

use super::catalog::Catalog;
use super::identity::{self, Acting};
use super::spi::{self, Arg, Mode};
use crate::error::{Error, Result};
use crate::rank::network::Ranker;
use pgrx::pg_sys;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::sync::Arc;

/// Rankers that a backend keeps decoded: some 20 kB each.
const KEPT: usize = 16;

type Known = Vec<(i64, Vec<u8>, Arc<Ranker>)>;

thread_local! {
    static RANKERS: RefCell<Known> = const { RefCell::new(Vec::new()) };
}

fn items(catalog: &Catalog) -> Arg {
    Arg::of(pg_sys::Oid::from(catalog.items))
}

/// The number of the ranker that ranks; `None` is the fixed weights.
pub fn deployed(catalog: &Catalog) -> Result<Option<i64>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "SELECT r.ranker FROM persona.ranker r WHERE r.items = $1 AND r.deployed";
    spi::first(Mode::Read, sql, &[items(catalog)], |row| row.need(1))
}

/// The ranker to rank by: the one of the number, 0 for the fixed weights, or without a number the one that is deployed.
pub fn to_rank_by(catalog: &Catalog, number: Option<i64>) -> Result<Option<Arc<Ranker>>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let wanted = match number {
        Some(0) => return Ok(None),
        Some(number) => ("r.ranker = $2", number),
        None => ("r.deployed AND $2 IS NOT NULL", 0),
    };
    let args = [items(catalog), Arg::of(wanted.1)];
    let sql = format!("SELECT r.ranker, r.checksum FROM persona.ranker r WHERE r.items = $1 AND {}", wanted.0);
    let found = spi::first(Mode::Read, &sql, &args, |row| Ok((row.need::<i64>(1)?, row.need::<Vec<u8>>(2)?)))?;
    let Some((number, checksum)) = found else {
        return match number {
            Some(ranker) => Err(Error::NoRanker { ranker, relation: catalog.name.clone() }),
            None => Ok(None),
        };
    };
    let known = RANKERS.with_borrow(|all| all.iter().find(|r| r.0 == number && r.1 == checksum).map(|r| r.2.clone()));
    if known.is_some() {
        return Ok(known);
    }
    let sql = "SELECT r.weights FROM persona.ranker r WHERE r.items = $1 AND r.ranker = $2";
    let bytes = spi::first(Mode::Read, sql, &[items(catalog), Arg::of(number)], |row| row.need::<Vec<u8>>(1))?;
    let bytes = bytes.unwrap_or_default();
    if Sha256::digest(&bytes).as_slice() != checksum {
        return Err(Error::RankerWeights { reason: "their checksum is another".into() });
    }
    let mut ranker = Ranker::from_bytes(&bytes)?;
    ranker.number = number;
    let ranker = Arc::new(ranker);
    RANKERS.with_borrow_mut(|all| {
        all.truncate(KEPT - 1);
        all.insert(0, (number, checksum, ranker.clone()));
    });
    Ok(Some(ranker))
}

/// The newest event that a ranker has learnt from, in seconds since 1970; `None` where its row does not tell.
pub fn data_until(catalog: &Catalog, number: i64) -> Result<Option<f64>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    // Rows of before were written in the words of some session's settings: those end with no Z.
    let sql =
        "SELECT CASE WHEN r.data->>'to' LIKE '%Z' THEN extract(epoch FROM (r.data->>'to')::timestamptz)::float8 END
        FROM persona.ranker r WHERE r.items = $1 AND r.ranker = $2";
    Ok(spi::first(Mode::Read, sql, &[items(catalog), Arg::of(number)], |row| Ok(row.get(1)))?.flatten())
}

/// A trained ranker before it is a row.
pub struct Fresh<'a> {
    pub ranker: &'a Ranker,
    pub parent: Option<i64>,
    pub options: serde_json::Value,
    pub data: serde_json::Value,
    pub metrics: serde_json::Value,
}

/// Writes a ranker's row; its number.
pub fn keep(catalog: &Catalog, fresh: Fresh) -> Result<i64> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let bytes = fresh.ranker.to_bytes();
    let checksum = Sha256::digest(&bytes).to_vec();
    let sql = "INSERT INTO persona.ranker (items, parent, options, features, data, metrics, weights, checksum)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING ranker";
    let args = [
        items(catalog),
        Arg::of(fresh.parent),
        Arg::of(pgrx::JsonB(fresh.options)),
        Arg::of(crate::rank::network::names()),
        Arg::of(pgrx::JsonB(fresh.data)),
        Arg::of(pgrx::JsonB(fresh.metrics)),
        Arg::of(bytes),
        Arg::of(checksum),
    ];
    spi::first(Mode::Write, sql, &args, |row| row.need(1))?
        .ok_or_else(|| Error::Internal("a ranker's row was not written".into()))
}

/// Rankers of a catalog that are kept beside the one that ranks and the one before it.
const STORY: i64 = 6;

/// Forgets the oldest rankers, with what they learnt.
pub fn prune(catalog: &Catalog) -> Result<()> {
    let gone = {
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "DELETE FROM persona.ranker r WHERE r.items = $1 AND NOT r.deployed
                AND r.ranker NOT IN (SELECT d.replaced FROM persona.ranker d WHERE d.items = $1 AND d.deployed AND d.replaced IS NOT NULL)
                AND r.ranker NOT IN (SELECT n.ranker FROM persona.ranker n WHERE n.items = $1 ORDER BY n.ranker DESC LIMIT $2)
            RETURNING r.ranker";
        spi::query(Mode::Write, sql, &[items(catalog), Arg::of(STORY)], |row| row.need::<i64>(1))?
    };
    super::learned::forget(catalog, &gone)
}

/// Ranks by a ranker from the next statement on; `None` by the fixed weights. The number that ranked before.
pub fn deploy(catalog: &Catalog, number: Option<i64>) -> Result<Option<i64>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    // Two who deploy at once: the second waits, and then replaces what the first put there.
    let lock = "SELECT 1 FROM persona.catalog WHERE items = $1 FOR UPDATE";
    spi::first(Mode::Write, lock, &[items(catalog)], |_| Ok(()))?;
    if let Some(ranker) = number {
        let sql = "SELECT 1 FROM persona.ranker WHERE items = $1 AND ranker = $2";
        if spi::first(Mode::Write, sql, &[items(catalog), Arg::of(ranker)], |_| Ok(()))?.is_none() {
            return Err(Error::NoRanker { ranker, relation: catalog.name.clone() });
        }
    }
    let sql = "UPDATE persona.ranker SET deployed = false WHERE items = $1 AND deployed RETURNING ranker";
    let before = spi::first(Mode::Write, sql, &[items(catalog)], |row| row.need::<i64>(1))?;
    if number.is_some() {
        let sql = "UPDATE persona.ranker SET deployed = true, replaced = $3 WHERE items = $1 AND ranker = $2";
        spi::run(sql, &[items(catalog), Arg::of(number), Arg::of(before)])?;
    }
    Ok(before)
}
