//! What is known of a catalog: one row of `persona.catalog` with its behaviour tables, read anew by each call.

use super::companion::Upkeep;
use super::identity::{self, Acting};
use super::spi::{self, Arg, Mode};
use super::zone::Zone;
use crate::catalog::options::Exclude;
use crate::error::{Error, Result};
use crate::event::Kinds;
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::Value;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A behaviour table and what its columns mean.
#[derive(Debug, Clone, Deserialize)]
pub struct Events {
    pub relation: u32,
    /// Qualified and quoted.
    pub name: String,
    /// The columns that the table has today.
    pub known: Vec<String>,
    pub user_id: String,
    /// Empty where the column is gone.
    pub user_type: String,
    pub item_id: String,
    pub item_type: String,
    pub at: String,
    pub kind: Option<String>,
    pub kind_value: Option<String>,
    pub query: Option<String>,
    pub session: Option<String>,
    pub position: Option<String>,
    pub dwell_ms: Option<String>,
    pub context: Vec<String>,
    pub options: Value,
}

impl Events {
    /// How its words map to kinds.
    pub fn kinds(&self) -> Result<Kinds> {
        Kinds::read(&self.options)
    }

    /// The column of the position by which clicks are weighed; `None` without one, and by `options.debias`.
    pub fn place(&self) -> Option<&str> {
        let debias = self.options.get("debias").and_then(Value::as_bool).unwrap_or(true);
        self.position.as_deref().filter(|_| debias && self.query.is_some())
    }

    /// Refuses columns that were renamed or dropped since.
    pub fn check(&self) -> Result<()> {
        match self.columns().into_iter().find(|column| !self.known.iter().any(|known| known == column)) {
            Some(column) => Err(Error::NoColumn { relation: self.name.clone(), column: column.to_owned() }),
            None => Ok(()),
        }
    }

    /// The columns that a search reads.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = vec![self.user_id.as_str(), self.item_id.as_str(), self.at.as_str()];
        columns.extend(self.kind.as_deref());
        columns.extend(self.session.as_deref());
        columns
    }
}

/// A catalog. Names of relations are qualified and quoted, names of columns are as the tables have them.
#[derive(Debug, Clone, Deserialize)]
pub struct Catalog {
    pub items: u32,
    pub name: String,
    pub owner: u32,
    pub kind: String,
    pub key: String,
    pub key_type: String,
    pub key_oid: u32,
    pub key_array: u32,
    /// The type that the companion keeps keys in; another one once the column's type was altered.
    pub kept_key_oid: u32,
    /// Whether words can be written: not while a dump is being restored, nor without the text search configuration.
    pub ready: bool,
    /// Whether plain tables inherit from it: their rows are its rows, and no trigger tells of them.
    pub inherited: bool,
    /// The key type's `=`, qualified.
    pub key_equal: String,
    pub title: String,
    pub body: Vec<String>,
    pub attributes: Vec<String>,
    pub brand: Option<String>,
    pub category: Option<String>,
    pub price: Option<String>,
    pub model: String,
    pub dimension: i32,
    pub text_search: String,
    pub companion: String,
    pub stats: String,
    pub pairs: String,
    pub terms: String,
    pub lexicon: Option<String>,
    pub queries: Option<String>,
    pub baskets: Option<String>,
    pub learned: Option<String>,
    pub segments: Option<String>,
    pub incoming: Option<String>,
    /// The model that it changes to at its next refresh.
    pub wanted: Option<String>,
    pub events: Vec<Events>,
    /// What recommendations leave out of a shopper's past.
    #[serde(default)]
    pub exclude: Exclude,
    /// Fewest shoppers of a pair, where the catalog says.
    #[serde(default)]
    pub min_shoppers: Option<u32>,
    /// The classifier that tells intents, and the tagger that finds entities, where the catalog names one.
    #[serde(default)]
    pub intents: Option<String>,
    /// See `intents`.
    #[serde(default)]
    pub tags: Option<String>,
    /// The time zone whose hours and weekdays its shoppers live by, where the catalog says; else UTC.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// The column that says whether an item can be bought, where the catalog names one.
    #[serde(default)]
    pub stock: Option<String>,
    /// The statements that keep its words, made when first needed.
    #[serde(skip)]
    pub upkeep: OnceCell<Upkeep>,
    /// The relation that the caller named: the catalog's own, or one of its partitions.
    #[serde(default)]
    pub asked: Asked,
}

