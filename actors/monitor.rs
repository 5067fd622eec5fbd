//! **Owns** one model's windows: traffic, data quality, scores, matured quality, latency, drift.
//! **Receives** `PredictionsServed`, `OutcomeObserved`, `PredictionExpired` from the prediction logger, `GetReport` and
//! `GetDrift` from the cells.
//! **Sends** alerts of drift that holds; decisions that need more will ask.
//! **On failure** the caller of a report gets `internal`; serving is unaffected.
//! **On restart** after a panic: the last checkpoint, and everything counted since but the input that panicked, which
//! is counted as lost and marked as a gap. After a start: what the prediction logger's recovery feeds.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::fault_point;
use crate::guard::Vitals;
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::alert::{Resolved, Signal};
use understudy_domain::catalog::ModelPlan;
use understudy_domain::drift::{DriftReport, State, Watch, WindowDrift};
use understudy_domain::join::Joined;
use understudy_domain::monitor::{Gap, Monitor as Windows, MonitorReport};
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::retraining::Ledger;
use understudy_domain::time::Timestamp;

/// Inputs (a group of predictions is one) between two checkpoints: what a restart counts again.
const CHECKPOINT_EVERY: usize = 1024;
/// Times that a version's reference is asked for before it counts as having none.
const PROFILE_TRIES: u32 = 3;

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

/// The prediction logger is about to feed everything again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ResetWindows;

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

/// What changes the counts.
#[derive(Clone)]
enum Input {
    Served(Vec<Arc<PredictionRecord>>),
    Refused(Timestamp, &'static str),
    Outcome(Joined),
    Expired(Timestamp),
}

impl Input {
    fn len(&self) -> u64 {
        match self {
            Input::Served(records) => records.len() as u64,
            _ => 1,
        }
    }
}

/// The days of the model; `None` for one without a retraining table.
#[derive(Message)]
#[rtype(result = "Option<Ledger>")]
pub struct GetLedger;

/// The counts, and what is needed to have them again after a panic.
#[derive(Clone)]
struct Counts {
    windows: Windows,
    drift: Watch,
    /// What retraining goes by; only for models that have it.
    ledger: Option<Ledger>,
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
    /// Failed attempts to read a version's reference.
    unread: BTreeMap<String, u32>,
}

impl Monitor {
    pub fn new(plan: Arc<ModelPlan>, deps: Arc<Deps>, vitals: Arc<Vitals>) -> Self {
        let counts = fresh(&plan);
        Monitor {
            plan,
            deps,
            vitals,
            checkpoint: counts.clone(),
            counts,
            since: Vec::new(),
            in_hand: 0,
            gaps: Vec::new(),
            unread: BTreeMap::new(),
        }
    }

    fn take(&mut self, input: Input) {
        if self.since.len() >= CHECKPOINT_EVERY {
            self.checkpoint = self.counts.clone();
            self.since.clear();
        }
        if let Input::Served(records) = &input {
            for record in records {
                self.learn_reference(&record.version);
            }
        }
        self.since.push(input.clone());
        self.in_hand = 0;
        for judged in apply(&mut self.counts, &input) {
            self.tell(&judged);
        }
    }

    /// The reference of a version that has not been seen before. Read here, once per version: after a restart the
    /// windows come from the log, and the log only names versions.
    fn learn_reference(&mut self, version: &str) {
        if self.counts.drift.knows(version) {
            return;
        }
        match self.deps.loader.profile(&self.plan.spec.name, version) {
            Ok(profile) => self.counts.drift.follow(version, profile.drift.map(Arc::new)),
            Err(e) => {
                let tries = self.unread.entry(version.to_owned()).or_default();
                *tries += 1;
                if *tries >= PROFILE_TRIES {
                    tracing::warn!(model = self.plan.spec.name, version, %e, "no reference: its drift is not known");
                    self.counts.drift.follow(version, None);
                }
            }
        }
    }

    fn tell(&self, judged: &WindowDrift) {
        let model = self.plan.spec.name.as_str();
        self.deps.counters.drift_windows.add(&[model, state_name(judged)], 1);
        // After a start the log is counted again: what was long ago was told then.
        let long_ago = judged.end + self.plan.spec.drift.window + self.plan.spec.drift.window < self.deps.clock.now();
        if judged.state != State::Judged || long_ago {
            return;
        }
        match Signal::drift(model, judged, None) {
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

fn apply(counts: &mut Counts, input: &Input) -> Vec<WindowDrift> {
    match input {
        Input::Served(records) => {
            let mut judged = Vec::new();
            for record in records {
                counts.windows.on_served(record);
                if let Some(ledger) = &mut counts.ledger {
                    ledger.on_served(record.time);
                }
                judged.extend(counts.drift.on_served(record));
            }
            return judged;
        }
        Input::Refused(time, code) => counts.windows.on_error(*time, code),
        Input::Outcome(joined) => {
            counts.windows.on_joined(joined);
            if let Some(ledger) = &mut counts.ledger {
                ledger.on_joined(joined);
            }
        }
        Input::Expired(time) => counts.windows.on_expired(*time),
    }
    Vec::new()
}

fn fresh(plan: &ModelPlan) -> Counts {
    let (name, spec) = (&plan.spec.name, &plan.spec);
    let names = plan.signature.features.iter().map(|f| f.name.clone()).collect();
    let matures = spec.outcome.as_ref().map(|o| o.matures_after);
    Counts {
        windows: Windows::new(name, spec.monitor.clone(), names, matures),
        drift: Watch::new(name, spec.drift.clone()),
        ledger: spec.retraining.as_ref().map(|_| Ledger::new(spec.threshold)),
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
            0 => self.since.pop().map_or(0, |input| input.len()),
            in_hand => in_hand,
        };
        self.counts = self.checkpoint.clone();
        for input in &self.since {
            apply(&mut self.counts, input);
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

impl Handler<ResetWindows> for Monitor {
    type Result = ();
    fn handle(&mut self, _: ResetWindows, _: &mut Self::Context) {
        self.counts = fresh(&self.plan);
        self.checkpoint = self.counts.clone();
        self.since.clear();
        self.gaps.clear();
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

impl Handler<GetDrift> for Monitor {
    type Result = Result<DriftReport, Refusal>;
    fn handle(&mut self, m: GetDrift, _: &mut Self::Context) -> Self::Result {
        fault_point!("monitor.report");
        Ok(self.counts.drift.report(m.from, m.until, m.feature.as_deref()))
    }
}
