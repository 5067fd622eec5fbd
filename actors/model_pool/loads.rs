//! Loading within the budget: one load for all who wait, room made by what is needed least, and a pause for a version
//! whose loads fail.
//!
//! Order of a load: its weight is looked up, it waits in line for room, its place is taken, then it is read. So the
//! budget holds at every moment, and what is evicted goes only for a load that will begin.

use super::{Key, LoadedModel, ModelPool, Use};
use crate::api::{ModelFault, Refusal};
use crate::deps::Deps;
use crate::fault_point;
use crate::generation::Generation;
use crate::model_host::{Blame, ModelHost};
use crate::ports::ModelRuntime;
use crate::residents::{Place, Resident, RoomFreed};
use actix::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use understudy_domain::residency::{self, Load};

/// Loads at once: more would only slow each other down.
const MAX_LOADS: usize = 2;

pub(super) type Waiter = oneshot::Sender<Result<Arc<LoadedModel>, Refusal>>;

#[derive(Default)]
pub(super) struct Loads {
    /// Who waits for a version that is being looked up, in line, or loading.
    waiting: HashMap<Key, Vec<Waiter>>,
    /// In line for room, with the bytes they need.
    line: VecDeque<(Key, u64)>,
    /// Being read, with their bytes.
    under_way: HashMap<Key, u64>,
    failed: HashMap<Key, Failed>,
}

/// The last of some loads that failed in a row.
struct Failed {
    refusal: Refusal,
    times: u32,
    until: Instant,
}

impl Loads {
    fn reading(&self) -> Load {
        Load { versions: self.under_way.len(), bytes: self.under_way.values().sum() }
    }
}

