//! What every actor is given, and the settings they run by: fixed ones here, live ones in each generation.

use crate::admission::AdmissionLimits;
use crate::alerter::Alerts;
use crate::blocking::Blocking;
use crate::counters::Counters;
use crate::erasure::Erasures;
use crate::model_host::ModelRun;
use crate::ports::{
    Clock, EventLog, FeatureStore, FeedCheckpoint, JoinStore, ModelLoader, OutcomeLog, PredictionLog,
    RetrainingJournal, RolloutJournal, Telemetry, Trainer,
};
use std::sync::Arc;
use std::time::Duration;
use understudy_domain::residency::Budget;
use understudy_domain::time::Span;

/// What may be deleted from the logs; zero keeps it for ever.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retention {
    pub events_age: Span,
    pub events_bytes: u64,
    pub predictions_age: Span,
    pub predictions_bytes: u64,
    pub outcomes_age: Span,
    pub outcomes_bytes: u64,
}

/// Settings that change with a generation, while requests are being answered; units are in the names or types.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSettings {
    /// Feature shards; each owns the entities whose hash falls to it.
    pub shards: usize,
    /// Entities kept in memory over all shards; the rest is cold, on disk.
    pub max_entities: usize,
    /// Events older than this, against the clock, are kept but not folded.
    pub lateness: Span,
    /// Events further in the future than this are refused.
    pub max_future: Span,
    /// How long an event id is remembered.
    pub dedupe_window: Span,
    /// What may enter.
    pub admission: AdmissionLimits,
    /// Predictions waiting for the log before answers say `logged: false`.
    pub log_queue: u64,
    /// Answer only when the prediction is durable.
    pub log_sync: bool,
    /// Longest request body, in bytes.
    pub max_body_bytes: usize,
    /// Longest body of a registered model version, in bytes.
    pub max_upload_bytes: usize,
    /// Most instances of one predict request, or rows of an infer request.
    pub max_instances: usize,
    /// Most events of one ingest, and outcomes of one request.
    pub max_events: usize,
    /// Longest wait for an answer; a request may ask for less.
    pub request_timeout: Duration,
    pub retention: Retention,
}

impl Default for LiveSettings {
    fn default() -> Self {
        LiveSettings {
            shards: 2,
            max_entities: 1_000_000,
            lateness: Span::hours(1),
            max_future: Span::seconds(300),
            dedupe_window: Span::days(7),
            admission: AdmissionLimits { max_in_flight: 1024, max_wait: Duration::from_millis(100) },
            log_queue: 16_384,
            log_sync: false,
            max_body_bytes: 1 << 20,
            max_upload_bytes: 256 << 20,
            max_instances: 1000,
            max_events: 10_000,
            request_timeout: Duration::from_secs(5),
            retention: Retention::default(),
        }
    }
}

/// Settings that are fixed from start to stop.
#[derive(Clone, Debug)]
pub struct ActorSettings {
    /// Event ids remembered at most.
    pub dedupe_max_ids: usize,
    /// Predictions waiting for outcomes that are kept in memory.
    pub max_pending: usize,
    /// Answers kept for repeated request ids.
    pub max_answers: usize,
    /// Events folded by a shard between two snapshots of its state.
    pub snapshot_every: u64,
    /// How models are run.
    pub models: ModelRun,
    /// Whether models are watched.
    pub monitoring: bool,
    /// What may be loaded at once.
    pub model_budget: Budget,
    /// Where blocking work runs; inline only in simulations.
    pub blocking: Blocking,
    /// Entropy of the ids of predictions whose request brought none.
    pub entropy: fn() -> u128,
}

impl Default for ActorSettings {
    fn default() -> Self {
        ActorSettings {
            dedupe_max_ids: 4_000_000,
            max_pending: 2_000_000,
            max_answers: 20_000,
            snapshot_every: 200_000,
            models: ModelRun::default(),
            monitoring: true,
            model_budget: Budget { versions: 32, bytes: 1 << 30 },
            blocking: Blocking::Pool,
            entropy: || ulid::Ulid::generate().0,
        }
    }
}

/// The ports and the fixed settings; shared by all actors, never mutated.
pub struct Deps {
    pub settings: ActorSettings,
    /// Event time: the wall clock, or the recorded stream's.
    pub clock: Arc<dyn Clock>,
    /// Always the wall clock: restart budgets and job times.
    pub wall: Arc<dyn Clock>,
    pub events: Arc<dyn EventLog>,
    pub predictions: Arc<dyn PredictionLog>,
    pub outcomes: Arc<dyn OutcomeLog>,
    pub joins: Arc<dyn JoinStore>,
    pub features: Arc<dyn FeatureStore>,
    pub rollouts: Arc<dyn RolloutJournal>,
    pub loader: Arc<dyn ModelLoader>,
    pub trainer: Arc<dyn Trainer>,
    pub retraining: Arc<dyn RetrainingJournal>,
    pub counters: Arc<Counters>,
    pub telemetry: Arc<dyn Telemetry>,
    pub erasures: Arc<Erasures>,
    /// What the watch over the feeds is begun with.
    pub feeds: Arc<dyn FeedCheckpoint>,
    pub alerts: Arc<Alerts>,
}
