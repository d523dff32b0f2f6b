//! Cancel, timeout and progress: how the engine's long loops stay in Postgres's hands.

use super::activity;
use crate::control::Control;
use crate::error::Result;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Asks Postgres for interrupts, and tells the user how far the work is.
pub struct Backend;

/// How often a running step says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

thread_local! {
    static TOLD: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Control for Backend {
    fn check(&self) -> Result<()> {
        // An interrupt leaves as an ERROR, which unwinds this thread's frames and runs their destructors.
        pgrx::check_for_interrupts!();
        Ok(())
    }

    fn progress(&self, step: &str, done: u64, total: u64) {
        activity::update(step, done, total);
        let now = Instant::now();
        match TOLD.get() {
            // Work that is soon done needs no telling.
            None => TOLD.set(Some(now)),
            Some(last) if now.duration_since(last) >= TELL_EVERY => {
                pgrx::notice!("{step}: {done} of {total}");
                TOLD.set(Some(now));
            }
            Some(_) => {}
        }
    }
}

/// A control for a part of a step whose progress the step itself tells.
pub struct Silent;

impl Control for Silent {
    fn check(&self) -> Result<()> {
        Backend.check()
    }
}