impl ModelPool {
    /// Answers at once if loaded, or if its load just failed; else one load for all who wait.
    pub(super) fn acquire(
        &mut self,
        key: Key,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Result<Arc<LoadedModel>, Refusal>> {
        let (waiter, loaded) = oneshot::channel();
        if let Some(model) = self.state.loaded.get(&key) {
            model.touch();
            let _ = waiter.send(Ok(model.clone()));
            return loaded;
        }
        if let Some(failed) = self.state.loads.failed.get(&key).filter(|f| f.until > Instant::now()) {
            let _ = waiter.send(Err(failed.refusal.clone()));
            return loaded;
        }
        let waiting = self.state.loads.waiting.entry(key.clone()).or_default();
        waiting.push(waiter);
        if waiting.len() > 1 {
            return loaded;
        }
        self.deps.counters.model_misses.add(&[&key.0, &key.1], 1);
        let (deps, generation) = (self.deps.clone(), self.current.load_full());
        let (blocking, asked) = (deps.settings.blocking, key.clone());
        let weigh = async move {
            let weighed = blocking.run(move || weigh(&deps, &generation, &asked)).await;
            weighed.unwrap_or_else(|e| Err(Refusal::Internal { detail: format!("looking up a version: {e}") }))
        };
        ctx.spawn(weigh.into_actor(self).map(move |weight, pool, ctx| match weight {
            Ok(bytes) => {
                pool.state.loads.line.push_back((key, bytes));
                pool.load_next(ctx);
            }
            Err(refusal) => pool.reply(&key, Err(refusal)),
        }));
        loaded
    }

    fn reply(&mut self, key: &Key, result: Result<Arc<LoadedModel>, Refusal>) {
        for waiter in self.state.loads.waiting.remove(key).unwrap_or_default() {
            let _ = waiter.send(result.clone());
        }
    }

    /// Begins the loads that have room, in order; makes room for the first that has none.
    pub(super) fn load_next(&mut self, ctx: &mut Context<Self>) {
        let budget = self.deps.settings.model_budget;
        while self.state.loads.under_way.len() < MAX_LOADS {
            let Some((key, bytes)) = self.state.loads.line.front().cloned() else { return };
            if !Load::default().plus(bytes).fits(budget) {
                self.state.loads.line.pop_front();
                self.reply(&key, Err(too_large(&key, bytes, budget.bytes)));
                continue;
            }
            if let Some(place) = self.residents.place(bytes, budget, ctx.address().recipient()) {
                self.state.loads.line.pop_front();
                self.begin(key, place, ctx);
                continue;
            }
            let mut kept = self.state.loads.reading();
            kept.versions += self.state.loaded.len();
            kept.bytes += self.state.loaded.values().map(|l| l.use_of.bytes).sum::<u64>();
            if kept.plus(bytes).fits(budget) {
                // Enough has been told to go; its last requests end, and RoomFreed comes.
                return;
            }
            if self.evict_one() {
                continue;
            }
            if self.state.loads.under_way.is_empty() {
                self.state.loads.line.pop_front();
                self.reply(&key, Err(full(&key, self.state.loaded.len())));
                continue;
            }
            return;
        }
    }

    /// The version that is needed least makes room; false if each is needed by a rollout.
    fn evict_one(&mut self) -> bool {
        let state = &self.state;
        let keys: Vec<&Key> = state.loaded.keys().collect();
        let residents: Vec<_> = state.loaded.iter().map(|((m, v), l)| l.resident(state.standing(m, v))).collect();
        let Some(victim) = residency::victim(&residents).map(|i| keys[i].clone()) else { return false };
        self.retire(|key, _| *key == victim);
        true
    }

    fn begin(&mut self, key: Key, place: Place, ctx: &mut Context<Self>) {
        self.state.loads.under_way.insert(key.clone(), place.bytes());
        self.deps.counters.model_loads.add(&[&key.0, &key.1], 1);
        let (deps, generation) = (self.deps.clone(), self.current.load_full());
        let (blocking, job) = (deps.settings.blocking, key.clone());
        let load = async move {
            let loaded = blocking.run(move || load(&deps, &generation, &job, place)).await;
            loaded.unwrap_or_else(|e| Err(Refusal::Internal { detail: format!("loading: {e}") }))
        };
        ctx.spawn(load.into_actor(self).map(move |result, pool, ctx| pool.loaded(key, result, ctx)));
    }

    fn loaded(&mut self, key: Key, result: Result<LoadedModel, Refusal>, ctx: &mut Context<Self>) {
        fault_point!("model_pool.loaded");
        self.state.loads.under_way.remove(&key);
        let result = result.map(Arc::new);
        match &result {
            Ok(model) => {
                self.state.loads.failed.remove(&key);
                self.state.loaded.insert(key.clone(), model.clone());
                self.publish_status();
            }
            Err(refusal) => self.failed(&key, refusal),
        }
        self.reply(&key, result);
        self.load_next(ctx);
    }

    fn failed(&mut self, key: &Key, refusal: &Refusal) {
        let (model, version) = (&*key.0, key.1.as_str());
        self.deps.counters.model_faults.add(&[model, version, ModelFault::Load.name()], 1);
        let times = self.state.loads.failed.get(key).map_or(1, |f| f.times + 1);
        let pause = residency::pause(times);
        tracing::error!(model, version, ?refusal, times, ?pause, "a version could not be loaded");
        let failed = Failed { refusal: refusal.clone(), times, until: Instant::now() + pause };
        self.state.loads.failed.insert(key.clone(), failed);
    }

    /// The version was changed by hand or its names were: it may be tried at once.
    pub(super) fn forgive(&mut self, key: &Key) {
        self.state.loads.failed.remove(key);
    }
}

fn too_large(key: &Key, bytes: u64, budget: u64) -> Refusal {
    Refusal::Unavailable {
        code: "model_too_large",
        detail: format!("`{}` {} needs {bytes} bytes; models.max_bytes is {budget}", key.0, key.1),
    }
}

fn full(key: &Key, loaded: usize) -> Refusal {
    Refusal::Unavailable {
        code: "models_full",
        detail: format!(
            "no room for `{}` {}: each of the {loaded} loaded versions is part of a rollout; raise models.max_loaded \
             or models.max_bytes",
            key.0, key.1
        ),
    }
}

/// Blocking. Memory that the version will need; refuses what is not there or out of use.
fn weigh(deps: &Deps, generation: &Generation, (model, version): &Key) -> Result<u64, Refusal> {
    generation.model(model)?;
    let unavailable = |detail| Refusal::Unavailable { code: "registry_unavailable", detail };
    let known = deps.loader.versions(model).map_err(unavailable)?;
    if !known.iter().any(|v| v == version) {
        return Err(Refusal::NotFound {
            code: "unknown_version",
            detail: format!("model `{model}` has no version `{version}`; it has: {}", known.join(", ")),
        });
    }
    if deps.loader.ledger(model).map_err(unavailable)?.archived.contains(version) {
        return Err(Refusal::Conflict {
            code: "version_archived",
            detail: format!("`{model}` {version} is archived: it can be looked at, not used"),
        });
    }
    // What cannot be weighed cannot be loaded: the load says why, and counts it.
    Ok(deps.loader.weigh(model, version).unwrap_or(0))
}

/// Blocking. A version that the generation cannot serve is not loaded.
fn load(
    deps: &Deps,
    generation: &Generation,
    (model, version): &Key,
    mut place: Place,
) -> Result<LoadedModel, Refusal> {
    let begun = Instant::now();
    let refused = |detail: String| Refusal::Unavailable { code: ModelFault::Load.code(), detail };
    let runtime = deps.loader.load(model, version).map_err(refused)?;
    place.shrink(runtime.bytes() as u64);
    let bytes = place.bytes();
    let runtime: Arc<dyn ModelRuntime> = Arc::new(Resident::new(runtime, place));
    let use_of =
        Use { begun, last_us: AtomicU64::new(0), cost: begun.elapsed(), bytes, retired: AtomicBool::new(false) };
    let loaded = wrap(deps, model.clone(), Arc::from(version.as_str()), runtime, use_of);
    loaded.touch();
    generation.bind(&loaded)?;
    Ok(loaded)
}

/// A runtime as the rest of the system sees it.
fn wrap(deps: &Deps, model: Arc<str>, version: Arc<str>, runtime: Arc<dyn ModelRuntime>, use_of: Use) -> LoadedModel {
    let manifest = runtime.manifest();
    let (calibrated, base_rate) = (manifest.calibration.is_calibrated(), manifest.provenance.positive_share);
    let signature = Arc::new(manifest.signature.clone());
    let run = match deps.settings.blocking {
        crate::blocking::Blocking::Pool => deps.settings.models,
        crate::blocking::Blocking::Inline => deps.settings.models.inline(),
    };
    let blame = Blame { model: model.clone(), version: version.clone(), counters: deps.counters.clone() };
    let host = Arc::new(ModelHost::new(blame, runtime.clone(), run));
    LoadedModel { model, version, calibrated, base_rate, signature, host, runtime, use_of }
}

/// Blocking. The version under another generation, without a place: to see whether it could serve.
pub(super) fn on_trial(deps: &Deps, runtime: Arc<dyn ModelRuntime>) -> LoadedModel {
    let use_of = Use {
        begun: Instant::now(),
        last_us: AtomicU64::new(0),
        cost: Duration::ZERO,
        bytes: 0,
        retired: AtomicBool::new(true),
    };
    let manifest = runtime.manifest();
    let (model, version) = (Arc::from(manifest.model.as_str()), Arc::from(manifest.version.as_str()));
    wrap(deps, model, version, runtime, use_of)
}

impl Handler<RoomFreed> for ModelPool {
    type Result = ();

    fn handle(&mut self, _: RoomFreed, ctx: &mut Self::Context) {
        self.load_next(ctx);
    }
}
