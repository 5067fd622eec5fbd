//! Changes of state, and the commands of people.

use super::criteria::Limits;
use super::decision::{Decision, Reason, Verdict};
use super::input::{Action, AlertKind, Input, Refused};
use super::machine::Rollout;
use super::share::Share;
use super::state::State;
use crate::time::{Span, Timestamp};

/// After the final promotion the challenger may err this many times as often as the champion did.
const HOLDING_MARGIN: f64 = 2.0;

impl Rollout {
    pub(super) fn on_command(&mut self, command: &Input, now: Timestamp) -> Result<Vec<Action>, Refused> {
        let (Input::Abort { expected_step, .. }
        | Input::PromoteNow { expected_step, .. }
        | Input::Approve { expected_step, .. }
        | Input::Retry { expected_step, .. }) = command
        else {
            return Ok(Vec::new());
        };
        let (state, step) = (self.state, self.step);
        if *expected_step != step {
            return Err(Refused::Conflict { expected_step: *expected_step, step, state });
        }
        let refused = |message: &str| Err(Refused::NotNow { state, message: message.to_owned() });
        match command {
            Input::Abort { by, reason, .. } if !state.ended() => {
                Ok(self.roll_back(Reason::Operator, format!("aborted by {by}: {reason}"), now))
            }
            Input::Abort { .. } => refused("it has ended, there is nothing to abort"),
            Input::PromoteNow { by, all, .. } => {
                let text = format!("promoted by {by}, whatever the evidence");
                match state {
                    State::Shadow | State::Stage(_) | State::Holding => {
                        self.record(Verdict::Promote, Reason::Operator, text)
                    }
                    _ => return refused("it can be promoted while it shadows, serves or holds"),
                }
                Ok(match state {
                    State::Shadow if *all => [vec![Action::StopShadow], self.enter_holding(now)].concat(),
                    State::Shadow => [vec![Action::StopShadow], self.enter_stage(0, now)].concat(),
                    State::Stage(_) if *all => self.enter_holding(now),
                    _ => self.advance(now),
                })
            }
            Input::Approve { by, .. } if self.waiting && matches!(state, State::Stage(_)) => {
                self.record(Verdict::Promote, Reason::Operator, format!("approved by {by}"));
                Ok(self.advance(now))
            }
            Input::Approve { .. } => refused("it does not ask for approval"),
            Input::Retry { .. } if state.ended() && state != State::Promoted => Ok(self.begin_again(now)),
            _ => refused("only a rollout that ended without promotion can be tried again"),
        }
    }

