//! Start and stop order of the actors, and the handle that everything outside has on them.

use crate::admission::Admission;
use crate::alerter::Alerter;
use crate::api::{ActorHealth, JobStatus, ModelStatus, Refusal};
use crate::cell::CELL;
use crate::cell::StoredAnswer;
use crate::config_watcher::ConfigWatcher;
use crate::deps::Deps;
use crate::event_logger::EventLogger;
use crate::feature_set::FeatureSet;
use crate::feature_shard::{Layout, SaveSnapshot, ShrinkState};
use crate::feed_monitor::{FeedBoard, FeedMonitor, SaveFeeds};
use crate::generation::{Current, Declared, Generation};
use crate::guard::{Escalation, Vitals};
use crate::model_pool::{EvictIdleModels, ModelPool, Published};
use crate::monitor::Monitor;
use crate::prediction_logger::{FlushLog, PredictionLogger, SaveJoins};
use crate::residents::Residents;
use crate::retraining::{Neighbours, RetrainingOrchestrator};
use crate::rollout::{Board, RolloutController};
use crate::start_pass::StartPass;
use crate::supervise;
use crate::trainer::{Jobs, Trainer};
use actix::prelude::*;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use understudy_domain::dedupe::Recent;
use understudy_domain::features::TableStats;
use understudy_domain::residency::Load;
use understudy_domain::time::Span;

/// How long a repeated request id gets its stored answer.
const REPEAT_WINDOW: Span = Span::seconds(600);

/// The running actors. Shared by all cells.
pub struct System {
    pub deps: Arc<Deps>,
    /// What may enter, over all cells.
    pub admission: Arc<Admission>,
    pub(crate) current: Current,
    pub(crate) events: Addr<EventLogger>,
    pub(crate) logger: Addr<PredictionLogger>,
    pub(crate) feeds: Addr<FeedMonitor>,
    /// What the watch over the feeds shows.
    pub feed_board: Arc<FeedBoard>,
    pub(crate) alerter: Addr<Alerter>,
    pub(crate) pool: Addr<ModelPool>,
    pub(crate) trainer: Addr<Trainer>,
    pub(crate) jobs: Jobs,
    pub(crate) retraining: Addr<RetrainingOrchestrator>,
    /// Event time of the next evaluation of any model, in microseconds.
    pub(crate) retraining_due: Arc<AtomicI64>,
    pub(crate) models: Published,
    /// The rollouts that run.
    pub board: Arc<Board>,
    pub(crate) rollouts: Addr<RolloutController>,
    residents: Arc<Residents>,
    pub(crate) queued: Arc<AtomicU64>,
    pub(crate) answers: Mutex<Recent<StoredAnswer>>,
    pub(crate) escalation: Escalation,
    vitals: Mutex<Vec<Arc<Vitals>>>,
    pub(crate) threads: Threads,
    pub(crate) watcher: OnceLock<Addr<ConfigWatcher>>,
    arbiters: Vec<Arbiter>,
}

/// Where the actors run: events and features on one thread, predictions and monitors on the next,
/// pool and trainer on a third. Tests give the same thread three times.
#[derive(Clone)]
pub struct Threads {
    pub features: ArbiterHandle,
    pub logging: ArbiterHandle,
    pub control: ArbiterHandle,
    /// They are one and the same, and no other may be started.
    pub one: bool,
}

fn no_answers(deps: &Deps) -> Recent<StoredAnswer> {
    Recent::new(REPEAT_WINDOW, deps.settings.max_answers)
}

impl Threads {
    /// One thread for everything, as in tests.
    pub(crate) fn shared(&self) -> bool {
        self.one
    }
}

impl System {
    /// Starts every actor on threads of its own; must be called inside an actix system.
    pub fn start(deps: Arc<Deps>, declared: Declared) -> Arc<System> {
        let arbiters = vec![Arbiter::new(), Arbiter::new(), Arbiter::new()];
        let threads = Threads {
            features: arbiters[0].handle(),
            logging: arbiters[1].handle(),
            control: arbiters[2].handle(),
            one: false,
        };
        Self::start_on(deps, declared, &threads, arbiters)
    }

