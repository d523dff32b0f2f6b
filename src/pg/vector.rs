//! pgvector's types at the border: `vector` out, `halfvec` in and out.
//!
//! Both are a varlena with an `int16` dimension, an unused `int16`, and the elements (pgvector `src/vector.h`,
//! `src/halfvec.h`).

use super::spi::{self, Arg, Mode};
use crate::error::{Error, Result};
use half::f16;
use pgrx::datum::IntoDatum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{pg_sys, varlena};
use std::cell::RefCell;

/// A `vector` that a function returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(pub Vec<f32>);

fn header(dimension: usize, bytes_each: usize) -> *mut u8 {
    let size = 8 + dimension * bytes_each;
    // SAFETY: palloc returns `size` bytes or raises; the header is written before anyone reads it.
    unsafe {
        let at = pg_sys::palloc0(size).cast::<u8>();
        varlena::set_varsize_4b(at.cast(), size as i32);
        at.add(4).cast::<i16>().write(dimension as i16);
        at
    }
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let at = header(self.0.len(), 4);
        // SAFETY: `header` made room for every element behind 8 bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), at.add(8).cast::<f32>(), self.0.len()) };
        Some(pg_sys::Datum::from(at))
    }

    fn type_oid() -> pg_sys::Oid {
        types().map(|types| types.vector).unwrap_or(pg_sys::InvalidOid)
    }
}

// SAFETY: the type's name is resolved when the extension's script runs, with pgvector's schema on its path.
unsafe impl SqlTranslatable for Vector {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Vector);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("vector"));
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("vector")));
}

// SAFETY: as pgrx does for its own types: the datum is boxed as made.
unsafe impl pgrx::callconv::BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut pgrx::callconv::FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum was made just now in the current memory context.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

/// What this database's pgvector is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Types {
    /// The schema that holds its types and operators, quoted.
    pub schema: String,
    /// The type `vector`.
    pub vector: pg_sys::Oid,
    /// The type `halfvec`.
    pub halfvec: pg_sys::Oid,
}

thread_local! {
    static TYPES: RefCell<Option<Types>> = const { RefCell::new(None) };
}

/// Looks pgvector up; remembered, and looked up again where the type has gone.
pub fn types() -> Result<Types> {
    if let Some(types) = TYPES.with_borrow(Clone::clone) {
        // SAFETY: a syscache look-up of an oid.
        let there = unsafe {
            pg_sys::SearchSysCacheExists(
                pg_sys::SysCacheIdentifier::TYPEOID as i32,
                types.halfvec.into(),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
            )
        };
        if there {
            return Ok(types);
        }
    }
    let sql = "SELECT pg_catalog.quote_ident(n.nspname), v.oid, h.oid
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
        JOIN pg_catalog.pg_type v ON v.typnamespace OPERATOR(pg_catalog.=) n.oid AND v.typname OPERATOR(pg_catalog.=) 'vector'
        JOIN pg_catalog.pg_type h ON h.typnamespace OPERATOR(pg_catalog.=) n.oid AND h.typname OPERATOR(pg_catalog.=) 'halfvec'
        WHERE e.extname OPERATOR(pg_catalog.=) 'vector'";
    let found = spi::first(Mode::Read, sql, &[], |row| {
        Ok(Types { schema: row.need(1)?, vector: row.need(2)?, halfvec: row.need(3)? })
    })?;
    let found = found.ok_or_else(|| Error::Internal("extension vector 0.7 or newer is not installed".into()))?;
    TYPES.with_borrow_mut(|types| *types = Some(found.clone()));
    Ok(found)
}

/// Elements of a `halfvec` datum, as f32.
///
/// # Safety
/// The datum has to be a `halfvec`.
pub unsafe fn read_halfvec(datum: pg_sys::Datum) -> Vec<f32> {
    // SAFETY: detoasting gives a plain varlena of this type's layout; its dimension says how many elements follow.
    unsafe {
        let at = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
        let dimension = at.add(4).cast::<i16>().read_unaligned().max(0) as usize;
        let elements = std::slice::from_raw_parts(at.add(8).cast::<u16>(), dimension);
        elements.iter().map(|bits| f16::from_bits(*bits).to_f32()).collect()
    }
}

/// A vector as a bound `halfvec`.
pub fn halfvec_arg(vector: &[f32], types: &Types) -> Arg {
    Arg::raw(types.halfvec, Some(halfvec_datum(vector)))
}

/// A vector as a `halfvec` datum in the current memory context.
pub fn halfvec_datum(vector: &[f32]) -> pg_sys::Datum {
    let at = header(vector.len(), 2);
    // SAFETY: `header` made room for every element behind 8 bytes.
    unsafe {
        let elements = at.add(8).cast::<u16>();
        for (place, value) in vector.iter().enumerate() {
            elements.add(place).write(f16::from_f32(*value).to_bits());
        }
    }
    pg_sys::Datum::from(at)
}

/// A `halfvec` that is bound to a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct HalfVec(pub Vec<f32>);

impl IntoDatum for HalfVec {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(halfvec_datum(&self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        types().map(|types| types.halfvec).unwrap_or(pg_sys::InvalidOid)
    }
}
