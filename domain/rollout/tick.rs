//! One evaluation, and what its verdict does.

use super::criteria::{ALPHA_FLOW, flow, rounded, stand};
use super::decision::{Decision, Reason, Standing, Verdict};
use super::input::{Action, AlertKind, Tick};
use super::machine::Rollout;
use super::settings::{AtInconclusive, Mode};
use super::share::Share;
use super::state::State;
use super::verdict::{Judged, Known, NON_FINITE, judge};
use crate::evidence::threshold;
use crate::time::{Span, Timestamp};

/// Between two ticks no more time than this many ticks is held to have been observed.
const LONGEST_GAP: i64 = 10;

impl Rollout {
    /// Adds the time since the last look. `Some` if the clock went back.
    pub(super) fn observe(&mut self, now: Timestamp) -> Option<Span> {
        let passed = now - self.last_seen;
        self.last_seen = now;
        let counted = Span(passed.0.clamp(0, self.start.settings.tick.0.saturating_mul(LONGEST_GAP)));
        self.in_stage = Span(self.in_stage.0 + counted.0);
        self.calm = Span(self.calm.0 + counted.0);
        if self.state.serving() {
            self.elapsed = Span(self.elapsed.0 + counted.0);
        }
        (passed < Span::ZERO).then_some(Span(-passed.0))
    }

    pub(super) fn on_tick(&mut self, tick: &Tick, now: Timestamp) -> Option<Vec<Action>> {
        if !self.state.serving() {
            return None;
        }
        let back = self.observe(now).map(|by| format!("the clock went back by {by}"));
        let shrunk = self.take_counts(tick);
        let incomplete = tick.incomplete.clone().or(back).or(shrunk);
        let decision = self.evaluate(incomplete.as_deref(), tick.baseline_alert.as_deref());
        let (verdict, because, reason) = (decision.verdict, decision.because, decision.reason.clone());
        self.last = Some(decision);
        let advise = self.start.settings.mode == Mode::Advise;
        Some(match verdict {
            Verdict::Incident if !advise => self.end(State::Incident, AlertKind::Incident, verdict, reason, now),
            Verdict::Rollback if !advise => self.end(State::RolledBack, AlertKind::RolledBack, verdict, reason, now),
            Verdict::Incident => self.alert(AlertKind::Incident, reason).into_iter().collect(),
            Verdict::Rollback => {
                let text = format!("roll back: {reason}");
                self.alert(AlertKind::DecisionNeeded, text).into_iter().collect()
            }
            Verdict::Promote => self.advance(now),
            Verdict::Inconclusive => self.time_over(reason, now),
            Verdict::Hold => self.hold(because, reason),
        })
    }

    fn hold(&mut self, because: Reason, reason: String) -> Vec<Action> {
        self.waiting = because == Reason::Approval;
        let kind = match because {
            Reason::Approval => AlertKind::DecisionNeeded,
            Reason::NoCanaryTraffic => AlertKind::NoCanaryTraffic,
            Reason::MatchRate => AlertKind::OutcomesDiffer,
            _ => return Vec::new(),
        };
        let rejected = self.last.as_ref().is_some_and(|d| d.log_e_assignment >= d.assignment_at);
        if kind == AlertKind::NoCanaryTraffic && !rejected {
            return Vec::new();
        }
        self.alert(kind, reason).into_iter().collect()
    }

    fn time_over(&mut self, reason: String, now: Timestamp) -> Vec<Action> {
        let settings = &self.start.settings;
        let keeps = settings.at_inconclusive == AtInconclusive::Keep || settings.mode == Mode::Advise;
        if keeps {
            return self.alert(AlertKind::Inconclusive, format!("{reason}; the share stays")).into_iter().collect();
        }
        if settings.at_inconclusive == AtInconclusive::PromoteIfTechnical && self.technically_sound() {
            return self.enter_holding(now);
        }
        self.inconclusive(reason, now)
    }

    /// All technical criteria certified, and no outcome that points the wrong way.
    fn technically_sound(&self) -> bool {
        let weak = threshold(0.1);
        let fits = |(c, s): (&super::Criterion, &Standing)| {
            if c.technical() { s.certified } else { s.log_e_worse < weak }
        };
        let decision = self.last.as_ref();
        decision.is_some_and(|d| self.criteria.iter().zip(&d.criteria).all(fits))
            && decision.is_some_and(|d| d.log_e_assignment < d.assignment_at)
    }

    /// Replaces the counts of the segments named. `Some` if one shrank or is unknown: then it is left as it was.
    fn take_counts(&mut self, tick: &Tick) -> Option<String> {
        let mut wrong = None;
        for new in &tick.segments {
            match self.segments.iter_mut().find(|s| s.counts.segment == new.segment) {
                Some(s) if new.canary.continues(&s.counts.canary) && new.baseline.continues(&s.counts.baseline) => {
                    s.counts.clone_from(new);
                }
                Some(_) => wrong = Some(format!("counts of segment {} are smaller than they were", new.segment)),
                // Of a time whose evidence was given up.
                None => {}
            }
        }
        wrong
    }

