//! The launcher: which database gets a worker, and when.

use super::super::error::fault_point;
use super::super::guc;
use super::board::{self, Place};
use super::{Moment, builder, now, process};
use crate::fault::Place as Fault;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

/// How often it looks for those who want a database for themselves, while workers are in some: `DROP DATABASE` waits five
/// seconds for the others to go.
const WATCH: f64 = 0.5;
/// Between two starts of a worker in one database.
const PACE: f64 = 1.0;
/// Until a worker that said nothing at its end, having crashed or been sent away, is followed by another; and until a place
/// among the server's workers is asked for again.
const AGAIN: f64 = 10.0;
/// Between two rounds where nothing is due: a database may have been made.
const LONGEST: f64 = 60.0;

/// A worker that was started.
struct Worker {
    database: u32,
    handle: *mut pg_sys::BackgroundWorkerHandle,
}

impl Worker {
    fn is_stopped(&self) -> bool {
        let mut pid = 0;
        // SAFETY: the handle is one that Postgres gave, and not freed yet.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.handle, &mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
    }

    /// Asks it to go; it is gone when it is stopped.
    fn send_away(&self) {
        // SAFETY: as above.
        unsafe { pg_sys::TerminateBackgroundWorker(self.handle) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: as above; nobody else knows it.
        unsafe { pg_sys::pfree(self.handle.cast()) };
    }
}

#[derive(Default)]
struct Launcher {
    workers: Vec<Worker>,
    /// When a worker was last started in a database.
    started: HashMap<u32, Moment>,
    /// What was said once and needs no repeating while it lasts.
    told_slots: bool,
    told_places: bool,
}

/// The launcher's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_persona_launcher(_argument: pg_sys::Datum) {
    process::listen(false);
    // SAFETY: bound to no database: it reads the shared catalogs, and is in the way of nobody who drops one.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
        board::launched(pg_sys::MyProcPid);
    }
    let mut launcher = Launcher::default();
    loop {
        let due = launcher.round();
        process::wait(Duration::from_secs_f64((due - now()).clamp(0.0, LONGEST)));
    }
}

impl Launcher {
    /// Looks once; when it is to look again.
    fn round(&mut self) -> Moment {
        fault_point(Fault::Round);
        self.workers.retain(|worker| {
            let stopped = worker.is_stopped();
            if stopped {
                board::set_worker(worker.database, 0);
            }
            !stopped
        });
        if !guc::WORKER.get() {
            self.workers.iter().for_each(Worker::send_away);
            return now() + LONGEST;
        }
        let databases = databases();
        self.started.retain(|database, _| databases.contains(database));
        let (mut places, full) = board::known(&databases);
        if full && !std::mem::replace(&mut self.told_places, true) {
            pgrx::warning!("some databases are not kept fresh in the background: there are too many");
        }
        for worker in &self.workers {
            if is_wanted(worker.database) {
                worker.send_away();
            }
        }
        // Who has waited longest comes first.
        places.retain(|place| self.workers.iter().all(|worker| worker.database != place.database));
        places.sort_by(|a, b| self.last(a).total_cmp(&self.last(b)));
        let mut again = now() + if self.workers.is_empty() { LONGEST } else { WATCH };
        let mut crowded = false;
        for place in places {
            let due = self.due(&place);
            if due > now() {
                again = again.min(due);
            } else if self.workers.len() >= guc::WORKER_DATABASES.get() as usize {
                crowded = true;
            } else if is_wanted(place.database) {
                again = again.min(now() + PACE);
            } else {
                again = again.min(now() + if self.start(place.database) { WATCH } else { AGAIN });
            }
        }
        board::set_crowded(crowded);
        again
    }

    fn last(&self, place: &Place) -> Moment {
        self.started.get(&place.database).copied().unwrap_or(0.0)
    }

    fn due(&self, place: &Place) -> Moment {
        if place.marked { place.next.min(self.last(place) + PACE) } else { place.next }
    }

    /// Starts a worker in a database; false where the server has no place for one.
    fn start(&mut self, database: u32) -> bool {
        // SAFETY: plain backend state.
        let own = unsafe { pg_sys::MyProcPid };
        let built = builder("pg_persona worker", "pg_persona_worker")
            .set_argument(Some(pg_sys::Datum::from(database)))
            .set_notify_pid(own);
        let mut worker: pg_sys::BackgroundWorker = (&built).into();
        let mut handle = std::ptr::null_mut();
        // It says itself when it wants to be followed, unless it comes to no end of its own.
        board::set_next(database, now() + AGAIN);
        // SAFETY: both live over the call; the handle is in memory that lasts, as no transaction is open.
        if unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle) } {
            self.workers.push(Worker { database, handle });
            self.started.insert(database, now());
            self.told_slots = false;
            return true;
        }
        if !std::mem::replace(&mut self.told_slots, true) {
            pgrx::warning!("no background worker can be started: all of max_worker_processes are taken");
        }
        false
    }
}

/// The databases that a worker may go into: those that take connections, but for templates, which nobody may be in when
/// they are copied.
fn databases() -> Vec<u32> {
    let mut found = Vec::new();
    // SAFETY: a scan of a shared catalog in a transaction of its own, as autovacuum's launcher does it; each row is one
    // of pg_database while the scan stands on it.
    unsafe {
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            // A limit of -2 is a database whose DROP was interrupted.
            if row.datallowconn && !row.datistemplate && row.datconnlimit >= -1 {
                found.push(row.oid.to_u32());
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
    }
    found
}

/// Whether somebody wants a database for himself: to drop it, rename it, move it, or copy it. He holds a lock on it that
/// a new connection would wait for.
fn is_wanted(database: u32) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0, // shared by all databases
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: the lock that a connection takes, asked for without waiting, and given back by the end of the transaction.
    unsafe {
        pg_sys::StartTransactionCommand();
        let got = pg_sys::LockAcquire(&tag, pg_sys::RowExclusiveLock as i32, false, true);
        pg_sys::CommitTransactionCommand();
        got == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
