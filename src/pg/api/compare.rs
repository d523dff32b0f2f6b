//! `persona.interleave` and what its clicks say.

use super::super::error::door;
use crate::error::{Error, Result};
use crate::measure::interleave::{self, Team};
use crate::measure::interval::{self, Figure};
use pgrx::prelude::*;

/// The draft of two lists: which place of which list stands where.
#[pg_extern(name = "_interleave", immutable, strict, parallel_safe)]
fn draft(
    a: Vec<Option<String>>,
    b: Vec<Option<String>>,
    seed: i64,
    k: i32,
) -> TableIterator<'static, (name!(position, i32), name!(place, i32), name!(team, String))> {
    let picks = door(|| {
        let k = usize::try_from(k).ok().filter(|k| (1..=10_000).contains(k)).ok_or_else(|| Error::InvalidValue {
            place: "argument".into(),
            key: "k".into(),
            reason: "it has to be from 1 to 10000".into(),
        })?;
        let known = |list: &[Option<String>]| -> Vec<(usize, String)> {
            let numbered = list.iter().enumerate();
            numbered.filter_map(|(place, item)| item.clone().map(|item| (place, item))).collect()
        };
        let (a, b) = (known(&a), known(&b));
        let items = |list: &[(usize, String)]| list.iter().map(|(_, item)| item.clone()).collect::<Vec<_>>();
        let picks = interleave::draft(&items(&a), &items(&b), seed as u64, k);
        let place = |at: usize, team: Team| if team == Team::B { b[at].0 } else { a[at].0 };
        Ok(picks.into_iter().map(|(at, team)| (place(at, team), team)).collect::<Vec<_>>())
    });
    TableIterator::new(
        picks
            .into_iter()
            .enumerate()
            .map(|(position, (place, team))| (position as i32 + 1, place as i32 + 1, team.name().to_owned())),
    )
}

/// Whom one search speaks for: 1 for list a, -1 for list b, 0 for neither.
#[pg_extern(name = "_interleave_credit", immutable, strict, parallel_safe)]
fn credit(teams: Vec<Option<String>>) -> i32 {
    door(|| {
        let team = |name: String| {
            Team::parse(&name).ok_or_else(|| Error::InvalidValue {
                place: "argument".into(),
                key: "teams".into(),
                reason: format!("\"{name}\" is no team; known are a, b, both"),
            })
        };
        Ok(interleave::credit(teams.into_iter().flatten().map(team).collect::<Result<Vec<_>>>()?))
    })
}

/// What the credits of many searches say together.
#[pg_extern(name = "_interleave_result", immutable, strict, parallel_safe)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type as it is spelled here
fn result(
    credits: Vec<Option<i32>>,
    seed: i64,
) -> TableIterator<
    'static,
    (
        name!(searches, i64),
        name!(a, i64),
        name!(b, i64),
        name!(ties, i64),
        name!(preference, Option<f64>),
        name!(low, Option<f64>),
        name!(high, Option<f64>),
        name!(p, f64),
    ),
> {
    TableIterator::once(door(|| {
        let credits: Vec<f64> = credits.into_iter().flatten().map(|credit| f64::from(credit.signum())).collect();
        let count = |sign: f64| credits.iter().filter(|credit| **credit == sign).count();
        let (a, b, ties) = (count(1.0), count(-1.0), count(0.0));
        let groups: Vec<usize> = (0..credits.len()).collect();
        let figure = interval::mean(&credits, &groups, seed as u64);
        let of = |part: fn(Figure) -> f64| figure.map(part);
        let p = interval::sign_test(a as u64, b as u64);
        Ok((credits.len() as i64, a as i64, b as i64, ties as i64, of(|f| f.value), of(|f| f.low), of(|f| f.high), p))
    }))
}
