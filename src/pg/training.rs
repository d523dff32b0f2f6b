//! Training inside Postgres: reads the behaviour as the catalog's owner, lets `learn` do the work, keeps the ranker.

mod course;
mod reader;
mod steps;
mod texts;

use reader::Reader;
use texts::ShopTexts;

use super::catalog::Catalog;
use super::companion::ident;
use super::heldout::{HeldOut, Seeing, Split};
use super::identity::Acting;
use super::interrupt::Backend;
use super::ranker::{self, Fresh};
use super::spi::{self, Arg, Mode};
use super::store::PgStore;
use super::{guc, learned, log, refresh, session};
use crate::catalog::filter::Filter;
use crate::catalog::options::from_object;
use crate::control::Control;
use crate::embed::Role;
use crate::error::{Error, Result};
use crate::learn::log::{Log, Logged};
use crate::learn::plan::{self, Course, Cut, Drawn, Known, Plan, Shop, Verdict};
use crate::learn::sample::Lists;
use crate::learn::table::Table;
use crate::learn::train;
use crate::measure::propensity::Propensity;
use crate::rank::network::{HEADS, Head, Ranker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// When a trained ranker is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deploy {
    /// Where it is surely better on held-out behaviour.
    Better,
    /// Whatever the outcome.
    Always,
    /// By a call of `persona.deploy` only.
    Never,
}

/// Options of `train`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Decides every draw: the same seed gives the same weights. Default: 1.
    pub seed: u32,
    /// Moments to train on, at most, 100 to 1,000,000. Default: 6,000.
    pub samples: usize,
    /// Passes over them, at most, 1 to 200. Default: 14.
    pub epochs: usize,
    /// Passes of the shopper encoder over the behaviour, 0 (no encoder) to 100. Default: 5.
    pub sequence: usize,
    /// Begin from nothing, though a ranker ranks: else what it has learnt goes on. Default: false.
    pub anew: bool,
    /// Where training goes on: how much of the old behaviour is gone over again beside the new, as a share of it, 0 to 10.
    /// Default: 1.
    pub rehearsal: f64,
    /// Whether clicks are weighted by how seldom their place is looked at, where the log tells. Default: true.
    pub debias: bool,
    /// When the outcome ranks: better, always, never. Default: better.
    pub deploy: Deploy,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 1,
            samples: 6000,
            epochs: 14,
            sequence: 5,
            anew: false,
            rehearsal: 1.0,
            debias: true,
            deploy: Deploy::Better,
        }
    }
}

impl Options {
    /// Reads options; an unknown key or a value out of range is an error.
    pub fn read(options: &Value) -> Result<Options> {
        let read: Options = from_object("options", options)?;
        let range = |key: &str, ok: bool, range: &str| -> Result<()> {
            let reason = format!("it has to be {range}");
            if ok { Ok(()) } else { Err(Error::InvalidValue { place: "options".into(), key: key.into(), reason }) }
        };
        range("samples", (100..=1_000_000).contains(&read.samples), "from 100 to 1000000")?;
        range("epochs", (1..=200).contains(&read.epochs), "from 1 to 200")?;
        range("sequence", read.sequence <= 100, "from 0 to 100")?;
        range("rehearsal", (0.0..=10.0).contains(&read.rehearsal), "from 0 to 10")?;
        Ok(read)
    }
}

/// What `train` says of an epoch.
pub struct Row {
    pub stage: &'static str,
    pub epoch: i32,
    pub loss: f64,
    pub pointwise: Option<f64>,
    pub search: Option<f64>,
    pub recommend: Option<f64>,
    pub seconds: f64,
}

/// Candidates of a training list that were not taken.
const OTHERS: usize = 72;
/// Baskets below which nothing can be learnt.
const FEWEST: usize = 50;

