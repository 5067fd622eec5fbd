//! **Owns** one model's windows: traffic, data quality, scores, matured quality, latency.
//! **Receives** `PredictionServed`, `OutcomeObserved`, `PredictionExpired` from the prediction logger, `GetReport` from the cells.
//! **Sends** nothing: decisions that need it will ask.
//! **On failure** the caller of a report gets `internal`; serving is unaffected.
//! **On restart** the windows are empty until the prediction logger's next recovery feeds them again.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::guard::{Vitals, guarded};
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::join::Joined;
use understudy_domain::monitor::{Monitor as Windows, MonitorReport};
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::time::Timestamp;

#[derive(Message)]
#[rtype(result = "()")]
pub struct PredictionServed(pub Arc<PredictionRecord>);

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

pub struct Monitor {
    model: String,
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    windows: Windows,
}

impl Monitor {
    pub fn new(model: &str, deps: Arc<Deps>, vitals: Arc<Vitals>) -> Self {
        let windows = fresh(model, &deps);
        Monitor { model: model.to_owned(), deps, vitals, windows }
    }

    fn apply(&mut self, ctx: &mut Context<Self>, change: impl FnOnce(&mut Windows)) {
        let vitals = self.vitals.clone();
        let _ = guarded(self, ctx, &vitals, |monitor, _| {
            change(&mut monitor.windows);
            Ok(())
        });
    }
}

fn fresh(model: &str, deps: &Deps) -> Windows {
    let plan = deps.catalog.model(model).expect("monitors are made from the catalog");
    let names = plan.signature.features.iter().map(|f| f.name.clone()).collect();
    Windows::new(model, plan.spec.monitor.clone(), names, plan.spec.outcome.as_ref().map(|o| o.matures_after))
}

impl Actor for Monitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4096);
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for Monitor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.vitals.restarted(self.deps.wall.now());
        self.windows = fresh(&self.model, &self.deps);
    }
}

impl Handler<PredictionServed> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionServed, ctx: &mut Self::Context) {
        self.apply(ctx, |w| w.on_served(&m.0));
    }
}

impl Handler<PredictionRefused> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionRefused, ctx: &mut Self::Context) {
        self.apply(ctx, |w| w.on_error(m.time, m.code));
    }
}

impl Handler<OutcomeObserved> for Monitor {
    type Result = ();
    fn handle(&mut self, m: OutcomeObserved, ctx: &mut Self::Context) {
        self.apply(ctx, |w| w.on_joined(&m.0));
    }
}

impl Handler<PredictionExpired> for Monitor {
    type Result = ();
    fn handle(&mut self, m: PredictionExpired, ctx: &mut Self::Context) {
        self.apply(ctx, |w| w.on_expired(m.time));
    }
}

impl Handler<ResetWindows> for Monitor {
    type Result = ();
    fn handle(&mut self, _: ResetWindows, _: &mut Self::Context) {
        self.windows = fresh(&self.model, &self.deps);
    }
}

impl Handler<GetReport> for Monitor {
    type Result = Result<MonitorReport, Refusal>;
    fn handle(&mut self, m: GetReport, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        guarded(self, ctx, &vitals, |monitor, _| Ok(monitor.windows.report(m.from, m.until, monitor.deps.clock.now())))
    }
}
