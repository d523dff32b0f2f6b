//! How often each place of a list is looked at, from the behaviour tables.

use super::interrupt::Backend;
use super::spi;
use crate::control::Control;
use crate::error::Result;
use crate::measure::propensity::Shown;

/// What stood at several places for one query: how often each item was shown and taken at each. `log` is SQL of behaviour as
/// `pg::log` writes it, read as the catalog's owner.
pub fn shown(log: &str, control: &Backend) -> Result<Vec<Shown>> {
    control.progress("positions", 0, 0);
    let sql = format!(
        "SELECT dense_rank() OVER (ORDER BY g.q, g.id), g.place, g.shown, g.clicks, g.taken FROM (
            SELECT h.*, count(*) OVER (PARTITION BY h.q, h.id) AS places FROM (
                SELECT lower(btrim(k.query)) AS q, k.id, k.place, count(*) FILTER (WHERE k.kind = 'impression') AS shown,
                    count(*) FILTER (WHERE k.kind = 'click') AS clicks, count(*) FILTER (WHERE k.weight > 0) AS taken
                FROM ({log}) k WHERE k.place BETWEEN 1 AND 50 AND k.query IS NOT NULL GROUP BY 1, 2, 3) h WHERE h.shown > 0) g
         WHERE g.places > 1"
    );
    let mut rows: Vec<(Shown, f64)> = Vec::new();
    spi::stream(&sql, &[], 4096, |batch| {
        for row in batch {
            let count = |column| row.need::<i64>(column).map(|count| count as f64);
            let place = usize::try_from(row.need::<i32>(2)?).unwrap_or(1);
            rows.push((Shown { what: row.need(1)?, place, shown: count(3)?, taken: count(4)? }, count(5)?));
        }
        control.check()
    })?;
    // A shop that logs no clicks logs what came of them.
    if rows.iter().all(|(row, _)| row.taken == 0.0) {
        rows.iter_mut().for_each(|(row, taken)| row.taken = *taken);
    }
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}
