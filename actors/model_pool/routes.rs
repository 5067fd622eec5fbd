//! Routes of rollouts: versions loaded, then written, then in every worker's table at once.

use super::versions::refused;
use super::{ModelPool, gone};
use crate::api::Refusal;
use crate::fault_point;
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::route::ModelRoute;

/// Send a model's requests another way; replies with the epoch of the table, which every worker has by then or gets
/// before any later message of the pool. It outlives restarts.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct SetRoute {
    pub model: Arc<str>,
    /// `None`: everything to the champion.
    pub route: Option<RolloutRoute>,
}

/// Two arms of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRoute {
    /// Of the rollout: units are dealt out anew in each.
    pub salt: String,
    pub baseline: String,
    pub canary: String,
    /// Slots of the canary.
    pub share: u32,
    pub segment: u32,
}

impl ModelPool {
    fn set_route(&mut self, model: &Arc<str>, route: Option<&RolloutRoute>) -> Result<u64, Refusal> {
        let (ledger, versions) = self.read_registry(model)?;
        let route = match route {
            None => None,
            Some(r) => {
                let made = ModelRoute::rollout(ledger.route.as_ref(), &r.salt, (&r.baseline, &r.canary), r.share);
                let wrong = |detail| Refusal::Invalid { code: "invalid_route", detail };
                Some(made.map_err(wrong)?.in_segment(r.segment))
            }
        };
        let next = ledger.with_route(route, &versions).map_err(|e| refused(model, e))?;
        self.decide(model, next)
    }
}

impl Handler<SetRoute> for ModelPool {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, m: SetRoute, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("model_pool.route");
        let arms = m.route.iter().flat_map(|r| [r.baseline.clone(), r.canary.clone()]);
        let loads: Vec<_> = arms.map(|version| self.acquire((m.model.clone(), version), ctx)).collect();
        let loaded = async move {
            let mut kept = Vec::new();
            for load in loads {
                kept.push(load.await.unwrap_or_else(|_| Err(gone()))?);
            }
            Ok(kept)
        };
        Box::pin(loaded.into_actor(self).map(move |kept: Result<Vec<_>, Refusal>, pool, _| {
            let _kept = kept?;
            pool.set_route(&m.model, m.route.as_ref())
        }))
    }
}