    /// The verdict on what is known now; changes nothing but the running maxima.
    fn evaluate(&mut self, incomplete: Option<&str>, baseline_alert: Option<&str>) -> Decision {
        let s = &self.start.settings;
        let holding = self.state == State::Holding;
        let mut criteria = Vec::with_capacity(self.criteria.len());
        for (i, c) in self.criteria.iter().enumerate() {
            let required = !holding && self.requires(c.technical());
            criteria.push(stand((i, c), &self.segments, &self.limits, s, self.better_max[i], required));
        }
        let current = self.segments.last();
        if holding {
            // Nothing to compare with: the errors of this time alone, against a limit. Outcomes still mature.
            criteria[0].log_e_worse = rounded(current.map_or(0.0, |c| self.limits.log_e_holding(c)));
        }
        let flows = s.outcomes.iter().enumerate().map(|(i, o)| (o, flow(&self.segments, i)));
        let unmatched =
            flows.filter(|(_, f)| f.log_e_unmatched >= threshold(ALPHA_FLOW)).map(|(o, _)| o.name.as_str()).next();
        let canary = current.map(|c| &c.counts.canary);
        let observed = self.in_stage.as_secs_f64().max(1.0);
        let entities = canary.map_or(0, |c| c.entities);
        // Each stage is a test of its own.
        let alpha_srm = s.alpha_srm / (s.stages.len() - 1) as f64;
        let known = Known {
            criteria: &criteria,
            log_e_assignment: rounded(current.map_or(0.0, |c| c.log_e_assignment())),
            assignment_at: rounded(threshold(alpha_srm)),
            canary_entities: entities,
            contract_violations: canary.map_or(0, |c| c.contract_violations),
            non_finite: canary.map_or(0, |c| c.non_finite).max(self.non_finite),
            crashes: false,
            incomplete,
            baseline_alert,
            unmatched,
            both_arms_fail: self.both_failed,
            calm: self.calm,
            dwell: if holding { s.hold } else { s.dwell() },
            elapsed: if holding { Span::ZERO } else { self.elapsed },
            max_duration: s.max_duration,
            expected_entities: entities as f64 / observed * s.max_duration.as_secs_f64(),
            min_entities: if holding { 0 } else { s.min_entities },
            mode: if holding { Mode::Act } else { s.mode },
        };
        let Judged { verdict, mut because, mut reason } = judge(&known);
        if holding && verdict == Verdict::Promote {
            (because, reason) = (Reason::HoldOver, format!("nothing was wrong for {} at 100%", s.hold));
        }
        debug_assert!(known.non_finite < NON_FINITE || verdict == Verdict::Incident);
        let (log_e_assignment, assignment_at) = (known.log_e_assignment, known.assignment_at);
        let missing = self.missing(&criteria, verdict);
        for (max, c) in self.better_max.iter_mut().zip(&criteria) {
            *max = c.log_e_better_max;
        }
        let (state, share, in_stage, elapsed) = (self.state, self.share, self.in_stage, self.elapsed);
        Decision {
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
            missing,
        }
    }

    /// Whether this stage is left upwards only with technical (or business) criteria certified.
    pub(super) fn requires(&self, technical: bool) -> bool {
        let s = &self.start.settings;
        let from = if technical { s.technical_from } else { s.business_from };
        let last = s.stages.iter().rev().nth(1).copied().unwrap_or(Share::ALL);
        self.share >= from.min(last)
    }

    /// What promotion waits for, with the time it needs if things go on as they did.
    fn missing(&self, criteria: &[Standing], verdict: Verdict) -> Vec<String> {
        if verdict != Verdict::Hold {
            return Vec::new();
        }
        let s = &self.start.settings;
        let dwell = if self.state == State::Holding { s.hold } else { s.dwell() };
        let mut missing = Vec::new();
        for c in criteria.iter().filter(|c| c.required && !c.certified) {
            let more = c.certify_at / c.log_e_better - 1.0;
            missing.push(if c.log_e_better > 0.25 && more.is_finite() {
                let needs = Span::seconds((self.elapsed.as_secs_f64() * more).ceil() as i64);
                format!("{}: {:.0} % of the evidence, about {} more", c.name, 100.0 * c.progress(), coarse(needs))
            } else {
                format!("{}: no evidence for it yet", c.name)
            });
        }
        if self.calm < dwell {
            missing.push(format!("time: {} more", coarse(Span(dwell.0 - self.calm.0))));
        }
        missing
    }
}

/// A time for people: `40s`, `12m`, `3h 20m`, `2d 4h`.
pub(super) fn coarse(span: Span) -> String {
    let s = span.0 / crate::time::SECOND;
    match s {
        ..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}