/// The relation whose rows come back.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Asked {
    pub relation: u32,
    pub name: String,
}

impl Catalog {
    /// Its owner, under whose id the companion tables are read.
    pub fn owner(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner)
    }

    /// Its companion tables, as far as they are there: a catalog of an earlier release lacks some until refreshed.
    pub fn companions(&self) -> Vec<&str> {
        let mut all = vec![self.companion.as_str(), &self.stats, &self.pairs, &self.terms];
        all.extend(
            [&self.lexicon, &self.queries, &self.baskets, &self.learned, &self.segments, &self.incoming]
                .into_iter()
                .filter_map(Option::as_deref),
        );
        all
    }

    /// The columns that words, vectors and lexicon are made of, and the key.
    pub fn used(&self) -> Vec<&str> {
        let mut used = vec![self.key.as_str(), self.title.as_str()];
        used.extend(self.body.iter().chain(&self.attributes).map(String::as_str));
        used.extend(self.brand.iter().chain(&self.category).map(String::as_str));
        used
    }

    /// Its time zone; UTC where it names none, or one that this server does not know (any more).
    pub fn zone(&self) -> Option<Zone> {
        self.time_zone.as_deref().and_then(|name| Zone::read(name).ok())
    }

    /// The relation that the caller named.
    pub fn asked(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.asked.relation)
    }

    /// Whether the key's column is still there, under its name and of its type.
    pub fn has_key(&self) -> bool {
        self.key_oid != 0 && self.key_oid == self.kept_key_oid
    }

    /// What is wrong where `has_key` says no.
    pub fn key_error(&self) -> Error {
        let (relation, column) = (self.name.clone(), self.key.clone());
        if self.key_oid == 0 {
            return Error::NoColumn { relation, column };
        }
        let wanted = "its catalog was made for another type: call persona.create_catalog again".to_owned();
        Error::ColumnType { relation, column, found: self.key_type.clone(), wanted }
    }

    /// Whether some of the items may be hidden from some callers: a view's rows may depend on who asks.
    pub fn is_view(&self) -> bool {
        matches!(self.kind.as_str(), "v" | "f")
    }

    /// Whether a trigger keeps the words of every row.
    pub fn is_triggered(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p") && !self.inherited
    }

    /// Whether the caller named a partition, so that only its rows count.
    pub fn is_part(&self) -> bool {
        self.asked.relation != self.items
    }
}

