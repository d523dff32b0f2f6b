//! One batch on several threads, inside a process that expects to have one.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Encoder;
use super::packed::{Batch, Work};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::fault;

/// Texts and the place of their vectors.
pub(super) type Job<'a> = (Range<usize>, &'a mut [f32]);

impl Encoder {
    /// The same on several threads. Only the calling thread asks `control`; the others look at a flag that it leaves
    /// behind, also when `control` unwinds. They block every signal, so that a handler of the host process never runs
    /// on a thread that the host does not know.
    pub(super) fn spread<'a>(
        &self,
        batch: &Batch,
        mut jobs: Vec<Job<'a>>,
        works: &mut [Work],
        control: &dyn Control,
    ) -> Result<()> {
        jobs.reverse();
        let queue = Mutex::new(jobs);
        let next = || -> Option<Job<'a>> { queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop() };
        let stop = Stop(AtomicBool::new(false));
        let Some((own, others)) = works.split_first_mut() else { return Ok(()) };
        let blocked = signals::Blocked::new();
        std::thread::scope(|scope| {
            let guard = Raise(&stop);
            let mut handles = Vec::new();
            for work in others {
                let (next, stop) = (&next, &stop);
                let run = move || -> Result<()> {
                    while let Some((texts, out)) = next() {
                        fault::point(fault::Place::Thread);
                        self.wave(batch, texts, out, work, stop)?;
                    }
                    Ok(())
                };
                // A thread that cannot be had is one thread less, not an error.
                if let Ok(handle) = std::thread::Builder::new().spawn_scoped(scope, run) {
                    handles.push(handle);
                }
            }
            drop(blocked);
            let mut result = Ok(());
            while result.is_ok() {
                let Some((texts, out)) = next() else { break };
                result = self.wave(batch, texts, out, own, control);
            }
            // Wait in small steps, so that a cancel is seen while the others finish.
            while result.is_ok() && handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::sleep(std::time::Duration::from_micros(200));
                result = control.check();
            }
            if result.is_err() {
                stop.0.store(true, Ordering::Relaxed);
            }
            for handle in handles {
                let joined =
                    handle.join().unwrap_or_else(|_| Err(Error::Internal("an embedding thread failed".into())));
                result = result.and(joined);
            }
            std::mem::forget(guard);
            result
        })
    }
}

/// What the other threads ask.
struct Stop(AtomicBool);

impl Control for Stop {
    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Stops the other threads when the calling thread unwinds.
struct Raise<'a>(&'a Stop);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) mod signals {
    //! Threads inherit the signal mask: block everything around their start, then put the old mask back.

    #[cfg(unix)]
    pub(crate) struct Blocked(libc::sigset_t);

    #[cfg(unix)]
    impl Blocked {
        pub(crate) fn new() -> Self {
            // SAFETY: both sets are plain memory that the calls fill; the mask of this thread alone changes.
            unsafe {
                let mut all = std::mem::zeroed();
                let mut old = std::mem::zeroed();
                libc::sigfillset(&mut all);
                libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
                Self(old)
            }
        }
    }

    #[cfg(unix)]
    impl Drop for Blocked {
        fn drop(&mut self) {
            // SAFETY: the set came from the call that blocked.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut());
            }
        }
    }

    #[cfg(not(unix))]
    pub(crate) struct Blocked;

    #[cfg(not(unix))]
    impl Blocked {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}
