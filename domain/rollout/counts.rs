//! Counts of the two arms: all that a verdict is made of.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    Baseline,
    Canary,
}

/// One arm in one segment, since the segment began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArmCounts {
    pub answers: u64,
    /// Distinct entities that were answered.
    pub entities: u64,
    /// Entities whose first bad answer of the rollout came here.
    pub bad: u64,
    pub first: FirstAnswers,
    /// Per latency criterion: entities whose first slow answer of the rollout came here.
    pub slow: Vec<u64>,
    /// Per outcome criterion.
    pub outcomes: Vec<OutcomeCounts>,
    /// Instance crashes.
    pub crashes: u64,
    /// Outputs of the wrong shape.
    pub contract_violations: u64,
    /// Outputs that are not finite.
    pub non_finite: u64,
}

/// The first answer that each entity got: one trial per entity, with the rate of a single request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FirstAnswers {
    pub answers: u64,
    pub bad: u64,
}

/// Predictions of this arm and segment, by what became of them. Entities, as above; each counts once per field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutcomeCounts {
    /// With a prediction old enough, matched to its outcome or known to have none.
    pub matured: u64,
    /// Of these, with an event.
    pub events: u64,
    /// With an event, matured or not.
    pub early_events: u64,
    /// With a prediction old enough whose outcome is missing.
    pub unmatched: u64,
    /// With an outcome that came within the champion's median delay.
    pub prompt: u64,
}

/// Both arms in one segment: a time with one share and unbroken counting. Counts only grow; outcomes of a segment still
/// come in after it has ended, since they belong to the time of the prediction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentCounts {
    /// Number of the segment, as given by the machine.
    pub segment: u32,
    pub baseline: ArmCounts,
    pub canary: ArmCounts,
}

impl ArmCounts {
    pub fn slow(&self, criterion: usize) -> u64 {
        self.slow.get(criterion).copied().unwrap_or(0)
    }

    pub fn outcome(&self, criterion: usize) -> OutcomeCounts {
        self.outcomes.get(criterion).copied().unwrap_or_default()
    }

    /// Whether no count is smaller than it was.
    pub(super) fn continues(&self, before: &ArmCounts) -> bool {
        let grown = |a: u64, b: u64| a >= b;
        grown(self.answers, before.answers)
            && grown(self.entities, before.entities)
            && grown(self.bad, before.bad)
            && grown(self.first.answers, before.first.answers)
            && grown(self.first.bad, before.first.bad)
            && (0..before.slow.len()).all(|i| grown(self.slow(i), before.slow(i)))
            && (0..before.outcomes.len()).all(|i| {
                let (a, b) = (self.outcome(i), before.outcome(i));
                grown(a.matured, b.matured) && grown(a.events, b.events) && grown(a.unmatched, b.unmatched)
            })
    }
}
