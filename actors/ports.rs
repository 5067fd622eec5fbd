//! What the actors need from the outside. `src` implements these; tests bring their own.

mod watching;

pub use watching::{AlertJournal, AlertSink, FeedCheckpoint, SinkStatus};

use crate::prediction_logger::JoinSnapshot;
use crate::rollout::JournalLine;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::{LoggedEvent, Trace};
use understudy_domain::features::EntityState;
use understudy_domain::model::Manifest;
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::project::TrainSpec;
use understudy_domain::registry::VersionLedger;
use understudy_domain::retraining::Entry;
use understudy_domain::time::Timestamp;
use understudy_domain::trace::TraceContext;
use understudy_domain::value::Value;

/// Why the store did not do what was asked. Nothing was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The disk refused a read, write or sync.
    Io(String),
    /// No space is left, or less than the floor; writing goes on by itself when there is space again.
    DiskFull(String),
    /// A record did not match its checksum, or could not be decoded.
    Corrupt(String),
    /// Intact, but written by a later version of this program.
    Newer(String),
    /// The writer's queue is full; try again.
    Full,
    /// The store was closed.
    Closed,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Io(e) => write!(f, "storage: {e}"),
            StoreError::DiskFull(e) => write!(f, "the disk is full: {e}"),
            StoreError::Corrupt(e) => write!(f, "corrupt record: {e}"),
            StoreError::Newer(e) => f.write_str(e),
            StoreError::Full => f.write_str("the log's queue is full"),
            StoreError::Closed => f.write_str("the store is closed"),
        }
    }
}

/// Resolves once the records are durable (group commit).
pub type Commit = oneshot::Receiver<Result<(), StoreError>>;

/// The time that decisions run on.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
    /// A recorded stream moves its own clock; the wall clock ignores this. Never moves back.
    fn observe(&self, t: Timestamp);
    /// True while a recorded stream is the clock: requests may carry their own time.
    fn is_stream(&self) -> bool;
}

