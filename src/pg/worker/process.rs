//! A background process of ours: its signals, its settings, its transactions.

use super::super::error::door;
use crate::error::Result;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// A step that ended with an ERROR.
#[derive(Debug)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
}

impl Failure {
    fn of(cause: &CaughtError) -> Failure {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = cause;
        // Six bits a character, as the server's own `unpack_sql_state` has it.
        let code = report.sql_error_code() as i32;
        let sqlstate = (0..5).map(|at| char::from(((code >> (6 * at)) & 0x3F) as u8 + b'0')).collect();
        Failure { sqlstate, message: report.message().to_owned() }
    }
}

// Taken as they are: what pgrx makes of them does more than a signal handler may.
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForShutdownRequest(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Installs the signal handlers. What it has in hand is given up at the next interrupt check on SIGTERM where it is
/// `interruptible`; else the process ends between two rounds.
pub fn listen(interruptible: bool) {
    handle(pg_sys::SIGTERM as i32, if interruptible { die } else { SignalHandlerForShutdownRequest });
    handle(pg_sys::SIGHUP as i32, SignalHandlerForConfigReload);
    // SAFETY: the handlers are in place.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

fn handle(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: Postgres's own handlers, in a process that has none but its defaults.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal, Some(handler));
    }
}

/// Settings of a worker in a database, whatever the configuration says of sessions.
pub fn settle() {
    for (name, value) in [
        // One core, and as long as it takes: what bounds a step is its size.
        (c"max_parallel_workers_per_gather", c"0"),
        (c"max_parallel_maintenance_workers", c"0"),
        (c"statement_timeout", c"0"),
        (c"idle_in_transaction_session_timeout", c"0"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        (c"transaction_timeout", c"0"),
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_deferrable", c"off"),
        // Who waits for a lock that cannot be had stands in a queue that others stand behind.
        (c"lock_timeout", c"10s"),
        (c"search_path", c"pg_catalog, pg_temp"),
    ] {
        set(name, value);
    }
}

fn set(name: &CStr, value: &CStr) {
    // SAFETY: static strings; the process belongs to no user who could mind.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Waits until somebody wakes this process, at most so long; then obeys what came meanwhile.
pub fn wait(most: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the process's own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, most.as_millis() as _, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    obey();
}

/// Ends where it is told to, and reads the configuration anew where that has changed.
pub fn obey() {
    // SAFETY: plain globals, set by the signal handlers.
    unsafe {
        // There is no statement that could be cancelled: who meant one came too late.
        pg_sys::QueryCancelPending = 0;
        pgrx::check_for_interrupts!();
        if pg_sys::ShutdownRequestPending != 0 {
            // Not 0, which would mean for good: after pg_terminate_backend it comes back.
            pg_sys::proc_exit(1);
        }
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Runs `work` in a transaction of its own, which is rolled back by any ERROR in it.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    // SAFETY: no transaction is open: each ends below.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let body = AssertUnwindSafe(|| {
        let value = door(work);
        // SAFETY: what was begun above. The commit may fail, too: it runs what was deferred.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    });
    let outcome = PgTryBuilder::new(body).catch_others(|cause| Err(Failure::of(&cause))).execute();
    // SAFETY: after an ERROR the transaction is there to be aborted, which restores user, settings and locks; without one
    // nothing is open.
    unsafe {
        if outcome.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(true);
    }
    outcome
}

/// Shows in `pg_stat_activity` what the process is at; `None` is waiting.
pub fn show(what: Option<&str>) {
    let state = if what.is_some() { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    let text = what.and_then(|what| std::ffi::CString::new(what).ok());
    // SAFETY: the text outlives the call, which copies it.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())) };
}
