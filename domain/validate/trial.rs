//! Trying rules on recorded rows before they are enforced.

use super::{Reference, Rules};
use crate::prediction::{Policy, PredictionId, Verdict};
use crate::value::Value;
use serde::Serialize;
use std::collections::BTreeMap;

/// Examples kept per rule and side.
const EXAMPLES: usize = 5;

/// What two sets of rules say about the same rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trial {
    pub rows: u64,
    /// Rows refused as a whole.
    pub rejected_old: u64,
    pub rejected_new: u64,
    /// By rule id; a rule that no row broke is not listed.
    pub rules: BTreeMap<String, RuleTrial>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleTrial {
    pub old: Hits,
    pub new: Hits,
}

/// Rows that broke one rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hits {
    /// Under any policy, the rejected ones included.
    pub flagged: u64,
    pub rejected: u64,
    /// The first few.
    pub examples: Vec<PredictionId>,
}

/// Rules with the reference of the version they run beside, if any.
pub type Side<'a> = (&'a Rules, Option<&'a Reference>);

/// Counts per rule what `old` and `new` say about `rows` (logged vectors, in signature order). A
/// row counts once per rule, even if several features break it. The rows are not changed.
pub fn try_rules<V: AsRef<[Value]>>(
    old: Side<'_>,
    new: Side<'_>,
    rows: impl IntoIterator<Item = (PredictionId, V)>,
) -> Trial {
    let mut trial = Trial::default();
    let mut scratch = Vec::new();
    for (id, row) in rows {
        trial.rows += 1;
        let rejected = run(old, id, row.as_ref(), &mut scratch, &mut trial.rules, |t| &mut t.old);
        trial.rejected_old += u64::from(rejected);
        let rejected = run(new, id, row.as_ref(), &mut scratch, &mut trial.rules, |t| &mut t.new);
        trial.rejected_new += u64::from(rejected);
    }
    trial
}

fn run(
    (rules, reference): Side<'_>,
    id: PredictionId,
    row: &[Value],
    scratch: &mut Vec<Value>,
    trials: &mut BTreeMap<String, RuleTrial>,
    side: fn(&mut RuleTrial) -> &mut Hits,
) -> bool {
    scratch.clear();
    scratch.extend_from_slice(row);
    let validation = rules.check(scratch, reference);
    let mut worst: BTreeMap<&str, Policy> = BTreeMap::new();
    for finding in &validation.findings {
        let policy = worst.entry(&finding.rule).or_default();
        *policy = (*policy).max(finding.policy);
    }
    for (rule, policy) in worst {
        let hits = side(trials.entry(rule.to_string()).or_default());
        hits.flagged += 1;
        hits.rejected += u64::from(policy == Policy::Reject);
        if hits.examples.len() < EXAMPLES {
            hits.examples.push(id);
        }
    }
    validation.verdict == Verdict::Rejected
}
