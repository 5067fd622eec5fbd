//! **Owns** one model's windows: traffic, data quality, scores, matured quality, latency.
//! **Receives** `PredictionsServed`, `OutcomeObserved`, `PredictionExpired` from the prediction logger, `GetReport` from the cells.
//! **Sends** nothing: decisions that need it will ask.
//! **On failure** the caller of a report gets `internal`; serving is unaffected.
//! **On restart** the windows are empty until the prediction logger's next recovery feeds them again.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::fault_point;
use crate::guard::Vitals;
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::catalog::ModelPlan;
use understudy_domain::join::Joined;
use understudy_domain::monitor::{Monitor as Windows, MonitorReport};
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::retraining::Ledger;
use understudy_domain::time::Timestamp;

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

/// The days of the model; `None` for one without a retraining table.
#[derive(Message)]
#[rtype(result = "Option<Ledger>")]
pub struct GetLedger;

#[derive(Message)]
#[rtype(result = "Result<MonitorReport, Refusal>")]
pub struct GetReport {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

pub struct Monitor {
    plan: Arc<ModelPlan>,
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    windows: Windows,
    /// What retraining goes by; only for models that have it.
    ledger: Option<Ledger>,
}

impl Monitor {
    pub fn new(plan: Arc<ModelPlan>, deps: Arc<Deps>, vitals: Arc<Vitals>) -> Self {
        let (windows, ledger) = (fresh(&plan), fresh_ledger(&plan));
        Monitor { plan, deps, vitals, windows, ledger }
    }
}

fn fresh(plan: &ModelPlan) -> Windows {
    let names = plan.signature.features.iter().map(|f| f.name.clone()).collect();
    Windows::new(&plan.spec.name, plan.spec.monitor.clone(), names, plan.spec.outcome.as_ref().map(|o| o.matures_after))
}

fn fresh_ledger(plan: &ModelPlan) -> Option<Ledger> {
    plan.spec.retraining.as_ref().map(|_| Ledger::new(plan.spec.threshold))
}

impl Actor for Monitor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for Monitor {
    fn restarting(&mut self, _: &mut Self::Context) {
        (self.windows, self.ledger) = (fresh(&self.plan), fresh_ledger(&self.plan));
    }
}

impl Handler<PredictionsServed> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionsServed, _: &mut Self::Context) {
        fault_point!("monitor.served");
        for record in &m.0 {
            self.windows.on_served(record);
            if let Some(ledger) = &mut self.ledger {
                ledger.on_served(record.time);
            }
        }
    }
}

impl Handler<PredictionRefused> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionRefused, _: &mut Self::Context) {
        fault_point!("monitor.refused");
        self.windows.on_error(m.time, m.code);
    }
}

impl Handler<OutcomeObserved> for Monitor {
    type Result = ();
    fn handle(&mut self, m: OutcomeObserved, _: &mut Self::Context) {
        fault_point!("monitor.outcome");
        self.windows.on_joined(&m.0);
        if let Some(ledger) = &mut self.ledger {
            ledger.on_joined(&m.0);
        }
    }
}

impl Handler<PredictionExpired> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionExpired, _: &mut Self::Context) {
        fault_point!("monitor.expired");
        self.windows.on_expired(m.time);
    }
}

impl Handler<ResetWindows> for Monitor {
    type Result = ();
    fn handle(&mut self, _: ResetWindows, _: &mut Self::Context) {
        (self.windows, self.ledger) = (fresh(&self.plan), fresh_ledger(&self.plan));
    }
}

impl Handler<GetLedger> for Monitor {
    type Result = MessageResult<GetLedger>;
    fn handle(&mut self, _: GetLedger, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.ledger.clone())
    }
}

impl Handler<GetReport> for Monitor {
    type Result = Result<MonitorReport, Refusal>;
    fn handle(&mut self, m: GetReport, _: &mut Self::Context) -> Self::Result {
        fault_point!("monitor.report");
        Ok(self.windows.report(m.from, m.until, self.deps.clock.now()))
    }
}