/// What a training has read.
struct Ready {
    /// The model of the catalog's vectors, and its name in them.
    encoder: Arc<crate::embed::Encoder>,
    identity: String,
    log: Log,
    /// How likely each position is looked at.
    propensity: Propensity,
    table: Table,
    plan: Plan,
    /// The ranker that is gone on from, as its row has it.
    parent: Option<i64>,
    /// The ranker that ranks now.
    before: Option<Arc<Ranker>>,
    /// The ranker whose encoder learns on, where it can.
    goes_on: Option<Arc<Ranker>>,
}

/// One training of a catalog's ranker, by its owner.
pub struct Training<'a> {
    catalog: &'a Catalog,
    options: Options,
    control: Backend,
    started: Instant,
}

impl<'a> Training<'a> {
    /// Starts; a refresh or another training of the catalog is waited for.
    pub fn new(catalog: &'a Catalog, options: Options) -> Result<Training<'a>> {
        super::catalog::hold(catalog)?;
        Ok(Training { catalog, options, control: Backend, started: Instant::now() })
    }

    /// Bytes that training may take.
    fn memory() -> usize {
        guc::MAINTENANCE_MEMORY.get() as usize * 1024
    }

    /// Trains, judges, keeps, and deploys where that is due.
    pub fn run(&self) -> Result<Vec<Row>> {
        let ready = self.ready(f64::INFINITY)?;
        let mut rows = Vec::new();
        let mut course = self.begin(&ready)?;
        if let Some(course) = &mut course {
            for pass in 0..ready.passes(&self.options) {
                rows.push(self.pass(&ready, course, pass)?);
            }
        }
        self.finish(&ready, course, &mut rows)?;
        Ok(rows)
    }

    /// Reads what there is to learn from, up to a moment.
    fn ready(&self, until: f64) -> Result<Ready> {
        let encoder = session::encoder(&self.catalog.model, Role::Query)?;
        let identity = session::identity(&encoder);
        let mut log = self.log(until)?;
        let baskets = log.baskets().len();
        if baskets < FEWEST {
            let found = format!("{baskets} purchases or other telling events, {FEWEST} are needed");
            return Err(Error::TooLittle { relation: self.catalog.name.clone(), found });
        }
        let parent = if self.options.anew { None } else { ranker::deployed(self.catalog)? };
        let before = ranker::to_rank_by(self.catalog, None)?;
        if let Some(known) = before.as_ref().filter(|_| parent.is_some()).and_then(|r| r.encoder.as_ref()) {
            log.keep_values(&known.values);
        }
        let table = self.table(&PgStore::new(self.catalog, &Filter::default(), &identity)?)?;
        let learnt_until = parent.map(|parent| ranker::data_until(self.catalog, parent)).transpose()?.flatten();
        let learnt_until = learnt_until.unwrap_or(f64::NEG_INFINITY);
        let plan = plan::plan(&log, learnt_until, u64::from(self.options.seed));
        // An encoder that knows other texts cannot go on.
        let fits = |r: &&Arc<Ranker>| r.encoder.as_ref().is_some_and(|e| e.text == table.text);
        let news = parent.is_some() && plan::has_news(&log, learnt_until);
        let goes_on = before.as_ref().filter(|_| news).filter(fits).cloned();
        let propensity = if self.options.debias { Propensity::estimate(log.shown()) } else { Propensity::default() };
        Ok(Ready { encoder, identity, log, propensity, table, plan, parent, before, goes_on })
    }

    /// Draws the lists of each slice, fits the networks to them, judges them, keeps them.
    fn finish(&self, ready: &Ready, mut course: Option<Course>, rows: &mut Vec<Row>) -> Result<()> {
        let Ready { log, plan, parent, before, .. } = ready;
        let texts = ShopTexts::new(self.catalog, ready.encoder.clone());
        let drawn = self.drawn(&ready.table);
        let mut cut = Cut { propensity: ready.propensity.clone(), ..Cut::default() };
        let out_of_stock = self.out_of_stock()?;
        let mut outcome = None;
        for (number, slice) in plan.slices.iter().enumerate() {
            let held = HeldOut::make(self.catalog, &split(slice.known))?;
            {
                // The candidates and the statistics are those of a search at the slice's beginning.
                let _seeing = Seeing::own_writes();
                let _owner = Acting::as_owner(self.catalog.owner());
                let store = PgStore::new(held.catalog(), &Filter::default(), &ready.identity)?;
                let shop = Shop {
                    log,
                    store: &store,
                    texts: &texts,
                    items: self.items()?,
                    out_of_stock: &out_of_stock,
                    before: before.as_ref(),
                };
                let seen = (plan, slice);
                shop.draw(seen, course.as_ref(), drawn, &self.control, &mut cut)?;
                if number + 1 == plan.slices.len() {
                    self.told(&cut)?;
                    // Weights that were made for an encoder say nothing without one, and the other way round.
                    let same = |r: &&Ranker| parent.is_some() && r.encoder.is_some() == course.is_some();
                    let fitted = self.fit(&cut, before.as_deref().filter(same), rows)?;
                    let verdicts = shop.judge(&fitted, seen, course.as_ref(), drawn, &cut.propensity, &self.control)?;
                    outcome = Some((fitted, verdicts));
                }
            }
            held.drop()?;
            if let Some(course) = &mut course {
                plan::learn(course, log, plan, number, drawn.seed, &self.control)?;
            }
        }
        let (fitted, verdicts) = outcome.ok_or_else(|| Error::Internal("nothing was fitted".into()))?;
        self.keep(fitted, &verdicts, (*parent, log, &cut), course)
    }

    /// Writes the ranker's row and what it has learnt, and deploys it where that is due.
    fn keep(
        &self,
        mut fitted: Ranker,
        verdicts: &[Verdict],
        (parent, log, cut): (Option<i64>, &Log, &Cut),
        course: Option<Course>,
    ) -> Result<()> {
        let taught = course.as_ref().map(|c| c.training.taught());
        fitted.encoder = taught.as_ref().map(|t| t.encoder.clone());
        let fresh = Fresh {
            ranker: &fitted,
            parent,
            options: serde_json::to_value(&self.options).unwrap_or_default(),
            data: self.data(log, cut),
            metrics: metrics(verdicts),
        };
        let number = ranker::keep(self.catalog, fresh)?;
        if let Some((course, taught)) = course.as_ref().zip(taught.as_ref()) {
            let told = course.told(&log.shoppers_of_items(&log.baskets()));
            learned::keep(self.catalog, number, (course.table, taught), |row| told[row], &self.control)?;
        }
        ranker::prune(self.catalog)?;
        let due = match self.options.deploy {
            Deploy::Better => plan::is_better(verdicts),
            Deploy::Always => true,
            Deploy::Never => false,
        };
        if due {
            ranker::deploy(self.catalog, Some(number))?;
        }
        for verdict in verdicts {
            pgrx::notice!("train of {}: {}", self.catalog.name, said(verdict));
        }
        let outcome = if due { "deployed" } else { "kept, not deployed" };
        pgrx::notice!("train of {}: ranker {number} is {outcome}", self.catalog.name);
        Ok(())
    }

    /// Says what there is to learn from, or that it is too little.
    fn told(&self, cut: &Cut) -> Result<()> {
        if cut.train.lists.is_empty() || cut.validation.lists.is_empty() {
            let found = format!("{} lists of candidates with something taken", cut.train.lists.len());
            return Err(Error::TooLittle { relation: self.catalog.name.clone(), found });
        }
        pgrx::notice!(
            "train of {}: {} lists of candidates, {:.1} s so far; propensities {}",
            self.catalog.name,
            cut.train.lists.len() + cut.validation.lists.len(),
            self.started.elapsed().as_secs_f64(),
            match (cut.propensity.is_known(), self.options.debias) {
                (true, _) => "by position from the log",
                (false, true) => "are not known, every weight is 1",
                (false, false) => "are left out, every weight is 1",
            }
        );
        Ok(())
    }

    /// How lists are drawn.
    fn drawn(&self, table: &Table) -> Drawn {
        // A basket makes a list for each head; what the encoder leaves of the memory is for them, and those to stop by.
        let left = Self::memory() - (table.len() * Table::bytes(table.text)).min(Self::memory() / 2);
        let fits = left * 2 / 3 / (2 * (OTHERS + 8) * Lists::EACH);
        let samples = self.options.samples.min(fits.max(100));
        if samples < self.options.samples {
            pgrx::notice!("{samples} samples of {} fit into persona.maintenance_memory", self.options.samples);
        }
        Drawn { samples, others: OTHERS, history: history_limit(), seed: u64::from(self.options.seed) }
    }

    /// How many items the catalog has.
    fn items(&self) -> Result<f64> {
        let sql = format!("SELECT pg_catalog.count(*) FROM {}", self.catalog.companion);
        Ok(spi::first(Mode::Read, &sql, &[], |row| row.need::<i64>(1))?.unwrap_or(0) as f64)
    }

    /// The items that cannot be bought now, where the catalog names a column that says so. What was so at a moment of the
    /// past no table tells.
    fn out_of_stock(&self) -> Result<HashSet<i64>> {
        let c = self.catalog;
        let Some(stock) = &c.stock else { return Ok(HashSet::new()) };
        let _owner = Acting::as_owner(c.owner());
        // A boolean, or a number above 0; where nothing is known, it can be bought.
        let sql = format!(
            "SELECT c.id FROM {} c JOIN {} i ON i.{} {} c.key
             WHERE CASE lower(i.{stock}::text) WHEN 'true' THEN false WHEN 'false' THEN true ELSE i.{stock}::text::float8 <= 0 END",
            c.companion,
            c.name,
            ident(&c.key),
            c.key_equal,
            stock = ident(stock),
        );
        Ok(spi::query(Mode::Write, &sql, &[], |row| row.need::<i64>(1))?.into_iter().collect())
    }

    /// Fits the networks; a NOTICE and a row for each epoch.
    fn fit(&self, cut: &Cut, trained: Option<&Ranker>, rows: &mut Vec<Row>) -> Result<Ranker> {
        let mut last = Instant::now();
        let settings = train::Settings { epochs: self.options.epochs, ..train::Settings::of(cut.train.lists.len()) };
        let mut tell = |epoch: &train::Epoch| {
            if epoch.epoch == 0 {
                pgrx::notice!(
                    "train of {}: before it learns: validation NDCG@10 search {:.4}, recommend {:.4}",
                    self.catalog.name,
                    epoch.ndcg[0],
                    epoch.ndcg[1]
                );
                return;
            }
            let known = |n: f64| n.is_finite().then_some(n);
            let row = Row {
                stage: "ranker",
                epoch: epoch.epoch as i32,
                loss: f64::from(epoch.loss.listwise),
                pointwise: Some(f64::from(epoch.loss.pointwise)),
                search: known(epoch.ndcg[Head::Answer as usize]),
                recommend: known(epoch.ndcg[Head::Want as usize]),
                seconds: last.elapsed().as_secs_f64(),
            };
            last = Instant::now();
            pgrx::notice!(
                "train of {}: epoch {}: loss {:.4}, validation NDCG@10 search {:.4}, recommend {:.4}, {:.1} s",
                self.catalog.name,
                row.epoch,
                row.loss,
                epoch.ndcg[0],
                epoch.ndcg[1],
                row.seconds
            );
            rows.push(row);
        };
        let seed = u64::from(self.options.seed);
        let (fitted, _) = plan::fit(cut, trained.cloned(), settings, seed, &self.control, &mut tell)?;
        Ok(fitted)
    }

    /// The behaviour up to a moment, as the catalog's owner sees it; a sample of the shoppers where all do not fit.
    fn log(&self, until: f64) -> Result<Log> {
        let _owner = Acting::as_owner(self.catalog.owner());
        let wanted = log::Rows { no_item: true, ..log::Rows::default() };
        let Some(events) = log::sql(self.catalog, wanted)? else {
            let found = "no behaviour table".to_owned();
            return Err(Error::TooLittle { relation: self.catalog.name.clone(), found });
        };
        let count = format!("SELECT count(*) FROM ({events}) s");
        let total: i64 = spi::first(Mode::Write, &count, &[], |row| row.need(1))?.unwrap_or(0);
        let each = size_of::<Logged>() * 2;
        let parts = (total as usize * each).div_ceil((Self::memory() / 4).max(1)).max(1);
        if parts > 1 {
            pgrx::notice!("one shopper of {parts} is read, to stay within persona.maintenance_memory");
        }
        let sql = format!(
            "SELECT s.shopper, s.id, s.at, s.kind, s.weight, s.query, s.session, s.place, s.dwell, s.item, s.context FROM ({events}) s
             WHERE abs(hashtext(s.shopper)::bigint) % $1 = 0 ORDER BY s.shopper COLLATE \"C\", s.at, s.id"
        );
        let mut reader = Reader::default();
        spi::stream(&sql, &[Arg::of(parts as i64)], 4096, |rows| {
            for row in rows {
                reader.read(row)?;
            }
            self.control.check()
        })?;
        reader.keep_until(until);
        reader.cleaned.sampled = (total as u64).saturating_sub(reader.cleaned.read);
        let mut log = reader.log(refresh::min_shoppers(self.catalog)?)?;
        if let Some(zone) = self.catalog.zone() {
            let (from, to) = log.span();
            log.set_clock(zone.offsets(from, to));
        }
        Ok(log)
    }

    /// What a ranker was trained on, for its row.
    fn data(&self, log: &Log, cut: &Cut) -> Value {
        let (from, to) = log.span();
        let moment = |at: f64| {
            // In UTC, whatever the session's settings are.
            let sql = r#"SELECT to_char(to_timestamp($1) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
            spi::first(Mode::Write, sql, &[Arg::of(at)], |row| row.need::<String>(1)).ok().flatten()
        };
        let c = log.cleaned;
        json!({
            "from": moment(from),
            "to": moment(to),
            "rows": log.events.len(),
            "shoppers": log.shoppers().len(),
            "read": c.read,
            "orphans": c.orphans,
            "duplicates": c.duplicates,
            "robots": c.robots,
            "left_out": c.sampled,
            "out_of_stock": match self.catalog.stock {
                Some(_) => json!(cut.train.out_of_stock + cut.validation.out_of_stock),
                None => Value::from("not known: the catalog names no stock column"),
            },
            "lists": {"train": cut.train.lists.len(), "validation": cut.validation.lists.len()},
            "propensities": if cut.propensity.is_known() { json!(cut.propensity.looked()) } else { Value::from("not known: every weight is 1") },
        })
    }
}

/// What was known before a slice, in SQL.
fn split(known: Known) -> Split {
    match known {
        Known::Before(at) => Split::Time(format!("to_timestamp({at:?})")),
        Known::LastVisit => Split::LastVisit,
    }
}

fn history_limit() -> usize {
    guc::HISTORY_LIMIT.get().max(1) as usize
}

fn name(head: Head) -> &'static str {
    match head {
        Head::Answer => "search",
        Head::Want => "recommend",
    }
}

fn said(verdict: &Verdict) -> String {
    let gain =
        verdict.gain.map_or(String::new(), |g| format!(" ({:+.4}, 95 % {:+.4} to {:+.4})", g.value, g.low, g.high));
    format!("{}: held-out NDCG@10 {:.4} before, {:.4} now{gain}", name(verdict.head), verdict.before, verdict.after)
}

fn metrics(verdicts: &[Verdict]) -> Value {
    let one = |v: &Verdict| {
        json!({"lists": v.lists, "before": v.before, "after": v.after,
            "gain": v.gain.map(|g| json!({"value": g.value, "low": g.low, "high": g.high}))})
    };
    let of = |head: Head| verdicts.iter().find(|v| v.head == head).map(one);
    Value::Object(HEADS.into_iter().filter_map(|h| Some((name(h).to_owned(), of(h)?))).collect())
}
