//! `persona.evaluate`: what is held out, what was known, and the replay between the two.

use super::api::found::{Context, rules};
use super::catalog::Catalog;
use super::companion::{column, columns, ident};
use super::examination;
use super::heldout::{self, HeldOut, Seeing, Split};
use super::identity::Acting;
use super::interrupt::Backend;
use super::log::{self, Rows};
use super::spi::{self, Arg, Mode};
use super::store::PgStore;
use super::{ranker, session, understand};
use crate::catalog::filter::Filter;
use crate::catalog::options::{SearchOptions, from_object};
use crate::catalog::rule::Surface;
use crate::control::Control;
use crate::embed::Role;
use crate::error::{Error, Result};
use crate::event::Kind;
use crate::measure::propensity::Propensity;
use crate::measure::report::{self, Replayed, Row};
use crate::replay::{self, Logged, Target, Variant};
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is held out.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Held {
    /// Everything from a moment on.
    Time,
    /// Each shopper's last visit.
    Last,
}

/// What is asked of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Head {
    /// A query.
    Search,
    /// What the shopper would want.
    Recommend,
}

/// Options of `evaluate`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What is held out: what came from a moment on (`time`), or each shopper's last visit (`last`). Default: time.
    split: Held,
    /// That moment. Default: the one that leaves the newest tenth of what was taken.
    since: Option<String>,
    /// Shoppers drawn, 1 to 100,000. Default: 500.
    shoppers: usize,
    /// Searches drawn of each shopper, 1 to 1,000. Default: 3.
    searches: usize,
    /// Places that count, 1 to 100. Default: 10.
    k: usize,
    /// Decides what is drawn. Default: 1.
    seed: i64,
    /// Logged propensities and examined shares below this count as this, 0.0001 to 1. Default: 0.01.
    clip: f64,
    /// What is replayed. Default: search and recommend.
    heads: Vec<Head>,
    /// Options of the search, of all its variants but lexical.
    search: Value,
    /// Options of the recommendation.
    recommend: Value,
    /// More variants of the search by name, each with its options.
    variants: BTreeMap<String, Value>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            split: Held::Time,
            since: None,
            shoppers: 500,
            searches: 3,
            k: 10,
            seed: 1,
            clip: 0.01,
            heads: vec![Head::Search, Head::Recommend],
            search: Value::Null,
            recommend: Value::Null,
            variants: BTreeMap::new(),
        }
    }
}

impl Options {
    /// Reads options; an unknown key or a value out of range is an error.
    pub fn read(options: &Value) -> Result<Options> {
        let read: Options = from_object("options", options)?;
        let range = |key: &str, ok: bool, range: &str| -> Result<()> {
            if ok { Ok(()) } else { Err(invalid(key, &format!("it has to be {range}"))) }
        };
        range("shoppers", (1..=100_000).contains(&read.shoppers), "from 1 to 100000")?;
        range("searches", (1..=1000).contains(&read.searches), "from 1 to 1000")?;
        range("k", (1..=100).contains(&read.k), "from 1 to 100")?;
        range("clip", (0.0001..=1.0).contains(&read.clip), "from 0.0001 to 1")?;
        range("heads", !read.heads.is_empty(), "search, recommend or both")?;
        if read.split == Held::Last && read.since.is_some() {
            return Err(invalid("since", "it goes with \"split\": \"time\""));
        }
        read.search_variants()?;
        read.recommend_variants()?;
        Ok(read)
    }

    fn search_variants(&self) -> Result<Vec<Variant>> {
        let own = SearchOptions::read(&self.search)?;
        let mut variants = vec![
            Variant::personal("search", own.clone()),
            Variant::unpersonalised("unpersonalised", own),
            Variant::lexical("lexical"),
        ];
        for (name, options) in &self.variants {
            variants.push(Variant::personal(name, SearchOptions::read(options)?));
        }
        Ok(variants)
    }

