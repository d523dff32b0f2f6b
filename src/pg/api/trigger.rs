//! The trigger on an item table: words follow the row in the same transaction, vectors wait for a refresh.

use super::super::catalog;
use super::super::companion::Upkeep;
use super::super::error::door;
use super::super::identity::Acting;
use super::super::spi::{self, Arg};
use super::super::worker;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The trigger function.
#[pg_extern(
    sql = "CREATE FUNCTION persona._mark() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn mark(fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: the context says itself whether it is a trigger's.
    let data = unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            door::<()>(|| {
                Err(Error::RelationKind {
                    relation: "persona._mark".into(),
                    found: "a trigger function".into(),
                    wanted: "called by itself".into(),
                })
            });
        }
        &*context.cast::<pg_sys::TriggerData>()
    };
    door(|| run(data));
    // An AFTER trigger returns no row: a zero that is not NULL, which is what () becomes.
}

fn run(data: &pg_sys::TriggerData) -> Result<()> {
    let event = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
    let is_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
    let is_after = data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
    // Attached by hand in another way, it would find no row where it looks for one.
    if !is_after || is_row == (event == pg_sys::TRIGGER_EVENT_TRUNCATE) {
        return Err(Error::RelationKind {
            relation: "persona._mark".into(),
            found: "attached otherwise than by persona.create_catalog".into(),
            wanted: "fired".into(),
        });
    }
    // SAFETY: Postgres hands a valid relation to a trigger.
    let relation = unsafe { (*data.tg_relation).rd_id };
    let Some(catalog) = catalog::find(relation)? else { return Ok(()) };
    if !catalog.ready {
        return Ok(()); // a restore is under way, or the words' language is gone: the next refresh writes what is missing
    }
    if event == pg_sys::TRIGGER_EVENT_TRUNCATE {
        let _owner = Acting::as_owner(catalog.owner());
        return spi::execute(&format!("TRUNCATE {}, {}, {}", catalog.companion, catalog.stats, catalog.pairs));
    }
    let updated = event == pg_sys::TRIGGER_EVENT_UPDATE;
    if updated && !says_something_new(data, &catalog) {
        return Ok(()); // no statement, no lock: the price of an item changes a thousand times a day
    }
    let upkeep = match upkeep(&catalog) {
        Ok(upkeep) => upkeep,
        // A column was renamed or dropped: the shop's write must not fail for that.
        Err(error) => {
            pgrx::warning!("words of {} are not kept: {error}", catalog.name);
            return Ok(());
        }
    };
    let key = |tuple: pg_sys::HeapTuple| -> Option<Arg> {
        let name = std::ffi::CString::new(catalog.key.as_str()).ok()?;
        // SAFETY: the tuple is one of the relation's, whose descriptor this is.
        unsafe {
            let descriptor = (*data.tg_relation).rd_att;
            let column = pg_sys::SPI_fnumber(descriptor, name.as_ptr());
            if column <= 0 {
                return None;
            }
            let mut null = false;
            let datum = pg_sys::SPI_getbinval(tuple, descriptor, column, &mut null);
            (!null).then(|| Arg::raw(pg_sys::Oid::from(catalog.key_oid), Some(datum)))
        }
    };
    let now = if updated { data.tg_newtuple } else { data.tg_trigtuple };
    let _owner = Acting::as_owner(catalog.owner());
    if event != pg_sys::TRIGGER_EVENT_INSERT
        && let Some(key) = key(data.tg_trigtuple)
    {
        // Rows of one statement may pass a key on among them: what still has its item stays.
        spi::run(&upkeep.unmark, &[key])?;
    }
    if event != pg_sys::TRIGGER_EVENT_DELETE
        && let Some(key) = key(now)
    {
        spi::run(&upkeep.mark, &[key])?;
        worker::mark_at_commit();
    }
    Ok(())
}

fn upkeep(catalog: &catalog::Catalog) -> Result<&Upkeep> {
    if !catalog.has_key() {
        return Err(catalog.key_error());
    }
    match catalog.upkeep.get() {
        Some(upkeep) => Ok(upkeep),
        None => {
            let made = Upkeep::of(catalog)?;
            Ok(catalog.upkeep.get_or_init(|| made))
        }
    }
}

/// Whether an UPDATE touches the key or a column that makes words. Bytes are compared: a value that is stored anew in
/// another form counts as new, which costs a statement and changes nothing.
fn says_something_new(data: &pg_sys::TriggerData, catalog: &catalog::Catalog) -> bool {
    let columns = [&catalog.key, &catalog.title].into_iter();
    let mut columns =
        columns.chain(&catalog.body).chain(&catalog.attributes).chain(&catalog.brand).chain(&catalog.category);
    columns.any(|name| {
        let Ok(name) = std::ffi::CString::new(name.as_str()) else { return true };
        // SAFETY: both tuples are the relation's, whose descriptor this is; a column number is within it.
        unsafe {
            let descriptor = (*data.tg_relation).rd_att;
            let number = pg_sys::SPI_fnumber(descriptor, name.as_ptr());
            if number <= 0 {
                return true; // gone: let the statement's making say so
            }
            let type_ = pg_sys::SPI_gettypeid(descriptor, number);
            let (mut length, mut by_value, mut before_null, mut now_null) = (0, false, false, false);
            pg_sys::get_typlenbyval(type_, &mut length, &mut by_value);
            let before = pg_sys::SPI_getbinval(data.tg_trigtuple, descriptor, number, &mut before_null);
            let now = pg_sys::SPI_getbinval(data.tg_newtuple, descriptor, number, &mut now_null);
            match (before_null, now_null) {
                (true, true) => false,
                (false, false) if by_value => before != now,
                (false, false) => bytes(before, length) != bytes(now, length),
                _ => true,
            }
        }
    })
}

/// The bytes of a value that is passed by reference, as it is stored: a pointer to TOAST is its own bytes.
///
/// # Safety
/// The datum has to be of a type of this length, and to outlive the slice.
unsafe fn bytes<'a>(datum: pg_sys::Datum, length: i16) -> &'a [u8] {
    let at = datum.cast_mut_ptr::<u8>();
    // SAFETY: as the caller says; -1 is a varlena, which knows its own size, -2 a C string.
    unsafe {
        let size = match length {
            -1 => pgrx::varlena::varsize_any(at.cast()),
            -2 => std::ffi::CStr::from_ptr(at.cast()).to_bytes().len(),
            fixed => fixed.max(0) as usize,
        };
        std::slice::from_raw_parts(at, size)
    }
}
