//! Background workers: what `persona.refresh` and `persona.work` do by call, done by itself where the library is preloaded.
//!
//! One *launcher* (`launcher`) is bound to no database. It reads which databases there are, and starts a *worker* in one
//! of them when something is due there: a writer has changed items and says so at its commit (`board`), or the moment has
//! come that the last worker there asked for. A worker (`pass`) looks at each catalog, does what is due in transactions
//! that are short (`process`), writes down what came of it (`record`), waits a while for more, and goes. So a database
//! without the extension costs one look at long intervals, and a quiet one nothing.
//!
//! * It acts as the catalog's owner in a security-restricted operation with a pinned search path, as `REFRESH MATERIALIZED
//!   VIEW` does: whatever code a shop has in views, triggers and index expressions runs with the shop's own rights.
//! * It is in nobody's way: whoever wants a database for himself (`DROP DATABASE`, `CREATE DATABASE … TEMPLATE`) locks it
//!   first, and the launcher, which looks for that lock, sends the worker away. A catalog that a refresh by call is at is
//!   left alone, and so is an item that somebody is writing.
//! * An ERROR ends one step. It is kept in `persona.worker_errors`, and the task waits, each time twice as long.

mod board;
mod launcher;
mod pass;
mod process;
mod record;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use std::time::Duration;

pub use board::mark_at_commit;

/// Until the launcher is started again after a crash of its own.
const RESTART: Duration = Duration::from_secs(5);

/// Shares the board and registers the launcher, in the postmaster only.
pub fn init() {
    // SAFETY: a plain global of the process.
    if !super::activity::preloading() || unsafe { pg_sys::IsBinaryUpgrade } {
        return;
    }
    board::init();
    builder("pg_persona launcher", "pg_persona_launcher").set_restart_time(Some(RESTART)).load();
}

/// A background worker of ours that waits for the end of recovery: a standby has none.
fn builder(name: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name)
        .set_library("pg_persona")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
}

/// A moment, in seconds since the beginning of 2000: Postgres's own count, not in microseconds.
type Moment = f64;

/// Now.
fn now() -> Moment {
    // SAFETY: asks the clock.
    unsafe { pg_sys::GetCurrentTimestamp() as f64 / 1e6 }
}
