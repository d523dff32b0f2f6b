//! What writers, launcher and workers tell each other: a few numbers in shared memory.

use super::Moment;
use pgrx::lwlock::PgLwLock;
use pgrx::pg_shmem_init;
use pgrx::prelude::*;
use pgrx::shmem::PGRXSharedMemory;
use std::cell::Cell;

/// Databases that are known at once.
const PLACES: usize = 256;

/// A database.
#[derive(Copy, Clone, Default)]
pub struct Place {
    /// Its oid; 0 is a free place.
    pub database: u32,
    /// Whether items have changed since a worker last looked.
    pub marked: bool,
    /// The process of its worker, 0 without one.
    pub worker: i32,
    /// When a worker is to look at the latest.
    pub next: Moment,
}

#[derive(Copy, Clone)]
struct Board {
    /// The launcher's process.
    launcher: i32,
    /// Whether a database waits for its turn.
    crowded: bool,
    places: [Place; PLACES],
}

impl Default for Board {
    fn default() -> Board {
        Board { launcher: 0, crowded: false, places: [Place::default(); PLACES] }
    }
}

// SAFETY: plain numbers without pointers.
unsafe impl PGRXSharedMemory for Board {}

// SAFETY: the name is unique to this extension.
static BOARD: PgLwLock<Board> = unsafe { PgLwLock::new(c"pg_persona worker") };

thread_local! {
    // Set in the postmaster before any fork, read by its children.
    static SHARED: Cell<bool> = const { Cell::new(false) };
    // Whether this transaction has changed items, and whether its end is listened for.
    static CHANGED: Cell<bool> = const { Cell::new(false) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Asks for the shared memory, in the postmaster only.
pub fn init() {
    pg_shmem_init!(BOARD);
    SHARED.set(true);
}

/// Tells the workers, if this transaction commits, that there is something to do in this database.
pub fn mark_at_commit() {
    if SHARED.get() && !CHANGED.replace(true) && !LISTENING.replace(true) {
        // SAFETY: registered once a process; the function lives as long as the library.
        unsafe { pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut()) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT if CHANGED.replace(false) => {
            // SAFETY: plain backend state.
            mark(unsafe { pg_sys::MyDatabaseId }.to_u32());
        }
        // A prepared transaction commits elsewhere, and nobody is told: the next regular look finds what it did.
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => CHANGED.set(false),
        _ => {}
    }
}

/// Marks a database, and wakes its worker or else the launcher.
fn mark(database: u32) {
    let place = |board: &Board| board.places.iter().position(|place| place.database == database);
    {
        // What is marked already needs no telling: of a thousand writers one takes the lock for itself.
        let board = BOARD.share();
        if place(&board).is_none_or(|at| board.places[at].marked) {
            return;
        }
    }
    let mut board = BOARD.exclusive();
    if let Some(at) = place(&board) {
        board.places[at].marked = true;
        let wakes = if board.places[at].worker != 0 { board.places[at].worker } else { board.launcher };
        drop(board);
        wake(wakes);
    }
}

/// Sets a process's latch; nothing where it is gone.
fn wake(pid: i32) {
    // SAFETY: the array of backends keeps the entry of a process, and its latch, as long as the server lives; setting the
    // latch of another process that has got the entry since makes that look once more for what it waits for.
    unsafe {
        let process = if pid == 0 { std::ptr::null_mut() } else { pg_sys::BackendPidGetProc(pid) };
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}

/// The launcher is up: all databases are due once.
pub fn launched(pid: i32) {
    *BOARD.exclusive() = Board { launcher: pid, ..Board::default() };
}

/// The launcher's process.
pub fn launcher() -> i32 {
    BOARD.share().launcher
}

/// Keeps the places of the databases that there are, gives new ones a place, and returns all of them; whether some have
/// found none is the second.
pub fn known(databases: &[u32]) -> (Vec<Place>, bool) {
    let mut board = BOARD.exclusive();
    for place in board.places.iter_mut().filter(|place| place.database != 0) {
        if !databases.contains(&place.database) {
            *place = Place::default();
        }
    }
    let mut full = false;
    for &database in databases {
        if board.places.iter().all(|place| place.database != database) {
            match board.places.iter_mut().find(|place| place.database == 0) {
                Some(free) => *free = Place { database, ..Place::default() },
                None => full = true,
            }
        }
    }
    (board.places.iter().filter(|place| place.database != 0).copied().collect(), full)
}

fn with<T>(database: u32, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
    BOARD.exclusive().places.iter_mut().find(|place| place.database == database).map(change)
}

/// A worker is in the database, or (0) none any more.
pub fn set_worker(database: u32, pid: i32) {
    with(database, |place| place.worker = pid);
}

/// When a worker is to look at the database at the latest.
pub fn set_next(database: u32, next: Moment) {
    with(database, |place| place.next = next);
}

/// Whether items have changed since this was last asked.
pub fn take_mark(database: u32) -> bool {
    with(database, |place| std::mem::take(&mut place.marked)).unwrap_or(false)
}

/// Whether items have changed.
pub fn is_marked(database: u32) -> bool {
    BOARD.share().places.iter().any(|place| place.database == database && place.marked)
}

/// Whether a database waits for its turn.
pub fn set_crowded(crowded: bool) {
    BOARD.exclusive().crowded = crowded;
}

/// Whether a database waits for its turn.
pub fn is_crowded() -> bool {
    BOARD.share().crowded
}
