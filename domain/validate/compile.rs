//! From settings to `Rules`, or the list of all that is wrong with them.

use super::column::{Column, type_word};
use super::{Business, Rules};
use crate::expr::Program;
use crate::model::{Signature, SignatureFeature};
use crate::prediction::Policy;
use crate::problem::{Problem, closest};
use crate::project::{Checks, ProfileSpec, RuleSpec};
use crate::value::{Value, ValueType};
use std::collections::BTreeMap;

impl Rules {
    /// Compiles the checks (one per feature, in signature order) and those of `rules` that are for
    /// `model`. A check without a policy rejects: breaking the schema is an error, not an oddity.
    pub fn compile(
        signature: &Signature,
        checks: &[Checks],
        rules: &BTreeMap<String, RuleSpec>,
        model: &str,
        profile_spec: &ProfileSpec,
    ) -> Result<Rules, Vec<Problem>> {
        let mut problems = Vec::new();
        if checks.len() != signature.features.len() {
            let message = format!("{} features but {} checks", signature.features.len(), checks.len());
            problems.push(Problem::new(format!("models.{model}.features"), message, "give one check per feature"));
        }
        if !(0.0..0.5).contains(&profile_spec.tail) {
            problems.push(Problem::new(
                format!("models.{model}.profile.tail"),
                format!("{} is not a share below one half", profile_spec.tail),
                "use 0 (off) or a small share such as 0.0001",
            ));
        }
        let columns = signature.features.iter().zip(checks).map(|(f, c)| column(f, c, &mut problems)).collect();
        let fields: Vec<(String, ValueType)> = signature.features.iter().map(|f| (f.name.clone(), f.kind)).collect();
        let business = rules
            .iter()
            .filter(|(_, r)| r.models.is_empty() || r.models.iter().any(|m| m == model))
            .filter_map(|(name, spec)| business(name, spec, &fields, &mut problems))
            .collect();
        if problems.is_empty() { Ok(Rules { columns, business, profile: profile_spec.clone() }) } else { Err(problems) }
    }
}

fn business(
    name: &str,
    spec: &RuleSpec,
    fields: &[(String, ValueType)],
    problems: &mut Vec<Problem>,
) -> Option<Business> {
    let names = || fields.iter().map(|(n, _)| n.as_str());
    let slot = spec.feature.as_ref().map(|wanted| (wanted, names().position(|n| n == wanted)));
    let mut feature_problem = |message: String, hint: String| {
        problems.push(Problem::new(format!("rules.{name}.feature"), message, hint));
    };
    match slot {
        Some((wanted, None)) => {
            let hint = closest(wanted, names()).map_or(String::new(), |near| format!("did you mean `{near}`?"));
            feature_problem(format!("unknown feature `{wanted}`"), hint);
        }
        None if spec.policy == Policy::Default => feature_problem(
            "policy `default` needs the feature to reset".into(),
            format!("add feature = \"...\" to rules.{name}"),
        ),
        _ => {}
    }
    match Program::compile(&spec.expect, fields, Some(ValueType::Bool)) {
        Ok(program) => Some(Business {
            id: format!("rule.{name}"),
            program,
            expected: spec.message.clone().unwrap_or_else(|| spec.expect.clone()),
            policy: spec.policy,
            slot: slot.and_then(|(_, i)| i),
        }),
        Err(e) => {
            problems.push(Problem::new(format!("rules.{name}.expect"), e.message, e.hint));
            None
        }
    }
}

fn column(feature: &SignatureFeature, checks: &Checks, problems: &mut Vec<Problem>) -> Column {
    let column = Column {
        name: feature.name.clone(),
        kind: feature.kind,
        nullable: feature.nullable,
        min: checks.min.unwrap_or(f64::NEG_INFINITY),
        max: checks.max.unwrap_or(f64::INFINITY),
        values: checks.values.as_ref().map(|v| v.iter().cloned().collect()),
        max_length: checks.max_length.unwrap_or(usize::MAX),
        policy: checks.policy.unwrap_or(Policy::Reject),
        default: lift(checks.default.clone().unwrap_or_default(), feature.kind),
        pii: checks.pii,
    };
    let mut problem = |key: &str, message: String, hint: &str| {
        problems.push(Problem::new(format!("{}.check.{key}", feature.name), message, hint));
    };
    let text = feature.kind == ValueType::Category;
    let kind = type_word(feature.kind);
    if text && (checks.min.is_some() || checks.max.is_some()) {
        problem("min", format!("a feature that is {kind} has no range"), "use `values` or `max_length`");
    }
    if !text && (checks.values.is_some() || checks.max_length.is_some()) {
        problem("values", format!("a feature that is {kind} has no `values` or `max_length`"), "use `min` and `max`");
    }
    if column.min.is_nan() || column.max.is_nan() || column.min > column.max {
        problem("min", format!("no value is between {} and {}", column.min, column.max), "swap min and max?");
    }
    match &checks.default {
        None if column.policy == Policy::Default && !column.nullable => {
            problem(
                "default",
                "policy `default` needs a default, as the feature may not be null".into(),
                "add default",
            );
        }
        Some(default) => {
            if let Some((_, expected)) = column.broken(default) {
                problem("default", format!("the default {default} breaks its own check"), &format!("use {expected}"));
            }
        }
        None => {}
    }
    column
}

/// An int that is the default of a float, as a float.
fn lift(value: Value, kind: ValueType) -> Value {
    match (value, kind) {
        (Value::Int(i), ValueType::Float) => Value::Float(i as f64),
        (value, _) => value,
    }
}
