//! Panics on demand: with the feature `fault`, which only tests build.
//!
//! What must hold is that a panic anywhere is an ERROR of one statement and nothing worse. The setting `persona.fault` names
//! a place; without the feature there is neither the setting nor a branch where the places are.

/// Where a panic can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the beginning of every SQL function, and of every step of a background worker.
    Door = 1,
    /// In the middle of a forward pass, on whichever thread runs it.
    Pass = 2,
    /// On a thread that embeds beside the caller's.
    Thread = 3,
    /// At a statement that a function runs, counted from 1 on: `query 7`.
    Query = 4,
    /// While the postmaster lays out a model.
    Preload = 5,
    /// In a round of the launcher of the background workers.
    Round = 6,
}

/// Panics if `place` was asked for.
#[inline(always)]
pub fn point(place: Place) {
    #[cfg(feature = "fault")]
    armed::point(place);
    #[cfg(not(feature = "fault"))]
    let _ = place;
}

/// Asks for a panic at the place of this name, or with any other name for none. Asking for what is asked for already
/// changes nothing: a count goes on from one function to the next that the first one calls.
#[cfg(feature = "fault")]
pub fn arm(name: &str) {
    armed::arm(name);
}

#[cfg(feature = "fault")]
mod armed {
    use super::Place;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

    static PLACE: AtomicU8 = AtomicU8::new(0);
    // Statements until the panic.
    static LEFT: AtomicU32 = AtomicU32::new(0);
    static NAME: Mutex<String> = Mutex::new(String::new());

    pub(super) fn arm(name: &str) {
        let mut known = NAME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *known == name {
            return;
        }
        name.clone_into(&mut known);
        let (place, count) = name.split_once(' ').unwrap_or((name, "1"));
        LEFT.store(count.parse().unwrap_or(1), Ordering::Relaxed);
        let place = match place {
            "door" => Place::Door as u8,
            "pass" => Place::Pass as u8,
            "thread" => Place::Thread as u8,
            "query" => Place::Query as u8,
            "preload" => Place::Preload as u8,
            "round" => Place::Round as u8,
            _ => 0,
        };
        PLACE.store(place, Ordering::Relaxed);
    }

    #[allow(clippy::panic)] // it is what this is for
    pub(super) fn point(place: Place) {
        if PLACE.load(Ordering::Relaxed) != place as u8 {
            return;
        }
        // Past its count a statement panics no more.
        if place == Place::Query
            && LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) != Ok(1)
        {
            return;
        }
        panic!("a fault was asked for: {place:?}")
    }
}
