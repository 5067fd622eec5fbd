//! One evaluation: the score, the guards, and what follows from them.

use super::super::gate::GateKind;
use super::super::guard::{Guard, Situation, guards, looping};
use super::super::ledger::{DAY, Ledger};
use super::super::score::{Drift, Inputs, Reference, Score, score};
use super::super::spec::{Mode, RetrainingSpec, Trigger};
use super::state::{Champion, Reason, State};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// The version that serves, as its manifest describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub version: String,
    /// When it was made.
    pub since: Timestamp,
    /// Time of its newest training row.
    pub cut: Timestamp,
    /// From its held-out rows.
    pub reference: Option<Reference>,
}

/// What an evaluation looks at besides the machine's own state.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub known: Known,
    pub ledger: Ledger,
    /// Outcomes of requests younger than this are not looked at.
    pub matures_after: Span,
    /// `None` where drift is not measured.
    pub drift: Option<Drift>,
    pub incident: Option<String>,
    pub rollout: Option<String>,
    /// A training job of another model that runs on this machine.
    pub busy: Option<String>,
}

/// What followed from an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nothing asks for a job.
    Rest,
    /// Above the threshold, but not often enough yet.
    Persist,
    /// A job would start but for a guard.
    Blocked,
    /// Asked again right after a promotion.
    Loop,
    /// A job would start if the mode were not `advise`.
    Advise,
    Start {
        reason: Reason,
        kind: GateKind,
    },
}

/// One evaluation with its inputs, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub at: Timestamp,
    pub champion: String,
    pub score: Score,
    pub above: bool,
    pub guards: Vec<Guard>,
    pub decision: Decision,
    /// In one line.
    pub line: String,
}

pub fn evaluate(spec: &RetrainingSpec, state: &State, e: &Evidence, now: Timestamp) -> Evaluation {
    let fallback = Champion {
        version: e.known.version.clone(),
        since: e.known.since,
        cut: e.known.cut,
        reference: e.known.reference,
        by_job: None,
    };
    let champion = state.champion.as_ref().unwrap_or(&fallback);
    let mature = (now - e.matures_after).floor(DAY);
    let from = (mature - spec.window).max(champion.since.floor(DAY));
    let days = e.ledger.days(&champion.version, champion.since.floor(DAY), mature);
    let window = e.ledger.cohort(&champion.version, from, mature);
    let score = score(
        spec,
        &Inputs {
            reference: champion.reference,
            window: &window,
            days: &days,
            drift: e.drift.as_ref(),
            age: now - champion.cut,
        },
    );
    let situation = situation(spec, state, e, champion, mature, now);
    let guards = guards(spec, &situation);
    let above = score.value >= spec.threshold;
    let decision = decide(spec, state, &situation, &guards, &score, above, now);
    let line = line(spec, &decision, &score, &guards);
    Evaluation { at: now, champion: champion.version.clone(), score, above, guards, decision, line }
}

fn situation(
    spec: &RetrainingSpec,
    state: &State,
    e: &Evidence,
    champion: &Champion,
    mature: Timestamp,
    now: Timestamp,
) -> Situation {
    let since_cut = e.ledger.all(champion.cut.floor(DAY), mature);
    let from = mature - spec.window;
    let own = state.jobs.values().rev().find(|j| j.state.is_open());
    Situation {
        now,
        finished: state.finished,
        refused: state.refused,
        failed: state.failed,
        rows: since_cut.n,
        minority: since_cut.minority(),
        matched: e.ledger.matched(from, mature).rate(),
        usual: e.ledger.matched(Timestamp(0), from).rate(),
        incident: e.incident.clone(),
        rollout: e.rollout.clone(),
        busy: own.map(|j| format!("job {} is {}", j.id, j.state.name())).or_else(|| e.busy.clone()),
        jobs_last_day: state.started_within(now, DAY),
        jobs_last_week: state.started_within(now, Span::days(7)),
        promoted: state.promoted,
    }
}

fn decide(
    spec: &RetrainingSpec,
    state: &State,
    situation: &Situation,
    guards: &[Guard],
    score: &Score,
    above: bool,
    now: Timestamp,
) -> Decision {
    let own = state.jobs.values().any(|j| j.state.is_open());
    if spec.trigger == Trigger::Monthly {
        let new_month = state.evaluations.back().is_some_and(|last| month(last.at) != month(now));
        return match (new_month, own, spec.mode) {
            (false, ..) => Decision::Rest,
            (true, true, _) => Decision::Blocked,
            (true, false, Mode::Advise) => Decision::Advise,
            (true, false, _) => Decision::Start { reason: Reason::Monthly, kind: GateKind::Improve },
        };
    }
    let earlier = state.above.iter().rev().take(spec.of.saturating_sub(1)).filter(|a| **a).count();
    if !above {
        return Decision::Rest;
    }
    if earlier + 1 < spec.persistence {
        return Decision::Persist;
    }
    if looping(spec, situation) {
        return Decision::Loop;
    }
    if guards.iter().any(|g| !g.holds) {
        return Decision::Blocked;
    }
    if spec.mode == Mode::Advise {
        return Decision::Advise;
    }
    let kind = if score.without_age >= spec.threshold { GateKind::Improve } else { GateKind::Refresh };
    Decision::Start { reason: Reason::Score, kind }
}

fn month(t: Timestamp) -> Option<(i16, i8)> {
    let date = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(t.0).ok()?).date();
    Some((date.year(), date.month()))
}

fn line(spec: &RetrainingSpec, decision: &Decision, score: &Score, guards: &[Guard]) -> String {
    let s = format!("score {:.2} against {:.2}", score.value, spec.threshold);
    let broken = || guards.iter().filter(|g| !g.holds).map(|g| format!("{}: {}", g.name, g.line)).collect::<Vec<_>>();
    match decision {
        Decision::Rest => s,
        Decision::Persist => format!("{s}; {} of the last {} are needed", spec.persistence, spec.of),
        Decision::Blocked => format!("{s}; not now: {}", broken().join("; ")),
        Decision::Loop => {
            format!("{s}; promoted less than {} ago, so the cause is not the model's age", spec.loop_guard)
        }
        Decision::Advise => format!("{s}; a job is advised"),
        Decision::Start { reason: Reason::Monthly, .. } => "the first evaluation of the month".into(),
        Decision::Start { kind: GateKind::Refresh, .. } => format!("{s}; a job starts, to refresh what is old"),
        Decision::Start { .. } => format!("{s}; a job starts"),
    }
}
