//! Cancel and progress: what a long loop asks between small steps.

use crate::error::Error;

/// Asked by every long loop between steps of a few milliseconds.
///
/// Inside Postgres `check` runs the interrupt handler, so a cancel or a `statement_timeout` takes effect there; in
/// tests it can refuse after a number of steps.
pub trait Control {
    /// Returns `Err(Error::Cancelled)` (or unwinds, inside Postgres) when the work should stop.
    fn check(&self) -> Result<(), Error>;

    /// Tells how far `step` is: `done` of `total` units. The default says nothing.
    fn progress(&self, step: &str, done: u64, total: u64) {
        let _ = (step, done, total);
    }
}

/// A control that never stops anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Free;

impl Control for Free {
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
