//! What a rollout is told and what it wants done.

use super::counts::SegmentCounts;
use super::decision::{Decision, Verdict};
use super::settings::{FrozenQuantile, RolloutSettings};
use super::share::Share;
use super::state::State;
use crate::evidence::HardEvidence;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a rollout is, fixed at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub id: String,
    pub model: String,
    pub champion: String,
    pub challenger: String,
    pub settings: RolloutSettings,
    /// One per latency criterion, in their order.
    pub frozen: Vec<FrozenQuantile>,
}

/// Completions carry the step of the action that they complete, and are ignored once the rollout has moved on.
/// Commands carry the step that their sender saw, and are refused then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    Loaded {
        step: u64,
    },
    /// On any node, at any time.
    LoadFailed {
        reason: String,
    },
    Warmed {
        step: u64,
    },
    WarmupFailed {
        step: u64,
        reason: String,
    },
    Shadow {
        step: u64,
        report: ShadowReport,
    },
    Tick(Tick),
    /// The hard-incident rule rejected for the canary; `baseline` is the same rule on the baseline's answers.
    HardIncident {
        canary: HardEvidence,
        baseline: HardEvidence,
    },
    /// The canary broke something that needs no statistics.
    CanaryFault(Fault),
    /// The process was started anew. If `evidence_lost`, counting starts from nothing.
    Restarted {
        evidence_lost: bool,
    },
    Abort {
        expected_step: u64,
        by: String,
        reason: String,
    },
    /// To the next stage, or `all` the way, whatever the evidence.
    PromoteNow {
        expected_step: u64,
        by: String,
        all: bool,
    },
    /// What the rollout asks for.
    Approve {
        expected_step: u64,
        by: String,
    },
    /// From the beginning, after it ended without promotion.
    Retry {
        expected_step: u64,
        by: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Wrong shape or type: an incident at once.
    Contract { detail: String },
    /// NaN or infinite: an incident at the third.
    NonFinite,
    /// An incident at the third within 60 s.
    Crash { detail: String },
}

/// One evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Counts of the segments that changed, each since its beginning.
    pub segments: Vec<SegmentCounts>,
    /// Why not all that happened is in them (restart, a node is missing); no verdict is made of half the counts.
    pub incomplete: Option<String>,
    /// What is wrong with the champion, or with what both arms read.
    pub baseline_alert: Option<String>,
}

/// What the challenger's copies showed, since shadow began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    pub answers: u64,
    pub errors: u64,
    pub contract_violations: u64,
    pub non_finite: u64,
    /// Answers with another label than the champion's.
    pub disagreements: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// Weights went to 0; a person should look now.
    Incident,
    RolledBack,
    /// Time is over.
    Inconclusive,
    /// A person must approve or move.
    DecisionNeeded,
    /// Champion and challenger fail alike: not the challenger's fault.
    BothArmsFail,
    /// No request reaches the canary.
    NoCanaryTraffic,
    /// Outcomes of the arms are matched, or arrive, at different rates.
    OutcomesDiffer,
}

/// In the order in which they are to be performed. Each may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answer with `Loaded { step }` or `LoadFailed`.
    Load {
        step: u64,
        version: String,
    },
    /// Answer with `Warmed { step }` or `WarmupFailed { step }`.
    Warm {
        step: u64,
        version: String,
    },
    /// Answer with `Shadow { step, .. }` every tick.
    StartShadow {
        step: u64,
        version: String,
        share: Share,
    },
    StopShadow,
    /// Route this share to the challenger, at once; counts from here on belong to `segment`.
    SetShare {
        step: u64,
        share: Share,
        segment: u32,
    },
    /// Both hard-incident detectors begin anew.
    ResetHardIncident,
    SetAlias {
        alias: String,
        version: String,
    },
    RaiseAlert {
        kind: AlertKind,
        text: String,
    },
    /// The rollout has ended; pins may go.
    Finish {
        verdict: Verdict,
        reason: String,
    },
}

/// One line of the journal: what came in, what it led to. Inputs alone reproduce all the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// 0 is the start.
    pub seq: u64,
    pub at: Timestamp,
    /// Only in the first entry.
    pub start: Option<Start>,
    /// In all entries but the first.
    pub input: Option<Input>,
    /// Afterwards.
    pub state: State,
    pub step: u64,
    pub share: Share,
    /// Of a tick, and of whatever moved the rollout.
    pub decision: Option<Decision>,
}

/// What an input led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction {
    /// To be made durable before the actions are performed. `None`: the input came too late and changed nothing.
    pub entry: Option<JournalEntry>,
    pub actions: Vec<Action>,
}

/// A command that was not carried out; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The rollout has moved since the sender looked.
    Conflict { expected_step: u64, step: u64, state: State },
    /// Not in this state.
    NotNow { state: State, message: String },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Conflict { expected_step, step, state } => write!(
                f,
                "the rollout has moved on: it is at step {step} ({state}), not {expected_step}; \
                 look at its status and repeat with the present step"
            ),
            Refused::NotNow { state, message } => write!(f, "the rollout is {state}: {message}"),
        }
    }
}
