//! **Owns** which versions are loaded, their names, and the routing table with its epoch.
//! **Receives** `JoinPool` and `AcquireModel` from the routers, `ActivateVersion` from the trainer, `SetAlias`,
//! `ArchiveVersion` and `RegisterVersion` from the cells.
//! **Sends** `ApplyRoutes` and `DropVersions` to every router.
//! **On failure** a load or change that fails changes nothing; its callers get the reason. A version whose loads fail
//! again and again is left alone for longer each time.
//! **On restart** names and routes are made again from the registry; what is loaded stays, and routers keep serving it.

use crate::api::{ModelStatus, Refusal};
use crate::deps::Deps;
use crate::event_logger::RETRY;
use crate::fault_point;
use crate::generation::Current;
use crate::guard::Vitals;
use crate::model_host::ModelHost;
use crate::ports::ModelRuntime;
use crate::residents::Residents;
use crate::router::{ApplyRoutes, DropVersions, Router};
use actix::prelude::*;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;
use understudy_domain::model::Signature;
use understudy_domain::registry::VersionLedger;
use understudy_domain::residency::{Resident, Standing};
use understudy_domain::route::RouteTable;

mod loads;
mod routes;
mod versions;

use loads::Loads;
pub use routes::{RolloutRoute, SetRoute};
pub use versions::{AliasChanged, ArchiveVersion, RegisterVersion, Registered, SetAlias};

/// A version ready to serve; what a generation makes of it is in its `Bound`. Whoever holds it keeps it in memory.
pub struct LoadedModel {
    pub model: Arc<str>,
    pub version: Arc<str>,
    pub runtime: Arc<dyn ModelRuntime>,
    pub host: Arc<ModelHost>,
    pub signature: Arc<Signature>,
    pub calibrated: bool,
    /// Share of positives in its training set.
    pub base_rate: f64,
    use_of: Use,
}

/// When a version was asked last, what its load took, and whether it has to go.
pub(crate) struct Use {
    begun: Instant,
    last_us: AtomicU64,
    cost: Duration,
    bytes: u64,
    retired: AtomicBool,
}

impl LoadedModel {
    /// It is being asked now.
    pub fn touch(&self) {
        let us = u64::try_from(self.use_of.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.use_of.last_us.store(us, Relaxed);
    }

    /// It makes room for another: whoever has it may use it to the end, and nobody is to keep it.
    pub fn retired(&self) -> bool {
        self.use_of.retired.load(Relaxed)
    }

    fn resident(&self, standing: Standing) -> Resident {
        let last = Duration::from_micros(self.use_of.last_us.load(Relaxed));
        let idle = self.use_of.begun.elapsed().saturating_sub(last);
        Resident { standing, idle, bytes: self.use_of.bytes, cost: self.use_of.cost }
    }
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

/// The models of the project from now on: added ones get their champion from the registry, the others keep theirs.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct FollowProject {
    pub models: Vec<Arc<str>>,
}

/// Memory is short: drop every version that no route and no name leads to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EvictIdleModels;

pub type Key = (Arc<str>, String);

/// What the pool publishes for `/v1/models`: written by it alone.
pub type Published = Arc<ArcSwap<Vec<ModelStatus>>>;

pub struct ModelPool {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    published: Published,
    residents: Arc<Residents>,
    state: State,
}

#[derive(Default)]
struct State {
    routers: Vec<Addr<Router>>,
    ledgers: BTreeMap<Arc<str>, VersionLedger>,
    versions: BTreeMap<Arc<str>, Vec<String>>,
    loaded: BTreeMap<Key, Arc<LoadedModel>>,
    loads: Loads,
    table: Arc<RouteTable>,
}

impl State {
    fn champion(&self, model: &str) -> Option<String> {
        self.ledgers.get(model)?.champion(self.versions.get(model)?)
    }

    /// Who needs a version. A route that leads to more than one is a rollout: it must be able to go either way at once.
    fn standing(&self, model: &str, version: &str) -> Standing {
        let named = self.ledgers.get(model).is_some_and(|l| l.named(version));
        match self.table.models.get(model) {
            Some(route) if route.versions.len() > 1 && (named || route.versions.iter().any(|v| v == version)) => {
                Standing::Held
            }
            Some(route) if named || route.versions.iter().any(|v| v == version) => Standing::Routed,
            _ if named => Standing::Routed,
            _ => Standing::Idle,
        }
    }
}

impl ModelPool {
    pub fn new(
        deps: Arc<Deps>,
        current: Current,
        vitals: Arc<Vitals>,
        published: Published,
        residents: Arc<Residents>,
    ) -> Self {
        ModelPool { deps, current, vitals, published, residents, state: State::default() }
    }

