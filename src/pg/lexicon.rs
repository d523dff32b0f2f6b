//! The lexicon of a catalog: read by a backend, written by refresh.
//!
//! A backend keeps what it read by the hash of its bytes: whatever row the caller's snapshot shows, the bytes of that
//! hash are the right ones, in the transaction that wrote them and after it was rolled back.

use super::catalog::Catalog;
use super::companion::{self, columns, ident};
use super::identity::{Acting, Owner};
use super::interrupt::{Backend, Silent};
use super::refresh::Refresh;
use super::spi::{self, Arg, Mode};
use super::{guc, session};
use crate::control::Control;
use crate::embed::Role;
use crate::error::Result;
use crate::understand::build::{Builder, Fields, Logged};
use crate::understand::lexicon::Column;
use crate::understand::{Behaviour, Classifier, Lexicon, intent};
use pgrx::pg_sys;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::rc::Rc;

/// Lexicons that a backend keeps.
const KEPT: usize = 4;

thread_local! {
    static KNOWN: RefCell<Vec<(String, Rc<Lexicon>)>> = const { RefCell::new(Vec::new()) };
}

/// The lexicon of a catalog; an empty one before the first refresh.
pub fn of(catalog: &Catalog) -> Result<Rc<Lexicon>> {
    let Some(table) = &catalog.lexicon else { return Ok(Rc::default()) };
    let _owner = Owner::of(catalog.owner());
    let read = |what: &str| format!("SELECT l.{what} FROM {table} l WHERE l.id OPERATOR(pg_catalog.=) 1");
    let Some(hash) = spi::first(Mode::Read, &read("hash"), &[], |row| row.need::<String>(1))? else {
        return Ok(Rc::default());
    };
    if let Some(known) = KNOWN.with_borrow(|known| known.iter().find(|(h, _)| *h == hash).map(|(_, l)| l.clone())) {
        return Ok(known);
    }
    // The hash is of the bytes: what somebody altered is nobody's lexicon.
    let lexicon = spi::first(Mode::Read, &read("packed"), &[], |row| {
        let bytes: &[u8] = row.get(1).unwrap_or(&[]);
        Ok(if digest(bytes) == hash { Lexicon::read(bytes) } else { None })
    })?;
    let lexicon = Rc::new(lexicon.flatten().unwrap_or_default());
    KNOWN.with_borrow_mut(|known| {
        known.insert(0, (hash, lexicon.clone()));
        known.truncate(KEPT);
    });
    Ok(lexicon)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// A column of values, and how its values are written.
struct Source {
    name: String,
    role: Option<&'static str>,
    json: bool,
    array: bool,
}

impl Refresh<'_> {
    /// Counts words and values of items and queries into the lexicon, and trains the intents of the catalog's model.
    pub fn lexicon(&self) -> Result<i64> {
        let c = self.catalog;
        let Some(table) = &c.lexicon else { return Ok(0) };
        let known = of(c)?.intent().cloned();
        let mut builder = Builder::new(guc::MAINTENANCE_MEMORY.get() as usize * 1024);
        let classifier = self.classifier(known, &mut builder)?;
        builder.intent(classifier);
        let _owner = Acting::as_owner(c.owner());
        self.control.progress("lexicon", 0, 0);
        self.read_items(&mut builder)?;
        if let Some(queries) = &c.queries {
            let sql = format!(
                "SELECT q.query, q.shoppers, (q.answered / q.asked::float8)::real, q.focus, q.breadth, q.beside, q.category FROM {queries} q
                 ORDER BY q.asked DESC, q.query LIMIT 200000"
            );
            let rows = spi::query(Mode::Write, &sql, &[], |row| {
                let share = |column| row.need::<f32>(column).map(f64::from);
                let shoppers = u32::try_from(row.need::<i64>(2)?).unwrap_or(u32::MAX);
                let behaviour =
                    Behaviour { answered: share(3)?, focus: share(4)?, breadth: share(5)?, beside: share(6)? };
                Ok((row.need::<String>(1)?, Logged { shoppers, behaviour, category: row.get(7) }))
            })?;
            rows.into_iter().for_each(|(query, logged)| builder.query(&query, logged));
        }
        let words = builder.words();
        let packed = builder.finish();
        let hash = digest(&packed);
        let sql = format!(
            "INSERT INTO {table} AS l (id, hash, packed) VALUES (1, $1, $2)
             ON CONFLICT (id) DO UPDATE SET hash = EXCLUDED.hash, packed = EXCLUDED.packed WHERE l.hash <> EXCLUDED.hash"
        );
        spi::run(&sql, &[Arg::of(hash), Arg::of(packed.as_slice())])?;
        Ok(words as i64)
    }

    fn read_items(&self, builder: &mut Builder) -> Result<()> {
        let c = self.catalog;
        let all = columns(pg_sys::Oid::from(c.items))?;
        let text = |name: &String| companion::column(&all, &c.name, name).map(companion::words);
        let title = text(&c.title)?;
        let body = c.body.iter().map(text).collect::<Result<Vec<_>>>()?;
        let roles = c.brand.iter().map(|n| (n, Some("brand"))).chain(c.category.iter().map(|n| (n, Some("category"))));
        let mut sources: Vec<Source> = Vec::new();
        for (name, role) in roles.chain(c.attributes.iter().map(|n| (n, None))) {
            let column = companion::column(&all, &c.name, name)?;
            if !sources.iter().any(|s| s.name == *name) {
                sources.push(Source {
                    name: name.clone(),
                    role,
                    json: column.base == pg_sys::JSONBOID,
                    array: column.array,
                });
            }
        }
        let shown = sources.iter().map(|s| {
            let name = format!("i.{}", ident(&s.name));
            if s.json || s.array {
                format!("left(to_jsonb({name})::text, 100000)")
            } else {
                format!("left({name}::text, 1000)")
            }
        });
        let shown: Vec<String> = shown.collect();
        let sql = format!(
            "SELECT {title}, concat_ws(' ', {}) {} FROM {} i ORDER BY i.{}",
            std::iter::once("''".to_owned()).chain(body).collect::<Vec<_>>().join(", "),
            shown.iter().map(|s| format!(", {s}")).collect::<String>(),
            c.name,
            ident(&c.key),
        );
        spi::stream(&sql, &[], 512, |rows| {
            for row in rows {
                let mut fields = Fields {
                    title: row.get(1).unwrap_or_default(),
                    body: row.get(2).unwrap_or_default(),
                    ..Fields::default()
                };
                for (at, source) in sources.iter().enumerate() {
                    if let Some(text) = row.get::<&str>(at as i32 + 3) {
                        source.values(text, builder, &mut fields.values);
                    }
                }
                builder.add(&fields);
            }
            self.control.check()
        })
    }

    /// The classifier of the catalog's model: the known one while neither model nor examples have changed. Words that the
    /// model's vocabulary holds go into the lexicon, so that they are not taken for slips.
    fn classifier(&self, known: Option<Classifier>, builder: &mut Builder) -> Result<Classifier> {
        let encoder = session::encoder(&self.catalog.model, Role::Query)?;
        encoder.words(50_000).iter().for_each(|word| builder.vocabulary(word));
        let identity = intent::identity(&session::identity(&encoder));
        if let Some(known) = known.filter(|k| k.identity == identity) {
            return Ok(known);
        }
        let texts = intent::examples();
        let texts: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
        let mut vectors = Vec::new();
        for batch in texts.chunks(32) {
            self.control.check()?;
            vectors.extend(session::embed(&encoder, batch, Role::Query, &Silent)?);
        }
        Classifier::train(&identity, &vectors, encoder.info().dimension, &Backend)
    }
}

impl Source {
    /// The values of one row of the column.
    fn values(&self, text: &str, builder: &mut Builder, out: &mut Vec<(u16, String)>) {
        let mut add = |key: Option<&str>, array: bool, value: &str| {
            if let Some(column) = builder.column(Column::new(&self.name, key, self.role, array)) {
                out.push((column, value.to_owned()));
            }
        };
        if !self.json && !self.array {
            add(None, false, text);
            return;
        }
        match serde_json::from_str(text) {
            Ok(Value::Array(list)) => list.iter().filter_map(Value::as_str).for_each(|v| add(None, true, v)),
            Ok(Value::Object(map)) => {
                for (key, value) in &map {
                    match value {
                        Value::String(value) => add(Some(key), false, value),
                        Value::Array(list) => {
                            list.iter().filter_map(Value::as_str).for_each(|v| add(Some(key), true, v))
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}
