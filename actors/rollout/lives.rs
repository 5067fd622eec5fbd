//! One rollout of one model, as the controller holds it.

use super::shadowing::Resumes;
use super::{JournalLine, RolloutAlert, RolloutStatus, Running};
use crate::ports::{RolloutJournal, StoreError};
use crate::shadow::{ShadowComparison, ShadowTap};
use std::sync::Arc;
use understudy_domain::rollout::{Action, FailedAnswer, JournalEntry, Rollout, Tally};
use understudy_domain::time::{Span, Timestamp};

/// Alerts kept for the status.
const MAX_ALERTS: usize = 100;

pub(super) struct Life {
    pub rollout: Rollout,
    pub tally: Tally,
    pub running: Arc<Running>,
    pub tap: Option<Arc<ShadowTap>>,
    /// Where copying goes on, after a restart.
    pub resumes: Option<Resumes>,
    /// What shadow showed, once it is over.
    pub compared: Option<ShadowComparison>,
    /// Failed answers that no line of the journal has yet.
    pub failed: Vec<FailedAnswer>,
    pub alerts: Vec<RolloutAlert>,
    pub started: Timestamp,
    pub last: Timestamp,
    /// Boundary of the last evaluation.
    pub ticked: Timestamp,
}

impl Life {
    pub fn id(&self) -> &str {
        &self.rollout.started_as().id
    }

    fn every(&self) -> Span {
        self.rollout.started_as().settings.tick
    }

    /// The last boundary at or before `now`.
    pub fn tick_at(&self, now: Timestamp) -> Timestamp {
        now.floor(self.every())
    }

    pub fn next_tick(&self) -> Timestamp {
        self.ticked.floor(self.every()) + self.every()
    }

    /// Failed answers so far and this entry become durable, or nothing does.
    pub fn write(&mut self, journal: &dyn RolloutJournal, entry: Option<JournalEntry>) -> Result<(), StoreError> {
        let mut lines: Vec<JournalLine> =
            self.failed.iter().map(|f| JournalLine { failed: Some(f.clone()), entry: None }).collect();
        let at = entry.as_ref().map(|e| e.at);
        match (lines.last_mut(), entry) {
            // In one line, so that an answer and what followed from it are written together.
            (Some(last), Some(entry)) => last.entry = Some(entry),
            (None, Some(entry)) => lines.push(JournalLine { failed: None, entry: Some(entry) }),
            (_, None) => {}
        }
        if lines.is_empty() {
            return Ok(());
        }
        journal.append(self.id(), &lines)?;
        self.failed.clear();
        self.last = at.unwrap_or(self.last);
        Ok(())
    }

    pub fn alert(&mut self, action: &Action, at: Timestamp) {
        if let Action::RaiseAlert { kind, text } = action {
            let rollout = self.id().to_owned();
            tracing::warn!(rollout, ?kind, "{text}");
            if self.alerts.len() < MAX_ALERTS {
                self.alerts.push(RolloutAlert { at, kind: *kind, text: text.clone() });
            }
        }
    }

    pub fn status(&self) -> RolloutStatus {
        let (r, s) = (&self.rollout, self.rollout.started_as());
        let decision = r.decision().cloned();
        let intervals = decision.iter().flat_map(|d| &d.criteria).filter(|c| !c.segments.is_empty()).map(|c| {
            let i = c.interval(0.01);
            (c.name.clone(), [i.low, i.high])
        });
        RolloutStatus {
            id: s.id.clone(),
            model: s.model.clone(),
            champion: s.champion.clone(),
            challenger: s.challenger.clone(),
            state: r.state(),
            standing: r.state().to_string(),
            step: r.step(),
            share: r.share(),
            mode: s.settings.mode,
            ended: r.state().ended(),
            started: self.started,
            last: self.last,
            waits_for_approval: r.waits_for_approval(),
            intervals: intervals.collect(),
            decision,
            segments: self.tally.segments().to_vec(),
            shadow: self.tap.as_ref().map(|t| t.comparison()).or_else(|| self.compared.clone()),
            alerts: self.alerts.clone(),
            stragglers: self.tally.stragglers,
            start: s.clone(),
        }
    }
}