const LOAD: &str = "
SELECT pg_catalog.to_jsonb(c) OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(
  'items', c.items::pg_catalog.oid::pg_catalog.int8,
  'exclude', COALESCE(c.options OPERATOR(pg_catalog.->>) 'exclude', 'seen'), 'min_shoppers', c.options OPERATOR(pg_catalog.->) 'min_shoppers',
  'intents', c.options OPERATOR(pg_catalog.->) 'intents', 'tags', c.options OPERATOR(pg_catalog.->) 'tags',
  'time_zone', c.options OPERATOR(pg_catalog.->) 'time_zone', 'stock', c.options OPERATOR(pg_catalog.->) 'stock',
  'name', persona._qualified(c.items), 'owner', r.relowner::pg_catalog.int8, 'kind', r.relkind::pg_catalog.text,
  'key_type', COALESCE(pg_catalog.format_type(k.atttypid, -1), ''), 'key_oid', COALESCE(k.atttypid::pg_catalog.int8, 0),
  'key_array', COALESCE((SELECT t.typarray::pg_catalog.int8 FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) k.atttypid), 0),
  'key_equal', COALESCE(persona._equality(k.atttypid), ''),
  'kept_key_oid', COALESCE((SELECT a.atttypid::pg_catalog.int8 FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) c.companion AND a.attname OPERATOR(pg_catalog.=) 'key'), 0),
  'ready', EXISTS (SELECT FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) x.indrelid
        AND a.attnum OPERATOR(pg_catalog.=) x.indkey[0] AND a.attname OPERATOR(pg_catalog.=) 'key'
        WHERE x.indrelid OPERATOR(pg_catalog.=) c.companion AND x.indisunique AND x.indisvalid)
    AND EXISTS (SELECT FROM pg_catalog.pg_ts_config f JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.cfgnamespace
        WHERE pg_catalog.format('%I.%I', n.nspname, f.cfgname) OPERATOR(pg_catalog.=) c.text_search),
  'inherited', EXISTS (SELECT FROM pg_catalog.pg_inherits h
        WHERE h.inhparent OPERATOR(pg_catalog.=) c.items AND r.relkind OPERATOR(pg_catalog.=) 'r'),
  'companion', persona._qualified(c.companion), 'stats', persona._qualified(c.stats),
  'pairs', persona._qualified(c.pairs), 'terms', persona._qualified(c.terms),
  'lexicon', persona._qualified(c.lexicon), 'queries', persona._qualified(c.queries),
  'baskets', persona._qualified(c.baskets), 'learned', persona._qualified(c.learned), 'segments', persona._qualified(c.segments),
  'incoming', persona._qualified(c.incoming),
  'asked', pg_catalog.jsonb_build_object('relation', $1::pg_catalog.int8, 'name', persona._qualified($1)),
  'events', COALESCE((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(e) OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(
        'relation', e.events::pg_catalog.oid::pg_catalog.int8, 'name', persona._qualified(e.events),
        'known', (SELECT pg_catalog.jsonb_agg(a.attname) FROM pg_catalog.pg_attribute a
           WHERE a.attrelid OPERATOR(pg_catalog.=) e.events AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped),
        'user_type', COALESCE((SELECT pg_catalog.format_type(a.atttypid, -1) FROM pg_catalog.pg_attribute a
           WHERE a.attrelid OPERATOR(pg_catalog.=) e.events AND a.attname OPERATOR(pg_catalog.=) e.user_id), ''),
        'item_type', COALESCE((SELECT pg_catalog.format_type(a.atttypid, -1) FROM pg_catalog.pg_attribute a
           WHERE a.attrelid OPERATOR(pg_catalog.=) e.events AND a.attname OPERATOR(pg_catalog.=) e.item_id), ''))
        ORDER BY e.events::pg_catalog.oid)
      FROM persona.event_source e
      WHERE e.items OPERATOR(pg_catalog.=) c.items
        AND EXISTS (SELECT FROM pg_catalog.pg_class x WHERE x.oid OPERATOR(pg_catalog.=) e.events)), '[]'))
FROM persona.catalog c
JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) c.items
JOIN pg_catalog.pg_class kc ON kc.oid OPERATOR(pg_catalog.=) c.companion
JOIN pg_catalog.pg_class ks ON ks.oid OPERATOR(pg_catalog.=) c.stats
JOIN pg_catalog.pg_class kp ON kp.oid OPERATOR(pg_catalog.=) c.pairs
JOIN pg_catalog.pg_class kt ON kt.oid OPERATOR(pg_catalog.=) c.terms
LEFT JOIN pg_catalog.pg_attribute k ON k.attrelid OPERATOR(pg_catalog.=) c.items AND k.attname OPERATOR(pg_catalog.=) c.key
  AND NOT k.attisdropped
WHERE c.items OPERATOR(pg_catalog.=) $1
   OR c.items OPERATOR(pg_catalog.=) ANY (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($1) a(relid))
LIMIT 1";

thread_local! {
    static KNOWN: RefCell<HashMap<u32, Rc<Catalog>>> = RefCell::new(HashMap::new());
}

