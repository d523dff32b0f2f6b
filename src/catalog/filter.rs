//! The structured filter: `{"brand": ["HP", "Canon"], "price": {"lt": 100}}`.
//!
//! A filter is data that an application binds as a parameter, so it can be neither SQL nor half-understood: columns
//! and operators are checked, everything else is refused. Conditions are combined by *and*.

use crate::error::{Error, Result};
use serde_json::Value;

/// An operator of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal to the value.
    Eq,
    /// Different from the value; NULL is not different from anything, as in SQL.
    Ne,
    /// Less than the value.
    Lt,
    /// Less than or equal to the value.
    Le,
    /// Greater than the value.
    Gt,
    /// Greater than or equal to the value.
    Ge,
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
    /// NULL (`true`) or not NULL (`false`).
    IsNull,
    /// An array or jsonb column that contains the value.
    Contains,
}

const OPERATORS: [(&str, Operator); 10] = [
    ("eq", Operator::Eq),
    ("ne", Operator::Ne),
    ("lt", Operator::Lt),
    ("le", Operator::Le),
    ("gt", Operator::Gt),
    ("ge", Operator::Ge),
    ("in", Operator::In),
    ("not_in", Operator::NotIn),
    ("is_null", Operator::IsNull),
    ("contains", Operator::Contains),
];

/// One condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The column's name, as the table has it.
    pub column: String,
    /// The operator.
    pub operator: Operator,
    /// The right-hand side: one value, several for `in` and `not_in`.
    pub value: Value,
}

/// Conditions combined by *and*; none lets everything pass.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// The conditions in the order in which they were written.
    pub conditions: Vec<Condition>,
}

impl Filter {
    /// Reads a filter; `null` and `{}` let everything pass.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a shape that has no meaning, [`Error::UnknownKey`] for an unknown operator. Whether
    /// the column exists is for the store to say.
    pub fn read(filter: &Value) -> Result<Filter> {
        let columns = match filter {
            Value::Null => return Ok(Filter::default()),
            Value::Object(columns) => columns,
            _ => return Err(invalid("filter", "it has to be an object of columns")),
        };
        let mut conditions = Vec::new();
        for (column, wanted) in columns {
            match wanted {
                Value::Object(operators) => {
                    if operators.is_empty() {
                        return Err(invalid(column, "it has no operator"));
                    }
                    for (word, value) in operators {
                        conditions.push(condition(column, word, value)?);
                    }
                }
                Value::Array(_) => conditions.push(condition(column, "in", wanted)?),
                Value::Null => conditions.push(condition(column, "is_null", &Value::Bool(true))?),
                _ => conditions.push(condition(column, "eq", wanted)?),
            }
        }
        Ok(Filter { conditions })
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }
}

fn condition(column: &str, word: &str, value: &Value) -> Result<Condition> {
    let operator = OPERATORS.iter().find(|(name, _)| *name == word).map(|(_, operator)| *operator);
    let operator = operator.ok_or_else(|| Error::UnknownKey {
        place: format!("operator of filter column \"{column}\":"),
        key: word.to_owned(),
        known: OPERATORS.iter().map(|(name, _)| (*name).to_owned()).collect(),
    })?;
    let scalar = |v: &Value| matches!(v, Value::String(_) | Value::Number(_) | Value::Bool(_));
    let fits = match operator {
        Operator::In | Operator::NotIn => value.as_array().is_some_and(|list| list.iter().all(scalar)),
        Operator::IsNull => value.is_boolean(),
        Operator::Contains => !value.is_null(),
        _ => scalar(value),
    };
    if !fits {
        let wanted = match operator {
            Operator::In | Operator::NotIn => "it takes a list of strings, numbers or booleans",
            Operator::IsNull => "it takes true or false",
            Operator::Contains => "it takes a value or a list",
            _ => "it takes one string, number or boolean",
        };
        return Err(invalid(column, &format!("{word}: {wanted}")));
    }
    Ok(Condition { column: column.to_owned(), operator, value: value.clone() })
}

fn invalid(key: &str, reason: &str) -> Error {
    Error::InvalidValue { place: "filter".into(), key: key.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn short_forms_mean_the_long_ones() {
        let filter =
            Filter::read(&json!({"brand": ["HP", "Canon"], "price": {"ge": 5, "lt": 100}, "sold": null, "name": "x"}))
                .unwrap();
        let seen: Vec<(&str, Operator)> = filter.conditions.iter().map(|c| (c.column.as_str(), c.operator)).collect();
        assert_eq!(
            seen,
            [
                ("brand", Operator::In),
                ("price", Operator::Ge),
                ("price", Operator::Lt),
                ("sold", Operator::IsNull),
                ("name", Operator::Eq)
            ]
        );
        assert!(Filter::read(&json!({})).unwrap().is_empty());
        assert!(Filter::read(&Value::Null).unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            json!([]),
            json!("brand = 1"),
            json!({"a": {}}),
            json!({"a": {"like": "x"}}),
            json!({"a": {"eq": [1]}}),
            json!({"a": {"eq": null}}),
            json!({"a": {"in": 1}}),
            json!({"a": {"in": [[1]]}}),
            json!({"a": {"is_null": 1}}),
            json!({"a": {"contains": null}}),
        ] {
            assert!(Filter::read(&bad).is_err(), "{bad} passed");
        }
    }
}
