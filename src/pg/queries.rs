//! What shoppers asked, folded by refresh: how often, by how many, what it led to, and what it may be another word for.

use super::catalog::{Catalog, Events};
use super::companion::{self, ident};
use super::identity::{self, Acting};
use super::refresh::{Refresh, min_shoppers};
use super::spi::{self, Arg, Mode};
use crate::control::Control;
use crate::error::Result;
use crate::understand::normalize;
use pgrx::{JsonB, pg_sys};
use serde_json::json;

/// Shoppers of a query, at least, and its likeness to another, from which the two may be synonyms.
const SHOPPERS: i64 = 5;
const ALIKE: f64 = 0.6;

impl Refresh<'_> {
    /// Folds logged queries: by how many shoppers, how often, what they led to.
    pub fn queries(&self) -> Result<i64> {
        let c = self.catalog;
        let Some(table) = &c.queries else { return Ok(0) };
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("queries", 0, 0);
        spi::run(&format!("DELETE FROM {table}"), &[])?;
        let Some(events) = self.asked()? else { return Ok(0) };
        let category = c.category.as_ref().map_or("NULL".to_owned(), |name| format!("i.{}::text", ident(name)));
        let sql = format!(
            "WITH e AS MATERIALIZED ({events}),
             counted AS (
                SELECT e.query, count(DISTINCT (e.shopper, e.at::date)) AS asked, count(DISTINCT e.shopper) AS shoppers,
                    count(DISTINCT (e.shopper, e.at::date)) FILTER (WHERE e.id IS NOT NULL) AS answered, max(e.at) AS last,
                    count(DISTINCT e.shopper) FILTER (WHERE e.id IS NOT NULL) AS takers,
                    count(DISTINCT (e.shopper, e.at::date, e.id)) FILTER (WHERE e.id IS NOT NULL) AS takings
                FROM e GROUP BY 1 HAVING count(DISTINCT e.shopper) >= $1),
             took AS (SELECT e.query, e.id, count(DISTINCT e.shopper) AS n FROM e WHERE e.id IS NOT NULL GROUP BY 1, 2),
             went AS (
                SELECT e.query, {category} AS category, count(DISTINCT e.shopper) AS n
                FROM e JOIN {companion} c ON c.id = e.id JOIN {items} i ON i.{key} {equal} c.key GROUP BY 1, 2),
             ranked AS (
                SELECT DISTINCT ON (w.query) w.query, w.category, w.n, sum(w.n) OVER (PARTITION BY w.query) AS total
                FROM went w ORDER BY w.query, w.n DESC, w.category),
             most AS (SELECT r.query, r.category FROM ranked r WHERE 2 * r.n > r.total AND r.n >= $1),
             words AS (
                SELECT m.query, m.category, replace(plainto_tsquery($2::regconfig, {said})::text, ' & ', ' | ')::tsquery AS said
                FROM most m),
             led AS (
                SELECT t.query, max(t.n) AS focus, COALESCE(sum(t.n) FILTER (
                    WHERE {category} IS DISTINCT FROM w.category AND numnode(w.said) > 0 AND NOT c.lexemes @@ w.said), 0)::real / sum(t.n) AS beside
                FROM took t JOIN {companion} c ON c.id = t.id JOIN {items} i ON i.{key} {equal} c.key
                LEFT JOIN words w ON w.query = t.query AND w.category IS NOT NULL GROUP BY 1)
             INSERT INTO {table} (query, asked, shoppers, answered, focus, breadth, beside, category, last)
             SELECT n.query, n.asked, n.shoppers, n.answered, COALESCE(l.focus::real / n.takers, 0),
                COALESCE(n.takings::real / NULLIF(n.answered, 0), 1), COALESCE(l.beside, 0), m.category, n.last
             FROM counted n LEFT JOIN led l ON l.query = n.query LEFT JOIN most m ON m.query = n.query",
            said = companion::plain("persona._segment(m.query)"),
            companion = c.companion,
            items = c.name,
            key = ident(&c.key),
            equal = c.key_equal,
        );
        let args = [Arg::of(i64::from(min_shoppers(self.catalog)?)), Arg::of(c.text_search.as_str())];
        let rows = spi::run(&sql, &args)?;
        spi::execute(&format!("ANALYZE {table}"))?;
        Ok(rows as i64)
    }

    /// Proposes synonyms: queries after which shoppers took the same items, less the words that they share. A proposal
    /// waits for the shop's word, and is made once.
    pub fn synonyms(&self) -> Result<i64> {
        let c = self.catalog;
        let rows = {
            let _owner = Acting::as_owner(c.owner());
            self.control.progress("synonyms", 0, 0);
            let Some(events) = self.asked()? else { return Ok(0) };
            // Of the queries that most shoppers asked, what most of them took: a bound on the pairs that are compared.
            let sql = format!(
                "WITH e AS MATERIALIZED ({events}),
                 top AS (SELECT e.query FROM e WHERE e.id IS NOT NULL GROUP BY 1 HAVING count(DISTINCT e.shopper) >= $1
                    ORDER BY count(DISTINCT e.shopper) DESC, 1 LIMIT 5000),
                 taken AS (SELECT e.query, e.id, count(DISTINCT e.shopper)::float8 AS n,
                        row_number() OVER (PARTITION BY e.query ORDER BY count(DISTINCT e.shopper) DESC, e.id) AS place
                    FROM e JOIN top USING (query) WHERE e.id IS NOT NULL GROUP BY 1, 2),
                 kept AS (SELECT t.*, row_number() OVER (PARTITION BY t.id ORDER BY t.n DESC, t.query) AS seat FROM taken t WHERE t.place <= 20),
                 length AS (SELECT k.query, sqrt(sum(k.n * k.n)) AS length FROM kept k GROUP BY 1)
                 SELECT a.query, b.query, sum(a.n * b.n) / (max(la.length) * max(lb.length)) AS alike, sum(least(a.n, b.n))::bigint
                 FROM kept a JOIN kept b ON b.id = a.id AND b.query > a.query AND a.seat <= 50 AND b.seat <= 50
                 JOIN length la ON la.query = a.query JOIN length lb ON lb.query = b.query
                 GROUP BY 1, 2 HAVING sum(a.n * b.n) / (max(la.length) * max(lb.length)) >= $2 ORDER BY 4 DESC, 1, 2 LIMIT 500"
            );
            let least = SHOPPERS.max(i64::from(min_shoppers(self.catalog)?));
            spi::query(Mode::Write, &sql, &[Arg::of(least), Arg::of(ALIKE)], |row| {
                Ok((row.need::<String>(1)?, row.need::<String>(2)?, row.need::<f64>(3)?, row.need::<i64>(4)?))
            })?
        };
        let _owner = Acting::as_owner(identity::extension_owner()?);
        let sql = "INSERT INTO persona.synonyms (items, term, synonym, two_way, status, evidence)
            SELECT $1, $2, $3, true, 'proposed', $4 WHERE NOT EXISTS (SELECT FROM persona.synonyms s
                WHERE s.items = $1 AND (lower(s.term), lower(s.synonym)) IN (($2, $3), ($3, $2)))";
        let mut made = 0;
        for (one, other, alike, shared) in rows {
            if let Some((term, synonym)) = apart(&one, &other) {
                let evidence =
                    json!({"queries": [one, other], "likeness": (alike * 1000.0).round() / 1000.0, "shoppers": shared});
                let items = Arg::of(pg_sys::Oid::from(c.items));
                made += spi::run(sql, &[items, Arg::of(term), Arg::of(synonym), Arg::of(JsonB(evidence))])?;
            }
        }
        Ok(made as i64)
    }

    /// All events with a query; `None` where no behaviour table names one.
    fn asked(&self) -> Result<Option<String>> {
        let mut parts = Vec::new();
        for source in self.catalog.events.iter().filter(|e| e.query.as_ref().is_some_and(|q| e.known.contains(q))) {
            source.check()?;
            parts.push(asked(self.catalog, source)?);
        }
        Ok((!parts.is_empty()).then(|| parts.join(" UNION ALL ")))
    }
}