    fn recommend_variants(&self) -> Result<Vec<Variant>> {
        let mut options = match &self.recommend {
            Value::Null => json!({}),
            options => options.clone(),
        };
        if let Some(map) = options.as_object_mut() {
            map.entry("exclude_seen").or_insert(Value::Bool(true));
        }
        let own = SearchOptions::read(&options)?;
        Ok(vec![Variant::personal("recommend", own.clone()), Variant::unpersonalised("popular", own)])
    }
}

fn invalid(key: &str, reason: &str) -> Error {
    Error::InvalidValue { place: "options".into(), key: key.into(), reason: reason.into() }
}

/// Replays what is held out, and reports. The caller has to be the catalog's owner: what is reported is everybody's.
pub fn run(catalog: &Catalog, options: &Options) -> Result<Vec<Row>> {
    let none = || Error::InvalidValue {
        place: "argument".into(),
        key: "items".into(),
        reason: format!("{} has no behaviour to replay; persona.add_events names it", catalog.name),
    };
    let log = log::sql(catalog, Rows::default())?.ok_or_else(none)?;
    let split = match (options.split, &options.since) {
        (Held::Last, _) => Split::LastVisit,
        (Held::Time, Some(since)) => Split::Time(moment(since)?),
        (Held::Time, None) => Split::Time(heldout::newest_tenth(catalog, &log)?.ok_or_else(none)?),
    };
    let held = HeldOut::make(catalog, &split)?;
    let rows = {
        let _seeing = Seeing::own_writes();
        let _owner = Acting::as_owner(catalog.owner());
        let judge = Judge { catalog: held.catalog(), options, log: &log, split: &split, control: Backend };
        judge.run()?
    };
    held.drop()?;
    Ok(rows)
}

/// A moment as SQL that says it whatever the settings are.
fn moment(at: &str) -> Result<String> {
    let sql = "SELECT pg_catalog.isfinite(m.at), pg_catalog.date_part('epoch', m.at) FROM (SELECT $1::pg_catalog.text::pg_catalog.timestamptz) m(at)";
    match spi::first(Mode::Read, sql, &[Arg::of(at)], |row| Ok((row.need::<bool>(1)?, row.need::<f64>(2)?)))? {
        Some((true, seconds)) => Ok(format!("to_timestamp({seconds:?})")),
        _ => Err(Error::NotFinite { what: format!("options \"since\" ({at})") }),
    }
}

struct Judge<'a> {
    /// With the statistics of what was known.
    catalog: &'a Catalog,
    options: &'a Options,
    log: &'a str,
    split: &'a Split,
    control: Backend,
}

