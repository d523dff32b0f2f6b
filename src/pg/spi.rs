//! SQL from Rust: cached plans, an explicit read-only flag, rows as they come.
//!
//! pgrx's own client stops passing `read_only` once the transaction has an xid, and then one call could see several
//! snapshots; it also copies every row. So this goes straight to SPI. Plans are kept for each backend by their text.

use super::error::raise;
use crate::error::{Error, Result};
use crate::fault;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;

/// A bound argument.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    oid: pg_sys::Oid,
    datum: Option<pg_sys::Datum>,
}

impl Arg {
    /// Binds a value as its own type.
    pub fn of<T: IntoDatum>(value: T) -> Arg {
        Arg { oid: T::type_oid(), datum: value.into_datum() }
    }

    /// Binds a datum of a type.
    pub fn raw(oid: pg_sys::Oid, datum: Option<pg_sys::Datum>) -> Arg {
        Arg { oid, datum }
    }
}

/// What a statement may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Reads with the caller's snapshot; the plan may become a generic one.
    Read,
    /// Reads with the caller's snapshot; planned for these very values, where the values decide the plan.
    ReadCustom,
    /// Writes, and sees what this command wrote before.
    Write,
}

/// A row of a result, valid inside the closure that gets it.
pub struct Row {
    table: *mut pg_sys::SPITupleTable,
    index: usize,
}

impl Row {
    /// A column (from 1) as a datum in SPI's memory; `None` is NULL.
    pub fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: the table is the live result of the statement and the index is below numvals.
        let datum = unsafe {
            let tuple = *(*self.table).vals.add(self.index);
            pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, column, &mut null)
        };
        (!null).then_some(datum)
    }

    /// A column (from 1) of a by-reference varlena type, copied to where the caller's own values live.
    pub fn keep(&self, column: i32) -> Option<pg_sys::Datum> {
        // SAFETY: inside SPI; -1 says that the datum is a varlena.
        self.datum(column).map(|datum| unsafe { pg_sys::SPI_datumTransfer(datum, false, -1) })
    }

    /// The type that a column (from 1) really has.
    pub fn type_of(&self, column: i32) -> pg_sys::Oid {
        // SAFETY: the table is the live result of the statement.
        unsafe { pg_sys::SPI_gettypeid((*self.table).tupdesc, column) }
    }

    /// Refuses a column of another type than the one that is about to be read.
    ///
    /// Companion tables belong to the owner of the items, who may have altered them: bytes must never be taken for what
    /// they are not.
    pub fn check(&self, column: i32, wanted: pg_sys::Oid) -> Result<()> {
        if self.type_of(column) == wanted { Ok(()) } else { Err(altered(column)) }
    }

    /// A column (from 1) as a value.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Option<T> {
        if !T::is_compatible_with(self.type_of(column)) {
            raise(&altered(column));
        }
        // SAFETY: the column is of a type that T reads.
        self.datum(column).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// A column (from 1) that the statement never leaves NULL.
    pub fn need<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<T> {
        self.get(column).ok_or_else(|| Error::Internal(format!("column {column} of a catalog query is NULL")))
    }
}

fn altered(column: i32) -> Error {
    Error::Altered { what: format!("column {column} of a statement over a companion table") }
}

/// A statement's text, the types of its arguments, and whether it is planned for its values.
type PlanKey = (String, Vec<pg_sys::Oid>, bool);

thread_local! {
    static PLANS: RefCell<HashMap<PlanKey, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
}

/// Plans kept in a backend before the keeping starts anew: some 50 kB each.
const PLANS_KEPT: usize = 200;

thread_local! {
    // How many of our statements are under way, one inside another: a view that a search reads may call search itself.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Counts a level while it lives, also when an ERROR unwinds it.
struct Level;

impl Level {
    fn enter() -> Level {
        DEPTH.set(DEPTH.get() + 1);
        Level
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

fn plan(sql: &str, args: &[Arg], custom: bool) -> Result<pg_sys::SPIPlanPtr> {
    let key = (sql.to_owned(), args.iter().map(|a| a.oid).collect::<Vec<_>>(), custom);
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).copied()) {
        return Ok(plan);
    }
    let text = CString::new(sql).map_err(|_| Error::Internal("a statement holds a zero byte".into()))?;
    let mut oids = key.1.clone();
    let options = if custom { pg_sys::CURSOR_OPT_CUSTOM_PLAN } else { 0 };
    // SAFETY: inside SPI_connect; the oids live over the call.
    let plan = unsafe {
        let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), oids.len() as i32, oids.as_mut_ptr(), options as i32);
        if plan.is_null() {
            let code = pg_sys::SPI_result;
            return Err(Error::Internal(format!("SPI_prepare: {code}")));
        }
        pg_sys::SPI_keepplan(plan);
        plan
    };
    PLANS.with_borrow_mut(|plans| {
        // Only at the outermost level: deeper, a plan that would be freed may be the one that runs.
        if plans.len() >= PLANS_KEPT && DEPTH.get() <= 1 {
            for (_, old) in plans.drain() {
                // SAFETY: kept by SPI_keepplan above, dropped once; none of them is running.
                unsafe { pg_sys::SPI_freeplan(old) };
            }
        }
        plans.insert(key, plan);
    });
    Ok(plan)
}

