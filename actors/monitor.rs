//! **Owns** one model's windows: traffic, data quality, scores, matured quality, latency, drift.
//! **Receives** `PredictionsServed`, `OutcomeObserved`, `PredictionExpired` from the prediction logger, `GetReport` and
//! `GetDrift` from the cells.
//! **Sends** alerts of drift that holds; decisions that need more will ask.
//! **On failure** the caller of a report gets `internal`; serving is unaffected.
//! **On restart** after a panic: the last checkpoint, and everything counted since but the input that panicked, which
//! is counted as lost and marked as a gap. After a start: what the prediction logger saved and read again.

mod counts;

pub use counts::{Counts, Input, References, layout};

use crate::api::Refusal;
use crate::deps::Deps;
use crate::fault_point;
use crate::guard::Vitals;
use actix::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::oneshot;
use understudy_domain::alert::{Resolved, Signal};
use understudy_domain::catalog::ModelPlan;
use understudy_domain::drift::{Against, DriftCase, DriftReport, State, WindowDrift};
use understudy_domain::join::Joined;
use understudy_domain::monitor::{Gap, MonitorReport};
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::retraining::Ledger;
use understudy_domain::time::{Span, Timestamp};

/// Inputs (a group of predictions is one) between two checkpoints: what a restart counts again.
const CHECKPOINT_EVERY: usize = 1024;

/// This model's part of a group on its way to the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PredictionsServed(pub Vec<Arc<PredictionRecord>>);

#[derive(Message)]
#[rtype(result = "()")]
pub struct PredictionRefused {
    pub time: Timestamp,
    pub code: &'static str,
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct OutcomeObserved(pub Joined);

#[derive(Message)]
#[rtype(result = "()")]
pub struct PredictionExpired {
    pub time: Timestamp,
}

#[derive(Message)]
#[rtype(result = "Result<MonitorReport, Refusal>")]
pub struct GetReport {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Drift by window; with `feature`, that one alone with both histograms.
#[derive(Message)]
#[rtype(result = "Result<DriftReport, Refusal>")]
pub struct GetDrift {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub feature: Option<String>,
}

/// The newest drift of a feature, with what the windows tell of where it comes from; `None` if it was never judged.
#[derive(Message)]
#[rtype(result = "Result<Option<DriftCase>, Refusal>")]
pub struct GetDriftCase {
    pub feature: String,
    /// Windows that start before it; all if `None`.
    pub until: Option<Timestamp>,
}

/// The days of the model; `None` for one without a retraining table.
#[derive(Message)]
#[rtype(result = "Option<Ledger>")]
pub struct GetLedger;

/// Tell all that is counted, to be saved. Sent without waiting for room, so that it keeps its place among the inputs.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GetCounts(pub oneshot::Sender<SavedCounts>);

/// Counts with the layout they belong to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedCounts {
    pub layout: String,
    /// Inputs were lost: the logs tell more.
    pub gaps: bool,
    pub counts: Counts,
}

/// Go on from these: what was counted before is in them, or was never on record.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RestoreCounts {
    pub counts: Box<Counts>,
    /// Windows that were judged while the logs were read.
    pub judged: Vec<WindowDrift>,
}

pub struct Monitor {
    plan: Arc<ModelPlan>,
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    counts: Counts,
    checkpoint: Counts,
    /// Since the checkpoint, in order.
    since: Vec<Input>,
    /// Inputs of the message that is being handled and not in `since` yet.
    in_hand: u64,
    gaps: Vec<Gap>,
    references: References,
}

impl Monitor {
    pub fn new(plan: Arc<ModelPlan>, deps: Arc<Deps>, vitals: Arc<Vitals>) -> Self {
        let counts = Counts::new(&plan);
        Monitor {
            plan,
            deps,
            vitals,
            checkpoint: counts.clone(),
            counts,
            since: Vec::new(),
            in_hand: 0,
            gaps: Vec::new(),
            references: References::default(),
        }
    }

    fn take(&mut self, input: Input) {
        if self.since.len() >= CHECKPOINT_EVERY {
            self.checkpoint = self.counts.clone();
            self.since.clear();
        }
        if let Input::Served(records) = &input {
            for record in records {
                self.references.learn(&mut self.counts, &self.plan, &self.deps, &record.version);
            }
        }
        self.since.push(input.clone());
        self.in_hand = 0;
        for judged in self.counts.apply(&input) {
            self.tell(&judged);
        }
    }

    /// Quality of the newest mature window, for those who watch.
    fn show_quality(&self, now: Timestamp) {
        let spec = &self.plan.spec;
        let matures = spec.outcome.as_ref().map_or(Span::ZERO, |o| o.matures_after);
        let from = now - matures - spec.monitor.window - spec.monitor.window - spec.monitor.window;
        let report = self.counts.windows.report(Some(from), None, now);
        let Some(w) = report.windows.iter().rev().find(|w| w.mature && w.quality.is_some()) else { return };
        let Some(q) = &w.quality else { return };
        let show = |measure: &str, value: f64| self.deps.counters.quality.set(&[&spec.name, measure], value);
        show("log_loss", q.log_loss);
        show("ece", q.ece);
        show("rate", q.rate);
        show("mean_score", w.scores.mean);
        if let Some(auc) = q.auc {
            show("auc", auc);
        }
    }

