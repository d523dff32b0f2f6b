//! A filter as SQL: quoted columns, qualified operators, bound values.

use super::companion::{Column, column, ident};
use super::spi::Arg;
use crate::catalog::filter::{Condition, Filter, Operator};
use crate::catalog::rule::text;
use crate::error::{Error, Result};
use serde_json::Value;

/// Conditions on `i`, joined by AND, and the values that they bind from `$first` on.
pub fn sql(filter: &Filter, columns: &[Column], relation: &str, first: usize) -> Result<(String, Vec<Arg>)> {
    let mut parts = Vec::new();
    let mut args = Vec::new();
    for condition in &filter.conditions {
        let column = column(columns, relation, &condition.column)?;
        let (text, arg) = one(condition, column, first + args.len())?;
        parts.push(text);
        args.extend(arg);
    }
    Ok((if parts.is_empty() { "true".into() } else { parts.join(" AND ") }, args))
}

fn one(condition: &Condition, column: &Column, place: usize) -> Result<(String, Option<Arg>)> {
    let name = format!("i.{}", ident(&column.name));
    let kind = &column.shown;
    let compare = |operator: &str| -> Result<(String, Option<Arg>)> {
        Ok((
            format!("{name} OPERATOR(pg_catalog.{operator}) ${place}::pg_catalog.text::{kind}"),
            Some(Arg::of(text(&condition.value))),
        ))
    };
    match condition.operator {
        Operator::Eq => compare("="),
        Operator::Ne => compare("<>"),
        Operator::Lt => compare("<"),
        Operator::Le => compare("<="),
        Operator::Gt => compare(">"),
        Operator::Ge => compare(">="),
        Operator::In | Operator::NotIn => {
            let values: Vec<String> = condition.value.as_array().into_iter().flatten().map(text).collect();
            let (operator, quantifier) = if condition.operator == Operator::In { ("=", "ANY") } else { ("<>", "ALL") };
            Ok((
                format!("{name} OPERATOR(pg_catalog.{operator}) {quantifier} (${place}::pg_catalog.text[]::{kind}[])"),
                Some(Arg::of(values)),
            ))
        }
        Operator::IsNull => {
            let not = if condition.value == Value::Bool(true) { "" } else { "NOT " };
            Ok((format!("{name} IS {not}NULL"), None))
        }
        Operator::Contains => {
            if column.base == pgrx::pg_sys::JSONBOID {
                Ok((
                    format!("{name} OPERATOR(pg_catalog.@>) ${place}::pg_catalog.text::pg_catalog.jsonb"),
                    Some(Arg::of(condition.value.to_string())),
                ))
            } else if column.array {
                let values: Vec<String> = match &condition.value {
                    Value::Array(list) => list.iter().map(text).collect(),
                    value => vec![text(value)],
                };
                Ok((
                    format!("{name} OPERATOR(pg_catalog.@>) ${place}::pg_catalog.text[]::{kind}"),
                    Some(Arg::of(values)),
                ))
            } else {
                Err(Error::InvalidValue {
                    place: "filter".into(),
                    key: column.name.clone(),
                    reason: format!("contains works on arrays and jsonb, and the column is {kind}"),
                })
            }
        }
    }
}
