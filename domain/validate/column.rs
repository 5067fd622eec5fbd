//! The checks of one feature: its declared schema, and the reference it was trained on.

use super::Validation;
use crate::prediction::{Finding, Policy};
use crate::profile::{ProfileKind, QUANTILES, ReferenceProfile};
use crate::project::ProfileSpec;
use crate::value::{Value, ValueType};
use std::collections::HashSet;

/// Stands in a finding for a value that is personal.
pub const WITHHELD: &str = "(withheld)";

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ValueType,
    pub(super) nullable: bool,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) values: Option<HashSet<String>>,
    pub(super) max_length: usize,
    pub(super) policy: Policy,
    /// Null if none was declared.
    pub(super) default: Value,
    pub(super) pii: bool,
}

pub(super) fn type_word(t: ValueType) -> &'static str {
    match t {
        ValueType::Bool => "a bool",
        ValueType::Int => "an int",
        ValueType::Float => "a number",
        ValueType::Category => "text",
    }
}

/// `between 0 and 200`, with open ends left out.
fn range_words(min: f64, max: f64) -> String {
    match (min.is_finite(), max.is_finite()) {
        (true, true) => format!("between {min} and {max}"),
        (true, false) => format!("at least {min}"),
        _ => format!("at most {max}"),
    }
}

impl Column {
    /// The schema rule that `value` breaks, with its words; no allocation when it breaks none.
    pub(super) fn broken(&self, value: &Value) -> Option<(&'static str, String)> {
        if value.is_null() {
            return (!self.nullable).then(|| ("schema.required", format!("{}, not null", type_word(self.kind))));
        }
        if !value.fits(self.kind) || matches!(value, Value::Float(f) if !f.is_finite()) {
            return Some(("schema.type", type_word(self.kind).to_string()));
        }
        if let Some(text) = value.as_str() {
            // Bytes are at least characters: most texts are never counted.
            if text.len() > self.max_length && text.chars().count() > self.max_length {
                return Some(("schema.length", format!("at most {} characters", self.max_length)));
            }
            let values = self.values.as_ref().filter(|v| !v.contains(text))?;
            return Some(("schema.values", list_words(values)));
        }
        let x = value.as_f64()?;
        (x < self.min || x > self.max).then(|| ("schema.range", range_words(self.min, self.max)))
    }

    pub(super) fn check(&self, value: &mut Value, out: &mut Validation) {
        if let Some((rule, expected)) = self.broken(value) {
            self.found(rule, expected, self.policy, value, out);
        }
    }

    /// Records the finding and applies its policy to the value.
    fn found(&self, rule: &str, expected: String, policy: Policy, value: &mut Value, out: &mut Validation) {
        let seen = match policy {
            Policy::Default => std::mem::replace(value, self.default.clone()),
            _ => value.clone(),
        };
        let value = self.shown(seen);
        out.add(Finding { rule: rule.to_string(), feature: Some(self.name.clone()), value, expected, policy });
    }

    /// The value as a finding may show it.
    pub(super) fn shown(&self, value: Value) -> Value {
        if self.pii && !value.is_null() { Value::text(WITHHELD) } else { value }
    }
}

/// Up to eight of the values, in order.
fn list_words(values: &HashSet<String>) -> String {
    let mut sorted: Vec<&str> = values.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let more = sorted.len().saturating_sub(8);
    sorted.truncate(8);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("one of {}{rest}", sorted.join(", "))
}

/// A reference profile prepared for the row-level checks of one model; immutable.
#[derive(Clone, Debug)]
pub struct Reference {
    bounds: Vec<Bounds>,
}

#[derive(Clone, Debug)]
enum Bounds {
    Unchecked,
    Tail { low: f64, high: f64 },
    Seen(HashSet<String>),
}

impl Reference {
    pub(super) fn new(columns: &[Column], profile: &ReferenceProfile, tail: f64) -> Reference {
        let bounds = columns.iter().map(|column| {
            let Some(feature) = profile.features.iter().find(|f| f.name == column.name) else {
                return Bounds::Unchecked;
            };
            match (&feature.kind, column.kind) {
                (ProfileKind::Numeric { quantiles, .. }, ValueType::Int | ValueType::Float) if tail > 0.0 => {
                    tails(quantiles, tail).map_or(Bounds::Unchecked, |(low, high)| Bounds::Tail { low, high })
                }
                // With categories beyond the cap, a name that is not listed may have been seen.
                (ProfileKind::Category { counts }, ValueType::Category)
                    if !counts.is_empty() && feature.others(profile.rows) == 0 =>
                {
                    Bounds::Seen(counts.keys().cloned().collect())
                }
                _ => Bounds::Unchecked,
            }
        });
        Reference { bounds: bounds.collect() }
    }

    pub(super) fn check(&self, i: usize, column: &Column, spec: &ProfileSpec, value: &mut Value, out: &mut Validation) {
        match self.bounds.get(i) {
            Some(Bounds::Tail { low, high }) => {
                if let (Value::Int(_) | Value::Float(_), Some(x)) = (&*value, value.as_f64())
                    && (x < *low || x > *high)
                {
                    let expected = format!("{} as all but the extremes of the reference", range_words(*low, *high));
                    column.found("profile.tail", expected, spec.tail_policy, value, out);
                }
            }
            Some(Bounds::Seen(seen)) => {
                if value.as_str().is_some_and(|t| !seen.contains(t)) {
                    let expected = format!("one of the {} categories of the reference", seen.len());
                    column.found("profile.unseen", expected, spec.unseen_policy, value, out);
                }
            }
            Some(Bounds::Unchecked) | None => {}
        }
    }
}

/// The outermost quantiles that leave at most `tail` beyond each end.
fn tails(quantiles: &[f64], tail: f64) -> Option<(f64, f64)> {
    if quantiles.len() != QUANTILES.len() {
        return None;
    }
    // The grid is symmetric; the slack absorbs the rounding of 1 - q.
    let i = QUANTILES.iter().rposition(|q| *q <= tail.min(0.5) * (1.0 + 1e-9))?;
    Some((quantiles[i], quantiles[QUANTILES.len() - 1 - i]))
}
