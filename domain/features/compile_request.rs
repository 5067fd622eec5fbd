//! The second half of compiling: features that come from the request or from other features.

use super::check;
use super::compile::Builder;
use super::plan::{ExpressionDef, FeatureMeta, FeatureSource, Place};
use super::transform::ContextDef;
use crate::expr::{ExprError, Program};
use crate::value::ValueType;

impl Builder<'_> {
    pub(super) fn contexts(&mut self) -> Vec<ContextDef> {
        let spec = self.spec;
        for (index, (name, c)) in spec.context.iter().enumerate() {
            let key = format!("context.{name}");
            self.claim(name, &key);
            let mut at = self.at(&key);
            check::context(&mut at, c);
            check::checks(&mut at, c.kind, &c.check);
            self.features.push(FeatureMeta {
                name: name.clone(),
                kind: c.kind,
                nullable: c.check.nullable.unwrap_or(false),
                checks: c.check.clone(),
                source: FeatureSource::Context,
                view: None,
                ttl: None,
                place: Place::Context(index),
            });
        }
        spec.context.iter().map(|(name, c)| ContextDef::new(name, c)).collect()
    }

    pub(super) fn expressions(&mut self) -> Vec<ExpressionDef> {
        let spec = self.spec;
        for (index, (name, e)) in spec.expressions.iter().enumerate() {
            let key = format!("expressions.{name}");
            self.claim(name, &key);
            check::checks(&mut self.at(&key), e.kind, &e.check);
            self.features.push(FeatureMeta {
                name: name.clone(),
                kind: e.kind,
                nullable: e.check.nullable.unwrap_or(true),
                checks: e.check.clone(),
                source: FeatureSource::Expression,
                view: None,
                ttl: None,
                place: Place::Expression(index),
            });
        }
        let fields: Vec<(String, ValueType)> = self.features.iter().map(|f| (f.name.clone(), f.kind)).collect();
        let mut made = Vec::new();
        for (name, e) in &spec.expressions {
            match expression(&e.cel, &fields, e.kind) {
                Ok(def) => made.push(def),
                Err((message, hint)) => self.at(format!("expressions.{name}.cel")).say("", message, hint),
            }
        }
        if made.len() == spec.expressions.len() {
            self.cycles(&made);
        }
        made
    }

    /// Expressions that need themselves.
    fn cycles(&mut self, made: &[ExpressionDef]) {
        let first = self.features.len() - made.len();
        let mut ready = vec![false; made.len()];
        // Each round settles the expressions whose inputs are settled; what is left needs itself.
        loop {
            let next = (0..made.len())
                .find(|i| !ready[*i] && made[*i].inputs.iter().all(|f| f.checked_sub(first).is_none_or(|e| ready[e])));
            match next {
                Some(i) => ready[i] = true,
                None => break,
            }
        }
        let stuck: Vec<String> =
            (0..made.len()).filter(|i| !ready[*i]).map(|i| self.features[first + i].name.clone()).collect();
        for name in &stuck {
            let text = format!("the value of `{name}` depends on itself, by way of {}", stuck.join(", "));
            self.at(format!("expressions.{name}.cel")).say("", text, "write one of them in terms of views and context");
        }
    }
}

/// Compiled twice: first to learn which features it reads, then over those alone, so that evaluating
/// it takes a few values and not all.
fn expression(cel: &str, fields: &[(String, ValueType)], kind: ValueType) -> Result<ExpressionDef, (String, String)> {
    let fail = |e: ExprError| (e.message, e.hint);
    let mut inputs = Program::compile(cel, fields, Some(kind)).map_err(fail)?.slots().to_vec();
    inputs.sort_unstable();
    inputs.dedup();
    let few: Vec<(String, ValueType)> = inputs.iter().map(|i| fields[*i].clone()).collect();
    let program = Program::compile(cel, &few, Some(kind)).map_err(fail)?;
    Ok(ExpressionDef { kind, program, inputs })
}
