//! Fine-tuning over the rows of a relation: its steps, and what is kept.
//!
//! The rows are read as the caller, so rights and row-level security decide what is learnt from. What comes out is a row
//! of `persona.adapter`, and while `persona.work` is at it a row of `persona.tuning`.

mod rows;

use super::adapter;
use super::identity::{self, Acting};
use super::interrupt::Backend;
use super::json::JsonB;
use super::spi::{self, Arg, Mode};
use super::{device, guc, session};
use crate::device::Library;
use crate::embed::{Place, Precision};
use crate::error::{Error, Result};
use crate::tune::{Adapter, CrossEncoder, Options, Run, State, Task, Told, Verdict};
use pgrx::pg_sys;
use serde_json::Value;
use std::cell::RefCell;
use std::time::{Duration, Instant};

use rows::Source;

thread_local! {
    // Between two steps of `work` in one backend: what a run holds is made from rows and options alone, and takes a while.
    // With it its key, and the device that it is on.
    static RUN: RefCell<Option<(String, String, Run)>> = const { RefCell::new(None) };
}

/// A wish to fine-tune.
pub struct Wanted {
    pub task: Task,
    pub source: pg_sys::Oid,
    pub options: Options,
    pub raw: Value,
}

impl Wanted {
    /// Reads the arguments of `fine_tune`.
    pub fn read(task: &str, source: pg_sys::Oid, options: Value) -> Result<Wanted> {
        let (task, options, raw) = (Task::parse(task)?, Options::read(&options)?, options);
        options.suit(task)?;
        // What it would learn could not be kept: on a standby, or where a transaction may only read.
        // SAFETY: it looks at the transaction, and raises an error.
        unsafe { pg_sys::PreventCommandIfReadOnly(c"fine_tune".as_ptr()) };
        let wanted = Wanted { task, source, options, raw };
        wanted.free_name()?;
        Ok(wanted)
    }

