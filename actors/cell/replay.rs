//! A recorded stream, in order: every line sees exactly what came before it.

use super::predict::refusal_code;
use super::{Cell, mailbox};
use crate::api::{PredictCommand, Refusal, ReplayedLine, ReplayedPrediction};
use crate::event_logger::{AbandonHeld, CommitHeld, IngestEvents, KnownEvents};
use crate::generation::Generation;
use crate::prediction_logger::{FlushLog, TellRollouts};
use crate::retraining::EvaluateDue;
use crate::rollout::{SettleRollouts, TickRollouts};
use crate::system::System;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use understudy_domain::event::{Event, IngestOutcome};
use understudy_domain::prediction::PredictionId;
use understudy_domain::time::Timestamp;

/// A recorded request waits this long for a model to load, not for a caller.
const REPLAY_DEADLINE: Duration = Duration::from_secs(60);

/// Takes a batch back when dropped, unless it was committed: its events, and the stored answers, whose records
/// the log may not have.
struct Undo(Option<Arc<System>>);

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(system) = &self.0 {
            system.events.do_send(AbandonHeld);
            system.forget_answers();
        }
    }
}

impl Cell {
    /// Folds events and answers requests in the order of the lines. Predictions become durable before the
    /// events of the batch do: a batch that was cut off is sent again and gives the same answers.
    pub async fn replay(&self, lines: Vec<Event>) -> Result<Vec<ReplayedLine>, Refusal> {
        if !self.clock_is_stream() {
            return Err(Refusal::Conflict {
                code: "clock_not_stream",
                detail: "the clock is the wall clock; start the server with clock.source = \"stream\" to replay".into(),
            });
        }
        // Whatever ends it early (an error, a caller that is gone) takes back what was folded and not committed.
        let mut undo = Undo(Some(self.system.clone()));
        let done = self.replay_admitted(lines).await?;
        undo.0 = None;
        Ok(done)
    }

    async fn replay_admitted(&self, lines: Vec<Event>) -> Result<Vec<ReplayedLine>, Refusal> {
        if !self.system.board.is_empty() {
            self.system.rollouts.send(SettleRollouts).await.map_err(mailbox)?;
        }
        let known = self.system.events.send(KnownEvents { ids: lines.iter().map(Event::id_hash).collect() });
        let known = known.await.map_err(mailbox)??;
        let mut done = Vec::with_capacity(lines.len());
        let mut waiting = Vec::new();
        for (event, known) in lines.into_iter().zip(known) {
            if !known && self.system.board.is_due(event.time) {
                self.fold(&mut waiting, &mut done).await?;
                self.evaluate(event.time).await?;
            }
            let mut predictions = Vec::new();
            // What is evaluated at a date has seen all before it and nothing after; it is durable, so that a batch that
            // is cut off later is sent again without being evaluated again.
            while self.evaluation_due(&event) {
                self.fold(&mut waiting, &mut done).await?;
                self.commit_replayed().await?;
                self.evaluate_models(&event).await?;
            }
            // Each line takes the generation anew: what it folds into must be what the next line reads.
            if !self.generation().catalog.requested_by(&event.kind).is_empty() {
                self.fold(&mut waiting, &mut done).await?;
                predictions = self.predict_line(&self.generation(), &event, known).await?;
            }
            waiting.push((event, predictions));
        }
        self.fold(&mut waiting, &mut done).await?;
        self.commit_replayed().await?;
        Ok(done)
    }

    /// Predictions first: a batch that was cut off is sent again and gives the same answers.
    async fn commit_replayed(&self) -> Result<(), Refusal> {
        self.system.logger.send(FlushLog).await.map_err(mailbox)??;
        if !self.system.board.is_empty() {
            self.system.rollouts.send(SettleRollouts).await.map_err(mailbox)?;
        }
        if let Some(commit) = self.system.events.send(CommitHeld).await.map_err(mailbox)?? {
            self.committed(commit).await?;
        }
        Ok(())
    }

