//! `jsonb` at the border.
//!
//! As pgrx's type of the same name, but that what jsonb holds and serde_json does not (a number beyond f64, nesting deeper
//! than 128) is an error that says so, where pgrx panics.

use super::error::raise;
use crate::error::Error;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{direct_function_call, pg_sys};
use serde_json::Value;

/// A `jsonb`, parsed.
#[derive(Debug)]
pub struct JsonB(pub Value);

/// What a call gives; null where it gives nothing.
pub fn given(value: Option<JsonB>) -> Value {
    value.map_or(Value::Null, |v| v.0)
}

fn parse(text: &std::ffi::CStr) -> Result<Value, Error> {
    let text = text.to_str().map_err(|_| Error::Encoding)?;
    serde_json::from_str(text).map_err(|e| {
        // Its "at line 1 column 7" counts in a text that nobody wrote.
        let reason = e.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        Error::Options { place: "jsonb value".into(), reason: reason.to_owned() }
    })
}

impl FromDatum for JsonB {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<JsonB> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a jsonb, and its text lives in the current memory context until it is freed here.
        let parsed = unsafe {
            let plain = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            let text = direct_function_call::<&std::ffi::CStr>(pg_sys::jsonb_out, &[Some(plain.into())])?;
            let parsed = parse(text);
            pg_sys::pfree(text.as_ptr().cast_mut().cast());
            if plain != datum.cast_mut_ptr() {
                pg_sys::pfree(plain.cast());
            }
            parsed
        };
        match parsed {
            Ok(value) => Some(JsonB(value)),
            Err(error) => raise(&error),
        }
    }
}

impl IntoDatum for JsonB {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        pgrx::JsonB(self.0).into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: the type is Postgres's own.
unsafe impl SqlTranslatable for JsonB {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(JsonB);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

// SAFETY: as pgrx does for its own types: through the datum.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonB {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: passed on. A NULL where none can be is an empty value: the function is not strict, and looks itself.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(JsonB(Value::Null)) }
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: passed on.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: as above: the datum is boxed as made.
unsafe impl BoxRet for JsonB {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum was made just now in the current memory context.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
