//! Row-level validation: schema, extreme tails, unseen categories, business rules.
//!
//! Everything is precomputed per model (`Rules`) and per model version (`Reference`); a row that
//! breaks nothing costs no allocation. Per column the checks run in this order: type, presence,
//! bounds, reference; then the business rules by name. A value that was replaced by its default is
//! seen in its new form by all later checks.

mod column;
mod compile;
#[cfg(test)]
mod tests;
mod trial;

pub use column::Reference;
pub use trial::{Hits, RuleTrial, Side, Trial, try_rules};

use crate::expr::Program;
use crate::prediction::{Finding, Policy, Verdict};
use crate::profile::ReferenceProfile;
use crate::project::ProfileSpec;
use crate::value::Value;
use column::Column;

/// The compiled checks and business rules of one model.
#[derive(Clone, Debug)]
pub struct Rules {
    columns: Vec<Column>,
    business: Vec<Business>,
    profile: ProfileSpec,
}

#[derive(Clone, Debug)]
struct Business {
    /// `rule.<name>`.
    id: String,
    program: Program,
    expected: String,
    policy: Policy,
    /// The feature that the finding names and `policy = "default"` resets.
    slot: Option<usize>,
}

/// What became of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    /// The worst of the findings' policies.
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
}

impl Validation {
    fn add(&mut self, finding: Finding) {
        self.verdict = self.verdict.max(Verdict::from(finding.policy));
        self.findings.push(finding);
    }
}

impl Rules {
    /// The checks against a version's reference profile, prepared once per version. Columns are
    /// matched by name; one that the profile lacks is not checked.
    ///
    /// Tails: with `tail` = t, a number is extreme when it is strictly beyond the reference's
    /// quantile at t or 1 - t. Where t is not on the grid, the next quantile further out is used:
    /// interpolating could land inside a gap of the distribution and raise more false alarms than t.
    pub fn prepare(&self, profile: &ReferenceProfile) -> Reference {
        Reference::new(&self.columns, profile, self.profile.tail)
    }

    /// Checks `values` (in signature order) and replaces those that meet `policy = "default"`.
    pub fn check(&self, values: &mut [Value], reference: Option<&Reference>) -> Validation {
        let mut out = Validation::default();
        for (i, (column, value)) in self.columns.iter().zip(values.iter_mut()).enumerate() {
            column.check(value, &mut out);
            if let Some(reference) = reference {
                reference.check(i, column, &self.profile, value, &mut out);
            }
        }
        for rule in &self.business {
            if rule.program.eval(values) == Value::Bool(false) {
                self.broken(rule, values, &mut out);
            }
        }
        out
    }

    fn broken(&self, rule: &Business, values: &mut [Value], out: &mut Validation) {
        let slot = rule.slot.filter(|i| *i < values.len());
        out.add(Finding {
            rule: rule.id.clone(),
            feature: slot.map(|i| self.columns[i].name.clone()),
            value: slot.map_or(Value::Null, |i| self.columns[i].shown(values[i].clone())),
            expected: rule.expected.clone(),
            policy: rule.policy,
        });
        if let (Some(i), Policy::Default) = (slot, rule.policy) {
            values[i] = self.columns[i].default.clone();
        }
    }
}
