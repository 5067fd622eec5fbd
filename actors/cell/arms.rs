//! The two sides of a rollout on the request path: who failed, who answers instead, what is copied.

use super::predict::refusal_code;
use super::{Cell, mailbox};
use crate::api::{ModelFault, PredictCommand, Refusal};
use crate::prediction_logger::AnswerFailed;
use crate::rollout::Running;
use crate::router::{LoadHere, Route, RoutePrediction, Routed};
use crate::shadow::ShadowTap;
use std::sync::Arc;
use understudy_domain::model::Signature;
use understudy_domain::prediction::{Placement, PredictionId, PredictionRecord, ServedArm};
use understudy_domain::rollout::{Arm, FailedAnswer, Fault};
use understudy_domain::route::unit_hash;
use understudy_domain::time::Timestamp;

/// One request on its way through an arm.
pub(super) struct Attempt<'a> {
    pub running: Option<&'a Running>,
    pub id: PredictionId,
    pub time: Timestamp,
    pub unit: &'a str,
    pub placement: Placement,
}

/// An attempt that is under way, for whoever gives it up.
pub(super) struct Placed {
    pub running: Arc<Running>,
    pub id: PredictionId,
    pub time: Timestamp,
    pub unit: String,
    pub placement: Placement,
}

impl Placed {
    pub fn attempt(&self) -> Attempt<'_> {
        let (id, time, placement) = (self.id, self.time, self.placement);
        Attempt { running: Some(&self.running), id, time, unit: &self.unit, placement }
    }
}

impl Attempt<'_> {
    /// The arm that this request is evidence of.
    fn arm(&self) -> Option<(&Running, Arm, u32)> {
        let (running, segment) = (self.running?, self.placement.segment?);
        match self.placement.arm {
            _ if self.placement.instead => None,
            ServedArm::Baseline => Some((running, Arm::Baseline, segment)),
            ServedArm::Canary => Some((running, Arm::Canary, segment)),
            ServedArm::Shadow | ServedArm::Override => None,
        }
    }

    /// It would go to a canary that was stopped.
    pub fn is_stopped(&self) -> bool {
        self.placement.arm == ServedArm::Canary && self.running.is_some_and(Running::tripped)
    }

    pub fn falls_back(&self) -> bool {
        self.placement.arm == ServedArm::Canary && self.running.is_some_and(|r| r.fallback)
    }

    pub fn answered(&self) {
        if let Some((running, arm, _)) = self.arm() {
            running.on_answer(arm, false);
        }
    }
}

impl Cell {
    /// Counts a failure of the arm; false where it is none: the request was at fault, or there is no rollout.
    pub(super) fn failed(&self, attempt: &Attempt<'_>, refusal: &Refusal) -> bool {
        let Some((running, arm, segment)) = attempt.arm() else { return false };
        let Some(fault) = failure(refusal) else { return false };
        let hard = running.on_answer(arm, true);
        let error = match refusal {
            Refusal::Model { detail, .. } | Refusal::Internal { detail } | Refusal::Unavailable { detail, .. } => {
                detail.clone()
            }
            other => refusal_code(other).to_owned(),
        };
        let (id, at, unit) = (attempt.id, attempt.time, unit_hash(attempt.unit));
        let failed = FailedAnswer { id, at, segment, arm, unit, error, fault, hard };
        self.system.logger.do_send(AnswerFailed { model: running.model.clone(), failed });
        true
    }

    /// The champion, whatever the table says.
    pub(super) async fn baseline(
        &self,
        name: &Arc<str>,
        command: &PredictCommand,
        attempt: &Attempt<'_>,
    ) -> Result<Route, Refusal> {
        let version = attempt.running.map(|r| r.baseline.clone());
        let ask = RoutePrediction { model: name.clone(), version, arm: None, unit: attempt.unit.to_owned() };
        match self.router.send(ask).await.map_err(mailbox)?? {
            Routed::Ready(route) => Ok(route),
            Routed::NotLoaded { version, placement, .. } => {
                let load = self.router.send(LoadHere { model: name.clone(), version, placement });
                self.spanned(command.trace, "router", "LoadHere", load).await.map_err(mailbox)?
            }
        }
    }

    /// Gives a candidate in shadow its copy. Its features are looked up again only where it reads others, off the
    /// answer path; a recorded stream waits for them, since they must be as of this line.
    pub(super) async fn copy(&self, tap: Arc<ShadowTap>, record: Arc<PredictionRecord>, signature: &Signature) {
        if tap.same_inputs(signature) {
            let values = record.vector.clone();
            return tap.offer(record, values);
        }
        let cell = self.clone();
        let look_up = async move {
            let generation = cell.generation();
            let Ok(bound) = generation.bind(&tap.loaded) else { return };
            let command = PredictCommand {
                entities: record.entities.clone(),
                context: record.context.clone(),
                ..PredictCommand::default()
            };
            if let Ok(vector) = cell.vector(&generation, &bound.vector, &command, record.time).await {
                tap.offer(record, vector.values);
            }
        };
        if self.clock_is_stream() {
            look_up.await;
        } else {
            actix::spawn(look_up);
        }
    }
}

/// Whether the version failed to answer; `Some(Some(..))` where it broke something that needs no statistics.
fn failure(refusal: &Refusal) -> Option<Option<Fault>> {
    Some(match refusal {
        Refusal::Model { fault: ModelFault::Shape, detail } => Some(Fault::Contract { detail: detail.clone() }),
        Refusal::Model { fault: ModelFault::NotFinite, .. } => Some(Fault::NonFinite),
        Refusal::Model { fault: ModelFault::Panic | ModelFault::Hang, detail } | Refusal::Internal { detail } => {
            Some(Fault::Crash { detail: detail.clone() })
        }
        Refusal::Model { fault: ModelFault::Error | ModelFault::Load, .. } | Refusal::Deadline => None,
        Refusal::Unavailable { code: "model_hangs" | "model_not_loadable", .. } => None,
        _ => return None,
    })
}