/// Every accepted event, in order of `seq` (1, 2, ...).
pub trait EventLog: Send + Sync {
    /// Highest durable sequence number, 0 if none.
    fn last_seq(&self) -> u64;
    /// Whether records can be taken now. Asked before anything is done for a request, so that a full or failing
    /// disk refuses it whole.
    fn accepting(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Appends in order; `seq`s continue the log without a gap.
    fn append(&self, events: Vec<LoggedEvent>) -> Commit;
    /// Visits events with `seq >= from` in order until told to stop.
    fn scan(&self, from: u64, visit: &mut dyn FnMut(LoggedEvent) -> ControlFlow<()>) -> Result<(), StoreError>;
    /// Visits what tells repeats of the events `from ..= until`, in order; a log may do that without making the events.
    fn skim(&self, from: u64, until: u64, visit: &mut dyn FnMut(Trace)) -> Result<(), StoreError> {
        self.scan(from, &mut |e| {
            if e.seq > until {
                return ControlFlow::Break(());
            }
            visit(e.trace());
            ControlFlow::Continue(())
        })
    }
}

pub trait PredictionLog: Send + Sync {
    /// Whether records can be taken now. Asked before anything is done for a request, so that a full or failing
    /// disk refuses it whole.
    fn accepting(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Shared records: the answer holds the same ones.
    fn append(&self, records: Vec<Arc<PredictionRecord>>) -> Commit;
    fn get(&self, id: PredictionId) -> Result<Option<PredictionRecord>, StoreError>;
    /// The last `limit` predictions, newest first, of one model or of all. Ids of one millisecond are random beyond
    /// it: when it has more than are wanted, which of them are given is not said.
    fn newest(&self, model: Option<&str>, limit: usize) -> Result<Vec<PredictionRecord>, StoreError>;
    /// Visits predictions with `id >= from` in order of id, of one model or of all.
    fn scan(
        &self,
        model: Option<&str>,
        from: PredictionId,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
    /// Position of the last durable record; every record appended later has a higher one.
    fn position(&self) -> u64;
    /// Visits predictions appended after `position`, as they came (within a group in order of id).
    fn scan_after(
        &self,
        position: u64,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

pub trait OutcomeLog: Send + Sync {
    /// Whether records can be taken now. Asked before anything is done for a request, so that a full or failing
    /// disk refuses it whole.
    fn accepting(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn append(&self, records: Vec<OutcomeRecord>) -> Commit;
    /// How many outcomes are durable: where a scan goes on that has read them all.
    fn position(&self) -> u64;
    /// Visits outcomes in order of arrival, starting at position `from` (0 = all).
    fn scan(&self, from: u64, visit: &mut dyn FnMut(OutcomeRecord) -> ControlFlow<()>) -> Result<(), StoreError>;
}

/// Where joins and monitors stood; what the logs hold after that is read at a start. Both calls block.
pub trait JoinStore: Send + Sync {
    /// Replaces what was saved before, durably, whole or not at all.
    fn save(&self, snapshot: &JoinSnapshot) -> Result<(), StoreError>;
    /// What was saved last; `None` if nothing was.
    fn load(&self) -> Result<Option<JoinSnapshot>, StoreError>;
}

/// The journals of rollouts, one each; what was appended is durable when `append` returns. All of it blocks.
pub trait RolloutJournal: Send + Sync {
    /// Ids of a model's rollouts, oldest first.
    fn list(&self, model: &str) -> Result<Vec<String>, StoreError>;
    fn append(&self, id: &str, lines: &[JournalLine]) -> Result<(), StoreError>;
    /// Every line, in order. A last line that was cut off while it was written is left out.
    fn read(&self, id: &str) -> Result<Vec<JournalLine>, StoreError>;
}

/// Cold entity state and snapshots of a feature shard.
pub trait FeatureStore: Send + Sync {
    /// Writes entity states and the shard's watermark in one atomic, durable batch.
    fn save(&self, shard: usize, watermark: u64, entities: Vec<(EntityHash, EntityState)>) -> Result<(), StoreError>;
    fn load(&self, shard: usize, entity: EntityHash) -> Result<Option<EntityState>, StoreError>;
    /// Sequence number up to which `shard`'s saved state holds every event; 0 if none.
    fn watermark(&self, shard: usize) -> Result<u64, StoreError>;
    /// Hash of the feature set (and shard count) that the saved state belongs to.
    fn layout(&self) -> Result<Option<String>, StoreError>;
    /// Drops the saved state of these entities, durably.
    fn forget(&self, shard: usize, entities: &[EntityHash]) -> Result<(), StoreError>;
    /// Drops all saved state and records the new layout.
    fn reset(&self, layout: &str) -> Result<(), StoreError>;
    /// A store for another layout beside this one, kept apart from it.
    ///
    /// # Errors
    /// By default there is none: such a store has one layout at a time.
    fn beside(&self, layout: &str) -> Result<Arc<dyn FeatureStore>, StoreError> {
        Err(StoreError::Io(format!("this store has no room for a second layout ({layout})")))
    }
}

/// A loaded model version. Pure computation; may be called from any thread.
pub trait ModelRuntime: Send + Sync {
    fn manifest(&self) -> &Manifest;
    fn profile(&self) -> &ReferenceProfile;
    /// Calibrated probability of the positive label for each row; rows are in signature order.
    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String>;
    /// Memory it holds, for the pool's budget.
    fn bytes(&self) -> usize;
    /// Whether what it is made of bounds the time of a row, whatever the row: a fixed number of operations, or trees of
    /// a fixed depth. Any other may hang, and gets threads of its own.
    fn bounded(&self) -> bool {
        false
    }
    /// Time of one row, measured while the golden requests were answered.
    fn row_time(&self) -> Option<Duration> {
        None
    }
}

/// Why a version was not taken in; nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// What is wrong with it, and where.
    Refused(String),
    /// The same content is registered already.
    Known { model: String, version: String },
    /// It could not be written.
    Storage(String),
}

/// Asked about a version from outside when it is loaded and before it is stored; says why it is not wanted.
pub type Accept<'a> = dyn Fn(&Arc<dyn ModelRuntime>) -> Result<(), String> + 'a;

/// The registered versions, what is decided about them, and how to load one. All of it blocks.
pub trait ModelLoader: Send + Sync {
    /// Versions of a model, oldest first, archived ones too.
    fn versions(&self, model: &str) -> Result<Vec<String>, String>;
    fn manifest(&self, model: &str, version: &str) -> Result<Manifest, String>;
    /// Names and archived versions of a model; empty if nothing was ever decided.
    fn ledger(&self, model: &str) -> Result<VersionLedger, String>;
    /// Replaces the ledger as a whole, durably.
    fn save_ledger(&self, model: &str, ledger: &VersionLedger) -> Result<(), String>;
    /// Memory that a version will hold once it is loaded, without loading it, in bytes.
    fn weigh(&self, model: &str, version: &str) -> Result<u64, String>;
    /// Takes in a version that was made elsewhere: checks it whole, asks `accept` about the loaded model, and stores it
    /// under the next version number, immutable. Nothing is stored if anything is wrong.
    ///
    /// # Errors
    /// By default this store takes nothing from outside.
    fn register(&self, bundle: &[u8], accept: &Accept<'_>) -> Result<Manifest, RegisterError> {
        let _ = accept;
        Err(RegisterError::Refused(format!("this store takes no versions from outside ({} bytes)", bundle.len())))
    }
    /// Checks files and checksums, loads, and answers the golden requests; blocking.
    fn load(&self, model: &str, version: &str) -> Result<Arc<dyn ModelRuntime>, String>;
    /// What the version was trained on; blocking.
    fn profile(&self, model: &str, version: &str) -> Result<ReferenceProfile, String> {
        Ok(self.load(model, version)?.profile().clone())
    }
}

/// One row of a training set.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingRow {
    pub request_id: String,
    pub time: Timestamp,
    pub vector: Vec<Value>,
    pub label: bool,
}

/// Everything a trainer needs; rows are ordered by time.
pub struct TrainingJob {
    pub model: String,
    pub spec: TrainSpec,
    pub signature: understudy_domain::model::Signature,
    pub feature_set: String,
    /// Feature to the hash of all that its value depends on.
    pub meanings: std::collections::BTreeMap<String, String>,
    /// How long the windows will be that are compared with these rows.
    pub drift: understudy_domain::project::DriftSpec,
    pub threshold: f64,
    pub created: Timestamp,
    pub rows: Vec<TrainingRow>,
}

/// Share done (0..1) and a word on where it is.
pub type Progress<'a> = &'a (dyn Fn(f32, &str) + Send + Sync);

/// A trained version that is registered nowhere yet.
pub struct Challenger {
    /// Ready to answer; its manifest has no version.
    pub runtime: Arc<dyn ModelRuntime>,
    /// What the trainer that made it registers.
    pub content: Box<dyn std::any::Any + Send>,
}

/// What the retraining loops decided and did, in order; every call blocks.
pub trait RetrainingJournal: Send + Sync {
    /// Durable, whole or not at all, when it returns.
    fn append(&self, model: &str, entries: &[Entry]) -> Result<(), StoreError>;
    /// All entries with their models, oldest first.
    fn read(&self) -> Result<Vec<(String, Entry)>, StoreError>;
}

fn cannot<T>() -> Result<T, String> {
    Err("this trainer makes no challengers".into())
}

pub trait Trainer: Send + Sync {
    /// Trains, calibrates, makes the reference profile and golden requests, and registers the
    /// artefact whole or not at all; blocking. Returns the new version's manifest.
    fn train(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Manifest, String>;
    /// The same up to registering it.
    ///
    /// # Errors
    /// By default no challengers are made.
    fn prepare(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Challenger, String> {
        let _ = (job, progress);
        cannot()
    }
    /// The weights of `base` with a calibration fitted to the job's rows.
    ///
    /// # Errors
    /// By default no challengers are made.
    fn recalibrate(&self, job: TrainingJob, base: &str) -> Result<Challenger, String> {
        let _ = (job, base);
        cannot()
    }
    /// Registers what `prepare` or `recalibrate` made, whole or not at all; what is registered already keeps its
    /// version, so that doing it twice changes nothing.
    ///
    /// # Errors
    /// By default no challengers are made.
    fn publish(&self, challenger: Challenger) -> Result<Manifest, String> {
        let _ = challenger;
        cannot()
    }
}

/// What an actor did for a message of a traced request.
#[derive(Clone, Debug)]
pub struct MessageSpan {
    /// The request's span.
    pub parent: TraceContext,
    pub actor: &'static str,
    pub message: &'static str,
    pub started: Instant,
    pub took: Duration,
}

/// What the program tells the outside about its work. Nothing decides by it, and no call may block.
pub trait Telemetry: Send + Sync {
    /// Predictions on their way to the log.
    fn predictions(&self, group: &[Arc<PredictionRecord>]);
    fn message(&self, span: MessageSpan);
}

/// Tells nobody.
impl Telemetry for () {
    fn predictions(&self, _: &[Arc<PredictionRecord>]) {}
    fn message(&self, _: MessageSpan) {}
}