    pub fn start_on(deps: Arc<Deps>, declared: Declared, threads: &Threads, arbiters: Vec<Arbiter>) -> Arc<System> {
        let mut all = Vec::new();
        let escalation = Escalation::default();
        let mut vitals = |name: String| {
            let v = Vitals::new(name, escalation.clone());
            all.push(v.clone());
            v
        };
        let monitors: BTreeMap<String, Addr<Monitor>> = declared
            .catalog
            .models
            .iter()
            .map(|(model, plan)| {
                let vitals = vitals(format!("monitor/{model}"));
                let monitor = Monitor::new(plan.clone(), deps.clone(), vitals.clone());
                (model.clone(), supervise::start_on(&threads.logging, monitor, vitals))
            })
            .collect();
        let queued = Arc::new(AtomicU64::new(0));
        let layout = Layout {
            plan: declared.catalog.plan.clone(),
            shards: declared.settings.shards,
            max_entities: declared.settings.max_entities,
            store: deps.features.clone(),
            scan: Default::default(),
        };
        let pass = StartPass::new(deps.clone(), layout.clone(), declared.settings.dedupe_window);
        let features = FeatureSet::start(layout, &deps, &escalation, &threads.features, None, Some(&pass));
        let models_of: Vec<Arc<str>> = declared.catalog.models.keys().map(|m| Arc::from(m.as_str())).collect();
        let admission = Admission::new(declared.settings.admission, models_of);
        let current = Generation::new(declared, Arc::new(features), &monitors);
        let current: Current = Arc::new(ArcSwap::from_pointee(current));
        let health = vitals("prediction_logger".into());
        let board = Arc::<Board>::default();
        let logger =
            PredictionLogger::new(deps.clone(), current.clone(), health.clone(), queued.clone(), board.clone());
        let logger = supervise::start_on(&threads.logging, logger, health);
        let health = vitals("alerter".into());
        let alerter = supervise::start_on(&threads.control, Alerter::new(deps.clone(), health.clone()), health);
        deps.alerts.listen(alerter.clone());
        let (health, feed_board) = (vitals("feed_monitor".into()), Arc::<FeedBoard>::default());
        let feeds = FeedMonitor::new(deps.clone(), current.clone(), health.clone(), feed_board.clone());
        let feeds = supervise::start_on(&threads.logging, feeds, health);
        let health = vitals("event_logger".into());
        let watched = (feeds.clone(), feed_board.clone());
        let events = EventLogger::new(deps.clone(), current.clone(), health.clone(), logger.clone(), watched, pass);
        let events = supervise::start_on(&threads.features, events, health);
        let residents = Arc::<Residents>::default();
        let models: Published = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let health = vitals("model_pool".into());
        let pool = ModelPool::new(deps.clone(), current.clone(), health.clone(), models.clone(), residents.clone());
        let pool = supervise::start_on(&threads.control, pool, health);
        let health = vitals("rollout_controller".into());
        let rollouts = RolloutController::new(
            deps.clone(),
            current.clone(),
            health.clone(),
            board.clone(),
            pool.clone(),
            logger.clone(),
            (models.clone(), feed_board.clone()),
        );
        let rollouts = supervise::start_on(&threads.control, rollouts, health);
        board.set_controller(rollouts.clone());
        let jobs = Jobs::default();
        let health = vitals("trainer".into());
        let trainer = Trainer::new(deps.clone(), current.clone(), health.clone(), pool.clone(), jobs.clone());
        let trainer = supervise::start_on(&threads.control, trainer, health);
        let health = vitals("retraining".into());
        let retraining_due = Arc::new(AtomicI64::new(i64::MIN));
        let with = Neighbours {
            pool: pool.clone(),
            logger: logger.clone(),
            feeds: feeds.clone(),
            models: models.clone(),
            jobs: jobs.clone(),
            due: retraining_due.clone(),
        };
        let retraining = RetrainingOrchestrator::new(deps.clone(), current.clone(), health.clone(), with);
        let retraining = supervise::start_on(&threads.control, retraining, health);
        let answers = Mutex::new(no_answers(&deps));
        Arc::new(System {
            admission,
            deps,
            current,
            events,
            logger,
            feeds,
            feed_board,
            alerter,
            pool,
            trainer,
            jobs,
            retraining,
            retraining_due,
            models,
            board,
            rollouts,
            residents,
            queued,
            answers,
            escalation,
            vitals: Mutex::new(all),
            threads: threads.clone(),
            watcher: OnceLock::new(),
            arbiters,
        })
    }

