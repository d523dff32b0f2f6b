//! What a worker knows of a database from one look to the next, in tables: what it did, and what went wrong.

use super::super::catalog::Catalog;
use super::super::identity::{self, Acting};
use super::super::json::JsonB;
use super::super::schedule::Schedule;
use super::super::spi::{self, Arg, Mode};
use super::Moment;
use super::process::Failure;
use crate::error::Result;
use pgrx::pg_sys;

/// Errors that are kept of a catalog.
const KEPT: i64 = 100;
/// The first wait after an error, and the longest.
const WAIT: (f64, f64) = (10.0, 3600.0);
/// Longest message that is kept, in characters.
const LONGEST: i32 = 2000;

/// What is done for a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Vectors of what is new or changed.
    Vectors,
    /// Words and behaviour, counted.
    Statistics,
    /// A ranker.
    Train,
}

impl Task {
    /// In the order in which they are done.
    pub const ALL: [Task; 3] = [Task::Vectors, Task::Statistics, Task::Train];

    /// Its name in `persona.worker_tasks`.
    pub fn name(self) -> &'static str {
        match self {
            Task::Vectors => "vectors",
            Task::Statistics => "statistics",
            Task::Train => "train",
        }
    }
}

/// How a task stands.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// When it was last done.
    pub done: Option<Moment>,
    /// How long that took.
    pub seconds: f64,
    /// What the counters of the tables stood at before.
    pub changes: i64,
    /// Errors since.
    pub failures: i32,
    /// Not before this.
    pub retry: Option<Moment>,
}

impl State {
    /// How long the next error makes it wait: each time twice as long.
    pub fn wait(&self) -> f64 {
        (WAIT.0 * 2f64.powi(self.failures.clamp(0, 20))).min(WAIT.1)
    }
}

/// A catalog that may have something due.
pub struct Watched {
    pub items: pg_sys::Oid,
    /// As a user would type it.
    pub name: String,
    /// Whether its owner wants it kept fresh.
    pub wanted: bool,
    pub train: Option<Schedule>,
    /// When its newest ranker was trained.
    pub trained: Option<Moment>,
    states: [State; 3],
}

impl Watched {
    /// How a task stands.
    pub fn state(&self, task: Task) -> &State {
        &self.states[task as usize]
    }
}

/// The catalogs of the database; `None` where it has not this release of the extension.
pub fn watched() -> Result<Option<Vec<Watched>>> {
    let there = "SELECT to_regclass('persona.worker_task') IS NOT NULL AND EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_persona')";
    if spi::first(Mode::Read, there, &[], |row| row.need::<bool>(1))? != Some(true) {
        return Ok(None);
    }
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let moment = |column: &str| format!("extract(epoch FROM {column} - timestamptz '2000-01-01 00:00:00+00')::float8");
    let sql = format!(
        "SELECT c.items::oid, c.items::regclass::text, COALESCE((c.options ->> 'worker')::bool, true), c.options -> 'train',
            (SELECT {trained} FROM persona.ranker k WHERE k.items = c.items)
         FROM persona.catalog c JOIN pg_class r ON r.oid = c.items ORDER BY c.items",
        trained = moment("max(k.trained)"),
    );
    let mut all = spi::query(Mode::Read, &sql, &[], |row| {
        Ok(Watched {
            items: row.need(1)?,
            name: row.need(2)?,
            wanted: row.need(3)?,
            train: row.get::<JsonB>(4).map(|json| Schedule::read(&json.0)).transpose()?,
            trained: row.get(5),
            states: Default::default(),
        })
    })?;
    let sql = format!(
        "SELECT t.items::oid, t.task, {done}, t.seconds, t.changes, t.failures, {retry} FROM persona.worker_task t",
        done = moment("t.done"),
        retry = moment("t.retry"),
    );
    spi::query(Mode::Read, &sql, &[], |row| {
        let (items, name): (pg_sys::Oid, String) = (row.need(1)?, row.need(2)?);
        let one = all.iter_mut().find(|one| one.items == items);
        if let (Some(one), Some(task)) = (one, Task::ALL.into_iter().find(|task| task.name() == name)) {
            one.states[task as usize] = State {
                done: row.get(3),
                seconds: row.need(4)?,
                changes: row.need(5)?,
                failures: row.need(6)?,
                retry: row.get(7),
            };
        }
        Ok(())
    })?;
    Ok(Some(all))
}