/// Runs `work` connected to SPI. Connect and finish are balanced on every way out but an ERROR, after which the abort of
/// the (sub)transaction unwinds SPI's stack itself.
fn connected<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _level = Level::enter();
    // SAFETY: as said.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::Internal("SPI_connect failed".into()));
        }
        fault::point(fault::Place::Query);
        let result = work();
        pg_sys::SPI_finish();
        result
    }
}

fn bound(args: &[Arg]) -> (Vec<pg_sys::Datum>, Vec<std::ffi::c_char>) {
    let values = args.iter().map(|a| a.datum.unwrap_or(pg_sys::Datum::from(0))).collect();
    let nulls = args.iter().map(|a| if a.datum.is_some() { b' ' } else { b'n' } as std::ffi::c_char).collect();
    (values, nulls)
}

/// # Safety
/// Inside `connected`.
unsafe fn submit(sql: &str, args: &[Arg], mode: Mode, limit: i64) -> Result<()> {
    let plan = plan(sql, args, mode == Mode::ReadCustom)?;
    let (mut values, nulls) = bound(args);
    // SAFETY: the plan was made for these types; the arrays live over the call.
    let code =
        unsafe { pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), mode != Mode::Write, limit as _) };
    if code < 0 { Err(Error::Internal(format!("SPI_execute: {code}"))) } else { Ok(()) }
}

/// Runs a statement and maps each row, in order; at most `limit` rows where it is not 0.
pub fn query_limit<T>(
    mode: Mode,
    sql: &str,
    args: &[Arg],
    limit: i64,
    mut row: impl FnMut(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    connected(|| {
        // SAFETY: connected; the table is the result of the statement just run.
        let (table, count) = unsafe {
            submit(sql, args, mode, limit)?;
            let table = pg_sys::SPI_tuptable;
            (table, if table.is_null() { 0 } else { (*table).numvals as usize })
        };
        let mut rows = Vec::with_capacity(count);
        for index in 0..count {
            if index % 1024 == 1023 {
                pgrx::check_for_interrupts!();
            }
            rows.push(row(&Row { table, index })?);
        }
        Ok(rows)
    })
}

/// Runs a statement and maps each row, in order.
pub fn query<T>(mode: Mode, sql: &str, args: &[Arg], row: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    query_limit(mode, sql, args, 0, row)
}

/// Runs a statement and maps its first row, if it has one.
pub fn first<T>(mode: Mode, sql: &str, args: &[Arg], row: impl FnMut(&Row) -> Result<T>) -> Result<Option<T>> {
    Ok(query_limit(mode, sql, args, 1, row)?.into_iter().next())
}

/// Runs a statement for its effect; how many rows it touched.
pub fn run(sql: &str, args: &[Arg]) -> Result<u64> {
    connected(|| {
        // SAFETY: connected; the count is a plain global that SPI sets.
        unsafe {
            submit(sql, args, Mode::Write, 0)?;
            Ok(pg_sys::SPI_processed)
        }
    })
}

/// Runs DDL or another statement that is built anew each time, so that its plan is not kept.
pub fn execute(sql: &str) -> Result<()> {
    let text = CString::new(sql).map_err(|_| Error::Internal("a statement holds a zero byte".into()))?;
    connected(|| {
        // SAFETY: connected; the text lives over the call.
        let code = unsafe { pg_sys::SPI_execute(text.as_ptr(), false, 0) };
        if code < 0 { Err(Error::Internal(format!("SPI_execute: {code}"))) } else { Ok(()) }
    })
}

/// Reads a result too large to hold: `batch` rows at a time, each batch's memory freed before the next.
pub fn stream(sql: &str, args: &[Arg], batch: i64, mut rows: impl FnMut(&[Row]) -> Result<()>) -> Result<()> {
    connected(|| {
        let plan = plan(sql, args, true)?;
        let (mut values, nulls) = bound(args);
        // Not read-only: a refresh reads what its own earlier steps wrote.
        // SAFETY: connected; the portal is closed below, or by the abort.
        let portal =
            unsafe { pg_sys::SPI_cursor_open(std::ptr::null(), plan, values.as_mut_ptr(), nulls.as_ptr(), false) };
        loop {
            // SAFETY: the portal is open; a batch's table is freed after its rows were read.
            unsafe {
                pg_sys::SPI_cursor_fetch(portal, true, batch as _);
                let table = pg_sys::SPI_tuptable;
                let count = if table.is_null() { 0 } else { (*table).numvals as usize };
                if count == 0 {
                    pg_sys::SPI_cursor_close(portal);
                    return Ok(());
                }
                let seen: Vec<Row> = (0..count).map(|index| Row { table, index }).collect();
                rows(&seen)?;
                pg_sys::SPI_freetuptable(table);
            }
            pgrx::check_for_interrupts!();
        }
    })
}
