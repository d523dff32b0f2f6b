//! Who reads: the caller, or the owner of the tables that are ours.

use super::spi::{self, Arg, Mode};
use crate::error::{Error, Result};
use pgrx::pg_sys;

/// While it lives, the backend acts as another user with a pinned search path; afterwards as before.
///
/// The same that a `SECURITY DEFINER` function with `SET search_path` does: no `SET ROLE` out of it, no temporary
/// objects, no name that a caller could shadow. An ERROR ends it through the transaction's own abort.
pub struct Acting {
    user: pg_sys::Oid,
    context: i32,
    level: i32,
}

impl Acting {
    /// Acts as `owner`.
    pub fn as_owner(owner: pg_sys::Oid) -> Acting {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: plain backend calls on the main thread; the strings are static.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
            pg_sys::SetUserIdAndSecContext(owner, context | restricted as i32);
            Acting { user, context, level }
        }
    }

    /// Sets another setting for as long as this lives; false if the setting does not take the value.
    pub fn set(&self, name: &std::ffi::CStr, value: &str) {
        if let Ok(value) = std::ffi::CString::new(value) {
            // SAFETY: as above; both strings outlive the call, which copies them.
            unsafe {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort restores both, and must not find them restored already
        }
        // SAFETY: the level is the one opened in `as_owner`, on the same thread.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.level);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// While it lives, the backend acts as another user; for statements in which every name is qualified.
pub struct Owner {
    user: pg_sys::Oid,
    context: i32,
}

impl Owner {
    /// Acts as `owner`.
    pub fn of(owner: pg_sys::Oid) -> Owner {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        // SAFETY: plain backend calls on the main thread.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(owner, context | restricted as i32);
        }
        Owner { user, context }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: as above; an ERROR's abort restores it itself.
            unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
        }
    }
}

/// While it lives, a background worker may make temporary tables as the user that it acts as. It is for a `CREATE TABLE` of
/// our own alone: what runs a shop's code stays in the restricted operation.
pub struct Making {
    user: pg_sys::Oid,
    context: i32,
}

impl Making {
    /// Lifts the restriction in a background worker, whose session nobody else uses; elsewhere it changes nothing.
    pub fn temporary() -> Making {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: plain backend calls on the main thread, and a plain global of the process.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            if !pg_sys::MyBgworkerEntry.is_null() {
                pg_sys::SetUserIdAndSecContext(user, context & !(pg_sys::SECURITY_RESTRICTED_OPERATION as i32));
            }
        }
        Making { user, context }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: as above; an ERROR's abort restores it itself.
            unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
        }
    }
}

/// Whom persona's own tables belong to: the extension's owner.
pub fn extension_owner() -> Result<pg_sys::Oid> {
    let sql = "SELECT extowner FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'pg_persona'";
    spi::first(Mode::Read, sql, &[], |row| row.need(1))?
        .ok_or_else(|| Error::Internal("extension pg_persona is not installed in this database".into()))
}

/// Refuses a caller who is not (a member of) the owner of a relation.
pub fn need_owner(owner: pg_sys::Oid, relation: &str) -> Result<()> {
    let sql = "SELECT pg_catalog.pg_has_role($1, 'USAGE')";
    let owns = spi::first(Mode::Read, sql, &[Arg::of(owner)], |row| row.need::<bool>(1))?;
    if owns == Some(true) { Ok(()) } else { Err(Error::NotOwner { relation: relation.to_owned() }) }
}

/// Refuses a caller who may not SELECT every one of the columns of a relation.
pub fn need_select(relation: pg_sys::Oid, shown: &str, columns: &[&str]) -> Result<()> {
    let sql = "SELECT pg_catalog.has_table_privilege($1, 'SELECT')
        OR (SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege($1, c, 'SELECT')) FROM pg_catalog.unnest($2) c)";
    let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    let args = [Arg::of(relation), Arg::of(columns.clone())];
    let may = spi::first(Mode::Read, sql, &args, |row| Ok(row.get::<bool>(1).unwrap_or(false)))?;
    if may == Some(true) {
        Ok(())
    } else {
        Err(Error::NoRight { relation: shown.to_owned(), columns: columns.join(", ") })
    }
}

/// Whether row-level security hides rows of the relation from the caller.
pub fn rows_hidden(relation: pg_sys::Oid) -> Result<bool> {
    let sql = "SELECT pg_catalog.row_security_active($1)";
    Ok(spi::first(Mode::Read, sql, &[Arg::of(relation)], |row| row.need(1))?.unwrap_or(false))
}
