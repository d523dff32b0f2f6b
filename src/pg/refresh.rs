//! Refresh: what is new or changed gets words and vectors, new events are folded into statistics.

use super::catalog::Catalog;
use super::companion::{self, ident};
use super::examination;
use super::guc;
use super::heldout::Split;
use super::identity::Acting;
use super::interrupt::Backend;
use super::log::{self, Rows};
use super::spi::{self, Arg, Mode};
use super::vector;
use crate::control::Control;
use crate::error::Result;
use crate::event::Kind;
use crate::measure::propensity::Propensity;
use crate::rank::weights;
use crate::retrieve::together::{Baskets, Pairs, Settings};
use crate::retrieve::trend;
use pgrx::pg_sys;
use serde::Deserialize;
use std::cell::OnceCell;
use std::time::Instant;

mod vectors;

pub use vectors::queued;

/// What a step did.
pub struct Step {
    pub name: &'static str,
    pub rows: i64,
    pub seconds: f64,
}

/// Options of `refresh`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Texts embedded before a step of `persona.work` ends, 1 to 100,000. Default: 256.
    pub batch: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { batch: 256 }
    }
}

/// A catalog being refreshed by its owner.
pub struct Refresh<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) control: Backend,
    /// Where statistics are counted as of before a split; `None` for all there is.
    split: Option<Split>,
    /// How likely each place is looked at, once a step has asked.
    looked: OnceCell<Propensity>,
}

