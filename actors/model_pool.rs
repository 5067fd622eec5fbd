//! **Owns** which versions are loaded and the routing table with its epoch.
//! **Receives** `JoinPool` and `AcquireModel` from the routers, `ActivateVersion` from the trainer.
//! **Sends** `ApplyRoutes` to every router.
//! **On failure** a load that fails changes nothing; its callers get the reason.
//! **On restart** the table is made again from the registered versions; routers keep serving what they have.

use crate::api::{ModelStatus, Refusal};
use crate::deps::Deps;
use crate::event_logger::RETRY;
use crate::fault_point;
use crate::generation::{Current, Generation};
use crate::guard::Vitals;
use crate::ports::ModelRuntime;
use crate::router::{ApplyRoutes, DropIdle, Router};
use actix::prelude::*;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;
use understudy_domain::model::Signature;
use understudy_domain::route::RouteTable;

/// A version ready to serve; what a generation makes of it is in its `Bound`.
pub struct LoadedModel {
    pub model: Arc<str>,
    pub version: Arc<str>,
    pub runtime: Arc<dyn ModelRuntime>,
    pub signature: Arc<Signature>,
    pub calibrated: bool,
    /// Share of positives in its training set.
    pub base_rate: f64,
}

/// A worker's router wants the table, now and whenever it changes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JoinPool {
    pub router: Addr<Router>,
}

/// Load a version, once however many ask.
#[derive(Message)]
#[rtype(result = "Result<Arc<LoadedModel>, Refusal>")]
pub struct AcquireModel {
    pub model: Arc<str>,
    pub version: String,
}

/// Make a version the champion: loads it first, then swaps the table; replies with the new epoch.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct ActivateVersion {
    pub model: Arc<str>,
    pub version: String,
}

/// The models of the project from now on: added ones get their newest version as champion, the others keep theirs.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct FollowProject {
    pub models: Vec<Arc<str>>,
}

/// Memory is short: drop every version that no route leads to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EvictIdleModels;

type Waiter = oneshot::Sender<Result<Arc<LoadedModel>, Refusal>>;
type Key = (Arc<str>, String);

/// What the pool publishes for `/v1/models`: written by it alone.
pub type Published = Arc<ArcSwap<Vec<ModelStatus>>>;

pub struct ModelPool {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    published: Published,
    state: State,
}

#[derive(Default)]
struct State {
    routers: Vec<Addr<Router>>,
    champions: BTreeMap<Arc<str>, String>,
    versions: BTreeMap<Arc<str>, Vec<String>>,
    loaded: BTreeMap<Key, Arc<LoadedModel>>,
    loading: HashMap<Key, Vec<Waiter>>,
    table: Arc<RouteTable>,
}

impl ModelPool {
    pub fn new(deps: Arc<Deps>, current: Current, vitals: Arc<Vitals>, published: Published) -> Self {
        ModelPool { deps, current, vitals, published, state: State::default() }
    }

    /// The newest registered version of each model is its champion.
    fn recover(&mut self) -> Result<(), String> {
        let generation = self.current.load_full();
        self.follow(generation.models().map(|m| m.name.clone()).collect())
    }

    fn follow(&mut self, models: BTreeSet<Arc<str>>) -> Result<(), String> {
        for name in &models {
            if self.state.versions.contains_key(name) {
                continue;
            }
            let versions = self.deps.loader.versions(name)?;
            if let Some(latest) = versions.last() {
                self.state.champions.insert(name.clone(), latest.clone());
            }
            self.state.versions.insert(name.clone(), versions);
        }
        self.state.champions.retain(|name, _| models.contains(name));
        self.state.versions.retain(|name, _| models.contains(name));
        self.state.loaded.retain(|(name, _), _| models.contains(name));
        self.publish_routes();
        Ok(())
    }

    /// Epoch = versions registered so far: it only grows, and is the same after a restart.
    fn publish_routes(&mut self) {
        let epoch = self.state.versions.values().map(|v| v.len() as u64).sum();
        let champions = self.state.champions.iter().map(|(m, v)| (m.to_string(), v.clone()));
        self.state.table = Arc::new(RouteTable::champions(epoch, champions));
        let apply = ApplyRoutes {
            table: self.state.table.clone(),
            models: self
                .state
                .loaded
                .values()
                .filter(|l| self.state.champions.get(&l.model).is_some_and(|v| **v == *l.version))
                .cloned()
                .collect(),
        };
        for router in &self.state.routers {
            router.do_send(apply.clone());
        }
        self.publish_status();
    }

    fn publish_status(&self) {
        let generation = self.current.load();
        let status = generation.catalog.models.iter().map(|(name, plan)| {
            let champion = self.state.champions.get(name.as_str()).cloned();
            let loaded = champion.as_ref().and_then(|v| self.state.loaded.get(&(Arc::from(name.as_str()), v.clone())));
            ModelStatus {
                model: name.clone(),
                epoch: self.state.table.epoch,
                loaded: loaded.is_some(),
                versions: self.state.versions.get(name.as_str()).cloned().unwrap_or_default(),
                features: plan.spec.features.clone(),
                feature_set: generation.catalog.plan.id().to_owned(),
                provenance: loaded.map(|l| l.runtime.manifest().provenance.clone()),
                champion,
            }
        });
        self.published.store(Arc::new(status.collect()));
    }

