//! What a ranker has learnt of each item: rows beside the catalog, read with the statement's snapshot.

use super::catalog::Catalog;
use super::identity::Acting;
use super::spi::{self, Arg, Mode};
use super::vector::{self, HalfVec};
use crate::control::Control;
use crate::error::Result;
use crate::learn::table::{Table, Taught};
use crate::shopper::sequence::{Own, WIDTH, Wide};
use crate::store::Scope;
use std::collections::HashMap;

/// What a ranker has learnt of items; of those that it never saw, nothing.
pub fn of(catalog: &Catalog, ranker: i64, items: &[i64]) -> Result<HashMap<i64, Own>> {
    let Some(table) = &catalog.learned else { return Ok(HashMap::new()) };
    let _owner = Acting::as_owner(catalog.owner());
    let sql =
        format!("SELECT l.id, l.into_history, l.as_candidate FROM {table} l WHERE l.ranker = $1 AND l.id = ANY ($2)");
    let args = [Arg::of(ranker), Arg::of(items.to_vec())];
    let rows = spi::query(Mode::Read, &sql, &args, own)?;
    Ok(rows.into_iter().flatten().collect())
}

/// All that a ranker has learnt.
pub fn all(catalog: &Catalog, ranker: i64) -> Result<HashMap<i64, Own>> {
    let Some(table) = &catalog.learned else { return Ok(HashMap::new()) };
    let _owner = Acting::as_owner(catalog.owner());
    let sql = format!("SELECT l.id, l.into_history, l.as_candidate FROM {table} l WHERE l.ranker = $1");
    let rows = spi::query(Mode::Write, &sql, &[Arg::of(ranker)], own)?;
    Ok(rows.into_iter().flatten().collect())
}

fn own(row: &spi::Row) -> Result<Option<(i64, Own)>> {
    let halfvec = vector::types()?.halfvec;
    row.check(2, halfvec)?;
    row.check(3, halfvec)?;
    // SAFETY: the columns are halfvecs.
    let read = |column| row.datum(column).map(|d| unsafe { vector::read_halfvec(d) }).unwrap_or_default();
    let (into, out) = (read(2), read(3));
    let (Some(into), Some((out, bias))) =
        (wide(&into), out.split_last_chunk::<1>().and_then(|(o, b)| Some((wide(o)?, b))))
    else {
        return Ok(None);
    };
    Ok(Some((row.need(1)?, Own { into, out, bias: bias[0] })))
}

fn wide(numbers: &[f32]) -> Option<Wide> {
    <[f32; WIDTH]>::try_from(numbers).ok()
}

/// At most `n` items of those that the scope names, by the shopper's vector, the strongest first.
pub fn wanted(catalog: &Catalog, ranker: i64, shopper: &Wide, n: usize, scope: &Scope) -> Result<Vec<i64>> {
    let Some(table) = &catalog.learned else { return Ok(Vec::new()) };
    let types = vector::types()?;
    let owner = Acting::as_owner(catalog.owner());
    owner.set(c"hnsw.ef_search", &n.clamp(100, 1000).to_string());
    owner.set(c"hnsw.iterative_scan", "strict_order");
    let mut asks = shopper.to_vec();
    asks.push(1.0);
    // Where the items are named, every one of them is compared.
    let (condition, exact, named) = match scope {
        Scope::Only(ids) => ("l.id = ANY ($3)", " + 0", Some(Arg::of(ids.clone()))),
        Scope::All | Scope::Wide => ("true", "", None),
    };
    // The ranker's number is part of its index's condition.
    let sql = format!(
        "SELECT l.id FROM {table} l WHERE l.ranker = {ranker} AND {condition}
         ORDER BY (l.as_candidate OPERATOR({}.<#>) $1){exact} LIMIT $2",
        types.schema
    );
    let mut args = vec![vector::halfvec_arg(&asks, &types), Arg::of(n as i64)];
    args.extend(named);
    spi::query(Mode::ReadCustom, &sql, &args, |row| row.need(1))
}

/// Writes what was learnt under a ranker's number, with an index for retrieval; forgets rankers that are gone.
pub fn keep(
    catalog: &Catalog,
    ranker: i64,
    (table, taught): (&Table, &Taught),
    shared: impl Fn(usize) -> bool,
    control: &dyn Control,
) -> Result<()> {
    let Some(name) = &catalog.learned else { return Ok(()) };
    let _owner = Acting::as_owner(catalog.owner());
    let sql = format!(
        "INSERT INTO {name} (ranker, id, into_history, as_candidate)
         SELECT $1, w.id, w.into_history, w.as_candidate FROM unnest($2, $3, $4) w(id, into_history, as_candidate)"
    );
    // What too few shoppers took is known by its text alone, as in search: their one purchase would show.
    let rows: Vec<usize> = (0..table.len()).filter(|row| shared(*row)).collect();
    for some in rows.chunks(512) {
        control.check()?;
        let ids: Vec<i64> = some.iter().map(|row| table.ids[*row]).collect();
        let into: Vec<HalfVec> = some.iter().map(|row| HalfVec(taught.own(*row).into.to_vec())).collect();
        let out = some.iter().map(|row| {
            let own = taught.own(*row);
            let mut out = own.out.to_vec();
            out.push(own.bias);
            HalfVec(out)
        });
        let out: Vec<HalfVec> = out.collect();
        spi::run(&sql, &[Arg::of(ranker), Arg::of(ids), Arg::of(into), Arg::of(out)])?;
    }
    let schema = vector::types()?.schema;
    spi::execute(&format!(
        "CREATE INDEX ON {name} USING hnsw (as_candidate {schema}.halfvec_ip_ops) WHERE ranker = {ranker}"
    ))?;
    spi::execute(&format!("ANALYZE {name}"))
}

/// Forgets what rankers learnt, with their indexes.
pub fn forget(catalog: &Catalog, rankers: &[i64]) -> Result<()> {
    let Some(name) = &catalog.learned else { return Ok(()) };
    let _owner = Acting::as_owner(catalog.owner());
    for ranker in rankers {
        let sql = "SELECT x.indexrelid::regclass::text FROM pg_index x
            WHERE x.indrelid = $1::regclass AND pg_get_expr(x.indpred, x.indrelid) = format('(ranker = %s)', $2)";
        for index in
            spi::query(Mode::Write, sql, &[Arg::of(name.as_str()), Arg::of(*ranker)], |row| row.need::<String>(1))?
        {
            spi::execute(&format!("DROP INDEX {index}"))?;
        }
        spi::run(&format!("DELETE FROM {name} WHERE ranker = $1"), &[Arg::of(*ranker)])?;
    }
    Ok(())
}