    /// Rollouts are evaluated before the first line of the time at which they are due, on all that came before it and
    /// nothing else; what they rest on is durable by then. So neither batches nor restarts change a decision.
    async fn evaluate(&self, upto: Timestamp) -> Result<(), Refusal> {
        self.system.logger.send(TellRollouts).await.map_err(mailbox)?;
        self.commit_replayed().await?;
        self.system.rollouts.send(TickRollouts { upto }).await.map_err(mailbox)?
    }

    /// Requests carry the clock of a stream; other events may be late.
    fn evaluation_due(&self, event: &Event) -> bool {
        event.time.0 >= self.system.retraining_due.load(Relaxed)
            && !self.generation().catalog.requested_by(&event.kind).is_empty()
    }

    /// At the date itself; the first time of all, at the event's.
    async fn evaluate_models(&self, event: &Event) -> Result<(), Refusal> {
        let due = self.system.retraining_due.load(Relaxed);
        let now = if due == i64::MIN { event.time } else { Timestamp(due) };
        self.system.retraining.send(EvaluateDue { now }).await.map_err(mailbox)?
    }

    async fn fold(
        &self,
        waiting: &mut Vec<(Event, Vec<ReplayedPrediction>)>,
        done: &mut Vec<ReplayedLine>,
    ) -> Result<(), Refusal> {
        if waiting.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::with_capacity(waiting.len());
        let events = waiting
            .drain(..)
            .map(|(event, predictions)| {
                let ingest = IngestOutcome::Duplicate { seq: 0 };
                lines.push(ReplayedLine { id: event.id.clone(), ingest, predictions });
                event
            })
            .collect();
        let taken = self.system.events.send(IngestEvents { events, hold: true }).await.map_err(mailbox)??;
        for (line, outcome) in lines.iter_mut().zip(taken.outcomes) {
            line.ingest = outcome;
        }
        done.append(&mut lines);
        Ok(())
    }

    /// Asks every model whose request this line is. An event that is known was answered, durably, before it was logged.
    /// What a fault of ours refused ends the batch, which is sent again: the line would be known then, and its
    /// prediction never made.
    async fn predict_line(
        &self,
        generation: &Generation,
        event: &Event,
        known: bool,
    ) -> Result<Vec<ReplayedPrediction>, Refusal> {
        let mut predictions = Vec::new();
        for model in generation.catalog.requested_by(&event.kind) {
            let name = &model.spec.name;
            if known {
                let id = PredictionId::of_request(event.time, name, &event.id);
                predictions.push(ReplayedPrediction {
                    model: name.clone(),
                    id: Some(id.to_string()),
                    score: None,
                    refused: Some("duplicate".into()),
                });
                continue;
            }
            // An event may carry more than the request would: what no context feature reads is left out.
            let mut context = event.properties.clone();
            for field in generation.catalog.plan.unknown_context(&event.properties) {
                context.remove(field);
            }
            let command = PredictCommand {
                model: name.clone(),
                request_id: Some(event.id.clone()),
                time: Some(event.time),
                entities: event.entities.clone(),
                context,
                ..PredictCommand::default()
            };
            predictions.push(match self.predict(generation, command, REPLAY_DEADLINE).await {
                Ok(answer) => ReplayedPrediction {
                    model: name.clone(),
                    id: Some(answer.record.id.to_string()),
                    score: Some(answer.record.score),
                    refused: None,
                },
                Err(
                    refusal @ (Refusal::Internal { .. }
                    | Refusal::Unavailable { .. }
                    | Refusal::Overloaded { .. }
                    | Refusal::Deadline),
                ) => return Err(refusal),
                Err(refusal) => ReplayedPrediction {
                    model: name.clone(),
                    id: None,
                    score: None,
                    refused: Some(refusal_code(&refusal).to_owned()),
                },
            });
        }
        Ok(predictions)
    }
}
