//! The trigger on an item table: words follow the row in the same transaction, vectors wait for a refresh.

use super::super::catalog;
use super::super::companion::Upkeep;
use super::super::error::door;
use super::super::identity::Acting;
use super::super::spi::{self, Arg};
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
    // SAFETY: Postgres hands a valid relation to a trigger.
    let relation = unsafe { (*data.tg_relation).rd_id };
    let Some(catalog) = catalog::find(relation)? else { return Ok(()) };
    let event = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
    if event == pg_sys::TRIGGER_EVENT_TRUNCATE {
        let _owner = Acting::as_owner(catalog.owner());
        return spi::execute(&format!("TRUNCATE {}, {}, {}", catalog.companion, catalog.stats, catalog.pairs));
    }
    let key_gone = || Error::NoColumn { relation: catalog.name.clone(), column: catalog.key.clone() };
    let upkeep = match if catalog.has_key() { Upkeep::of(&catalog) } else { Err(key_gone()) } {
        Ok(upkeep) => upkeep,
        // A column was renamed or dropped: the shop's write must not fail for that.
        Err(error) => {
            pgrx::warning!("words of {} are not kept: {error}; call persona.create_catalog again", catalog.name);
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
    let updated = event == pg_sys::TRIGGER_EVENT_UPDATE;
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
    }
    Ok(())
}