    /// Vitals of an actor that a cell starts, or of a part outside of the actors, so that its health is reported too.
    pub fn register(&self, vitals: Arc<Vitals>) {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner).push(vitals);
    }

    /// Repeated request ids are answered anew from here on.
    pub(crate) fn forget_answers(&self) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = no_answers(&self.deps);
    }

    /// Monitors of models that are gone are no part of the health any more.
    pub(crate) fn unregister(&self, gone: impl Fn(&str) -> bool) {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner).retain(|v| !gone(v.name()));
    }

    pub fn health(&self) -> Vec<ActorHealth> {
        let own = self.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        let shards = self.current.load_full();
        own.iter().chain(&shards.features.vitals).map(|v| v.health()).collect()
    }

    /// Workers that have started their part.
    pub fn cells(&self) -> usize {
        let own = self.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        own.iter().filter(|v| v.name() == CELL).count()
    }

    /// Every actor is up and has recovered its state.
    pub fn ready(&self) -> bool {
        self.health().iter().all(|h| h.ready)
    }

    /// Resolves with the reason when an actor failed more often than its budget allows: the process should end.
    pub async fn given_up(&self) -> String {
        self.escalation.raised().await
    }

    /// Not ready from now on, for whoever asks `/readyz`; requests are still answered.
    pub fn drain(&self) {
        let vitals = Vitals::new("server", self.escalation.clone());
        vitals.set_ready(false, "stopping: told to end");
        self.register(vitals);
    }

    /// The configuration in force.
    pub fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    pub fn jobs(&self) -> Vec<JobStatus> {
        self.jobs.list()
    }

    pub fn models(&self) -> Vec<ModelStatus> {
        self.models.load().to_vec()
    }

    /// Versions and bytes of models in memory: now, and the most there were.
    pub fn models_in_memory(&self) -> (Load, Load) {
        (self.residents.now(), self.residents.peak())
    }

    /// What the model pool holds and did.
    pub(crate) fn describe_models(&self) -> serde_json::Value {
        let (now, peak) = self.models_in_memory();
        let (budget, counters) = (self.deps.settings.model_budget, &self.deps.counters);
        let sum = |family: &crate::counters::Family| family.read().iter().map(|(_, n)| n).sum::<u64>();
        serde_json::json!({
            "loaded": now.versions, "bytes": now.bytes, "peak_loaded": peak.versions, "peak_bytes": peak.bytes,
            "max_loaded": budget.versions, "max_bytes": budget.bytes,
            "misses": sum(&counters.model_misses), "loads": sum(&counters.model_loads),
            "evictions": sum(&counters.model_evictions), "fallbacks": sum(&counters.fallbacks),
            "faults": sum(&counters.model_faults),
        })
    }

    pub fn feature_stats(&self) -> Vec<TableStats> {
        self.current
            .load()
            .features
            .tables
            .iter()
            .map(|t| t.lock().unwrap_or_else(PoisonError::into_inner).stats())
            .collect()
    }

    /// Memory is short: fewer entities and no idle models in memory; or no longer, and as many as configured.
    pub fn shrink(&self, shrink: bool) {
        for shard in &self.current.load_full().features.shards {
            shard.do_send(ShrinkState { shrink });
        }
        if shrink {
            self.pool.do_send(EvictIdleModels);
        }
    }

    /// Predictions sent to the log and not taken by it yet.
    pub fn log_queue(&self) -> u64 {
        self.queued.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Orderly end: what was logged becomes durable, feature state is saved, threads end.
    pub async fn stop(&self) -> Result<(), Refusal> {
        let gone = |e: MailboxError| Refusal::Internal { detail: e.to_string() };
        let mut result = self.logger.send(FlushLog).await.map_err(gone)?;
        if result.is_err() {
            // It told of groups that failed before, which are counted; what counts now is what is left.
            result = self.logger.send(FlushLog).await.map_err(gone)?;
        }
        // Only a restart is slower without it.
        if let Err(e) = self.feeds.send(SaveFeeds).await.map_err(gone)? {
            tracing::warn!(%e, "the watch over the feeds was not saved");
        }
        if let Err(e) = self.logger.send(SaveJoins).await.map_err(gone)? {
            tracing::warn!(?e, "where joins and monitors stand was not saved; the next start reads more of the logs");
        }
        for shard in &self.current.load_full().features.shards {
            let saved = shard.send(SaveSnapshot).await.map_err(gone)?;
            result = result.and(saved.map(|_| ()));
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        result
    }
}
