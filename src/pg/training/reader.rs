//! The behaviour tables' rows as training reads them.

use crate::error::Result;
use crate::event::Kind;
use crate::learn::log::{Cleaned, Log, Logged};
use crate::pg::history::seconds;
use crate::pg::{log, spi};
use crate::shopper::sequence;
use std::collections::HashMap;

/// Rows of the behaviour tables as they come.
#[derive(Default)]
pub struct Reader {
    events: Vec<Logged>,
    queries: Vec<String>,
    numbers: HashMap<String, u32>,
    sessions: HashMap<String, u32>,
    shopper: Option<String>,
    shoppers: u32,
    /// Values of context columns: their places by name, and how many shoppers and which last bore them.
    values: HashMap<String, u16>,
    bearers: Vec<(String, u32, u32)>,
    contexts: HashMap<Vec<u16>, u32>,
    pub cleaned: Cleaned,
}

impl Reader {
    /// Takes a row: shopper, id, at, kind, weight, query, session, place, dwell, item, context.
    pub fn read(&mut self, row: &spi::Row) -> Result<()> {
        self.cleaned.read += 1;
        let shopper: Option<String> = row.get(1);
        if shopper != self.shopper {
            self.shoppers += 1;
            self.shopper = shopper;
            self.sessions.clear();
        }
        let item: Option<i64> = row.get(2);
        if item.is_none() && row.need::<bool>(10)? {
            self.cleaned.orphans += 1;
            return Ok(());
        }
        let kind: String = row.need(4)?;
        let kind = Kind::ALL.into_iter().find(|k| k.name() == kind).unwrap_or(Kind::View);
        let query = row.get::<String>(6).map(|q| q.trim().to_owned()).filter(|q| !q.is_empty());
        let query = query.map_or(0, |text| {
            let next = self.queries.len() as u32 + 1;
            let number = *self.numbers.entry(text.clone()).or_insert(next);
            if number == next {
                self.queries.push(text);
            }
            number
        });
        let session = row.get::<String>(7).map_or(0, |text| {
            let next = self.sessions.len() as u32 + 1;
            *self.sessions.entry(text).or_insert(next)
        });
        let context = self.context(row.get::<pgrx::JsonB>(11));
        self.events.push(Logged {
            shopper: self.shoppers,
            item: item.unwrap_or(0),
            at: seconds(row.need(3)?),
            kind,
            weight: row.need::<f64>(5)? as f32,
            query,
            session,
            position: row.get::<i32>(8).map_or(0, |p| p.clamp(0, i32::from(u16::MAX)) as u16),
            dwell: row.get::<f64>(9).map_or(0.0, |d| d.max(0.0) as f32),
            context,
        });
        Ok(())
    }

    /// Forgets rows after a moment: a training that goes on learns from what was there when it began.
    pub fn keep_until(&mut self, until: f64) {
        self.events.retain(|event| event.at <= until);
    }

    /// The number of a row's context: its values, of which at most some thousands are told apart.
    fn context(&mut self, context: Option<pgrx::JsonB>) -> u32 {
        const MOST: usize = 20_000;
        let mut places = Vec::new();
        for (column, value) in log::values(context) {
            let name = sequence::value_name(&column, &value);
            let place = match self.values.get(&name) {
                Some(place) => *place,
                None if self.bearers.len() < MOST => {
                    let place = self.bearers.len() as u16;
                    self.bearers.push((name.clone(), 0, 0));
                    self.values.insert(name, place);
                    place
                }
                None => continue,
            };
            let (_, count, last) = &mut self.bearers[usize::from(place)];
            if *last != self.shoppers {
                *last = self.shoppers;
                *count += 1;
            }
            places.push(place);
        }
        if places.is_empty() {
            return 0;
        }
        let next = self.contexts.len() as u32 + 1;
        *self.contexts.entry(places).or_insert(next)
    }

    /// The log, with the values that enough shoppers bear: the most frequent, and none that could tell of one.
    pub fn log(self, min_shoppers: u32) -> Result<Log> {
        const KEPT: usize = 64;
        let least = min_shoppers.max(5);
        let mut kept: Vec<usize> = (0..self.bearers.len()).filter(|n| self.bearers[*n].1 >= least).collect();
        kept.sort_by(|a, b| {
            self.bearers[*b].1.cmp(&self.bearers[*a].1).then(self.bearers[*a].0.cmp(&self.bearers[*b].0))
        });
        kept.truncate(KEPT);
        let mut contexts = vec![Vec::new(); self.contexts.len()];
        for (places, number) in self.contexts {
            let known = places.iter().filter_map(|p| kept.iter().position(|k| *k == usize::from(*p)));
            contexts[number as usize - 1] = known.map(|p| p as u16).collect();
        }
        let mut log = Log::new(self.events, self.queries, self.cleaned);
        log.contexts = contexts;
        log.values = kept.into_iter().map(|n| self.bearers[n].0.clone()).collect();
        Ok(log)
    }
}