// Set by Postgres's invalidation callback, which may run in the middle of anything: it only leaves a mark.
static STALE: AtomicBool = AtomicBool::new(true);
static WATCHING: AtomicBool = AtomicBool::new(false);

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _relation: pg_sys::Oid) {
    STALE.store(true, Ordering::Relaxed);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_names(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    STALE.store(true, Ordering::Relaxed);
}

/// Tells every backend, at commit, that what is known of a catalog has changed; this one at once, and again on abort.
pub fn changed(items: pg_sys::Oid) {
    // SAFETY: queues an invalidation message; the relation exists, or nobody knows it any more.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(items) };
    STALE.store(true, Ordering::Relaxed);
}

/// The catalog of a relation, or of the partitioned table that it is a part of.
///
/// Kept until any relation's definition changes, which covers renamed columns and companions, new owners, rolled-back
/// calls and other backends' changes alike.
pub fn find(relation: pg_sys::Oid) -> Result<Option<Rc<Catalog>>> {
    if !WATCHING.swap(true, Ordering::Relaxed) {
        // SAFETY: registered once a process, and the function lives as long as the library.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(forget), pg_sys::Datum::from(0));
            // A schema's new name is no news of its relations, and all our names are qualified.
            let namespaces = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
            pg_sys::CacheRegisterSyscacheCallback(namespaces, Some(forget_names), pg_sys::Datum::from(0));
        }
        STALE.store(true, Ordering::Relaxed);
    }
    if STALE.swap(false, Ordering::Relaxed) {
        KNOWN.with_borrow_mut(HashMap::clear);
    }
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&relation.to_u32()).cloned()) {
        return Ok(Some(known));
    }
    let found = load(relation)?.map(Rc::new);
    // An older snapshot may know an older catalog: that is right for its transaction, and for nobody after it.
    // SAFETY: plain backend state.
    let lasting = unsafe { pg_sys::XactIsoLevel } < pg_sys::XACT_REPEATABLE_READ as i32;
    if let (Some(catalog), true) = (&found, lasting) {
        KNOWN.with_borrow_mut(|known| known.insert(relation.to_u32(), catalog.clone()));
    }
    Ok(found)
}

fn load(relation: pg_sys::Oid) -> Result<Option<Catalog>> {
    let _acting = Acting::as_owner(identity::extension_owner()?);
    // Write, so that a command later in the transaction that made the catalog sees it.
    // SAFETY: plain backend state. A parallel plan allows no new command, and knows no command of its own either.
    let mode = if unsafe { pg_sys::IsInParallelMode() } { Mode::Read } else { Mode::Write };
    let json = spi::first(mode, LOAD, &[Arg::of(relation)], |row| row.need::<super::json::JsonB>(1))?;
    json.map(|json| {
        serde_json::from_value(json.0)
            .map_err(|error| Error::Internal(format!("the row of a catalog cannot be read: {error}")))
    })
    .transpose()
}

/// Holds a catalog to the end of the transaction: whoever refreshes or trains it too is waited for.
pub fn hold(catalog: &Catalog) -> Result<()> {
    // The catalog's row, rather than a companion table: vacuum and analyze go on meanwhile. Not its key: a rule or a
    // synonym that names the catalog can be written.
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "SELECT 1 FROM persona.catalog WHERE items = $1 FOR NO KEY UPDATE";
    spi::first(Mode::Write, sql, &[Arg::of(pg_sys::Oid::from(catalog.items))], |_| Ok(()))?;
    Ok(())
}

/// The relation that a call names, which may not be NULL.
pub fn given(items: Option<pg_sys::Oid>) -> Result<pg_sys::Oid> {
    items.ok_or_else(|| Error::InvalidValue {
        place: "argument".into(),
        key: "items".into(),
        reason: "it is NULL".into(),
    })
}

/// The catalog of a relation; without one, the error says how to make it.
pub fn need(relation: pg_sys::Oid) -> Result<Rc<Catalog>> {
    match find(relation)? {
        Some(catalog) if !catalog.has_key() => Err(catalog.key_error()),
        Some(catalog) => Ok(catalog),
        None => Err(Error::NoCatalog { relation: shown(relation)? }),
    }
}

/// A relation's name as a user would type it.
pub fn shown(relation: pg_sys::Oid) -> Result<String> {
    let sql = "SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1";
    spi::first(Mode::Read, sql, &[Arg::of(relation)], |row| row.need(1))?
        .ok_or(Error::NoRelation { oid: relation.to_u32() })
}

/// The table whose row type a composite type is.
pub fn relation_of_type(row_type: pg_sys::Oid) -> Result<pg_sys::Oid> {
    // SAFETY: a catalog look-up; invalid for what is not composite.
    let relation = unsafe { pg_sys::get_typ_typrelid(pg_sys::getBaseType(row_type)) };
    if relation == pg_sys::InvalidOid {
        let what = spi::first(Mode::Read, "SELECT pg_catalog.format_type($1, NULL)", &[Arg::of(row_type)], |row| {
            row.need::<String>(1)
        })?;
        return Err(Error::Anonymous { what: what.unwrap_or_default() });
    }
    Ok(relation)
}
