//! **Owns** this worker's copy of the routing table and its model instances.
//! **Receives** `RoutePrediction` and `LoadHere` from the cell of the same thread, `ApplyRoutes` from the model pool.
//! **Sends** `AcquireModel` to the model pool when a version is not loaded here yet.
//! **On failure** the caller gets `internal`.
//! **On restart** it asks the pool for the table again; instances are started anew when asked for.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::guard::{Vitals, guarded};
use crate::model_instance::ModelInstance;
use crate::model_pool::{AcquireModel, JoinPool, LoadedModel, ModelPool};
use actix::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use understudy_domain::route::RouteTable;

/// Which version answers?
#[derive(Message)]
#[rtype(result = "Result<Routed, Refusal>")]
pub struct RoutePrediction {
    pub model: Arc<str>,
    /// Pins a version.
    pub version: Option<String>,
    /// What the request sticks to its version by.
    pub unit: String,
}

pub enum Routed {
    Ready {
        version: Arc<str>,
        epoch: u64,
        model: Arc<LoadedModel>,
        instance: Addr<ModelInstance>,
    },
    /// Send `LoadHere`, then ask again.
    NotLoaded {
        version: String,
    },
}

/// Load a version on this worker; waits for the pool.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct LoadHere {
    pub model: Arc<str>,
    pub version: String,
}

/// The new table, and the models it needs: swapped together, so no request sees half of it.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct ApplyRoutes {
    pub table: Arc<RouteTable>,
    pub models: Vec<Arc<LoadedModel>>,
}

pub struct Router {
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    pool: Addr<ModelPool>,
    table: Arc<RouteTable>,
    instances: HashMap<(Arc<str>, String), Hosted>,
}

/// A version loaded on this worker, and the instance that runs it.
struct Hosted {
    model: Arc<LoadedModel>,
    instance: Addr<ModelInstance>,
}

impl Router {
    pub fn new(deps: Arc<Deps>, vitals: Arc<Vitals>, pool: Addr<ModelPool>) -> Self {
        Router { deps, vitals, pool, table: Arc::new(RouteTable::default()), instances: HashMap::new() }
    }

    fn host(&mut self, model: Arc<LoadedModel>) {
        let key = (model.model.clone(), model.version.to_string());
        if self.instances.contains_key(&key) {
            return;
        }
        let (deps, runtime) = (self.deps.clone(), model.runtime.clone());
        let vitals = Vitals::new(format!("model_instance/{}/{}", model.model, model.version));
        let instance = Supervisor::start(move |_| ModelInstance::new(deps, vitals, runtime));
        self.instances.insert(key, Hosted { model, instance });
    }

    fn route(&self, m: RoutePrediction) -> Result<Routed, Refusal> {
        let version = match m.version {
            Some(version) => version,
            None => {
                let assigned = self.table.assign(&m.model, &m.unit).ok_or_else(|| Refusal::NoVersion {
                    detail: format!("model `{0}` has no version yet: `understudy train {0}` makes one", m.model),
                })?;
                assigned.version.to_string()
            }
        };
        Ok(match self.instances.get(&(m.model, version.clone())) {
            Some(hosted) => Routed::Ready {
                version: hosted.model.version.clone(),
                epoch: self.table.epoch,
                model: hosted.model.clone(),
                instance: hosted.instance.clone(),
            },
            None => Routed::NotLoaded { version },
        })
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        self.pool.do_send(JoinPool { router: ctx.address() });
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for Router {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.vitals.restarted(self.deps.wall.now());
        self.instances.clear();
    }
}

impl Handler<RoutePrediction> for Router {
    type Result = Result<Routed, Refusal>;

    fn handle(&mut self, m: RoutePrediction, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        guarded(self, ctx, &vitals, |router, _| router.route(m))
    }
}

impl Handler<LoadHere> for Router {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, m: LoadHere, _: &mut Self::Context) -> Self::Result {
        let acquired = self.pool.send(AcquireModel { model: m.model, version: m.version });
        Box::pin(
            async move { acquired.await.map_err(|e| Refusal::Internal { detail: format!("model pool: {e}") })? }
                .into_actor(self)
                .map(|loaded, router, _| loaded.map(|model| router.host(model))),
        )
    }
}

impl Handler<ApplyRoutes> for Router {
    type Result = ();

    fn handle(&mut self, m: ApplyRoutes, ctx: &mut Self::Context) {
        let vitals = self.vitals.clone();
        let _ = guarded(self, ctx, &vitals, |router, _| {
            for model in m.models {
                router.host(model);
            }
            router.table = m.table;
            Ok(())
        });
    }
}
