//! A catalog's clock: what its time zone's calendar and hours show at a moment.

use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::ffi::CString;

/// A time zone of the server's.
#[derive(Clone, Copy)]
pub struct Zone(*mut pg_sys::pg_tz);

impl Zone {
    /// By the name that `SET TIME ZONE` would take; one that the server does not know is an error.
    pub fn read(name: &str) -> Result<Zone> {
        let zone = CString::new(name).map_or(std::ptr::null_mut(), |name| {
            // SAFETY: a name that ends with a zero; the server keeps a zone for the life of the process.
            unsafe { pg_sys::pg_tzset(name.as_ptr()) }
        });
        if zone.is_null() {
            return Err(Error::InvalidValue {
                place: "options".into(),
                key: "time_zone".into(),
                reason: format!("\"{name}\" is no time zone; pg_timezone_names lists them"),
            });
        }
        Ok(Zone(zone))
    }

    /// Seconds east of UTC at a moment, in seconds since 1970-01-01 UTC.
    pub fn offset(self, at: f64) -> f64 {
        let time = at.floor() as pg_sys::pg_time_t;
        // SAFETY: the zone is one that `pg_tzset` gave; the answer is static memory, read at once, or null beyond all years.
        unsafe { pg_sys::pg_localtime(&time, self.0).as_ref() }.map_or(0.0, |shown| shown.tm_gmtoff as f64)
    }

    /// When the offset changes between two moments, to the hour, each with what it is from then on.
    pub fn offsets(self, from: f64, to: f64) -> Vec<(f64, f64)> {
        const HOUR: f64 = 3600.0;
        let mut offsets: Vec<(f64, f64)> = Vec::new();
        let mut at = (from / HOUR).floor() * HOUR;
        // A clock that shows years without end has no seasons to learn.
        let last = to.min(at + 100.0 * 8766.0 * HOUR);
        while at <= last {
            let offset = self.offset(at);
            if offsets.last().is_none_or(|known| known.1 != offset) {
                offsets.push((at, offset));
            }
            at += HOUR;
        }
        offsets
    }
}