impl<'a> Refresh<'a> {
    /// Starts; another refresh of the catalog is waited for.
    pub fn new(catalog: &'a Catalog) -> Result<Refresh<'a>> {
        super::catalog::hold(catalog)?;
        Ok(Refresh { catalog, control: Backend, split: None, looked: OnceCell::new() })
    }

    /// Statistics of what was known before a split, for a catalog whose statistics are tables of the caller's own.
    pub fn known(catalog: &'a Catalog, split: Split) -> Result<()> {
        let refresh = Refresh { catalog, control: Backend, split: Some(split), looked: OnceCell::new() };
        refresh.step("stats", Refresh::stats)?;
        refresh.step("pairs", Refresh::pairs)?;
        refresh.step("baskets", Refresh::baskets)?;
        Ok(())
    }

    /// Counts a table's values for the planner, where the table is ours.
    fn analyze(&self, table: &str) -> Result<()> {
        if self.split.is_some() { Ok(()) } else { spi::execute(&format!("ANALYZE {table}")) }
    }

    /// Runs a step and tells what it did.
    pub fn step(&self, name: &'static str, work: impl FnOnce(&Self) -> Result<i64>) -> Result<Step> {
        let started = Instant::now();
        let rows = work(self)?;
        let step = Step { name, rows, seconds: started.elapsed().as_secs_f64() };
        let what = if self.split.is_some() { "what was known" } else { "refresh" };
        pgrx::notice!("{what} of {}: {name}: {rows} rows in {:.1} s", self.catalog.name, step.seconds);
        Ok(step)
    }

    /// Brings the companion's rows in line with the items: missing, changed behind the trigger's back, gone.
    pub fn words(&self) -> Result<i64> {
        let _owner = Acting::as_owner(self.catalog.owner());
        let (c, key) = (self.catalog, ident(&self.catalog.key));
        self.control.progress("words", 0, 0);
        let gone = spi::run(
            &format!(
                "DELETE FROM {} c WHERE NOT EXISTS (SELECT FROM {} i WHERE i.{key} {} c.key)",
                c.companion, c.name, c.key_equal
            ),
            &[],
        )?;
        // A trigger keeps a table's words; a view has none, and then every row is looked at.
        let missing = if c.is_triggered() {
            format!(
                "FROM {} i WHERE NOT EXISTS (SELECT FROM {} x WHERE x.key {} i.{key})",
                c.name, c.companion, c.key_equal
            )
        } else {
            format!("FROM {} i", c.name)
        };
        let written = spi::run(&companion::upsert(c, &missing)?, &[])?;
        Ok((gone + written) as i64)
    }

    /// Builds the vector index once there are vectors to build it from: so it is built at once, not row by row.
    pub fn index(&self) -> Result<i64> {
        let c = self.catalog;
        let owner = Acting::as_owner(c.owner());
        owner.set(c"maintenance_work_mem", &format!("{}kB", guc::MAINTENANCE_MEMORY.get()));
        let sql =
            "SELECT count(*) FROM pg_index x JOIN pg_class k ON k.oid = x.indexrelid JOIN pg_am m ON m.oid = k.relam
             WHERE x.indrelid = $1::regclass AND m.amname = 'hnsw'";
        let there: i64 =
            spi::first(Mode::Write, sql, &[Arg::of(c.companion.as_str())], |row| row.need(1))?.unwrap_or(0);
        if there > 0 {
            return Ok(0);
        }
        let types = vector::types()?;
        self.control.progress("index", 0, 0);
        spi::execute(&format!(
            "CREATE INDEX ON {} USING hnsw (embedding {}.halfvec_cosine_ops)",
            c.companion, types.schema
        ))?;
        Ok(1)
    }

    /// Counts words: in how many items each stands, and how long items are.
    pub fn terms(&self) -> Result<i64> {
        let c = self.catalog;
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("terms", 0, 0);
        // After the vectors: without it the planner takes the column for empty, and reads past the vector index.
        spi::execute(&format!("ANALYZE {}", c.companion))?;
        spi::run(&format!("DELETE FROM {}", c.terms), &[])?;
        let inner = companion::literal(&format!("SELECT lexemes FROM {}", c.companion));
        let sql = format!(
            "INSERT INTO {} (lexeme, documents, length)
             SELECT word, ndoc, NULL FROM ts_stat({inner}) WHERE octet_length(word) <= 2000
             UNION ALL SELECT '', count(*), sum(length::float8) FROM {}",
            c.terms, c.companion
        );
        let words = spi::run(&sql, &[])?;
        spi::execute(&format!("ANALYZE {}", c.terms))?;
        Ok(words as i64)
    }

    /// Folds the behaviour tables into each item's record.
    pub fn stats(&self) -> Result<i64> {
        let c = self.catalog;
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("stats", 0, 0);
        let indexes = "SELECT count(*) FROM pg_index x WHERE x.indrelid = $1::regclass";
        if spi::first(Mode::Write, indexes, &[Arg::of(c.stats.as_str())], |row| row.need::<i64>(1))? < Some(2) {
            companion::newer_stats(&c.stats).iter().try_for_each(|statement| spi::execute(statement))?;
        }
        spi::run(&format!("DELETE FROM {}", c.stats), &[])?;
        // Without behaviour the catalog still has its mean vector, in the row of the whole.
        let none = "SELECT 0::bigint AS id, ''::text AS shopper, now() AS at, ''::text AS kind, 0::float8 AS weight WHERE false";
        let events = self.events()?.unwrap_or_else(|| none.to_owned());
        let count = |kind: Kind| format!("count(*) FILTER (WHERE e.kind = '{}')", kind.name());
        let half = weights::POPULARITY_DAYS * 86_400.0;
        // One shopper counts once for an item, by what says most: nobody makes a best-seller alone.
        let sql = format!(
            "WITH e AS MATERIALIZED ({events}), newest AS (SELECT COALESCE(max(e.at) FILTER (WHERE e.at < now() + interval '1 day'), now()) AS at FROM e),
             best AS (
                SELECT e.id, e.shopper, max(e.weight * power(0.5, least(100, greatest(0, extract(epoch FROM n.at - e.at)::float8 / {half})))) AS weight
                FROM e, newest n WHERE e.weight > 0 GROUP BY 1, 2),
             liked AS (SELECT b.id, sum(b.weight) AS popularity FROM best b GROUP BY 1),
             aged AS (
                SELECT e.id, least({last_bucket}, floor(ln(1 + greatest(0, extract(epoch FROM n.at - e.at)::float8) / 3600) / ln(2.0::float8)))::smallint AS b,
                    e.shopper, max(e.weight) AS weight
                FROM e, newest n WHERE e.weight > 0 GROUP BY 1, 2, 3),
             bucketed AS (SELECT a.id, a.b, sum(a.weight) AS n FROM aged a GROUP BY 1, 2),
             own AS (SELECT b.id, array_agg(b.b ORDER BY b.b) AS buckets, array_agg(b.n::real ORDER BY b.b) AS counts FROM bucketed b GROUP BY 1),
             kinds AS ({kinds}),
             kin AS (
                SELECT s.kind, array_agg(s.b ORDER BY s.b) AS buckets, array_agg(s.n::real ORDER BY s.b) AS counts
                FROM (SELECT k.kind, b.b, sum(b.n) AS n FROM bucketed b JOIN kinds k USING (id) GROUP BY 1, 2) s GROUP BY 1),
             counted AS (
                SELECT e.id, count(DISTINCT e.shopper) AS shoppers, count(*) AS events, {views} AS views, {clicks} AS clicks,
                    {carts} AS carts, {purchases} AS purchases, {returns} AS returns, max(e.at) AS last, {impressions} AS impressions
                FROM e GROUP BY 1)
             INSERT INTO {stats} (id, shoppers, events, views, clicks, carts, purchases, returns, popularity, last, mean, impressions,
                buckets, counts, kin_buckets, kin)
             SELECT n.id, n.shoppers, n.events, n.views, n.clicks, n.carts, n.purchases, n.returns,
                COALESCE(l.popularity, 0)::real, n.last, NULL, n.impressions, o.buckets, o.counts, k.buckets, k.counts
             FROM counted n LEFT JOIN liked l USING (id) LEFT JOIN own o USING (id) LEFT JOIN kinds i USING (id) LEFT JOIN kin k USING (kind)
             UNION ALL
             SELECT 0, (SELECT count(DISTINCT e.shopper) FROM e), COALESCE(sum(n.events), 0), COALESCE(sum(n.views), 0),
                COALESCE(sum(n.clicks), 0), COALESCE(sum(n.carts), 0), COALESCE(sum(n.purchases), 0), COALESCE(sum(n.returns), 0),
                COALESCE((SELECT max(l.popularity) FROM liked l), 0)::real, max(n.last),
                (SELECT {schema}.avg(c.embedding)::{schema}.vector::real[] FROM {companion} c), COALESCE(sum(n.impressions), 0),
                NULL, NULL, NULL, NULL
             FROM counted n",
            last_bucket = trend::BUCKETS - 1,
            kinds = match &c.category {
                Some(category) => format!(
                    "SELECT c.id, COALESCE(i.{}::text, '') AS kind FROM {} c JOIN {} i ON i.{} {} c.key",
                    ident(category), c.companion, c.name, ident(&c.key), c.key_equal
                ),
                None => format!("SELECT c.id, '' AS kind FROM {} c", c.companion),
            },
            schema = vector::types()?.schema,
            companion = c.companion,
            impressions = count(Kind::Impression),
            views = count(Kind::View),
            clicks = count(Kind::Click),
            carts = count(Kind::Cart),
            purchases = count(Kind::Purchase),
            returns = count(Kind::Return),
            stats = c.stats,
        );
        let rows = spi::run(&sql, &[])?;
        self.analyze(&c.stats)?;
        Ok((rows as i64 - 1).max(0))
    }

    /// Counts what goes together within shoppers' histories.
    pub fn pairs(&self) -> Result<i64> {
        let c = self.catalog;
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("pairs", 0, 0);
        spi::run(&format!("DELETE FROM {}", c.pairs), &[])?;
        let Some(events) = self.events()? else { return Ok(0) };
        let mut pairs = Pairs::new(Settings {
            most: self.most_pairs(),
            min_shoppers: min_shoppers(self.catalog)?,
            ..weights::PAIRS
        });
        let sql = format!(
            "SELECT s.shopper, s.id, s.weight FROM ({events}) s WHERE s.weight > 0 ORDER BY s.shopper, s.at, s.id"
        );
        let mut history: Vec<(i64, f64)> = Vec::new();
        let mut shopper: Option<String> = None;
        spi::stream(&sql, &[], 4096, |rows| {
            for row in rows {
                let next: Option<String> = row.get(1);
                if next != shopper {
                    pairs.add(&history);
                    history.clear();
                    shopper = next;
                }
                history.push((row.need(2)?, row.need(3)?));
            }
            self.control.check()
        })?;
        pairs.add(&history);
        self.write_pairs("pairs", &c.pairs, pairs)
    }

    /// Counts what goes together within one basket: a session, or what a shopper took within an hour.
    ///
    /// What was bought or put into the cart makes a basket. A shop that keeps views alone has no better.
    pub fn baskets(&self) -> Result<i64> {
        let c = self.catalog;
        let Some(table) = &c.baskets else { return Ok(0) };
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("baskets", 0, 0);
        spi::run(&format!("DELETE FROM {table}"), &[])?;
        let Some(events) = self.behaviour(true)? else { return Ok(0) };
        let taken = format!(
            "SELECT COALESCE(s.carts + s.purchases, 0) > 0, extract(epoch FROM s.last)::float8 FROM {} s WHERE s.id = 0",
            c.stats
        );
        let (taken, newest) =
            spi::first(Mode::Write, &taken, &[], |row| Ok((row.need::<bool>(1)?, row.get::<f64>(2).unwrap_or(0.0))))?
                .unwrap_or_default();
        let kinds = if taken { "s.kind IN ('cart', 'purchase')" } else { "true" };
        let sql = format!(
            "SELECT s.shopper, s.session, s.id, extract(epoch FROM s.at)::float8 FROM ({events}) s
             WHERE s.weight > 0 AND {kinds} ORDER BY s.shopper, s.session, s.at, s.id"
        );
        let settings =
            Settings { most: self.most_pairs(), min_shoppers: min_shoppers(self.catalog)?, ..weights::BASKETS };
        let mut baskets = Baskets::new(settings, weights::BASKET_GAP, weights::BASKET_DAYS, newest);
        spi::stream(&sql, &[], 4096, |rows| {
            for row in rows {
                baskets.add(row.get(1), row.get(2), row.need(3)?, row.need(4)?);
            }
            self.control.check()
        })?;
        self.write_pairs("baskets", table, baskets.finish())
    }

    /// Counts what the shoppers of each context take: of each value of each context column, the items that most of them took.
    pub fn segments(&self) -> Result<i64> {
        let c = self.catalog;
        let Some(table) = &c.segments else { return Ok(0) };
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("segments", 0, 0);
        spi::run(&format!("DELETE FROM {table}"), &[])?;
        let Some(events) = self.events()? else { return Ok(0) };
        // Whom few shoppers share a context with is told by it: such a context has no list.
        let least = i64::from(min_shoppers(self.catalog)?.max(c.min_shoppers.unwrap_or(5)));
        let sql = format!(
            "WITH taken AS (
                SELECT k.key AS name, k.value AS value, e.id, e.shopper, max(e.weight) AS weight
                FROM ({events}) e CROSS JOIN LATERAL jsonb_each_text(e.context) k WHERE e.weight > 0 GROUP BY 1, 2, 3, 4),
             liked AS (
                SELECT t.name, t.value, t.id, ln(1 + sum(t.weight)) AS weight FROM taken t
                WHERE octet_length(t.value) <= 200 GROUP BY 1, 2, 3),
             best AS (
                SELECT l.*, row_number() OVER (PARTITION BY l.name, l.value ORDER BY l.weight DESC, l.id) AS n,
                    max(l.weight) OVER (PARTITION BY l.name, l.value) AS most
                FROM liked l
                WHERE (l.name, l.value) IN (SELECT t.name, t.value FROM taken t GROUP BY 1, 2 HAVING count(DISTINCT t.shopper) >= $1))
             INSERT INTO {table} (name, value, others, weights)
             SELECT b.name, b.value, array_agg(b.id ORDER BY b.n), array_agg((b.weight / b.most)::real ORDER BY b.n)
             FROM best b WHERE b.n <= $2 AND b.most > 0 GROUP BY 1, 2",
        );
        let rows = spi::run(&sql, &[Arg::of(least), Arg::of(weights::FALLBACK_CAP as i64)])?;
        self.analyze(table)?;
        Ok(rows as i64)
    }