impl Judge<'_> {
    fn run(&self) -> Result<Vec<Row>> {
        let (options, seed) = (self.options, self.options.seed as u64);
        let encoder = session::encoder(&self.catalog.model, Role::Query)?;
        let store = PgStore::new(self.catalog, &Filter::default(), &session::identity(&encoder))?;
        let (searches, visits) = replay::targets(&self.held_out()?);
        let logged = searches.iter().any(|target| !target.taken.is_empty());
        let visits = replay::sample(visits, options.searches, seed);
        let searches = if logged {
            replay::sample(searches, options.searches, seed)
        } else {
            replay::pseudo_queries(&store, &visits, &self.titles(&visits)?, seed, &self.control)?
        };
        let shoppers: HashSet<&str> = searches.iter().chain(&visits).map(|t| t.shopper.as_str()).collect();
        pgrx::notice!(
            "evaluate of {}: {} searches{}, {} visits, of {} shoppers",
            self.catalog.name,
            searches.len(),
            if logged { "" } else { " made of titles, as no queries are logged" },
            visits.len(),
            shoppers.len()
        );
        let looked = if logged { self.examination()? } else { None };
        let asked = if logged { self.asked(&searches)? } else { HashMap::new() };
        let settings = report::Settings { k: options.k, seed, clip: options.clip };
        let mut rows = Vec::new();
        for head in [Head::Search, Head::Recommend].into_iter().filter(|head| options.heads.contains(head)) {
            let (targets, variants) = match head {
                Head::Search => (&searches, options.search_variants()?),
                Head::Recommend => (&visits, options.recommend_variants()?),
            };
            let how = replay::Settings {
                k: options.k,
                only_new: head == Head::Recommend,
                looked: looked.as_deref().filter(|_| head == Head::Search),
                asked: &asked,
                ranker: &|number| ranker::to_rank_by(self.catalog, number),
                rules: &|request, question, context| {
                    let surface = if head == Head::Search { Surface::Search } else { Surface::Recommend };
                    let context = Context::of(context);
                    rules(&store, self.catalog, request, question, &Filter::default(), surface, &context)
                },
                brand: self.catalog.brand.as_deref(),
                category: self.catalog.category.as_deref(),
                seed,
            };
            let mut read = |query: &str, options: &_| understand::ask(&store, &encoder, Some(query), options);
            let replayed = replay::replay(&store, targets, &variants, &how, &mut read, &self.control)?;
            let names: Vec<String> = variants.into_iter().map(|variant| variant.name).collect();
            rows.extend(report::rows(&names, &replayed, &settings, &self.control)?);
            if head == Head::Search {
                rows.extend(report::counterfactual(&names, &replayed, &settings, &self.control)?);
            }
            rows.extend(report::exposure(&names[0], &replayed, &self.kinds(&replayed)?, &settings));
        }
        Ok(rows)
    }

    /// What the drawn shoppers did from the split on, by shopper and time.
    fn held_out(&self) -> Result<Vec<Logged>> {
        self.control.progress("read", 0, 0);
        // What a visit showed stands before what was taken in it, and the last visit begins with the latter.
        let from = match self.split {
            Split::Time(_) => "l.at >= l.cut",
            Split::LastVisit => "(l.at >= l.cut OR l.weight = 0 AND l.at >= l.cut - interval '30 minutes')",
        };
        let sql = format!(
            "WITH l AS MATERIALIZED ({cut}),
             p AS (SELECT l.shopper FROM l WHERE l.at >= l.cut AND (l.weight > 0 OR l.kind = 'impression') GROUP BY 1
                   ORDER BY hashtextextended(l.shopper, $1), 1 LIMIT $2)
             SELECT l.id, l.shopper, extract(epoch FROM l.at)::float8, l.kind, l.weight, l.query, l.session, l.position, l.propensity, l.context
             FROM l JOIN p USING (shopper) WHERE {from} ORDER BY l.shopper COLLATE \"C\", l.at, l.position, l.id",
            cut = self.split.cut(self.log),
        );
        let args = [Arg::of(self.options.seed), Arg::of(self.options.shoppers as i64)];
        let mut all = Vec::new();
        spi::stream(&sql, &args, 4096, |rows| {
            for row in rows {
                let kind = row.need::<String>(4)?;
                let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
                all.push(Logged {
                    item: row.need(1)?,
                    shopper: row.need(2)?,
                    at: row.need(3)?,
                    kind: kind.unwrap_or(Kind::View),
                    weight: row.need(5)?,
                    query: row.get(6),
                    session: row.get(7),
                    place: row.get::<i32>(8).and_then(|place| usize::try_from(place).ok()).filter(|place| *place > 0),
                    propensity: row.get(9),
                    context: log::values(row.get(10)),
                });
            }
            self.control.check()
        })?;
        Ok(all)
    }

    fn titles(&self, visits: &[Target]) -> Result<HashMap<i64, String>> {
        let items: HashSet<i64> = visits.iter().flat_map(|visit| visit.taken.iter().map(|(item, _)| *item)).collect();
        let c = self.catalog;
        let sql = format!(
            "SELECT c.id, i.{}::text FROM {} c JOIN {} i ON i.{} {} c.key WHERE c.id = ANY ($1)",
            ident(&c.title),
            c.companion,
            c.name,
            ident(&c.key),
            c.key_equal
        );
        let items: Vec<i64> = items.into_iter().collect();
        let rows = spi::query(Mode::Read, &sql, &[Arg::of(items)], |row| {
            Ok((row.need(1)?, row.get::<String>(2).unwrap_or_default()))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// How often each place is looked at, from what was known.
    fn examination(&self) -> Result<Option<Vec<f64>>> {
        let known = Propensity::estimate(examination::shown(&self.split.known(self.log), &self.control)?);
        let looked = known.looked().iter().map(|chance| f64::from(*chance).max(self.options.clip));
        Ok(known.is_known().then(|| looked.collect()))
    }

    /// How many shoppers had asked each query.
    fn asked(&self, searches: &[Target]) -> Result<HashMap<String, u64>> {
        let queries = searches.iter().filter_map(|target| target.query.as_deref());
        let mut asked: HashMap<String, u64> = queries.map(|query| (query.trim().to_lowercase(), 0)).collect();
        let sql = format!(
            "SELECT lower(btrim(k.query)), count(DISTINCT k.shopper) FROM ({}) k WHERE lower(btrim(k.query)) = ANY ($1) GROUP BY 1",
            self.split.known(self.log)
        );
        let queries: Vec<String> = asked.keys().cloned().collect();
        for (query, count) in
            spi::query(Mode::Read, &sql, &[Arg::of(queries)], |row| Ok((row.need::<String>(1)?, row.need::<i64>(2)?)))?
        {
            asked.insert(query, count.max(0) as u64);
        }
        Ok(asked)
    }

    /// Brand and price band of what was shown first or wanted.
    fn kinds(&self, replayed: &[Replayed]) -> Result<HashMap<i64, report::Kind>> {
        let c = self.catalog;
        let all = columns(pg_sys::Oid::from(c.items))?;
        let numbers = [
            pg_sys::INT2OID,
            pg_sys::INT4OID,
            pg_sys::INT8OID,
            pg_sys::NUMERICOID,
            pg_sys::FLOAT4OID,
            pg_sys::FLOAT8OID,
        ];
        let priced = |name: &&String| column(&all, &c.name, name).is_ok_and(|found| numbers.contains(&found.base));
        let price = c.price.as_ref().filter(priced).map(|name| format!("i.{}::float8", ident(name)));
        let brand = c.brand.as_ref().map_or("NULL::text".to_owned(), |name| format!("i.{}::text", ident(name)));
        let bounds: Vec<f64> = match &price {
            Some(price) => {
                let sql = format!(
                    "SELECT percentile_disc('{{0.2,0.4,0.6,0.8}}'::float8[]) WITHIN GROUP (ORDER BY {price}) FROM {} i",
                    c.name
                );
                spi::first(Mode::Read, &sql, &[], |row| Ok(row.get::<Vec<f64>>(1)))?.flatten().unwrap_or_default()
            }
            None => Vec::new(),
        };
        let tops = replayed.iter().flat_map(|search| search.outcomes[0].top.iter().copied());
        let wanted = replayed.iter().flat_map(|search| search.wanted.iter().map(|(item, _)| *item));
        let items: Vec<i64> = tops.chain(wanted).collect::<HashSet<i64>>().into_iter().collect();
        let sql = format!(
            "SELECT c.id, {brand}, {} FROM {} c JOIN {} i ON i.{} {} c.key WHERE c.id = ANY ($1)",
            price.as_deref().unwrap_or("NULL::float8"),
            c.companion,
            c.name,
            ident(&c.key),
            c.key_equal
        );
        let rows = spi::query(Mode::Read, &sql, &[Arg::of(items)], |row| {
            let band = |price: f64| bounds.iter().filter(|bound| price > **bound).count() as u8 + 1;
            let price = row.get::<f64>(3).filter(|_| !bounds.is_empty());
            Ok((row.need(1)?, report::Kind { brand: row.get(2), band: price.map(band) }))
        })?;
        Ok(rows.into_iter().collect())
    }
}
