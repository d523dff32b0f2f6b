//! `persona.activity`: who is at which step of which long work, where the library is preloaded.

use super::error::door;
use pgrx::lwlock::PgLwLock;
use pgrx::prelude::*;
use pgrx::shmem::PGRXSharedMemory;
use pgrx::{pg_shmem_init, pg_sys};
use std::cell::Cell;

/// Backends that can show what they do at once.
const SLOTS: usize = 64;
/// Longest task or step name, in bytes.
const NAME: usize = 32;

#[derive(Copy, Clone, Default)]
struct Slot {
    pid: i32,
    database: u32,
    relation: u32,
    task: [u8; NAME],
    step: [u8; NAME],
    done: u64,
    total: u64,
    started: i64,
}

#[derive(Copy, Clone)]
struct Slots([Slot; SLOTS]);

impl Default for Slots {
    fn default() -> Slots {
        Slots([Slot::default(); SLOTS])
    }
}

// SAFETY: plain bytes without pointers.
unsafe impl PGRXSharedMemory for Slots {}

// SAFETY: the name is unique to this extension.
static ACTIVITY: PgLwLock<Slots> = unsafe { PgLwLock::new(c"pg_persona activity") };

/// Asks for the shared memory, in the postmaster only.
pub fn init() {
    if preloading() {
        pg_shmem_init!(ACTIVITY);
        SHARED.set(true);
    }
}

thread_local! {
    // Set in the postmaster before any fork, read by its children.
    static SHARED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is the postmaster, reading `shared_preload_libraries`.
pub fn preloading() -> bool {
    // SAFETY: a plain global of the backend.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

fn shared() -> bool {
    SHARED.get()
}

fn name(text: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    for (to, from) in bytes.iter_mut().zip(text.bytes().take(NAME)) {
        *to = from;
    }
    bytes
}

fn shown(bytes: &[u8; NAME]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn pid() -> i32 {
    // SAFETY: a plain global of the backend.
    unsafe { pg_sys::MyProcPid }
}

/// Shows a task while it lives.
pub struct Shown;

impl Shown {
    /// This backend now does `task` for `relation`.
    pub fn new(task: &str, relation: pg_sys::Oid) -> Shown {
        if shared() {
            let mut slots = ACTIVITY.exclusive();
            // A slot of this pid is left over from a call that ended in an ERROR; one of a dead process can be taken.
            let place = slots
                .0
                .iter()
                .position(|s| s.pid == pid())
                .or_else(|| slots.0.iter().position(|s| s.pid == 0 || !alive(s.pid)));
            if let Some(place) = place {
                slots.0[place] = Slot {
                    pid: pid(),
                    // SAFETY: plain backend state.
                    database: unsafe { pg_sys::MyDatabaseId }.to_u32(),
                    relation: relation.to_u32(),
                    task: name(task),
                    // SAFETY: as above.
                    started: unsafe { pg_sys::GetCurrentTimestamp() },
                    ..Slot::default()
                };
            }
        }
        Shown
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if shared() {
            let mut slots = ACTIVITY.exclusive();
            if let Some(slot) = slots.0.iter_mut().find(|s| s.pid == pid()) {
                *slot = Slot::default();
            }
        }
    }
}

fn alive(pid: i32) -> bool {
    // SAFETY: a look-up in the array of backends.
    !unsafe { pg_sys::BackendPidGetProc(pid) }.is_null()
}

/// This backend's task is at `done` of `total` of a step.
pub fn update(step: &str, done: u64, total: u64) {
    if shared() {
        let mut slots = ACTIVITY.exclusive();
        if let Some(slot) = slots.0.iter_mut().find(|s| s.pid == pid()) {
            slot.step = name(step);
            slot.done = done;
            slot.total = total;
        }
    }
}

/// Long work of this database's backends, as they show it themselves; empty where the library is not preloaded.
#[pg_extern(name = "_activity", stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn activity() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(relation, pg_sys::Oid),
        name!(task, String),
        name!(step, String),
        name!(done, i64),
        name!(total, i64),
        name!(started, TimestampWithTimeZone),
    ),
> {
    TableIterator::new(door(|| {
        if !shared() {
            return Ok(Vec::new());
        }
        let slots = *ACTIVITY.share();
        // SAFETY: plain backend state.
        let here = unsafe { pg_sys::MyDatabaseId }.to_u32();
        let mine = slots.0.iter().filter(|s| s.pid != 0 && s.database == here && alive(s.pid));
        Ok(mine.filter_map(row).collect::<Vec<_>>())
    }))
}

#[allow(clippy::type_complexity)]
fn row(slot: &Slot) -> Option<(i32, pg_sys::Oid, String, String, i64, i64, TimestampWithTimeZone)> {
    let started = TimestampWithTimeZone::try_from(slot.started).ok()?;
    let relation = pg_sys::Oid::from(slot.relation);
    Some((slot.pid, relation, shown(&slot.task), shown(&slot.step), slot.done as i64, slot.total as i64, started))
}