    /// Another state; the step grows, and what was asked or told belongs to the past.
    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        self.step += 1;
        (self.in_stage, self.calm, self.both_failed) = (Span::ZERO, Span::ZERO, false);
        self.waiting = false;
        self.alerted.clear();
    }

    pub(super) fn set_share(&self) -> Action {
        Action::SetShare { step: self.step, share: self.share, segment: self.segment().unwrap_or(0) }
    }

    pub(super) fn enter_stage(&mut self, stage: u32, now: Timestamp) -> Vec<Action> {
        self.enter(State::Stage(stage));
        self.share = self.start.settings.stages[stage as usize];
        self.last_seen = now;
        self.open_segment();
        vec![self.set_share()]
    }

    pub(super) fn enter_holding(&mut self, now: Timestamp) -> Vec<Action> {
        let first = self.segments.iter().map(|s| s.counts.baseline.first);
        let (bad, answers) = first.fold((0, 0), |(b, n), f| (b + f.bad, n + f.answers));
        let rate = if answers == 0 { 0.0 } else { bad as f64 / answers as f64 };
        let limit = self.start.settings.error_limit;
        self.limits = Limits::new(limit, limit.max(HOLDING_MARGIN * rate).min(0.5));
        self.enter(State::Holding);
        self.share = Share::ALL;
        self.last_seen = now;
        self.open_segment();
        let mut actions = vec![self.set_share()];
        if self.start.settings.hold.0 <= 0 {
            actions.extend(self.promoted());
        }
        actions
    }

    /// One stage further.
    pub(super) fn advance(&mut self, now: Timestamp) -> Vec<Action> {
        match self.state {
            State::Stage(i) if i as usize + 2 < self.start.settings.stages.len() => self.enter_stage(i + 1, now),
            State::Stage(_) => self.enter_holding(now),
            _ => self.promoted(),
        }
    }

    fn promoted(&mut self) -> Vec<Action> {
        self.enter(State::Promoted);
        let mut actions = self.promotion();
        let reason = self.last.as_ref().map(|d| d.reason.clone()).unwrap_or_default();
        actions.push(Action::Finish { verdict: Verdict::Promote, reason });
        actions
    }

    pub(super) fn promotion(&self) -> Vec<Action> {
        let set = |alias: &str, version: &str| Action::SetAlias { alias: alias.into(), version: version.into() };
        vec![set("previous", &self.start.champion), set("champion", &self.start.challenger)]
    }

    pub(super) fn incident(&mut self, because: Reason, text: String, now: Timestamp) -> Vec<Action> {
        self.record(Verdict::Incident, because, text.clone());
        self.end(State::Incident, AlertKind::Incident, Verdict::Incident, text, now)
    }

    pub(super) fn roll_back(&mut self, because: Reason, text: String, now: Timestamp) -> Vec<Action> {
        self.record(Verdict::Rollback, because, text.clone());
        self.end(State::RolledBack, AlertKind::RolledBack, Verdict::Rollback, text, now)
    }

    pub(super) fn inconclusive(&mut self, text: String, now: Timestamp) -> Vec<Action> {
        if !self.last.as_ref().is_some_and(|d| d.verdict == Verdict::Inconclusive) {
            self.record(Verdict::Inconclusive, Reason::TimeOver, text.clone());
        }
        self.end(State::Inconclusive, AlertKind::Inconclusive, Verdict::Inconclusive, text, now)
    }

    /// Weights to 0, then all the rest.
    pub(super) fn end(
        &mut self,
        state: State,
        kind: AlertKind,
        verdict: Verdict,
        reason: String,
        now: Timestamp,
    ) -> Vec<Action> {
        let shadowed = self.state == State::Shadow;
        self.enter(state);
        self.share = Share::ZERO;
        self.last_seen = now;
        let mut actions = vec![self.set_share()];
        if shadowed {
            actions.push(Action::StopShadow);
        }
        actions.extend(self.alert(kind, reason.clone()));
        actions.push(Action::Finish { verdict, reason });
        actions
    }

    /// A second attempt with the same settings; evidence of the first is not used.
    fn begin_again(&mut self, now: Timestamp) -> Vec<Action> {
        self.forget_evidence();
        self.enter(State::Loading);
        self.elapsed = Span::ZERO;
        self.last_seen = now;
        self.crashes.clear();
        self.non_finite = 0;
        self.last = None;
        vec![Action::Load { step: self.step, version: self.start.challenger.clone() }]
    }

    /// Told once in a state.
    pub(super) fn alert(&mut self, kind: AlertKind, text: String) -> Option<Action> {
        self.alerted.insert(kind).then_some(Action::RaiseAlert { kind, text })
    }

    /// A decision outside of a tick: the last known evidence with this verdict.
    pub(super) fn record(&mut self, verdict: Verdict, because: Reason, reason: String) {
        let (criteria, log_e_assignment, assignment_at) =
            self.last.take().map_or((Vec::new(), 0.0, 0.0), |d| (d.criteria, d.log_e_assignment, d.assignment_at));
        let (state, share, in_stage, elapsed) = (self.state, self.share, self.in_stage, self.elapsed);
        self.last = Some(Decision {
            state,
            share,
            in_stage,
            elapsed,
            criteria,
            log_e_assignment,
            assignment_at,
            verdict,
            because,
            reason,
            missing: Vec::new(),
        });
    }
}
