//! `persona.work('train', …)`: the same training in committed steps.
//!
//! A step is a pass of the shopper encoder; the last one draws the lists, fits the networks, judges and keeps the ranker.
//! What is learnt between two steps is a row of `persona.tuning`, so a cancel, a crash or another session costs one step.
//! Events that come meanwhile wait for the next training: every step reads those that were there when the first began.

use super::Training;
use super::course::settings;
use crate::error::{Error, Result};
use crate::learn::encoder;
use crate::pg::adapter;
use crate::pg::identity::{self, Acting};
use crate::pg::spi::{self, Arg, Mode};
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

/// What a training is at.
#[derive(Serialize, Deserialize)]
struct At {
    /// The newest event that it learns from, in seconds since 1970.
    until: f64,
    /// Passes that are done.
    passes: usize,
}

impl Training<'_> {
    /// The name of its row, and the key that says whether the row is of this very training.
    fn row(&self) -> Result<(String, String)> {
        let parent = if self.options.anew { None } else { crate::pg::ranker::deployed(self.catalog)? };
        let options = serde_json::to_string(&self.options).unwrap_or_default();
        let key = format!("{} {parent:?} {} {options}", self.catalog.items, self.catalog.model);
        Ok((format!("training of {}", self.catalog.items), key))
    }

    /// A step; whether more are left.
    pub fn step(&self) -> Result<bool> {
        let (name, key) = self.row()?;
        let name = Arg::of(name);
        let owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "SELECT t.state FROM persona.tuning t WHERE t.name = $1 AND t.key = $2 FOR UPDATE";
        let kept = spi::first(Mode::Write, sql, &[name, Arg::of(key.as_str())], |row| row.need::<Vec<u8>>(1))?;
        drop(owner);
        let kept = kept.map(|bytes| read(&bytes).map(|(at, rest)| (at, rest.to_vec()))).transpose()?;
        let ready = self.ready(kept.as_ref().map_or(f64::INFINITY, |(at, _)| at.until))?;
        let mut passes = 0;
        let mut known = None;
        if let Some((at, bytes)) = &kept
            && let Some(training) = encoder::Training::read(&ready.table, settings(&ready.log), bytes)?
        {
            passes = at.passes;
            known = Some(self.course(&ready, training)?);
        }
        let until = ready.log.events.iter().map(|e| e.at).fold(f64::NEG_INFINITY, f64::max);
        let mut course = match known {
            Some(course) => Some(course),
            None => self.begin(&ready)?,
        };
        if let Some(course) = course.as_mut().filter(|_| passes < ready.passes(&self.options)) {
            self.pass(&ready, course, passes)?;
            let bytes = written(&At { until, passes: passes + 1 }, &course.training.to_bytes());
            self.remember(name, &key, bytes)?;
            return Ok(true);
        }
        let mut rows = Vec::new();
        self.finish(&ready, course, &mut rows)?;
        let _owner = Acting::as_owner(identity::extension_owner()?);
        spi::run("DELETE FROM persona.tuning WHERE name = $1", &[name])?;
        Ok(false)
    }

    fn remember(&self, name: Arg, key: &str, state: Vec<u8>) -> Result<()> {
        let caller = adapter::caller()?;
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "INSERT INTO persona.tuning AS t (name, owner, task, source, key, state) VALUES ($1, $2, 'train', $3, $4, $5)
            ON CONFLICT (name) DO UPDATE SET owner = EXCLUDED.owner, key = EXCLUDED.key, state = EXCLUDED.state, changed = now()";
        let items = Arg::of(pg_sys::Oid::from(self.catalog.items));
        spi::run(sql, &[name, Arg::of(caller), items, Arg::of(key), Arg::of(state)])?;
        Ok(())
    }
}

fn written(at: &At, training: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(at).unwrap_or_default();
    let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
    bytes.extend(head);
    bytes.extend(training);
    bytes
}

fn read(bytes: &[u8]) -> Result<(At, &[u8])> {
    let bad = || Error::RankerWeights { reason: "the state of a training cannot be read".into() };
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
    let (head, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(bad)?;
    Ok((serde_json::from_slice(head).map_err(|_| bad())?, rest))
}