    fn recover(&mut self) -> Result<(), String> {
        let generation = self.current.load_full();
        self.follow(generation.models().map(|m| m.name.clone()).collect())
    }

    fn follow(&mut self, models: BTreeSet<Arc<str>>) -> Result<(), String> {
        for name in &models {
            if self.state.versions.contains_key(name) {
                continue;
            }
            let ledger = self.deps.loader.ledger(name)?;
            let versions = self.deps.loader.versions(name)?;
            self.state.ledgers.insert(name.clone(), ledger);
            self.state.versions.insert(name.clone(), versions);
        }
        self.state.ledgers.retain(|name, _| models.contains(name));
        self.state.versions.retain(|name, _| models.contains(name));
        self.retire(|(name, _), _| !models.contains(name));
        self.publish_routes();
        Ok(())
    }

    /// Epoch = versions registered and changes made so far: it only grows, and is the same after a restart.
    fn publish_routes(&mut self) {
        let registered: u64 = self.state.versions.values().map(|v| v.len() as u64).sum();
        let changes: u64 = self.state.ledgers.values().map(|l| l.changes).sum();
        let champions: Vec<_> = self
            .state
            .versions
            .keys()
            .filter_map(|model| Some((model.to_string(), self.state.champion(model)?)))
            .collect();
        let mut table = RouteTable::champions(registered + changes, champions);
        for (model, ledger) in &self.state.ledgers {
            if let Some(route) = &ledger.route {
                table.models.insert(model.to_string(), route.clone());
            }
        }
        self.state.table = Arc::new(table);
        let routed = |l: &&Arc<LoadedModel>| self.state.standing(&l.model, &l.version) > Standing::Idle;
        let apply = ApplyRoutes {
            table: self.state.table.clone(),
            models: self.state.loaded.values().filter(routed).cloned().collect(),
        };
        for router in &self.state.routers {
            router.do_send(apply.clone());
        }
        self.publish_status();
    }

    fn publish_status(&self) {
        let generation = self.current.load();
        let status = generation.catalog.models.iter().map(|(name, plan)| {
            let champion = self.state.champion(name);
            let loaded = champion.as_ref().and_then(|v| self.state.loaded.get(&(Arc::from(name.as_str()), v.clone())));
            let ledger = self.state.ledgers.get(name.as_str()).cloned().unwrap_or_default();
            let mut aliases = ledger.aliases;
            if let Some(version) = &champion {
                aliases.insert(understudy_domain::registry::CHAMPION.into(), version.clone());
            }
            let in_memory = self.state.loaded.keys().filter(|(model, _)| **model == **name);
            ModelStatus {
                model: name.clone(),
                epoch: self.state.table.epoch,
                loaded: loaded.is_some(),
                versions: self.state.versions.get(name.as_str()).cloned().unwrap_or_default(),
                aliases,
                archived: ledger.archived.into_iter().collect(),
                in_memory: in_memory.map(|(_, version)| version.clone()).collect(),
                features: plan.spec.features.clone(),
                feature_set: generation.catalog.plan.id().to_owned(),
                provenance: loaded.map(|l| l.runtime.manifest().provenance.clone()),
                champion,
            }
        });
        self.published.store(Arc::new(status.collect()));
    }

    /// Takes versions out of memory: requests that use one go on, nobody gets it any more.
    fn retire(&mut self, goes: impl Fn(&Key, &LoadedModel) -> bool) {
        let gone: BTreeSet<Key> =
            self.state.loaded.iter().filter(|(k, l)| goes(k, l)).map(|(k, _)| k.clone()).collect();
        if gone.is_empty() {
            return;
        }
        fault_point!("model_pool.evict");
        for key in &gone {
            if let Some(model) = self.state.loaded.remove(key) {
                model.use_of.retired.store(true, Relaxed);
                self.deps.counters.model_evictions.add(&[&key.0, &key.1], 1);
            }
        }
        let gone = Arc::new(gone);
        for router in &self.state.routers {
            router.do_send(DropVersions { versions: gone.clone() });
        }
        self.publish_status();
    }
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
        let State { routers, loaded, .. } = std::mem::take(&mut self.state);
        self.state = State { routers, loaded, ..State::default() };
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

impl Handler<EvictIdleModels> for ModelPool {
    type Result = ();

    fn handle(&mut self, _: EvictIdleModels, _: &mut Self::Context) {
        let state = &self.state;
        let idle: BTreeSet<Key> =
            state.loaded.keys().filter(|(m, v)| state.standing(m, v) == Standing::Idle).cloned().collect();
        self.retire(|key, _| idle.contains(key));
    }
}

fn gone() -> Refusal {
    Refusal::Internal { detail: "the model pool is being restarted; try again".into() }
}
