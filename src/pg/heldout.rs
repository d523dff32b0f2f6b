//! Statistics of a catalog as they were at a moment, beside the live ones.
//!
//! What all shoppers share is in companion tables, and a replay must not read there what came later. So those tables are
//! made anew, as temporary ones of this session, and counted from the behaviour before the moment by the very steps of a
//! refresh. The live tables are not touched. Words and vectors are those of the items as they are now: a text says the same
//! of an item whenever it is read.

use super::catalog::Catalog;
use super::companion::literal;
use super::identity::{Acting, Making};
use super::refresh::Refresh;
use super::spi::{self, Arg, Mode};
use crate::error::Result;
use pgrx::pg_sys;
use std::cell::Cell;

/// What was known: behaviour before this, as a condition on an event `e` of `(id, shopper, at, weight)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Split {
    /// Before a moment, in SQL of a timestamptz.
    Time(String),
    /// Of each shopper, before the last visit.
    LastVisit,
}

impl Split {
    /// SQL of the events of `log` with `cut`, the moment from which on the shopper's own are not known.
    pub fn cut(&self, log: &str) -> String {
        match self {
            Split::Time(at) => format!("SELECT l.*, {at} AS cut FROM ({log}) l"),
            // A visit begins after a pause; the last one that says something is what is held out.
            Split::LastVisit => format!(
                "SELECT v.*, max(v.at) FILTER (WHERE v.begins) OVER (PARTITION BY v.shopper) AS cut FROM (
                    SELECT l.*, l.weight > 0 AND l.at - lag(l.at) OVER (PARTITION BY l.shopper, l.weight > 0 ORDER BY l.at, l.id)
                        > interval '30 minutes' IS NOT FALSE AS begins FROM ({log}) l) v"
            ),
        }
    }

    /// SQL of the events of `log` that were known.
    pub fn known(&self, log: &str) -> String {
        format!("SELECT k.* FROM ({}) k WHERE k.at < k.cut", self.cut(log))
    }
}

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// The catalog with statistics of what was known.
pub struct HeldOut {
    catalog: Catalog,
    tables: Vec<String>,
}

impl HeldOut {
    /// Counts anew. Called as the caller, who owns the temporary tables and lends them to the catalog's owner: under the
    /// owner's restricted id none could be made, but by a background worker.
    pub fn make(catalog: &Catalog, split: &Split) -> Result<HeldOut> {
        MADE.set(MADE.get() + 1);
        let mut held = catalog.clone();
        let owner = spi::first(
            Mode::Read,
            "SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid($1))",
            &[Arg::of(catalog.owner())],
            |row| row.need::<String>(1),
        )?;
        let owner = owner.unwrap_or_default();
        let mut tables = Vec::new();
        let mut anew = |table: &mut String, name: &str| -> Result<()> {
            let made = format!("pg_temp.persona_known_{}_{name}", MADE.get());
            let name = made.trim_start_matches("pg_temp.");
            let making = Making::temporary();
            spi::execute(&format!("CREATE TEMPORARY TABLE {name} (LIKE {table} INCLUDING ALL)"))?;
            drop(making);
            spi::execute(&format!("GRANT ALL ON {made} TO {owner}"))?;
            tables.push(made.clone());
            *table = made;
            Ok(())
        };
        anew(&mut held.stats, "stats")?;
        anew(&mut held.pairs, "pairs")?;
        if let Some(baskets) = &mut held.baskets {
            anew(baskets, "baskets")?;
        }
        if let Some(segments) = &mut held.segments {
            anew(segments, "segments")?;
        }
        let made = HeldOut { catalog: held, tables };
        Refresh::known(&made.catalog, split.clone())?;
        for table in &made.tables {
            spi::execute(&format!("ANALYZE {table}"))?;
        }
        Ok(made)
    }

    /// The catalog to read from.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Drops the tables; an ERROR's abort does it by itself.
    pub fn drop(self) -> Result<()> {
        self.tables.iter().try_for_each(|table| spi::execute(&format!("DROP TABLE {table}")))
    }
}

/// While it lives, statements read what this command has written, and otherwise the state of the database that the caller's
/// statement sees. An ERROR's abort ends it by itself.
pub struct Seeing;

impl Seeing {
    /// From here on.
    pub fn own_writes() -> Seeing {
        // SAFETY: a copy of the active snapshot, whose command counter alone moves on; popped in `drop`.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushCopiedSnapshot(pg_sys::GetActiveSnapshot());
            pg_sys::UpdateActiveSnapshotCommandId();
        }
        Seeing
    }
}

impl Drop for Seeing {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the one pushed in `own_writes`: nothing in between leaves one of its own behind.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// The moment that leaves the newest tenth of what was taken, as SQL of a timestamptz; `None` without behaviour.
pub fn newest_tenth(catalog: &Catalog, log: &str) -> Result<Option<String>> {
    let _owner = Acting::as_owner(catalog.owner());
    let sql = format!(
        "SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY l.at)::text FROM ({log}) l WHERE l.weight > 0 AND l.at < now()"
    );
    let at = spi::first(Mode::Write, &sql, &[], |row| Ok(row.get::<String>(1)))?.flatten();
    Ok(at.map(|at| format!("{}::timestamptz", literal(&at))))
}
