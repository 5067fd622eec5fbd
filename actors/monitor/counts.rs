//! What a monitor counts: one value, so that it can be copied, saved, and rebuilt from the logs without the actor.

use crate::deps::Deps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::catalog::ModelPlan;
use understudy_domain::drift::{Watch, WindowDrift};
use understudy_domain::fixed_hash;
use understudy_domain::join::Joined;
use understudy_domain::monitor::Monitor as Windows;
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::retraining::Ledger;
use understudy_domain::time::Timestamp;

/// Times that a version's reference is asked for before it counts as having none.
const PROFILE_TRIES: u32 = 3;

/// What changes the counts.
#[derive(Clone)]
pub enum Input {
    Served(Vec<Arc<PredictionRecord>>),
    Refused(Timestamp, &'static str),
    Outcome(Joined),
    Expired(Timestamp),
}

impl Input {
    pub fn inputs(&self) -> u64 {
        match self {
            Input::Served(records) => records.len() as u64,
            _ => 1,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counts {
    pub windows: Windows,
    pub drift: Watch,
    /// What retraining goes by; only for models that have it.
    pub ledger: Option<Ledger>,
}

impl Counts {
    pub fn new(plan: &ModelPlan) -> Counts {
        let (name, spec) = (&plan.spec.name, &plan.spec);
        let names = plan.signature.features.iter().map(|f| f.name.clone()).collect();
        let matures = spec.outcome.as_ref().map(|o| o.matures_after);
        Counts {
            windows: Windows::new(name, spec.monitor.clone(), names, matures),
            drift: Watch::new(name, spec.drift.clone()),
            ledger: spec.retraining.as_ref().map(|_| Ledger::new(spec.threshold)),
        }
    }

    /// Counts, and says which windows were judged by it.
    pub fn apply(&mut self, input: &Input) -> Vec<WindowDrift> {
        match input {
            Input::Served(records) => {
                let mut judged = Vec::new();
                for record in records {
                    self.windows.on_served(record);
                    if let Some(ledger) = &mut self.ledger {
                        ledger.on_served(record.time);
                    }
                    judged.extend(self.drift.on_served(record));
                }
                return judged;
            }
            Input::Refused(time, code) => self.windows.on_error(*time, code),
            Input::Outcome(joined) => {
                self.windows.on_joined(joined);
                if let Some(ledger) = &mut self.ledger {
                    ledger.on_joined(joined);
                }
            }
            Input::Expired(time) => self.windows.on_expired(*time),
        }
        Vec::new()
    }
}

/// What counts of a model depend on besides its predictions: saved ones of another layout are of no use.
pub fn layout(plan: &ModelPlan) -> String {
    let spec = &plan.spec;
    let names: Vec<&str> = plan.signature.features.iter().map(|f| f.name.as_str()).collect();
    let retraining = spec.retraining.is_some();
    let all = serde_json::json!([names, spec.monitor, spec.drift, spec.outcome, retraining, spec.threshold]);
    format!("{:032x}", fixed_hash::of_parts([all.to_string().as_bytes()]))
}

/// References of versions, each read once: after a restart the log only names versions.
#[derive(Default)]
pub struct References {
    /// Failed attempts to read a version's reference.
    unread: BTreeMap<String, u32>,
}

impl References {
    /// Makes the reference of a version known to the counts if it has not been seen before.
    pub fn learn(&mut self, counts: &mut Counts, plan: &ModelPlan, deps: &Deps, version: &str) {
        if counts.drift.knows(version) {
            return;
        }
        match deps.loader.profile(&plan.spec.name, version) {
            Ok(profile) => counts.drift.follow(version, profile.drift.map(Arc::new)),
            Err(e) => {
                let tries = self.unread.entry(version.to_owned()).or_default();
                *tries += 1;
                if *tries >= PROFILE_TRIES {
                    tracing::warn!(model = plan.spec.name, version, %e, "no reference: its drift is not known");
                    counts.drift.follow(version, None);
                }
            }
        }
    }
}
