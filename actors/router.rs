//! **Owns** this worker's copy of the routing table and its model instances.
//! **Receives** `RoutePrediction` and `LoadHere` from the cell of the same thread, `ApplyRoutes` and `DropVersions` from
//! the model pool.
//! **Sends** `AcquireModel` to the model pool when a version is not loaded here yet.
//! **On failure** the caller gets `internal`.
//! **On restart** it asks the pool for the table again; instances are started anew when asked for.

use crate::api::Refusal;
use crate::event_logger::RETRY;
use crate::fault_point;
use crate::guard::{Escalation, Vitals};
use crate::model_instance::ModelInstance;
use crate::model_pool::{AcquireModel, JoinPool, Key, LoadedModel, ModelPool};
use crate::supervise;
use actix::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use understudy_domain::prediction::{Placement, ServedArm};
use understudy_domain::route::RouteTable;

/// Which version answers?
#[derive(Message)]
#[rtype(result = "Result<Routed, Refusal>")]
pub struct RoutePrediction {
    pub model: Arc<str>,
    /// Pins a version.
    pub version: Option<String>,
    /// Chooses a side of the rollout, for testing.
    pub arm: Option<ServedArm>,
    /// What the request sticks to its version by.
    pub unit: String,
}

pub enum Routed {
    Ready(Route),
    /// Send `LoadHere`.
    NotLoaded {
        version: String,
        placement: Placement,
        /// Answers in its place if it cannot be loaded; `None` for the baseline itself and where a version was pinned.
        instead: Option<String>,
    },
}

/// A version, and the instance that runs it on this worker. Whoever holds it keeps the version in memory.
#[derive(Clone)]
pub struct Route {
    pub version: Arc<str>,
    pub epoch: u64,
    pub placement: Placement,
    pub model: Arc<LoadedModel>,
    pub instance: Addr<ModelInstance>,
}

/// Load a version on this worker; waits for the pool.
#[derive(Message)]
#[rtype(result = "Result<Route, Refusal>")]
pub struct LoadHere {
    pub model: Arc<str>,
    pub version: String,
    pub placement: Placement,
}

/// The new table, and the models it needs: swapped together, so no request sees half of it.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct ApplyRoutes {
    pub table: Arc<RouteTable>,
    pub models: Vec<Arc<LoadedModel>>,
}

/// These versions make room: they are loaded again when asked for.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct DropVersions {
    pub versions: Arc<BTreeSet<Key>>,
}

pub struct Router {
    vitals: Arc<Vitals>,
    escalation: Escalation,
    pool: Addr<ModelPool>,
    table: Arc<RouteTable>,
    /// The pool has sent its table.
    joined: bool,
    instances: BTreeMap<Key, Hosted>,
}

/// A version loaded on this worker, and the instance that runs it.
#[derive(Clone)]
struct Hosted {
    model: Arc<LoadedModel>,
    instance: Addr<ModelInstance>,
}

impl Router {
    pub fn new(vitals: Arc<Vitals>, escalation: Escalation, pool: Addr<ModelPool>) -> Self {
        Router {
            vitals,
            escalation,
            pool,
            table: Arc::new(RouteTable::default()),
            joined: false,
            instances: BTreeMap::new(),
        }
    }

    /// A pool that failed at it forgot us: without the table nothing is ever routed here.
    fn join(&mut self, ctx: &mut Context<Self>) {
        let joined = self.pool.send(JoinPool { router: ctx.address() });
        ctx.spawn(joined.into_actor(self).map(|joined, _, ctx| {
            if joined.is_err() {
                ctx.run_later(RETRY, |router, ctx| router.join(ctx));
            }
        }));
    }

