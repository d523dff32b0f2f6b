//! A worker in a database: what is due in its catalogs, and the doing of it.

use super::super::activity::Shown;
use super::super::api::catalog::complete;
use super::super::catalog::{self, Catalog};
use super::super::identity::Acting;
use super::super::refresh::{Refresh, queued};
use super::super::training::Training;
use super::super::{guc, steps};
use super::process::{self, Failure, attempt};
use super::record::{self, Task, Watched};
use super::{Moment, board, now};
use crate::error::Result;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// How long a worker waits for more before it goes: a process costs some milliseconds, and a model that is not preloaded
/// a fifth of a second.
const LINGER: f64 = 10.0;
/// Between two looks at the same catalogs.
const PACE: f64 = 1.0;
/// After this a worker that has more to do goes, if another database waits for its turn.
const TURN: f64 = 60.0;
/// Until a catalog that somebody else was at is looked at again.
const BUSY: f64 = 5.0;
/// Until a database without the extension, or without catalogs, is looked at again; a new catalog makes itself known.
const SELDOM: f64 = 3600.0;
/// Texts that are embedded in one transaction: a writer who changes one of them once more waits for no longer than that.
const BATCH: usize = 32;
/// Statistics are counted at most in this part of the time.
const SHARE: f64 = 0.1;

/// A worker's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_persona_worker(argument: pg_sys::Datum) {
    let database = argument.value() as u32;
    process::listen(true);
    // SAFETY: connects as the bootstrap superuser, whose rights no code of a shop gets to see: see `step`.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(pg_sys::Oid::from(database), pg_sys::InvalidOid, 0);
        board::set_worker(database, pg_sys::MyProcPid);
    }
    process::settle();
    let visit = Visit { database, begun: now(), launcher: board::launcher() };
    board::set_next(database, visit.stay());
}

/// A worker's time in a database.
struct Visit {
    database: u32,
    begun: Moment,
    /// Who started it, and alone looks after it.
    launcher: i32,
}

impl Visit {
    /// Whether it has to end, though there is more to do: another database waits for its turn, or another launcher has
    /// begun, which knows nothing of this worker.
    fn is_over(&self) -> bool {
        now() - self.begun >= TURN && board::is_crowded() || board::launcher() != self.launcher
    }

    /// Looks, and waits for more, until nothing comes any more; when the next worker is to come.
    fn stay(&self) -> Moment {
        loop {
            // First: what is changed from here on is found by this look or by the next.
            board::take_mark(self.database);
            process::show(Some("what is due"));
            let next = match attempt(record::watched) {
                Ok(Some(watched)) if !watched.is_empty() => self.look(&watched),
                Ok(_) => return now() + SELDOM,
                Err(failure) => {
                    pgrx::warning!("catalogs cannot be looked at in the background: {}", failure.message);
                    return now() + f64::from(guc::WORKER_INTERVAL.get());
                }
            };
            process::show(None);
            let looked = now();
            loop {
                if now() - looked >= LINGER || board::is_crowded() || self.is_over() {
                    return next;
                }
                let wanted = if board::is_marked(self.database) { looked } else { next };
                let wake = wanted.clamp(looked + PACE, looked + LINGER);
                if wake <= now() {
                    break;
                }
                process::wait(Duration::from_secs_f64(wake - now()));
            }
        }
    }

    /// Does what is due in each catalog; when something is due next.
    fn look(&self, watched: &[Watched]) -> Moment {
        let mut next = now() + SELDOM;
        for one in watched.iter().filter(|one| one.wanted) {
            let mut vectors_fail = one.state(Task::Vectors).retry.is_some_and(|retry| retry > now());
            for task in Task::ALL {
                let Some(due) = due(one, task) else { continue };
                if due > now() {
                    next = next.min(due);
                    continue;
                }
                let (again, failed) = self.perform(one, task);
                next = next.min(again);
                vectors_fail |= failed && task == Task::Vectors;
                if task == Task::Statistics && !vectors_fail {
                    // Counting finds what has changed behind the trigger's back, or where there is none.
                    next = next.min(self.perform(one, Task::Vectors).0);
                }
            }
        }
        next
    }

    /// Does a task of a catalog; when it is due again, and whether it failed.
    fn perform(&self, one: &Watched, task: Task) -> (Moment, bool) {
        let started = Instant::now();
        let outcome = match task {
            Task::Vectors => self.vectors(one),
            Task::Statistics => self.statistics(one),
            Task::Train => train(one),
        };
        let seconds = started.elapsed().as_secs_f64();
        let failed = outcome.is_err();
        let (next, kept) = match outcome {
            Ok(Outcome::Busy) => return (now() + BUSY, false),
            Ok(Outcome::Idle) => return (now() + pause(0.0), false),
            Ok(Outcome::More(rows)) => (now(), attempt(|| record::done(one.items, task, seconds, rows, 0))),
            Ok(Outcome::Done(rows, changes)) => {
                let next = match &one.train {
                    Some(train) if task == Task::Train => train.every,
                    _ => pause(seconds),
                };
                (now() + next, attempt(|| record::done(one.items, task, seconds, rows, changes)))
            }
            Err(failure) => {
                let wait = one.state(task).wait();
                pgrx::warning!("{} of {} in the background: {}", task.name(), one.name, failure.message);
                (now() + wait, attempt(|| record::failed(one.items, task, &failure, wait)))
            }
        };
        if let Err(failure) = kept {
            // The catalog or the extension may be gone by now, or nothing can be written at all.
            pgrx::log!("what came of {} of {} could not be kept: {}", task.name(), one.name, failure.message);
        }
        (next, failed)
    }