/// Takes a catalog for this transaction; false where somebody else has it, or it is gone.
pub fn take(items: pg_sys::Oid) -> Result<bool> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "SELECT 1 FROM persona.catalog c WHERE c.items = $1 FOR NO KEY UPDATE SKIP LOCKED";
    Ok(spi::first(Mode::Write, sql, &[Arg::of(items)], |_| Ok(()))?.is_some())
}

/// How many rows were ever written in the tables that a catalog is made of, by Postgres's own counters; and whether some
/// of them are none that are counted: views, foreign tables, parents of others.
pub fn changes(catalog: &Catalog) -> Result<(i64, bool)> {
    let mut relations = vec![pg_sys::Oid::from(catalog.items)];
    relations.extend(catalog.events.iter().map(|events| pg_sys::Oid::from(events.relation)));
    let sql = "SELECT COALESCE(sum(pg_stat_get_tuples_inserted(p.oid) + pg_stat_get_tuples_updated(p.oid) + pg_stat_get_tuples_deleted(p.oid)), 0)::int8,
            COALESCE(bool_or(p.relkind NOT IN ('r', 'p') OR p.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = p.oid)), false)
        FROM (SELECT unnest($1) UNION SELECT $2::regclass::oid UNION SELECT t.relid FROM unnest($1) r CROSS JOIN LATERAL pg_partition_tree(r) t) a(oid)
        JOIN pg_class p ON p.oid = a.oid";
    let args = [Arg::of(relations), Arg::of(catalog.companion.as_str())];
    Ok(spi::first(Mode::Read, sql, &args, |row| Ok((row.need(1)?, row.need(2)?)))?.unwrap_or((0, true)))
}

/// A task was done.
pub fn done(items: pg_sys::Oid, task: Task, seconds: f64, rows: i64, changes: i64) -> Result<()> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "INSERT INTO persona.worker_task AS t (items, task, done, seconds, rows, changes, failures, retry)
        SELECT c.items, $2, clock_timestamp(), $3, $4, $5, 0, NULL FROM persona.catalog c WHERE c.items = $1
        ON CONFLICT (items, task) DO UPDATE SET done = EXCLUDED.done, seconds = EXCLUDED.seconds, rows = EXCLUDED.rows,
            changes = EXCLUDED.changes, failures = 0, retry = NULL";
    let args = [Arg::of(items), Arg::of(task.name()), Arg::of(seconds), Arg::of(rows), Arg::of(changes)];
    spi::run(sql, &args).map(drop)
}

/// A task ended with an error, and is to be tried again after so many seconds.
pub fn failed(items: pg_sys::Oid, task: Task, failure: &Failure, wait: f64) -> Result<()> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "INSERT INTO persona.worker_task AS t (items, task, failures, retry)
        SELECT c.items, $2, 1, clock_timestamp() + make_interval(secs => $3) FROM persona.catalog c WHERE c.items = $1
        ON CONFLICT (items, task) DO UPDATE SET failures = t.failures + 1, retry = EXCLUDED.retry";
    spi::run(sql, &[Arg::of(items), Arg::of(task.name()), Arg::of(wait)])?;
    let sql = "INSERT INTO persona.worker_error (items, task, sqlstate, message)
        SELECT c.items, $2, $3, left($4, $5) FROM persona.catalog c WHERE c.items = $1";
    let args = [
        Arg::of(items),
        Arg::of(task.name()),
        Arg::of(failure.sqlstate.as_str()),
        Arg::of(failure.message.as_str()),
        Arg::of(LONGEST),
    ];
    spi::run(sql, &args)?;
    let sql = "DELETE FROM persona.worker_error e WHERE e.items = $1 AND e.id <= (
        SELECT o.id FROM persona.worker_error o WHERE o.items = $1 ORDER BY o.id DESC OFFSET $2 LIMIT 1)";
    spi::run(sql, &[Arg::of(items), Arg::of(KEPT)]).map(drop)
}
