//! How often a catalog's ranker is to be trained in the background: the option `train` of `create_catalog`.

use super::spi::{self, Arg, Mode};
use super::training;
use crate::catalog::options::from_object;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// `{"every": "7 days", "options": {…}}`; the options are those of `persona.train`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    every: String,
    options: Value,
}

/// A schedule that was read.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Seconds from one training to the next.
    pub every: f64,
    pub options: training::Options,
}

/// Shortest time from one training to the next, in seconds.
const SHORTEST: f64 = 60.0;

impl Schedule {
    /// Reads it; what Postgres does not take for an interval is an error of its own.
    pub fn read(value: &Value) -> Result<Schedule> {
        let given: Given = from_object("options.train", value)?;
        let sql = "SELECT pg_catalog.date_part('epoch', $1::pg_catalog.interval)";
        let every = spi::first(Mode::Read, sql, &[Arg::of(given.every.as_str())], |row| row.need::<f64>(1))?;
        match every.filter(|every| *every >= SHORTEST) {
            Some(every) => Ok(Schedule { every, options: training::Options::read(&given.options)? }),
            None => Err(Error::InvalidValue {
                place: "options.train".into(),
                key: "every".into(),
                reason: "it has to be a minute at least".into(),
            }),
        }
    }
}