    /// A pair in the map takes some 48 bytes; half of the memory is for it, half for what is made of it.
    fn most_pairs(&self) -> usize {
        (guc::MAINTENANCE_MEMORY.get() as usize * 1024 / 96).max(1000)
    }

    fn write_pairs(&self, step: &str, table: &str, pairs: Pairs) -> Result<i64> {
        if pairs.pruned {
            pgrx::notice!("{step} of few shoppers were forgotten to stay within persona.maintenance_memory");
        }
        let rows = pairs.finish(&self.control)?;
        let sql = format!("INSERT INTO {table} (id, others, weights) VALUES ($1, $2, $3)");
        for (done, (id, others)) in rows.iter().enumerate() {
            if done % 256 == 0 {
                self.control.check()?;
                self.control.progress(step, done as u64, rows.len() as u64);
            }
            let (ids, weights): (Vec<i64>, Vec<f32>) = others.iter().copied().unzip();
            spi::run(&sql, &[Arg::of(*id), Arg::of(ids), Arg::of(weights)])?;
        }
        self.analyze(table)?;
        Ok(rows.len() as i64)
    }

    /// Behaviour with a shopper, as far as it was known: id, shopper, at, kind, weight, context. What was taken far down a
    /// list weighs more, as its place is seldom looked at: else what once stood first would be popular for having stood there.
    fn events(&self) -> Result<Option<String>> {
        let Some(log) = self.behaviour(false)? else { return Ok(None) };
        if !self.catalog.events.iter().any(|source| source.place().is_some()) {
            return Ok(Some(log));
        }
        let looked = match self.looked.get() {
            Some(looked) => looked,
            None => {
                let counted = Propensity::estimate(examination::shown(&log, &self.control)?);
                self.looked.get_or_init(|| counted)
            }
        };
        let weights: Vec<String> =
            (1..).take(looked.looked().len()).map(|place| looked.weight(place).to_string()).collect();
        if weights.is_empty() {
            return Ok(Some(log));
        }
        // Places below those that the log tells of count as the last of them.
        let weight = format!("(ARRAY[{}]::float8[])[least(e.place, {})]", weights.join(","), weights.len());
        Ok(Some(format!(
            "SELECT e.id, e.shopper, e.at, e.kind, e.weight * COALESCE({weight}, 1) AS weight, e.context FROM ({log}) e"
        )))
    }

    /// The same, with sessions of nobody known where they are asked for.
    fn behaviour(&self, nobody: bool) -> Result<Option<String>> {
        let log = log::sql(self.catalog, Rows { nobody, ..Rows::default() })?;
        Ok(match &self.split {
            Some(split) => log.map(|log| split.known(&log)),
            None => log,
        })
    }
}

/// Fewest shoppers of a pair: where row-level security guards the events, one shopper's pair would show through.
pub fn min_shoppers(catalog: &Catalog) -> Result<u32> {
    let guarded = catalog.events.iter().map(|e| {
        let sql = "SELECT relrowsecurity FROM pg_class WHERE oid = $1";
        spi::first(Mode::Write, sql, &[Arg::of(pg_sys::Oid::from(e.relation))], |row| row.need::<bool>(1))
    });
    let guarded = guarded.collect::<Result<Vec<_>>>()?.into_iter().any(|g| g == Some(true));
    Ok(catalog.min_shoppers.unwrap_or(if guarded { 5 } else { 1 }))
}
