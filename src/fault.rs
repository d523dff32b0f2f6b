//! Panics on demand: with the feature `fault`, which only tests build.
//!
//! What must hold is that a panic anywhere is an ERROR of one statement and nothing worse. The setting `persona.fault` names
//! a place; without the feature there is neither the setting nor a branch where the places are.

/// Where a panic can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the beginning of every SQL function.
    Door = 1,
    /// In the middle of a forward pass, on whichever thread runs it.
    Pass = 2,
    /// On a thread that embeds beside the caller's.
    Thread = 3,
}

/// Panics if `place` was asked for.
#[inline(always)]
pub fn point(place: Place) {
    #[cfg(feature = "fault")]
    {
        use std::sync::atomic::Ordering;
        if armed::PLACE.load(Ordering::Relaxed) == place as u8 {
            armed::panic(place);
        }
    }
    #[cfg(not(feature = "fault"))]
    let _ = place;
}

#[cfg(feature = "fault")]
mod armed {
    pub(super) static PLACE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

    #[allow(clippy::panic)] // it is what this is for
    pub(super) fn panic(place: super::Place) -> ! {
        panic!("a fault was asked for: {place:?}")
    }
}

/// Asks for a panic at the place of this name, or with any other name for none.
#[cfg(feature = "fault")]
pub fn arm(name: &str) {
    let place = match name {
        "door" => Place::Door as u8,
        "pass" => Place::Pass as u8,
        "thread" => Place::Thread as u8,
        _ => 0,
    };
    armed::PLACE.store(place, std::sync::atomic::Ordering::Relaxed);
}
