//! What a single definition may not say, whatever the others are.

use super::transform;
use crate::prediction::Policy;
use crate::problem::Problem;
use crate::project::{Aggregate, Checks, ContextSpec, FeatureSpec};
use crate::time::Span;
use crate::value::ValueType;

/// Findings with a common key prefix.
pub(super) struct At<'a> {
    pub key: String,
    pub problems: &'a mut Vec<Problem>,
}

impl At<'_> {
    pub fn say(&mut self, sub: &str, message: impl Into<String>, hint: impl Into<String>) {
        let key = if sub.is_empty() { self.key.clone() } else { format!("{}.{sub}", self.key) };
        self.problems.push(Problem::new(key, message, hint));
    }
}

/// Whether an aggregate reads a property.
enum Needs {
    Always,
    Perhaps,
    Never,
}

fn needs(a: Aggregate) -> Needs {
    match a {
        Aggregate::Count | Aggregate::Rate | Aggregate::SecondsSinceLast => Needs::Perhaps,
        Aggregate::Share => Needs::Never,
        _ => Needs::Always,
    }
}

/// Whether an aggregate computes with the property's values.
pub(super) fn numeric(a: Aggregate) -> bool {
    matches!(
        a,
        Aggregate::Sum
            | Aggregate::Mean
            | Aggregate::Min
            | Aggregate::Max
            | Aggregate::Std
            | Aggregate::Quantile
            | Aggregate::Ewma
    )
}

/// The type of a windowed feature over a property of type `of`.
pub(super) fn kind(a: Aggregate, of: Option<ValueType>) -> ValueType {
    match a {
        Aggregate::Count | Aggregate::Distinct => ValueType::Int,
        Aggregate::First | Aggregate::Last | Aggregate::Min | Aggregate::Max => of.unwrap_or(ValueType::Float),
        _ => ValueType::Float,
    }
}

/// As the user writes it.
pub(super) fn word(a: Aggregate) -> String {
    serde_json::to_value(a).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
}

pub(super) fn type_word(t: ValueType) -> &'static str {
    match t {
        ValueType::Bool => "bool",
        ValueType::Int => "int",
        ValueType::Float => "float",
        ValueType::Category => "category",
    }
}

/// The settings of a windowed feature against its aggregate.
pub(super) fn window(at: &mut At<'_>, f: &FeatureSpec) {
    let a = word(f.aggregate);
    if f.window <= Span::ZERO {
        at.say("window", "a window must be longer than zero", "such as `window = \"1h\"`");
    }
    if f.hop < Span::ZERO || f.hop > f.window || (f.hop > Span::ZERO && f.window.0 % f.hop.0 != 0) {
        let text = format!("hop {} does not divide the window {}", f.hop, f.window);
        at.say("hop", text, "the window must be a whole number of hops; `hop = \"0s\"` is exact");
    }
    if f.hop > Span::ZERO && f.aggregate == Aggregate::Ewma {
        at.say("hop", "`ewma` needs an exact window", "leave `hop` out");
    }
    match (needs(f.aggregate), &f.property) {
        (Needs::Always, None) => {
            at.say("property", format!("`{a}` needs a property"), "say which property of the event it reads")
        }
        (Needs::Never, Some(_)) => {
            at.say("property", format!("`{a}` takes no property"), "name the property inside `predicate`")
        }
        _ => {}
    }
    let mut only = |name: &str, given: bool, takes: bool, needs: bool, example: &str| {
        if given && !takes {
            at.say(name, format!("`{a}` takes no `{name}`"), "remove it");
        } else if needs && !given {
            at.say(name, format!("`{a}` needs `{name}`"), format!("such as `{name} = {example}`"));
        }
    };
    let is = |x: Aggregate| f.aggregate == x;
    only("q", f.q.is_some(), is(Aggregate::Quantile), is(Aggregate::Quantile), "0.95");
    only("half_life", f.half_life.is_some(), is(Aggregate::Ewma), is(Aggregate::Ewma), "\"1h\"");
    only("predicate", f.predicate.is_some(), is(Aggregate::Share), is(Aggregate::Share), "\"dep_delay > 15.0\"");
    only("unit", f.unit.is_some(), is(Aggregate::Rate) || is(Aggregate::SecondsSinceLast), false, "\"1m\"");
    if f.q.is_some_and(|q| !(0.0..=1.0).contains(&q)) {
        at.say("q", "`q` must be between 0 and 1", "0.5 is the median");
    }
    for (name, span) in [("half_life", f.half_life), ("unit", f.unit)] {
        if span.is_some_and(|s| s <= Span::ZERO) {
            at.say(name, format!("`{name}` must be longer than zero"), "");
        }
    }
}

/// The source and the steps of a context feature.
pub(super) fn context(at: &mut At<'_>, c: &ContextSpec) {
    if c.field.is_some() && c.entity_key.is_some() {
        at.say("entity_key", "a feature comes from a context field or from an entity key, not from both", "remove one");
    }
    let mut kind = c.entity_key.is_some().then_some(ValueType::Category);
    for (i, step) in c.transforms.iter().enumerate() {
        if let Some(wrong) = transform::wrong_settings(step) {
            at.say(&format!("transforms[{i}]"), wrong, "");
        }
        match transform::output(step, kind) {
            Ok(k) => kind = Some(k),
            Err(wrong) => {
                return at.say(
                    &format!("transforms[{i}]"),
                    format!("this step {wrong}"),
                    "change the order of the steps",
                );
            }
        }
    }
    let Some(kind) = kind else { return };
    let number = |k| matches!(k, ValueType::Int | ValueType::Float);
    // Clip and abs keep whatever number comes in.
    if kind != c.kind
        && !(number(kind) && c.kind == ValueType::Float)
        && !(number(kind) && keeps_type(c) && number(c.kind))
    {
        let text = format!("the feature is declared {}, but its steps give {}", type_word(c.kind), type_word(kind));
        at.say("type", text, format!("say `type = \"{}\"`", type_word(kind)));
    }
}

fn keeps_type(c: &ContextSpec) -> bool {
    use crate::project::Transform::{Abs, Clip};
    c.transforms.iter().all(|t| matches!(t, Abs | Clip { .. }))
}

/// `check` of any feature.
pub(super) fn checks(at: &mut At<'_>, kind: ValueType, c: &Checks) {
    let category = kind == ValueType::Category;
    let t = type_word(kind);
    for (name, given) in [("min", c.min.is_some()), ("max", c.max.is_some())] {
        if given && category {
            at.say(&format!("check.{name}"), format!("`{name}` is for numbers; this feature is {t}"), "use `values`");
        }
    }
    if let (Some(min), Some(max)) = (c.min, c.max)
        && min > max
    {
        at.say("check.min", format!("`min` {min} is above `max` {max}"), "swap them");
    }
    for (name, given) in [("values", c.values.is_some()), ("max_length", c.max_length.is_some())] {
        if given && !category {
            at.say(
                &format!("check.{name}"),
                format!("`{name}` is for categories; this feature is {t}"),
                "use `min` and `max`",
            );
        }
    }
    match &c.default {
        Some(d) if !d.fits(kind) => {
            let text = format!("the default {d} is {}, the feature is {t}", d.type_name());
            at.say("check.default", text, "give a value of the feature's type");
        }
        None if c.policy == Some(Policy::Default) => {
            at.say("check.default", "`policy = \"default\"` needs a default", "say which value stands in");
        }
        _ => {}
    }
}
