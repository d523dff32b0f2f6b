//! Internal functions of the lexical source, called once for each matching row.

use super::super::error::door;
use super::super::tsvector::TsVector;
use crate::retrieve::lexical::{Bm25, weighted};
use pgrx::prelude::*;
use std::cell::RefCell;

thread_local! {
    // The query's packed form of the last row, and what it says: unpacked once a statement.
    static LAST: RefCell<(Vec<u8>, Bm25)> = RefCell::new((Vec::new(), Bm25::default()));
}

/// BM25 of a row for a packed query. Arguments: tsvector, real, bytea; none of them NULL.
#[pg_extern(sql = "CREATE FUNCTION persona._bm25(lexemes tsvector, length real, query bytea) RETURNS double precision
    IMMUTABLE STRICT PARALLEL SAFE COST 20 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn bm25(fcinfo: pg_sys::FunctionCallInfo) -> f64 {
    // SAFETY: STRICT and the declared types say what the three arguments are.
    let (lexemes, length, query) = unsafe {
        (
            TsVector::open(pgrx::fcinfo::pg_getarg_datum_raw(fcinfo, 0)),
            pgrx::fcinfo::pg_getarg::<f32>(fcinfo, 1).unwrap_or(0.0),
            pgrx::fcinfo::pg_getarg::<&[u8]>(fcinfo, 2).unwrap_or(&[]),
        )
    };
    door(|| {
        LAST.with_borrow_mut(|(bytes, unpacked)| {
            if bytes != query {
                *unpacked = Bm25::from_bytes(query).unwrap_or_default();
                *bytes = query.to_vec();
            }
            Ok(unpacked.score(|lexeme| lexemes.find(lexeme), f64::from(length)).score)
        })
    })
}

/// The weighted length of an item's words.
#[pg_extern(sql = "CREATE FUNCTION persona._length(lexemes tsvector) RETURNS real
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn length(fcinfo: pg_sys::FunctionCallInfo) -> f32 {
    // SAFETY: STRICT and the declared type say what the argument is.
    let lexemes = unsafe { TsVector::open(pgrx::fcinfo::pg_getarg_datum_raw(fcinfo, 0)) };
    door(|| Ok(weighted(lexemes.lengths()) as f32))
}
