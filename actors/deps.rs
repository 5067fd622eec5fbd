//! What every actor is given, and the settings they run by.

use crate::admission::AdmissionLimits;
use crate::blocking::Blocking;
use crate::counters::Counters;
use crate::ports::{Clock, EventLog, FeatureStore, ModelLoader, OutcomeLog, PredictionLog, Trainer};
use std::sync::Arc;
use understudy_domain::catalog::Catalog;
use understudy_domain::time::Span;

/// Settings of the actors; the units are in the names or types.
#[derive(Clone, Debug)]
pub struct ActorSettings {
    /// Feature shards; each owns the entities whose hash falls to it.
    pub shards: usize,
    /// Entities kept in memory over all shards; the rest is cold, on disk.
    pub max_entities: usize,
    /// Events older than this, against the clock, are kept but not folded.
    pub lateness: Span,
    /// Events further in the future than this are refused.
    pub max_future: Span,
    /// How long an event id is remembered, and how many at most.
    pub dedupe_window: Span,
    pub dedupe_max_ids: usize,
    /// What may enter.
    pub admission: AdmissionLimits,
    /// Predictions waiting for the log before answers say `logged: false`.
    pub log_queue: u64,
    /// Answer only when the prediction is durable.
    pub log_sync: bool,
    /// Predictions waiting for outcomes that are kept in memory.
    pub max_pending: usize,
    /// Answers kept for repeated request ids.
    pub max_answers: usize,
    /// Events folded by a shard between two snapshots of its state.
    pub snapshot_every: u64,
    /// Where blocking work runs; inline only in simulations.
    pub blocking: Blocking,
    /// Entropy of the ids of predictions whose request brought none.
    pub entropy: fn() -> u128,
}

impl Default for ActorSettings {
    fn default() -> Self {
        ActorSettings {
            shards: 2,
            max_entities: 1_000_000,
            lateness: Span::hours(1),
            max_future: Span::seconds(300),
            dedupe_window: Span::days(7),
            dedupe_max_ids: 4_000_000,
            admission: AdmissionLimits { max_in_flight: 1024, max_wait: std::time::Duration::from_millis(100) },
            log_queue: 16_384,
            log_sync: false,
            max_pending: 2_000_000,
            max_answers: 20_000,
            snapshot_every: 200_000,
            blocking: Blocking::Pool,
            entropy: || ulid::Ulid::generate().0,
        }
    }
}

/// The ports and the compiled project; shared by all actors, never mutated.
pub struct Deps {
    pub catalog: Arc<Catalog>,
    pub settings: ActorSettings,
    /// Event time: the wall clock, or the recorded stream's.
    pub clock: Arc<dyn Clock>,
    /// Always the wall clock: restart budgets and job times.
    pub wall: Arc<dyn Clock>,
    pub events: Arc<dyn EventLog>,
    pub predictions: Arc<dyn PredictionLog>,
    pub outcomes: Arc<dyn OutcomeLog>,
    pub features: Arc<dyn FeatureStore>,
    pub loader: Arc<dyn ModelLoader>,
    pub trainer: Arc<dyn Trainer>,
    pub counters: Counters,
}