    /// A version that has to make room by now is run for whoever asked, and not kept.
    fn host(&mut self, model: Arc<LoadedModel>) -> Hosted {
        let key = (model.model.clone(), model.version.to_string());
        if let Some(hosted) = self.instances.get(&key).filter(|h| !h.model.retired()) {
            return hosted.clone();
        }
        let vitals = Vitals::new(format!("model_instance/{}/{}", model.model, model.version), self.escalation.clone());
        let instance = supervise::start(ModelInstance::new(vitals.clone(), model.host.clone()), vitals);
        let hosted = Hosted { model, instance };
        if !hosted.model.retired() {
            self.instances.insert(key, hosted.clone());
        }
        hosted
    }

    fn lead(&self, Hosted { model, instance }: Hosted, placement: Placement) -> Route {
        model.touch();
        Route { version: model.version.clone(), epoch: self.table.epoch, placement, model, instance }
    }

    /// The side that was asked for; the canary is the last version of the route.
    fn side(&self, model: &str, arm: ServedArm) -> Option<String> {
        let versions = &self.table.models.get(model)?.versions;
        (if arm == ServedArm::Canary { versions.last() } else { versions.first() }).cloned()
    }

    fn route(&self, m: RoutePrediction) -> Result<Routed, Refusal> {
        let none = || Refusal::NoVersion {
            detail: format!("model `{0}` has no version yet: `understudy train {0}` makes one", m.model),
        };
        let chosen = m.version.or_else(|| self.side(&m.model, m.arm?));
        let (version, placement, instead) = match chosen {
            Some(version) => {
                let slot = self.table.assign(&m.model, &m.unit).map_or(0, |a| a.placement.slot);
                let placement = Placement { arm: ServedArm::Override, slot, ..Placement::default() };
                (version, placement, None)
            }
            None => {
                let assigned = self.table.assign(&m.model, &m.unit).ok_or_else(none)?;
                let baseline = self.table.models.get(&*m.model).and_then(|r| r.versions.first());
                let instead = baseline.filter(|b| *b != assigned.version).cloned();
                (assigned.version.to_string(), assigned.placement, instead)
            }
        };
        Ok(match self.instances.get(&(m.model, version.clone())) {
            Some(hosted) => Routed::Ready(self.lead(hosted.clone(), placement)),
            None => Routed::NotLoaded { version, placement, instead },
        })
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        fault_point!("router.started");
        // A table from before a restart goes on routing.
        self.vitals.set_ready(self.joined, "waiting for the routing table");
        self.join(ctx);
    }
}

impl Supervised for Router {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.instances.clear();
    }
}

impl Handler<RoutePrediction> for Router {
    type Result = Result<Routed, Refusal>;

    fn handle(&mut self, m: RoutePrediction, _: &mut Self::Context) -> Self::Result {
        fault_point!("router.route");
        self.route(m)
    }
}

impl Handler<LoadHere> for Router {
    type Result = ResponseActFuture<Self, Result<Route, Refusal>>;

    fn handle(&mut self, m: LoadHere, _: &mut Self::Context) -> Self::Result {
        fault_point!("router.load");
        let acquired = self.pool.send(AcquireModel { model: m.model, version: m.version });
        Box::pin(
            async move { acquired.await.map_err(|e| Refusal::Internal { detail: format!("model pool: {e}") })? }
                .into_actor(self)
                .map(move |loaded, router, _| {
                    fault_point!("router.hosted");
                    let hosted = router.host(loaded?);
                    Ok(router.lead(hosted, m.placement))
                }),
        )
    }
}

impl Handler<ApplyRoutes> for Router {
    type Result = ();

    fn handle(&mut self, m: ApplyRoutes, _: &mut Self::Context) {
        fault_point!("router.apply");
        for model in m.models {
            self.host(model);
        }
        self.table = m.table;
        self.joined = true;
        self.vitals.set_ready(true, "");
    }
}

impl Handler<DropVersions> for Router {
    type Result = ();

    fn handle(&mut self, m: DropVersions, _: &mut Self::Context) {
        // One that was loaded again meanwhile stays.
        self.instances.retain(|key, hosted| !(m.versions.contains(key) && hosted.model.retired()));
    }
}