/// The parts in which two queries differ; `None` where one says no more than the other, or too much for a synonym.
fn apart(one: &str, other: &str) -> Option<(String, String)> {
    let words = |text: &str| normalize::texts(text);
    let (a, b) = (words(one), words(other));
    let folded = |list: &[String]| list.iter().map(|w| normalize::fold(w)).collect::<Vec<_>>();
    let (fa, fb) = (folded(&a), folded(&b));
    let left = |words: &[String], own: &[String], theirs: &[String]| {
        let own: Vec<&str> =
            words.iter().zip(own).filter(|(_, f)| !theirs.contains(f)).map(|(w, _)| w.as_str()).collect();
        (!own.is_empty() && own.len() <= 3).then(|| own.join(" "))
    };
    Some((left(&a, &fa, &fb)?, left(&b, &fb, &fa)?))
}

/// Events with a query as `(query, shopper, at, id)`; `id` is NULL for what was only asked or shown.
fn asked(catalog: &Catalog, source: &Events) -> Result<String> {
    let kinds = source.kinds()?;
    let mute = kinds.mute().iter().map(|word| companion::literal(word)).collect::<Vec<_>>().join(", ");
    let word = source.kind.as_ref().map_or_else(
        || companion::literal(source.kind_value.as_deref().unwrap_or("purchase")),
        |kind| format!("e.{}::text", ident(kind)),
    );
    let query = source.query.as_deref().map_or_else(|| "NULL".to_owned(), |name| format!("e.{}::text", ident(name)));
    Ok(format!(
        "SELECT q.query, e.{user}::text AS shopper, e.{at}::timestamptz AS at,
            CASE WHEN lower(COALESCE({word}, '')) = ANY (ARRAY[{mute}]::text[]) THEN NULL ELSE c.id END AS id
         FROM {events} e LEFT JOIN {companion} c ON c.key {equal} e.{item}
         CROSS JOIN LATERAL (SELECT lower(btrim(regexp_replace(left({query}, 200), '\\s+', ' ', 'g')))) q(query)
         WHERE isfinite(e.{at}) AND e.{user} IS NOT NULL AND q.query <> ''",
        user = ident(&source.user_id),
        at = ident(&source.at),
        events = source.name,
        companion = catalog.companion,
        equal = catalog.key_equal,
        item = ident(&source.item_id),
    ))
}
