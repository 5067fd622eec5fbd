//! Context features: a field of the request and the steps from it to a feature.

use super::plan::coerce;
use crate::entity::EntityIds;
use crate::fixed_hash;
use crate::project::{ContextSpec, Transform};
use crate::time::{DAY, HOUR, Timestamp};
use crate::value::{Value, ValueType};
use std::collections::BTreeMap;

/// A compiled `[context.NAME]`.
#[derive(Clone)]
pub(super) struct ContextDef {
    kind: ValueType,
    from: From,
    transforms: Vec<Transform>,
}

#[derive(Clone)]
enum From {
    Field(String),
    Key(String),
}

impl ContextDef {
    pub fn new(name: &str, spec: &ContextSpec) -> Self {
        let from = match &spec.entity_key {
            Some(k) => From::Key(k.clone()),
            None => From::Field(spec.field.clone().unwrap_or_else(|| name.to_string())),
        };
        ContextDef { kind: spec.kind, from, transforms: spec.transforms.clone() }
    }

    /// The context field it reads, if it reads one.
    pub fn field(&self) -> Option<&str> {
        match &self.from {
            From::Field(f) => Some(f),
            From::Key(_) => None,
        }
    }

    pub fn value(&self, context: &BTreeMap<String, Value>, ids: &EntityIds) -> Value {
        let raw = match &self.from {
            From::Field(f) => context.get(f).cloned().unwrap_or_default(),
            From::Key(k) => ids.get(k).and_then(|id| id.as_deref()).map(Value::text).unwrap_or_default(),
        };
        coerce(self.transforms.iter().fold(raw, apply), self.kind)
    }
}

/// One step. A value of a type that the step does not take passes unchanged, so that the
/// check of the declared type reports it as it was sent.
fn apply(v: Value, step: &Transform) -> Value {
    if let Value::Text(s) = &v {
        return match step {
            Transform::Lowercase => Value::text(&s.to_lowercase()),
            Transform::Trim => Value::text(s.trim()),
            Transform::HashBucket { buckets } => {
                let h = fixed_hash::of_parts([s.as_bytes()]) as u64;
                Value::Int((h % u64::from(*buckets).max(1)) as i64)
            }
            Transform::HourOfDay => {
                s.parse().map_or(Value::Null, |Timestamp(us)| Value::Int(us.rem_euclid(DAY) / HOUR))
            }
            // The epoch was a Thursday.
            Transform::DayOfWeek => {
                s.parse().map_or(Value::Null, |Timestamp(us)| Value::Int((us.div_euclid(DAY) + 3).rem_euclid(7)))
            }
            _ => v,
        };
    }
    let Some(x) = v.as_f64() else { return v };
    match step {
        Transform::Log1p => finite(if x > -1.0 { x.ln_1p() } else { f64::NAN }),
        Transform::Sqrt => finite(x.sqrt()),
        Transform::Abs => match v {
            Value::Int(i) => i.checked_abs().map_or(Value::Null, Value::Int),
            _ => Value::Float(x.abs()),
        },
        Transform::Scale { by, plus } => finite(x * by + plus),
        Transform::Clip { min, max } if x < *min => Value::Float(*min),
        Transform::Clip { max, .. } if x > *max => Value::Float(*max),
        Transform::Bucket { edges } => Value::Int(edges.partition_point(|e| *e <= x) as i64),
        _ => v,
    }
}

fn finite(x: f64) -> Value {
    if x.is_finite() { Value::Float(x) } else { Value::Null }
}

