//! The shopper encoder of a training: the items that it learns, its beginning, its passes over the behaviour.

use super::{Options, Ready, Row, Training, history_limit};
use crate::control::Control;
use crate::error::Result;
use crate::learn::encoder;
use crate::learn::log::{Basket, Log};
use crate::learn::plan::{self, Course};
use crate::learn::table::Table;
use crate::pg::companion::ident;
use crate::pg::identity::Acting;
use crate::pg::spi::{self, Arg};
use crate::pg::store::PgStore;
use crate::pg::{device, learned, refresh, vector};
use crate::random::Random;
use crate::store::Store;
use std::time::Instant;

impl Ready {
    /// Passes of the encoder over what lies before the first slice: what was learnt goes on with half as many, over as much
    /// of it as is rehearsed.
    pub fn passes(&self, options: &Options) -> usize {
        match self.goes_on {
            Some(_) if options.rehearsal > 0.0 => options.sequence.div_ceil(2),
            Some(_) => 0,
            None => options.sequence,
        }
    }

    /// What a pass goes over: everything before the first slice, or where that was learnt already, another part of it each
    /// time, as many baskets as `rehearsal` of what is new.
    fn passed(&self, options: &Options, pass: usize) -> Vec<Basket> {
        let history = self.plan.history.clone();
        if self.goes_on.is_none() {
            return history;
        }
        let mut random = Random::named(u64::from(options.seed), &format!("rehearsed in pass {pass}"));
        plan::rehearsed(history, self.plan.recent(), options.rehearsal, &mut random)
    }
}

/// How the encoder of a training is fitted.
pub fn settings(log: &Log) -> encoder::Settings {
    encoder::Settings { history: history_limit(), ..encoder::Settings::of(log) }
}

impl Training<'_> {
    /// The items that the encoder learns: all, or those that most shoppers took where all do not fit.
    pub fn table(&self, store: &PgStore) -> Result<Table> {
        if self.options.sequence == 0 {
            return Ok(Table::default());
        }
        let c = self.catalog;
        let _owner = Acting::as_owner(c.owner());
        let most = Self::memory() / 2 / Table::bytes(c.dimension as usize);
        let sql = format!(
            "SELECT c.id, c.embedding, left(i.{title}::text, 500) FROM {companion} c JOIN {items} i ON i.{key} {equal} c.key
             LEFT JOIN {stats} s ON s.id = c.id ORDER BY COALESCE(s.shoppers, 0) DESC, c.id LIMIT $1",
            title = ident(&c.title),
            companion = c.companion,
            items = c.name,
            key = ident(&c.key),
            equal = c.key_equal,
            stats = c.stats,
        );
        let halfvec = vector::types()?.halfvec;
        let mut items = Vec::new();
        spi::stream(&sql, &[Arg::of(most as i64)], 1024, |rows| {
            for row in rows {
                row.check(2, halfvec)?;
                // SAFETY: the column is a halfvec.
                let vector = row.datum(2).map(|d| unsafe { vector::read_halfvec(d) }).unwrap_or_default();
                items.push((row.need(1)?, vector, row.get::<String>(3).unwrap_or_default()));
            }
            self.control.check()
        })?;
        if items.len() >= most {
            pgrx::notice!(
                "the encoder learns the {most} items that most shoppers took, to stay within persona.maintenance_memory; others go by their text"
            );
        }
        items.sort_unstable_by_key(|(id, ..)| *id);
        Ok(Table::new(items, &store.whole()?.mean))
    }

    /// The encoder before its first pass; none where it learns no item.
    pub(super) fn begin<'t>(&self, ready: &'t Ready) -> Result<Option<Course<'t>>> {
        if ready.table.is_empty() {
            return Ok(None);
        }
        let seed = u64::from(self.options.seed);
        let training = match ready
            .goes_on
            .as_ref()
            .and_then(|r| Some((r.number, r.encoder.clone()?.with_values(&ready.log.values)?)))
        {
            Some((number, encoder)) => {
                let known = learned::all(self.catalog, number)?;
                encoder::Training::from(&ready.table, settings(&ready.log), encoder, &known, seed)
            }
            None => encoder::Training::new(&ready.table, settings(&ready.log), &ready.log, seed),
        };
        self.course(ready, training).map(Some)
    }

    /// An encoder on its way.
    pub(super) fn course<'t>(&self, ready: &'t Ready, training: encoder::Training<'t>) -> Result<Course<'t>> {
        let least = refresh::min_shoppers(self.catalog)?;
        // From nothing, nothing was learnt that could be left out.
        let rehearsal = if ready.goes_on.is_some() { self.options.rehearsal } else { 1.0 };
        let mut training = training.weighted(ready.propensity.clone());
        device::train(|on, lenient| match on {
            Some((library, name)) => training.on(&library, &name, lenient, &self.control),
            None => Ok(()),
        })?;
        Ok(Course { table: &ready.table, training, least, rehearsal })
    }

    /// A pass of the encoder over what lies before the first slice; a NOTICE and a row.
    pub(super) fn pass(&self, ready: &Ready, course: &mut Course, pass: usize) -> Result<Row> {
        let started = Instant::now();
        let passes = ready.passes(&self.options);
        // What was learnt goes on, more gently.
        let most = if ready.goes_on.is_some() { 0.3 } else { 1.0 };
        let rate = |n: usize| most * (1.0 - n as f32 / passes as f32).max(0.02);
        let baskets = ready.passed(&self.options, pass);
        let loss = course.training.pass(&ready.log, &baskets, (rate(pass), rate(pass + 1)), &self.control)?;
        if let Some(error) = course.training.lost() {
            device::give_up(&error);
        }
        let seconds = started.elapsed().as_secs_f64();
        pgrx::notice!("train of {}: sequence {}: loss {loss:.4}, {seconds:.1} s", self.catalog.name, pass + 1);
        let (epoch, loss) = (pass as i32 + 1, f64::from(loss));
        Ok(Row { stage: "sequence", epoch, loss, pointwise: None, search: None, recommend: None, seconds })
    }
}