    /// Embeds what waits for a vector, some texts a transaction.
    fn vectors(&self, one: &Watched) -> Ended<Outcome> {
        match step(one, |catalog| Ok(catalog.wanted.is_some() || queued(catalog, 1)? > 0))? {
            None => return Ok(Outcome::Busy),
            Some(false) => return Ok(Outcome::Idle),
            Some(true) => {}
        }
        process::show(Some(&format!("vectors of {}", one.name)));
        let _shown = Shown::new("refresh", one.items);
        let mut rows = 0;
        loop {
            let embedded = step(one, |catalog| {
                let refresh = Refresh::new(catalog)?;
                if catalog.wanted.is_some() { refresh.incoming(BATCH) } else { refresh.newer(BATCH) }
            })?;
            match embedded {
                None => return Ok(Outcome::Busy),
                Some(0) => break,
                Some(some) => rows += some,
            }
            if self.is_over() {
                return Ok(Outcome::More(rows));
            }
        }
        // Once there are vectors to build it from, it is built at once and not row by row.
        let index = step(one, |catalog| steps::run(&Refresh::new(catalog)?, steps::INDEX, BATCH))?;
        Ok(if index.is_some() { Outcome::Done(rows, 0) } else { Outcome::Busy })
    }

    /// Counts words and behaviour anew, where a table has changed since.
    fn statistics(&self, one: &Watched) -> Ended<Outcome> {
        let Some((changes, silent)) = step(one, record::changes)? else { return Ok(Outcome::Busy) };
        process::show(Some(&format!("statistics of {}", one.name)));
        let _shown = Shown::new("refresh", one.items);
        // Vectors of a bundle whose files have changed are in no queue.
        while let Some(embedded) = step(one, |catalog| Refresh::new(catalog)?.free(BATCH))? {
            if embedded == 0 {
                break;
            }
        }
        let before = one.state(Task::Statistics);
        if before.done.is_some() && before.changes == changes && !silent {
            return Ok(Outcome::Done(0, changes));
        }
        let (mut at, mut done) = (Some(0), 0);
        while let Some(number) = at {
            if self.is_over() {
                return Ok(Outcome::Busy);
            }
            at = if number == steps::VECTORS {
                Some(steps::INDEX)
            } else {
                match step(one, |catalog| steps::run(&Refresh::new(catalog)?, number, BATCH))? {
                    Some(next) => next,
                    None => return Ok(Outcome::Busy),
                }
            };
            done += 1;
        }
        Ok(Outcome::Done(done, changes))
    }
}

/// When a task is due; `None` is never.
fn due(one: &Watched, task: Task) -> Option<Moment> {
    let state = one.state(task);
    let due = match task {
        Task::Vectors => 0.0,
        Task::Statistics => state.done.map_or(0.0, |done| done + pause(state.seconds)),
        Task::Train => {
            let last = one.trained.unwrap_or(0.0).max(state.done.unwrap_or(0.0));
            if last > 0.0 { last + one.train.as_ref()?.every } else { one.train.as_ref().map(|_| 0.0)? }
        }
    };
    Some(due.max(state.retry.unwrap_or(0.0)))
}

/// Between two counts of statistics, where one takes so long.
fn pause(seconds: f64) -> f64 {
    f64::from(guc::WORKER_INTERVAL.get()).max(seconds * (1.0 / SHARE - 1.0))
}

/// What came of a task.
enum Outcome {
    /// So many rows, and what the tables' counters stood at before.
    Done(i64, i64),
    /// There was nothing to do.
    Idle,
    /// Somebody else is at the catalog.
    Busy,
    /// There is more to do.
    More(i64),
}

type Ended<T> = std::result::Result<T, Failure>;

/// A step in a transaction of its own, as the catalog's owner; `None` where somebody else is at the catalog, or it is not
/// ready.
fn step<T>(one: &Watched, work: impl FnOnce(&Catalog) -> Result<T>) -> Ended<Option<T>> {
    process::obey();
    attempt(|| {
        if !record::take(one.items)? {
            return Ok(None);
        }
        let catalog = catalog::need(one.items)?;
        if !catalog.ready {
            return Ok(None);
        }
        // What is the superuser's ends here: a trigger, a view's function, an index expression of the shop's runs as the
        // shop's owner, in a security-restricted operation.
        let _owner = Acting::as_owner(catalog.owner());
        work(&*complete(catalog)?).map(Some)
    })
}

/// Trains a ranker, where the catalog wants one every so often.
fn train(one: &Watched) -> Ended<Outcome> {
    let Some(train) = &one.train else { return Ok(Outcome::Idle) };
    process::show(Some(&format!("training for {}", one.name)));
    let _shown = Shown::new("train", one.items);
    let epochs = step(one, |catalog| Ok(Training::new(catalog, train.options.clone())?.run()?.len()))?;
    Ok(epochs.map_or(Outcome::Busy, |epochs| Outcome::Done(epochs as i64, 0)))
}
