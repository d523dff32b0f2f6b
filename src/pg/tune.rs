//! Fine-tuning over the rows of a relation: what is read, what is kept.
//!
//! The rows are read as the caller, so rights and row-level security decide what is learnt from. What comes out is a row
//! of `persona.adapter`, and while `persona.work` is at it a row of `persona.tuning`.

use super::adapter;
use super::catalog::{self, Catalog};
use super::companion::{self, Column, Document, column, ident};
use super::identity::{self, Acting};
use super::interrupt::Backend;
use super::json::JsonB;
use super::spi::{self, Arg, Mode};
use super::{guc, session};
use crate::control::Control;
use crate::embed::Precision;
use crate::error::{Error, Result};
use crate::event::Kind;
use crate::tune::{Adapter, Data, From, Item, Options, Pair, Run, State, Tagged, Task, Told, Verdict};
use pgrx::pg_sys;
use serde_json::Value;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Queries that led to an item from which a run learns by itself; with fewer, the items alone teach more.
const ENOUGH: usize = 500;

thread_local! {
    // Between two steps of `work` in one backend: what a run holds is made from rows and options alone, and takes a while.
    static RUN: RefCell<Option<(String, Run)>> = const { RefCell::new(None) };
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

    /// The run, and the key under which its rows and options are known.
    fn run(&self) -> Result<(String, Run)> {
        let data = read(self)?.sorted();
        let base = self.base()?;
        if !session::is_bundle(&base)? {
            return Err(Error::UnknownBundle { name: base });
        }
        let encoder = session::bundle(&base, Precision::F32)?;
        let key = format!("{} {} {} {}", self.task.name(), data.digest(), encoder.info().hash, self.raw);
        if let Some((known, run)) = RUN.take()
            && known == key
        {
            return Ok((key, run));
        }
        let memory = guc::MAINTENANCE_MEMORY.get() as usize * 1024;
        Ok((key, Run::new(self.options.clone(), encoder, &data, memory, &Backend)?))
    }

    /// All of it at once.
    pub fn tune(&self) -> Result<(Vec<Told>, Verdict)> {
        let (_, mut run) = self.run()?;
        let mut state = run.start(&Backend)?;
        run.advance(&mut state, &mut || false, &Backend)?;
        let (adapter, verdict) = run.finish(&state, &Backend)?;
        self.keep(&adapter, &verdict)?;
        Ok((state.told, verdict))
    }

    /// A step that goes on for so long, and at least as long as one batch takes; whether more are left.
    pub fn step(&self, most: Duration) -> Result<bool> {
        let name = Arg::of(self.options.name.as_str());
        let (key, mut run) = self.run()?;
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
        RUN.set(Some((key, run)));
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

struct Source {
    name: String,
    columns: Vec<Column>,
}

impl Source {
    fn of(relation: pg_sys::Oid) -> Result<Source> {
        let sql = "SELECT persona._qualified($1)";
        let name = spi::first(Mode::Read, sql, &[Arg::of(relation)], |row| Ok(row.get::<String>(1)))?.flatten();
        let name = name.ok_or(Error::NoRelation { oid: relation.to_u32() })?;
        Ok(Source { name, columns: companion::columns(relation)? })
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.name == name)
    }

    /// A column as an expression over `s`.
    fn column(&self, name: &str) -> Result<String> {
        column(&self.columns, &self.name, name).map(|c| format!("s.{}", ident(&c.name)))
    }
}

/// Most bytes of rows that are read: as much as a run may take.
fn bounded<T>(
    sql: &str,
    mut size: impl FnMut(&T) -> usize,
    mut row: impl FnMut(&spi::Row) -> Result<T>,
) -> Result<Vec<T>> {
    let most = guc::MAINTENANCE_MEMORY.get() as usize * 1024;
    let (mut all, mut bytes) = (Vec::new(), 0);
    spi::stream(sql, &[], 4096, |rows| {
        for one in rows {
            let one = row(one)?;
            bytes += size(&one) + size_of::<T>();
            if bytes > most {
                let what = "the rows take more than persona.maintenance_memory".to_owned();
                return Err(Error::Options { place: "source".into(), reason: what });
            }
            all.push(one);
        }
        Backend.check()
    })?;
    Ok(all)
}

/// The rows that a task learns from.
fn read(wanted: &Wanted) -> Result<Data> {
    let source = Source::of(wanted.source)?;
    let options = &wanted.options;
    let text = |name: &str| -> Result<String> { Ok(format!("{}::pg_catalog.text", source.column(name)?)) };
    let catalog = catalog::find(wanted.source)?;
    match (wanted.task, catalog) {
        (Task::Classify, _) => {
            let (text, label) = (text(&options.text)?, text(&options.label)?);
            let sql = format!(
                "SELECT {text}, {label} FROM {} s WHERE {text} IS NOT NULL AND {label} IS NOT NULL",
                source.name
            );
            let size = |row: &(String, String)| row.0.len() + row.1.len();
            Ok(Data::Labelled(bounded(&sql, size, |row| Ok((row.need(1)?, row.need(2)?)))?))
        }
        (Task::Embed, Some(catalog)) if !source.has(&options.query) || !source.has(&options.item) => {
            let asked = if options.from == From::Items { Vec::new() } else { asked(&catalog)? };
            match options.from {
                From::Queries => Ok(Data::Pairs(asked)),
                From::Auto if asked.len() >= ENOUGH => Ok(Data::Pairs(asked)),
                _ => items(&catalog),
            }
        }
        (Task::Embed | Task::Rank, _) => {
            let (query, item) = (text(&options.query)?, text(&options.item)?);
            let graded = wanted.task == Task::Rank;
            let grade = if graded {
                format!("{}::pg_catalog.float4", source.column(&options.grade)?)
            } else {
                "1::pg_catalog.float4".into()
            };
            let sql = format!(
                "SELECT {query}, {item}, {grade} FROM {} s WHERE {query} IS NOT NULL AND {item} IS NOT NULL AND {grade} IS NOT NULL",
                source.name
            );
            let size = |pair: &Pair| pair.query.len() + pair.item.len();
            let rows =
                bounded(&sql, size, |row| Ok(Pair { query: row.need(1)?, item: row.need(2)?, grade: row.need(3)? }))?;
            if let Some(bad) = rows.iter().find(|row| !row.grade.is_finite()) {
                return Err(Error::NotFinite { what: format!("the grade of \"{}\"", bad.query) });
            }
            Ok(if graded { Data::Graded(rows) } else { Data::Pairs(rows) })
        }
        (Task::Tag, Some(catalog)) if !source.has(&options.spans) => weak_tags(&catalog),
        (Task::Tag, _) => {
            let (text, spans) = (text(&options.text)?, source.column(&options.spans)?);
            let sql =
                format!("SELECT {text}, {spans}::pg_catalog.jsonb FROM {} s WHERE {text} IS NOT NULL", source.name);
            let size = |row: &Tagged| row.text.len() + 64 * row.spans.len();
            let rows = bounded(&sql, size, |row| {
                let text: String = row.need(1)?;
                let spans = row.get::<JsonB>(2).map_or(Ok(Vec::new()), |json| read_spans(&text, &json.0))?;
                Ok(Tagged { text, spans })
            })?;
            Ok(Data::Tagged(rows))
        }
    }
}

/// `[{"start": 0, "end": 4, "label": "brand"}]`, in characters from 0, to bytes.
fn read_spans(text: &str, spans: &Value) -> Result<Vec<(std::ops::Range<usize>, String)>> {
    let wrong =
        |reason: &str| Error::InvalidValue { place: "column".into(), key: "spans".into(), reason: reason.into() };
    let list = spans.as_array().ok_or_else(|| wrong("it is a list of {\"start\", \"end\", \"label\"}"))?;
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    list.iter()
        .map(|span| {
            let number =
                |key: &str| span.get(key).and_then(Value::as_u64).and_then(|n| starts.get(n as usize)).copied();
            let label = span.get("label").and_then(Value::as_str);
            match (number("start"), number("end"), label) {
                (Some(start), Some(end), Some(label)) if start < end => Ok((start..end, label.to_owned())),
                _ => Err(wrong("a span has a start, an end behind it within the text, and a label")),
            }
        })
        .collect()
}

/// Columns of a catalog whose values are names of an item: brand, category, attributes.
fn named(catalog: &Catalog) -> Vec<&String> {
    catalog.brand.iter().chain(&catalog.category).chain(&catalog.attributes).collect()
}

/// Values of a column as an array of texts, over `i`.
fn values(catalog: &Catalog, name: &str) -> Result<String> {
    let columns = companion::columns(pg_sys::Oid::from(catalog.items))?;
    let found = column(&columns, &catalog.name, name)?;
    let column = format!("i.{}", ident(&found.name));
    Ok(match found.base {
        pg_sys::JSONBOID => format!(
            "ARRAY(SELECT v #>> '{{}}' FROM pg_catalog.jsonb_path_query({column}, 'strict $.** ? (@.type() == \"string\")') v)"
        ),
        _ if found.array => format!("{column}::pg_catalog.text[]"),
        _ => format!("ARRAY[{column}::pg_catalog.text]"),
    })
}

/// What shoppers asked, and the items that they then took: of the behaviour tables that have queries, as the caller sees them.
fn asked(catalog: &Catalog) -> Result<Vec<Pair>> {
    let document = Document::of(catalog)?;
    let mut all = Vec::new();
    for source in &catalog.events {
        let Some(query) = &source.query else { continue };
        source.check()?;
        let kinds = source.kinds()?;
        let mut mute = kinds.mute();
        mute.push(Kind::Return.name().to_owned());
        mute.extend(kinds.words().filter(|(_, kind, _)| *kind == Kind::Return).map(|(word, ..)| word.to_lowercase()));
        let word = source.kind.as_ref().map_or_else(
            || companion::literal(source.kind_value.as_deref().unwrap_or("purchase")),
            |kind| format!("e.{}::pg_catalog.text", ident(kind)),
        );
        let sql = format!(
            "SELECT DISTINCT e.{query}::pg_catalog.text, {text} FROM {events} e JOIN {items} i ON i.{key} {equal} e.{item}
             WHERE pg_catalog.btrim(e.{query}::pg_catalog.text) OPERATOR(pg_catalog.<>) ''
               AND pg_catalog.lower({word}) OPERATOR(pg_catalog.<>) ALL (ARRAY[{mute}])",
            query = ident(query),
            text = document.text,
            events = source.name,
            items = catalog.name,
            key = ident(&catalog.key),
            equal = catalog.key_equal,
            item = ident(&source.item_id),
            mute = mute.iter().map(|word| companion::literal(word)).collect::<Vec<_>>().join(", "),
        );
        let size = |pair: &Pair| pair.query.len() + pair.item.len();
        all.append(&mut bounded(&sql, size, |row| {
            Ok(Pair { query: row.need(1)?, item: cut(row.need(2)?), grade: 1.0 })
        })?);
    }
    Ok(all)
}

/// The items of a catalog: title, text, names. Of its attributes those values are names that its own title or text says:
/// what stands in no text (a "yes", a count) nobody asks for.
fn items(catalog: &Catalog) -> Result<Data> {
    let document = Document::of(catalog)?;
    let list = |names: Vec<&String>| -> Result<String> {
        let lists = names.into_iter().map(|n| values(catalog, n)).collect::<Result<Vec<_>>>()?;
        Ok(if lists.is_empty() { "'{}'::pg_catalog.text[]".to_owned() } else { lists.join(" || ") })
    };
    let (names, attributes) =
        (list(catalog.brand.iter().chain(&catalog.category).collect())?, list(catalog.attributes.iter().collect())?);
    let title = format!("i.{}::pg_catalog.text", ident(&catalog.title));
    let sql = format!(
        "SELECT {title}, {}, {names}, {attributes} FROM {} i WHERE {title} IS NOT NULL",
        document.text, catalog.name
    );
    let size = |item: &Item| item.title.len() + item.text.len() + item.names.iter().map(String::len).sum::<usize>();
    let rows = bounded(&sql, size, |row| {
        let (title, text): (String, String) = (row.need(1)?, cut(row.need(2)?));
        // A long value is no name, and neither is a number.
        let short = |name: &String| (2..=40).contains(&name.chars().count()) && name.chars().any(char::is_alphabetic);
        let texts = |column: i32| row.get::<Vec<Option<String>>>(column).unwrap_or_default().into_iter().flatten();
        let said = |name: &String| crate::tune::stands_in(&text, name).is_some();
        let mut names: Vec<String> = texts(3).filter(short).collect();
        names.extend(texts(4).filter(|name| short(name) && said(name)));
        names.dedup();
        Ok(Item { title, text, names })
    })?;
    Ok(Data::Items(rows))
}

/// No model reads more than a few hundred words.
fn cut(mut text: String) -> String {
    let mut at = text.len().min(4000);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
    text
}

/// Titles of a catalog, with the values of their own brand, category and attributes that stand in them.
fn weak_tags(catalog: &Catalog) -> Result<Data> {
    let columns: Vec<&String> = named(catalog);
    let lists = columns.iter().map(|n| values(catalog, n)).collect::<Result<Vec<_>>>()?;
    if lists.is_empty() {
        let what = "the catalog has no brand, category or attributes to find in titles".to_owned();
        return Err(Error::TooFewRows { what });
    }
    let title = format!("i.{}::pg_catalog.text", ident(&catalog.title));
    let sql = format!("SELECT {title}, {} FROM {} i WHERE {title} IS NOT NULL", lists.join(", "), catalog.name);
    let size = |row: &Tagged| row.text.len() + 64 * row.spans.len();
    let rows = bounded(&sql, size, |row| {
        let text = cut(row.need(1)?);
        let mut spans: Vec<(std::ops::Range<usize>, String)> = Vec::new();
        for (place, name) in columns.iter().enumerate() {
            for value in row.get::<Vec<Option<String>>>(place as i32 + 2).unwrap_or_default().into_iter().flatten() {
                if let Some(at) = crate::tune::stands_in(&text, &value)
                    && !spans.iter().any(|(other, _)| other.start < at.end && at.start < other.end)
                {
                    spans.push((at, (*name).clone()));
                }
            }
        }
        Ok(Tagged { text, spans })
    })?;
    Ok(Data::Tagged(rows))
}
