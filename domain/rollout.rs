//! A rollout: the staged move of traffic from the champion to a challenger, decided on evidence.
//!
//! [`Rollout`] is a state machine without time, randomness or I/O. Each input gives a [`Reaction`]: a journal entry, which
//! its owner makes durable first, and the actions to perform then. The journal alone brings the machine back
//! ([`Rollout::replay`]) and lets anyone recompute every verdict.

mod counts;
mod criteria;
mod decision;
mod declared;
mod entities;
mod input;
mod machine;
mod operator;
mod plan;
mod settings;
mod share;
mod state;
mod tally;
mod tick;
mod verdict;

pub use counts::{Arm, ArmCounts, FirstAnswers, OutcomeCounts, SegmentCounts};
pub use criteria::{Criterion, Kind};
pub use decision::{Decision, Reason, Standing, Verdict};
pub use declared::RolloutSpec;
pub use entities::{AnswerFacts, EntityCounter, LatencyLimit, MAX_ENTITIES, OutcomeFacts};
pub use input::{Action, AlertKind, Fault, Input, JournalEntry, Reaction, Refused, ShadowReport, Start, Tick};
pub use machine::{Difference, Rollout};
pub use plan::{LiveOutcome, LiveRates, NeededTime, Plan, PlanStage, plan};
pub use settings::{
    AtInconclusive, Better, Counted, FrozenQuantile, LatencyCriterion, Mode, OutcomeCriterion, RolloutSettings, Unit,
};
pub use share::Share;
pub use state::State;
pub use tally::{Counting, FailedAnswer, LatencySource, Tally};

#[cfg(test)]
mod tests;
