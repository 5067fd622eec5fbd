//! What every worker must know of the rollouts that run. Their controller alone writes it; a request reads it with one
//! atomic load, and looks no further while none runs.

use super::RolloutController;
use super::messages::RolloutFacts;
use crate::shadow::ShadowTap;
use actix::prelude::*;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use understudy_domain::evidence::{HardEvidence, HardIncident};
use understudy_domain::rollout::Arm;
use understudy_domain::time::Timestamp;

/// The rollouts that run, at most one a model.
pub struct Board {
    running: ArcSwap<Vec<Arc<Running>>>,
    controller: OnceLock<Addr<RolloutController>>,
    /// Event time of the next evaluation, in microseconds, while a recorded stream is the clock.
    next_tick: AtomicI64,
}

impl Default for Board {
    fn default() -> Self {
        Board { running: ArcSwap::default(), controller: OnceLock::new(), next_tick: AtomicI64::new(i64::MAX) }
    }
}

impl Board {
    pub(crate) fn set_controller(&self, controller: Addr<RolloutController>) {
        let _ = self.controller.set(controller);
    }

    pub(crate) fn set(&self, running: Vec<Arc<Running>>) {
        self.running.store(Arc::new(running));
    }

    pub(crate) fn set_next_tick(&self, at: Option<Timestamp>) {
        self.next_tick.store(at.map_or(i64::MAX, |t| t.0), Relaxed);
    }

    /// The rollout of a model, if one runs.
    pub fn of(&self, model: &str) -> Option<Arc<Running>> {
        let running = self.running.load();
        if running.is_empty() {
            return None;
        }
        running.iter().find(|r| *r.model == *model).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.running.load().is_empty()
    }

    /// A recorded stream that reaches `time` has an evaluation before it.
    pub fn is_due(&self, time: Timestamp) -> bool {
        time.0 >= self.next_tick.load(Relaxed)
    }

    /// Facts for the controller, in order.
    pub fn tell(&self, facts: RolloutFacts) {
        if let Some(controller) = self.controller.get() {
            controller.do_send(facts);
        }
    }
}

/// One rollout as the request path sees it.
pub struct Running {
    pub model: Arc<str>,
    pub id: String,
    pub baseline: String,
    pub canary: String,
    /// Every request is a unit of its own.
    pub by_request: bool,
    /// The champion answers where the canary fails.
    pub fallback: bool,
    /// A plainly failing canary is stopped before the controller has heard of it.
    pub stops_at_once: bool,
    pub alpha_incident: f64,
    hard: Mutex<Hard>,
    tripped: AtomicBool,
    pub shadow: ArcSwapOption<ShadowTap>,
}

#[derive(Default)]
struct Hard {
    baseline: HardIncident,
    canary: HardIncident,
}

impl Running {
    pub fn new(model: Arc<str>, id: String, (baseline, canary): (String, String)) -> Running {
        Running {
            model,
            id,
            baseline,
            canary,
            by_request: false,
            fallback: true,
            stops_at_once: true,
            alpha_incident: 1e-5,
            hard: Mutex::default(),
            tripped: AtomicBool::new(false),
            shadow: ArcSwapOption::empty(),
        }
    }

    /// The hard-incident rule after each answer. `Some` when it rejects for the canary with this one.
    pub fn on_answer(&self, arm: Arm, bad: bool) -> Option<(HardEvidence, HardEvidence)> {
        let mut hard = self.hard.lock().unwrap_or_else(PoisonError::into_inner);
        if arm == Arm::Baseline {
            hard.baseline.on_answer(bad);
            return None;
        }
        hard.canary.on_answer(bad);
        if !bad || !hard.canary.evidence().rejects(self.alpha_incident) {
            return None;
        }
        let (canary, baseline) = (hard.canary.evidence(), hard.baseline.evidence());
        if self.stops_at_once && !baseline.rejects(self.alpha_incident) {
            self.tripped.store(true, Relaxed);
        }
        Some((canary, baseline))
    }

    /// No request goes to the canary any more, whatever the table says.
    pub fn tripped(&self) -> bool {
        self.tripped.load(Relaxed)
    }

    pub(crate) fn reset_hard(&self) {
        *self.hard.lock().unwrap_or_else(PoisonError::into_inner) = Hard::default();
        self.tripped.store(false, Relaxed);
    }
}