    /// Refuses the name of a bundle, or of another adapter.
    fn free_name(&self) -> Result<()> {
        let name = &self.options.name;
        if session::is_bundle(name)? {
            return Err(Error::NameTaken { name: name.clone() });
        }
        let sql = "SELECT 1 FROM persona.adapter a WHERE a.name OPERATOR(pg_catalog.=) $1";
        match spi::first(Mode::Write, sql, &[Arg::of(name.as_str())], |_| Ok(()))? {
            Some(()) => Err(Error::AdapterExists { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn base(&self) -> Result<String> {
        self.options.model.clone().map_or_else(session::default_model, Ok)
    }

    /// The run, on a device or the CPU, and the key under which its rows and options are known.
    fn run(&self, on: Option<(Library, String)>) -> Result<(String, String, Run)> {
        let base = self.base()?;
        if !session::is_bundle(&base)? {
            return Err(Error::UnknownBundle { name: base });
        }
        let encoder = session::bundle(&base, Precision::F32)?;
        let teacher = self.options.teacher.as_deref().map(|name| session::cross_encoder(name, Precision::F32));
        let teacher = teacher.transpose()?;
        let data = rows::read(self)?.sorted();
        let of_teacher = teacher.as_ref().map_or("", CrossEncoder::hash);
        let key = format!("{} {} {}{of_teacher} {}", self.task.name(), data.digest(), encoder.info().hash, self.raw);
        let device = on.as_ref().map_or(String::new(), |(_, device)| device.clone());
        if let Some((known, on, run)) = RUN.take()
            && (&known, &on) == (&key, &device)
        {
            return Ok((key, device, run));
        }
        let folder = session::folder()?;
        let place = on.map(|(library, device)| Place { library, device, folder });
        let memory = guc::MAINTENANCE_MEMORY.get() as usize * 1024;
        let run = Run::new(self.options.clone(), encoder, place.as_ref(), teacher, &data, memory, &Backend)?;
        Ok((key, device, run))
    }

    /// All of it at once.
    pub fn tune(&self) -> Result<(Vec<Told>, Verdict)> {
        device::train(|on, _| self.tune_on(on))
    }

    fn tune_on(&self, on: Option<(Library, String)>) -> Result<(Vec<Told>, Verdict)> {
        let (.., mut run) = self.run(on)?;
        let mut state = run.start(&Backend)?;
        run.advance(&mut state, &mut || false, &Backend)?;
        let (adapter, verdict) = run.finish(&state, &Backend)?;
        self.keep(&adapter, &verdict)?;
        Ok((state.told, verdict))
    }

    /// A step that goes on for so long, and at least as long as one batch takes; whether more are left.
    pub fn step(&self, most: Duration) -> Result<bool> {
        device::train(|on, _| self.step_on(on, most))
    }

    fn step_on(&self, on: Option<(Library, String)>, most: Duration) -> Result<bool> {
        let name = Arg::of(self.options.name.as_str());
        let (key, device, mut run) = self.run(on)?;
        let owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "SELECT state FROM persona.tuning WHERE name = $1 AND key = $2 FOR UPDATE";
        let kept = spi::first(Mode::Write, sql, &[name, Arg::of(key.as_str())], |row| row.need::<Vec<u8>>(1))?;
        drop(owner);
        let (fresh, mut state) = match kept {
            Some(bytes) => (false, State::read(&bytes)?),
            None => (true, run.start(&Backend)?),
        };
        let started = Instant::now();
        if !fresh {
            run.advance(&mut state, &mut || started.elapsed() >= most, &Backend)?;
        }
        let caller = adapter::caller()?;
        if state.done {
            let (adapter, verdict) = run.finish(&state, &Backend)?;
            self.keep(&adapter, &verdict)?;
            tell(&self.options.name, &verdict);
            let _owner = Acting::as_owner(identity::extension_owner()?);
            spi::run("DELETE FROM persona.tuning WHERE name = $1", &[name])?;
            return Ok(false);
        }
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "INSERT INTO persona.tuning AS t (name, owner, task, source, key, state) VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (name) DO UPDATE SET key = EXCLUDED.key, state = EXCLUDED.state, changed = now() WHERE t.owner = EXCLUDED.owner";
        let args = [
            name,
            Arg::of(caller),
            Arg::of(self.task.name()),
            Arg::of(self.source),
            Arg::of(key.as_str()),
            Arg::of(state.to_bytes()?),
        ];
        if spi::run(sql, &args)? == 0 {
            return Err(Error::NotAdapterOwner { name: self.options.name.clone() });
        }
        RUN.set(Some((key, device, run)));
        Ok(true)
    }

    fn keep(&self, adapter: &Adapter, verdict: &Verdict) -> Result<()> {
        let base = self.base()?;
        let base_hash = session::bundle(&base, Precision::F32)?.info().hash.clone();
        let bytes = adapter.to_bytes()?;
        let caller = adapter::caller()?;
        // Which rows it has seen: what is forgotten there, it may still know.
        let mut metrics = verdict.metrics.clone();
        if let Some(map) = metrics.as_object_mut() {
            map.insert("source".into(), Source::of(self.source)?.name.into());
        }
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "INSERT INTO persona.adapter (name, owner, task, method, base, base_hash, hash, adopted, reason, labels, options,
                metrics, seed, bytes, weights)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (name) DO NOTHING";
        let args = [
            Arg::of(self.options.name.as_str()),
            Arg::of(caller),
            Arg::of(self.task.name()),
            Arg::of(self.options.method.name()),
            Arg::of(base),
            Arg::of(base_hash),
            Arg::of(Adapter::hash(&bytes)),
            Arg::of(verdict.adopted),
            Arg::of(verdict.reason.clone()),
            Arg::of(adapter.labels.clone()),
            Arg::of(JsonB(self.raw.clone())),
            Arg::of(JsonB(metrics)),
            Arg::of(self.options.seed as i64),
            Arg::of(bytes.len() as i64),
            Arg::of(bytes),
        ];
        match spi::run(sql, &args)? {
            0 => Err(Error::AdapterExists { name: self.options.name.clone() }),
            _ => Ok(()),
        }
    }
}

/// Says what came of a run.
pub fn tell(name: &str, verdict: &Verdict) {
    let number = |key: &str| verdict.metrics.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let metric = verdict.metrics.get("metric").and_then(Value::as_str).unwrap_or_default();
    let shown = format!("{metric} {:.4}, base model {:.4}", number("value"), number("base"));
    match &verdict.reason {
        None => pgrx::notice!("adapter \"{name}\" is adopted: {shown}"),
        Some(reason) if verdict.adopted => pgrx::warning!("adapter \"{name}\" is adopted as asked, though {reason}"),
        Some(reason) => pgrx::warning!("adapter \"{name}\" is not adopted: {reason}"),
    }
}