    fn tell(&self, judged: &WindowDrift) {
        let model = self.plan.spec.name.as_str();
        self.deps.counters.drift_windows.add(&[model, state_name(judged)], 1);
        for f in &judged.features {
            let against = if f.against == Against::Recent { "recent" } else { "reference" };
            self.deps.counters.drift.set(&[model, &f.feature, against], (f.psi - f.floor).max(0.0));
        }
        self.show_quality(judged.end);
        // After a start the log is counted again: what was long ago was told then.
        let long_ago = judged.end + self.plan.spec.drift.window + self.plan.spec.drift.window < self.deps.clock.now();
        if judged.state != State::Judged || long_ago {
            return;
        }
        match Signal::drift(model, judged, &self.plan.feeds) {
            Some(signal) => self.deps.alerts.raise(signal),
            None => self.deps.alerts.resolve(Resolved::drift(model, judged.end)),
        }
    }
}

fn state_name(judged: &WindowDrift) -> &'static str {
    match judged.state {
        State::NotEnoughData => "not_enough_data",
        State::Open => "open",
        State::Judged => judged.level.name(),
    }
}

impl Actor for Monitor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for Monitor {
    fn restarting(&mut self, _: &mut Self::Context) {
        // What was being counted when it panicked may be what it panics of.
        let lost = match std::mem::take(&mut self.in_hand) {
            0 => self.since.pop().map_or(0, |input| input.inputs()),
            in_hand => in_hand,
        };
        self.counts = self.checkpoint.clone();
        for input in &self.since {
            self.counts.apply(input);
        }
        if lost > 0 {
            self.gaps.push(Gap { at: self.deps.clock.now(), inputs: lost });
        }
    }
}

impl Handler<PredictionsServed> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionsServed, _: &mut Self::Context) {
        self.in_hand = m.0.len() as u64;
        fault_point!("monitor.served");
        self.take(Input::Served(m.0));
    }
}

impl Handler<PredictionRefused> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionRefused, _: &mut Self::Context) {
        self.in_hand = 1;
        fault_point!("monitor.refused");
        self.take(Input::Refused(m.time, m.code));
    }
}

impl Handler<OutcomeObserved> for Monitor {
    type Result = ();
    fn handle(&mut self, m: OutcomeObserved, _: &mut Self::Context) {
        self.in_hand = 1;
        fault_point!("monitor.outcome");
        self.take(Input::Outcome(m.0));
    }
}

impl Handler<PredictionExpired> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionExpired, _: &mut Self::Context) {
        self.in_hand = 1;
        fault_point!("monitor.expired");
        self.take(Input::Expired(m.time));
    }
}

impl Handler<RestoreCounts> for Monitor {
    type Result = ();
    fn handle(&mut self, m: RestoreCounts, _: &mut Self::Context) {
        self.counts = *m.counts;
        self.checkpoint = self.counts.clone();
        self.since.clear();
        self.gaps.clear();
        m.judged.iter().for_each(|judged| self.tell(judged));
    }
}

impl Handler<GetCounts> for Monitor {
    type Result = ();
    fn handle(&mut self, m: GetCounts, _: &mut Self::Context) {
        let _ = m.0.send(SavedCounts {
            layout: layout(&self.plan),
            gaps: !self.gaps.is_empty(),
            counts: self.counts.clone(),
        });
    }
}

impl Handler<GetLedger> for Monitor {
    type Result = MessageResult<GetLedger>;
    fn handle(&mut self, _: GetLedger, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.counts.ledger.clone())
    }
}

impl Handler<GetReport> for Monitor {
    type Result = Result<MonitorReport, Refusal>;
    fn handle(&mut self, m: GetReport, _: &mut Self::Context) -> Self::Result {
        fault_point!("monitor.report");
        let mut report = self.counts.windows.report(m.from, m.until, self.deps.clock.now());
        report.gaps = self.gaps.clone();
        Ok(report)
    }
}

impl Handler<GetDriftCase> for Monitor {
    type Result = Result<Option<DriftCase>, Refusal>;
    fn handle(&mut self, m: GetDriftCase, _: &mut Self::Context) -> Self::Result {
        fault_point!("monitor.report");
        Ok(self.counts.drift.case(&m.feature, m.until))
    }
}

impl Handler<GetDrift> for Monitor {
    type Result = Result<DriftReport, Refusal>;
    fn handle(&mut self, m: GetDrift, _: &mut Self::Context) -> Self::Result {
        fault_point!("monitor.report");
        Ok(self.counts.drift.report(m.from, m.until, m.feature.as_deref()))
    }
}
