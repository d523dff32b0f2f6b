//! Adapters in this backend: rows of `persona.adapter`, merged into their base on first use and kept.
//!
//! Which row is meant is asked of the caller's snapshot at every use, so an adapter that was dropped, or rolled back, is
//! gone at once. Names and hashes are everybody's to read, the weights are read as their owner.

use super::identity::{self, Acting};
use super::spi::{self, Arg, Mode};
use super::{device, session};
use crate::embed::{Encoder, Place, Precision, Role};
use crate::error::{Error, Result};
use crate::tune::{Adapter, Loaded, Task};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::interrupt::Backend;

struct Kept {
    name: String,
    hash: String,
    base: String,
    precision: Precision,
    loaded: Rc<Loaded>,
    /// The same on a device, by its name; none where it has no place there.
    twin: Option<(String, Option<Arc<Encoder>>)>,
}

thread_local! {
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Adapters that one backend keeps.
const MOST: usize = 4;

/// The adapter of this name, merged and ready; `None` where there is none.
pub fn find(name: &str, precision: Precision) -> Result<Option<Rc<Loaded>>> {
    let sql = "SELECT a.hash, a.adopted, a.reason, a.base, a.base_hash FROM persona.adapter a WHERE a.name OPERATOR(pg_catalog.=) $1";
    let row = spi::first(Mode::Read, sql, &[Arg::of(name)], |row| {
        let (hash, adopted): (String, bool) = (row.need(1)?, row.need(2)?);
        Ok((hash, adopted, row.get::<String>(3), row.need::<String>(4)?, row.need::<String>(5)?))
    })?;
    let Some((hash, adopted, reason, base, base_hash)) = row else { return Ok(None) };
    if !adopted {
        return Err(Error::NotAdopted { name: name.to_owned(), reason: reason.unwrap_or_default() });
    }
    let known = KEPT.with_borrow(|kept| {
        kept.iter().find(|k| k.name == name && k.hash == hash && k.precision == precision).map(|k| k.loaded.clone())
    });
    if let Some(known) = known {
        return Ok(Some(known));
    }
    let encoder = session::bundle(&base, Precision::F32)?;
    if encoder.info().hash != base_hash {
        return Err(Error::OtherBase { name: name.to_owned(), base });
    }
    let bytes = weights(name)?;
    let mut loaded = Adapter::read(&bytes)?.load(&encoder, name, &hash)?;
    if precision == Precision::Int8 {
        let base = session::bundle(&base, precision)?;
        loaded.encoder = Arc::new(loaded.encoder.in_bytes(Some(&base))?);
    }
    give_back();
    let loaded = Rc::new(loaded);
    KEPT.with_borrow_mut(|kept| {
        kept.retain(|k| k.name != name || k.precision != precision);
        kept.truncate(MOST - 1);
        kept.insert(0, Kept { name: name.to_owned(), hash, base, precision, loaded: loaded.clone(), twin: None });
    });
    Ok(Some(loaded))
}

/// The encoder of the adapter of this name on a device, in f32; `None` where there is none, or no place in its base for it.
pub fn on_device(name: &str, device: &str) -> Result<Option<Arc<Encoder>>> {
    let Some(loaded) = find(name, Precision::F32)? else { return Ok(None) };
    let mine = |kept: &&mut Kept| Rc::ptr_eq(&kept.loaded, &loaded);
    let (base, twin) = KEPT.with_borrow_mut(|all| {
        all.iter_mut().find(mine).map(|kept| (kept.base.clone(), kept.twin.clone())).unwrap_or_default()
    });
    if let Some((on, twin)) = twin
        && on == device
    {
        return Ok(twin);
    }
    let base = session::bundle(&base, Precision::F32)?;
    let place = Place { library: device::library()?, device: device.to_owned(), folder: session::folder()? };
    let adapter = Adapter::read(&weights(name)?)?;
    let twin = adapter.encoder_on(&base, &loaded.encoder, &place, &Backend)?.map(Arc::new);
    KEPT.with_borrow_mut(|all| {
        if let Some(kept) = all.iter_mut().find(mine) {
            kept.twin = Some((device.to_owned(), twin.clone()));
        }
    });
    Ok(twin)
}

/// Hands what the merge worked in back to the system: the allocator would keep it, and each backend its own.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it frees what nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The adapter of this name for a task; an error where it is none, or one for another task.
pub fn need(name: &str, tasks: &[Task]) -> Result<Rc<Loaded>> {
    let loaded = find(name, session::precision(Role::Document))?
        .ok_or_else(|| Error::UnknownAdapter { name: name.to_owned() })?;
    of_task(name, loaded, tasks)
}

/// Refuses an adapter that is for none of these tasks.
pub fn of_task(name: &str, loaded: Rc<Loaded>, tasks: &[Task]) -> Result<Rc<Loaded>> {
    if tasks.contains(&loaded.task) {
        return Ok(loaded);
    }
    let wanted = tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(" or ");
    Err(Error::ModelTask { name: name.to_owned(), found: loaded.task.name().to_owned(), wanted })
}

/// An adapter's bytes as they were kept: vectors bear their hash, so others by that hash are refused.
pub fn weights(name: &str) -> Result<Vec<u8>> {
    let _owner = Acting::as_owner(identity::extension_owner()?);
    let sql = "SELECT weights, hash FROM persona.adapter WHERE name = $1";
    let (bytes, hash): (Vec<u8>, String) =
        spi::first(Mode::Read, sql, &[Arg::of(name)], |row| Ok((row.need(1)?, row.need(2)?)))?
            .ok_or_else(|| Error::UnknownAdapter { name: name.to_owned() })?;
    if Adapter::hash(&bytes) != hash {
        return Err(Error::Adapter { reason: format!("of \"{name}\" the checksum is another") });
    }
    Ok(bytes)
}

/// What `persona.models` shows of an adapter.
pub struct Listed {
    pub name: String,
    pub base: String,
    pub hash: String,
    pub bytes: i64,
    pub refused: Option<String>,
    /// Where this backend holds it.
    pub devices: Vec<String>,
}

/// Every adapter.
pub fn list() -> Result<Vec<Listed>> {
    let sql = "SELECT a.name, a.base, a.hash, a.bytes, CASE WHEN a.adopted THEN NULL ELSE pg_catalog.concat('not adopted: ', a.reason) END
        FROM persona.adapter a ORDER BY a.name";
    spi::query(Mode::Read, sql, &[], |row| {
        let (name, hash): (String, String) = (row.need(1)?, row.need(3)?);
        let devices = KEPT.with_borrow(|kept| {
            let mine = || kept.iter().filter(|k| k.name == name && k.hash == hash);
            let cpu = mine().next().map(|_| "cpu".to_owned());
            let others = mine().filter_map(|k| k.twin.as_ref()).filter(|(_, twin)| twin.is_some());
            cpu.into_iter().chain(others.map(|(device, _)| device.clone())).collect()
        });
        Ok(Listed { base: row.need(2)?, bytes: row.need(4)?, refused: row.get(5), name, hash, devices })
    })
}

/// Refuses a caller who neither made an adapter nor is a superuser.
fn need_owner(name: &str) -> Result<()> {
    let sql = "SELECT COALESCE((SELECT pg_catalog.pg_has_role(r.oid, 'USAGE') FROM pg_catalog.pg_roles r
            WHERE r.rolname OPERATOR(pg_catalog.=) a.owner), false)
          OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s WHERE s.rolname OPERATOR(pg_catalog.=) current_user)
        FROM persona.adapter a WHERE a.name OPERATOR(pg_catalog.=) $1";
    match spi::first(Mode::Read, sql, &[Arg::of(name)], |row| row.need::<bool>(1))? {
        Some(true) => Ok(()),
        Some(false) => Err(Error::NotAdapterOwner { name: name.to_owned() }),
        None => Err(Error::UnknownAdapter { name: name.to_owned() }),
    }
}