/// What a step makes of a type; an error in words if it does not take it. `None` is "not known yet".
pub(super) fn output(step: &Transform, input: Option<ValueType>) -> Result<ValueType, &'static str> {
    let text = matches!(
        step,
        Transform::Lowercase
            | Transform::Trim
            | Transform::HashBucket { .. }
            | Transform::HourOfDay
            | Transform::DayOfWeek
    );
    match (text, input) {
        (true, Some(ValueType::Bool | ValueType::Int | ValueType::Float)) => {
            return Err("takes text, but gets a number");
        }
        (false, Some(ValueType::Category)) => return Err("takes a number, but gets text"),
        _ => {}
    }
    Ok(match step {
        Transform::Log1p | Transform::Sqrt | Transform::Scale { .. } => ValueType::Float,
        Transform::Abs | Transform::Clip { .. } => input.unwrap_or(ValueType::Float),
        Transform::Bucket { .. } | Transform::HashBucket { .. } | Transform::HourOfDay | Transform::DayOfWeek => {
            ValueType::Int
        }
        Transform::Lowercase | Transform::Trim => ValueType::Category,
    })
}

/// Settings of a step that cannot be meant.
pub(super) fn wrong_settings(step: &Transform) -> Option<&'static str> {
    match step {
        Transform::Clip { min, max } if min > max => Some("`min` must not be above `max`"),
        Transform::Bucket { edges } if edges.is_empty() => Some("`edges` is empty"),
        Transform::Bucket { edges } if edges.windows(2).any(|w| w[0] >= w[1]) => Some("`edges` must rise"),
        Transform::HashBucket { buckets: 0 } => Some("`buckets` must be at least 1"),
        Transform::Scale { by, plus } if !by.is_finite() || !plus.is_finite() => Some("`by` and `plus` must be finite"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        let edges = Transform::Bucket { edges: vec![0.0, 10.0] };
        let table: Vec<(Value, Transform, Value)> = vec![
            (Value::Null, Transform::Log1p, Value::Null),
            (Value::Float(0.0), Transform::Log1p, Value::Float(0.0)),
            (Value::Float(-1.0), Transform::Log1p, Value::Null),
            (Value::Float(-4.0), Transform::Sqrt, Value::Null),
            (Value::Int(-4), Transform::Abs, Value::Int(4)),
            (Value::Int(4), Transform::Scale { by: 0.5, plus: 1.0 }, Value::Float(3.0)),
            (Value::Int(40), Transform::Clip { min: 0.0, max: 10.0 }, Value::Float(10.0)),
            (Value::Int(-1), edges.clone(), Value::Int(0)),
            (Value::Int(0), edges.clone(), Value::Int(1)),
            (Value::Int(10), edges, Value::Int(2)),
            (Value::text(" Ab "), Transform::Trim, Value::text("Ab")),
            (Value::text("Ab"), Transform::Lowercase, Value::text("ab")),
            (Value::text("2013-04-01T23:59:59Z"), Transform::HourOfDay, Value::Int(23)),
            (Value::text("2013-04-01T23:59:59Z"), Transform::DayOfWeek, Value::Int(0)),
            (Value::text("1969-12-31T23:00:00Z"), Transform::DayOfWeek, Value::Int(2)),
            (Value::text("soon"), Transform::HourOfDay, Value::Null),
            (Value::Int(3), Transform::Trim, Value::Int(3)),
            // Pinned: this number must be the same on every machine and release.
            (
                Value::text("UA"),
                Transform::HashBucket { buckets: 1000 },
                Value::Int((fixed_hash::of_parts([&b"UA"[..]]) as u64 % 1000) as i64),
            ),
        ];
        for (v, step, want) in table {
            assert_eq!(apply(v.clone(), &step), want, "{step:?} of {v}");
        }
    }

    #[test]
    fn declared_type_wins_over_the_spelling_of_the_number() {
        let spec = ContextSpec {
            kind: ValueType::Float,
            field: None,
            entity_key: None,
            transforms: vec![],
            check: Default::default(),
        };
        let context = BTreeMap::from([("distance".to_string(), Value::Int(872))]);
        assert_eq!(ContextDef::new("distance", &spec).value(&context, &EntityIds::new()), Value::Float(872.0));
    }
}