    /// Answers at once if loaded; else one load for all who wait.
    fn acquire(&mut self, key: Key, ctx: &mut Context<Self>) -> oneshot::Receiver<Result<Arc<LoadedModel>, Refusal>> {
        let (waiter, loaded) = oneshot::channel();
        if let Some(model) = self.state.loaded.get(&key) {
            let _ = waiter.send(Ok(model.clone()));
            return loaded;
        }
        let waiting = self.state.loading.entry(key.clone()).or_default();
        waiting.push(waiter);
        if waiting.len() > 1 {
            return loaded;
        }
        let (deps, generation) = (self.deps.clone(), self.current.load_full());
        let job = key.clone();
        let blocking = deps.settings.blocking;
        let load = async move {
            blocking
                .run(move || load(&deps, &generation, &job.0, &job.1))
                .await
                .unwrap_or_else(|e| Err(Refusal::Internal { detail: format!("loading: {e}") }))
        };
        ctx.spawn(load.into_actor(self).map(move |result, pool, _| pool.loaded(key, result)));
        loaded
    }

    fn loaded(&mut self, key: Key, result: Result<LoadedModel, Refusal>) {
        fault_point!("model_pool.loaded");
        let result = result.map(Arc::new);
        if let Ok(model) = &result {
            self.state.loaded.insert(key.clone(), model.clone());
            self.publish_status();
        }
        for waiter in self.state.loading.remove(&key).unwrap_or_default() {
            let _ = waiter.send(result.clone());
        }
    }
}

/// Blocking. A version that the generation cannot serve is not loaded.
fn load(deps: &Deps, generation: &Generation, model: &Arc<str>, version: &str) -> Result<LoadedModel, Refusal> {
    generation.model(model)?;
    let known =
        deps.loader.versions(model).map_err(|detail| Refusal::Unavailable { code: "registry_unavailable", detail })?;
    if !known.iter().any(|v| v == version) {
        return Err(Refusal::NotFound {
            code: "unknown_version",
            detail: format!("model `{model}` has no version `{version}`; it has: {}", known.join(", ")),
        });
    }
    let refused = |detail: String| Refusal::Unavailable { code: "model_not_loadable", detail };
    let runtime = deps.loader.load(model, version).map_err(refused)?;
    let manifest = runtime.manifest();
    let loaded = LoadedModel {
        model: model.clone(),
        version: Arc::from(version),
        calibrated: manifest.calibration.is_calibrated(),
        base_rate: manifest.provenance.positive_share,
        signature: Arc::new(manifest.signature.clone()),
        runtime,
    };
    generation.bind(&loaded)?;
    Ok(loaded)
}

impl Actor for ModelPool {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        fault_point!("model_pool.started");
        match self.recover() {
            Ok(()) => self.vitals.set_ready(true, ""),
            Err(e) => {
                self.vitals.set_ready(false, e);
                ctx.run_later(RETRY, |pool, ctx| pool.started(ctx));
            }
        }
    }
}

impl Supervised for ModelPool {
    fn restarting(&mut self, _: &mut Self::Context) {
        let routers = std::mem::take(&mut self.state.routers);
        self.state = State { routers, ..State::default() };
    }
}

impl Handler<JoinPool> for ModelPool {
    type Result = ();

    fn handle(&mut self, m: JoinPool, _: &mut Self::Context) {
        fault_point!("model_pool.join");
        m.router.do_send(ApplyRoutes {
            table: self.state.table.clone(),
            models: self.state.loaded.values().cloned().collect(),
        });
        self.state.routers.retain(|r| r.connected() && *r != m.router);
        self.state.routers.push(m.router);
    }
}

impl Handler<AcquireModel> for ModelPool {
    type Result = ResponseFuture<Result<Arc<LoadedModel>, Refusal>>;

    fn handle(&mut self, m: AcquireModel, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("model_pool.acquire");
        let waiting = self.acquire((m.model, m.version), ctx);
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(gone())) })
    }
}

impl Handler<FollowProject> for ModelPool {
    type Result = Result<(), String>;

    fn handle(&mut self, m: FollowProject, _: &mut Self::Context) -> Self::Result {
        self.follow(m.models.into_iter().collect())
    }
}

impl Handler<ActivateVersion> for ModelPool {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, m: ActivateVersion, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("model_pool.activate");
        let waiting = self.acquire((m.model.clone(), m.version.clone()), ctx);
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(gone())) }.into_actor(self).map(
            |loaded, pool, _| {
                loaded?;
                let versions = pool
                    .deps
                    .loader
                    .versions(&m.model)
                    .map_err(|detail| Refusal::Unavailable { code: "registry_unavailable", detail })?;
                pool.state.versions.insert(m.model.clone(), versions);
                pool.state.champions.insert(m.model, m.version);
                fault_point!("model_pool.publish");
                pool.publish_routes();
                Ok(pool.state.table.epoch)
            },
        ))
    }
}

impl Handler<EvictIdleModels> for ModelPool {
    type Result = ();

    fn handle(&mut self, _: EvictIdleModels, _: &mut Self::Context) {
        let state = &mut self.state;
        state.loaded.retain(|(model, version), _| state.champions.get(model) == Some(version));
        let keep = Arc::new(state.loaded.keys().cloned().collect());
        for router in &state.routers {
            router.do_send(DropIdle { keep: Arc::clone(&keep) });
        }
    }
}

fn gone() -> Refusal {
    Refusal::Internal { detail: "the model pool is being restarted; try again".into() }
}