/// The files of a folder that holds the merged model: for its owner, as they hold what the base's files hold.
pub fn export(name: &str) -> Result<Vec<(String, Vec<u8>)>> {
    need_owner(name)?;
    let sql = "SELECT a.base FROM persona.adapter a WHERE a.name OPERATOR(pg_catalog.=) $1";
    let base = spi::first(Mode::Read, sql, &[Arg::of(name)], |row| row.need::<String>(1))?.unwrap_or_default();
    let encoder = session::bundle(&base, Precision::F32)?;
    Adapter::read(&weights(name)?)?.export(&encoder, &session::folder()?, &Backend)
}

/// Drops an adapter, if its caller may and no catalog uses it.
pub fn drop(name: &str) -> Result<()> {
    need_owner(name)?;
    let _owner = Acting::as_owner(identity::extension_owner()?);
    // The row first: who makes a catalog with it meanwhile waits, or is waited for.
    spi::first(Mode::Write, "SELECT 1 FROM persona.adapter WHERE name = $1 FOR UPDATE", &[Arg::of(name)], |_| Ok(()))?;
    let users = "SELECT c.items::text FROM persona.catalog c WHERE $1 IN (c.model, c.wanted, c.options->>'intents', c.options->>'tags') LIMIT 1";
    if let Some(by) = spi::first(Mode::Write, users, &[Arg::of(name)], |row| row.need::<String>(1))? {
        return Err(Error::AdapterInUse { name: name.to_owned(), by: format!("the catalog of {by}") });
    }
    spi::run("DELETE FROM persona.adapter WHERE name = $1", &[Arg::of(name)])?;
    Ok(())
}

/// The caller's name.
pub fn caller() -> Result<String> {
    let sql = "SELECT current_user::pg_catalog.text";
    Ok(spi::first(Mode::Read, sql, &[], |row| row.need(1))?.unwrap_or_default())
}

/// Whether a relation is there to be read at all.
pub fn relation(source: Option<pg_sys::Oid>) -> Result<pg_sys::Oid> {
    source.ok_or_else(|| Error::InvalidValue {
        place: "argument".into(),
        key: "source".into(),
        reason: "it is NULL".into(),
    })
}
