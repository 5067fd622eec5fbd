//! What the rollout controller is told and asked.

use crate::api::Refusal;
use actix::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use understudy_domain::prediction::{PredictionId, PredictionRecord};
use understudy_domain::rollout::{
    AlertKind, Decision, FailedAnswer, Input, JournalEntry, Mode, Plan, RolloutSettings, SegmentCounts, Share, Start,
    State,
};
use understudy_domain::time::{Span, Timestamp};

/// Bring a challenger in.
#[derive(Message)]
#[rtype(result = "Result<RolloutStatus, Refusal>")]
pub struct StartRollout {
    pub model: Arc<str>,
    /// A version; the champion's own tests the settings (A/A).
    pub version: String,
    /// In place of the project's.
    pub settings: RolloutSettings,
    pub fallback: bool,
}

/// What would it need?
#[derive(Message)]
#[rtype(result = "Result<PlanReport, Refusal>")]
pub struct PlanRollout {
    pub model: Arc<str>,
    pub settings: RolloutSettings,
}

/// A person's command; see [`Input`].
#[derive(Message)]
#[rtype(result = "Result<RolloutStatus, Refusal>")]
pub struct CommandRollout {
    pub model: Arc<str>,
    pub command: Input,
}

/// The rollout of a model that runs, or its last one.
#[derive(Message)]
#[rtype(result = "Result<RolloutStatus, Refusal>")]
pub struct GetRollout {
    pub model: Arc<str>,
}

/// A model's rollouts, oldest first, or all.
#[derive(Message)]
#[rtype(result = "Result<Vec<RolloutStatus>, Refusal>")]
pub struct ListRollouts {
    pub model: Option<Arc<str>>,
}

/// Evaluate whatever is due by `upto`; replies when all that follows from it is in force.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct TickRollouts {
    pub upto: Timestamp,
}

/// Replies when nothing is being loaded or put in force, and failed answers are durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SettleRollouts;

/// What happened to the requests of models with a rollout, in the order of the prediction logger.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RolloutFacts(pub Vec<RolloutFact>);

pub enum RolloutFact {
    Served(Arc<PredictionRecord>),
    Failed(Arc<str>, FailedAnswer),
    /// `None` voids the prediction.
    Outcome {
        model: Arc<str>,
        id: PredictionId,
        label: Option<bool>,
        at: Timestamp,
    },
}

/// One line of a rollout's journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalLine {
    pub failed: Option<FailedAnswer>,
    pub entry: Option<JournalEntry>,
}

/// An alert that a rollout raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutAlert {
    pub at: Timestamp,
    pub kind: AlertKind,
    pub text: String,
}

/// Where a rollout stands.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutStatus {
    pub id: String,
    pub model: String,
    pub champion: String,
    pub challenger: String,
    pub state: State,
    /// The state in words.
    pub standing: String,
    /// What commands must name as `expected_step`.
    pub step: u64,
    pub share: Share,
    pub mode: Mode,
    pub ended: bool,
    pub started: Timestamp,
    pub last: Timestamp,
    pub waits_for_approval: bool,
    pub decision: Option<Decision>,
    /// With the 99 % interval of each criterion's ratio (canary to baseline), by name.
    pub intervals: std::collections::BTreeMap<String, [f64; 2]>,
    pub segments: Vec<SegmentCounts>,
    pub shadow: Option<crate::shadow::ShadowComparison>,
    pub alerts: Vec<RolloutAlert>,
    /// Answers that came after their segment was over, and count nowhere.
    pub stragglers: u64,
    pub start: Start,
}

/// A plan, and the rates that it rests on.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    pub model: String,
    pub plan: Plan,
    pub rates: understudy_domain::rollout::LiveRates,
    /// Predictions looked at, and the time they span.
    pub predictions: u64,
    pub over: Span,
    pub settings: RolloutSettings,
}
