//! What the rollout controller is told, in the order in which it passed here; and answers of candidates in shadow.

use super::{GROUP, LINGER, PredictionLogger, WriteGroup};
use crate::rollout::{RolloutFact, RolloutFacts};
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::join::{Change, Joined};
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::rollout::FailedAnswer;
use understudy_domain::time::Timestamp;

/// Facts sent to the rollout controller at once.
const FACTS: usize = 512;

/// Keep what a candidate would have said. It was given to nobody: no join, monitor or count sees it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogShadow {
    pub record: Arc<PredictionRecord>,
}

/// A request of a rollout's arm that was not answered by it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AnswerFailed {
    pub model: Arc<str>,
    pub failed: FailedAnswer,
}

/// Replies when the rollout controller has been sent all that came before.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TellRollouts;

impl PredictionLogger {
    pub(super) fn note_outcome(&mut self, joined: &Joined, at: Timestamp) {
        if self.recovering() || self.board.is_empty() {
            return;
        }
        let label = match joined.change {
            Change::Matured { label } | Change::Amended { to: label, .. } => Some(label),
            Change::Voided { .. } => None,
        };
        self.note(RolloutFact::Outcome { model: joined.model.clone(), id: joined.id, label, at });
    }

    pub(super) fn note(&mut self, fact: RolloutFact) {
        self.facts.push(fact);
        if self.facts.len() >= FACTS {
            self.tell_rollouts();
        }
    }

    pub(super) fn tell_rollouts(&mut self) {
        if !self.facts.is_empty() {
            self.board.tell(RolloutFacts(std::mem::take(&mut self.facts)));
        }
    }
}

impl Handler<LogShadow> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: LogShadow, ctx: &mut Self::Context) {
        if self.deps.predictions.accepting().is_err() {
            return self.deps.counters.dropped();
        }
        if self.state.group.is_empty() {
            ctx.notify_later(WriteGroup, LINGER);
        }
        self.state.group.push(m.record);
        if self.state.group.len() >= GROUP {
            self.write_group();
        }
    }
}

impl Handler<AnswerFailed> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: AnswerFailed, _: &mut Self::Context) {
        self.facts.push(RolloutFact::Failed(m.model, m.failed));
        self.tell_rollouts();
    }
}

impl Handler<TellRollouts> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, _: TellRollouts, _: &mut Self::Context) {
        self.tell_rollouts();
    }
}
