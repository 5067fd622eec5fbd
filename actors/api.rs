//! What the gateway asks of the system, and what it may answer: plain data, no HTTP in it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::blame::Suspect;
use understudy_domain::drift::DriftCase;
use understudy_domain::entity::EntityIds;
use understudy_domain::event::{IngestOutcome, LoggedEvent};
use understudy_domain::model::{Provenance, Signature};
use understudy_domain::prediction::{Finding, OutcomeStatus, PredictionRecord, ServedArm};
use understudy_domain::time::Timestamp;
use understudy_domain::trace::TraceContext;
use understudy_domain::value::Value;

/// One prediction request.
#[derive(Clone, Debug, Default)]
pub struct PredictCommand {
    pub model: String,
    /// Pins a version; the routing table decides if absent.
    pub version: Option<String>,
    /// Chooses a side of a rollout, for testing; such an answer is no evidence.
    pub arm: Option<ServedArm>,
    /// The caller's id: makes the prediction id reproducible and the request idempotent.
    pub request_id: Option<String>,
    /// Event time of the request; only while a recorded stream is the clock. Default: now.
    pub time: Option<Timestamp>,
    pub entities: EntityIds,
    pub context: BTreeMap<String, Value>,
    /// A complete vector in signature order: no features are looked up (Open Inference Protocol).
    pub given: Option<Vec<Value>>,
    /// Microseconds already spent on parsing, for the timing split.
    pub parse_us: u32,
    /// The request is traced: spans of the messages it causes hang below this.
    pub trace: Option<TraceContext>,
}

/// A served prediction.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The one generation of the configuration that made it.
    pub generation: u64,
    pub record: Arc<PredictionRecord>,
    pub signature: Arc<Signature>,
    /// False: the score is the model's raw output and `confidence` must be called uncalibrated.
    pub calibrated: bool,
    /// Names of features older than their view's ttl.
    pub stale: Vec<String>,
    /// The stored answer of an earlier request with this id.
    pub repeated: bool,
    /// False when the log could not take the record.
    pub logged: bool,
    /// The routed version could not be loaded: the champion answered in its place.
    pub fallback_version: bool,
}

/// Why a request was not done. `code` is stable; the gateway maps it to a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No such model, version, feature, prediction or job.
    NotFound { code: &'static str, detail: String },
    /// The model has no version to serve yet.
    NoVersion { detail: String },
    /// The request itself is wrong.
    Invalid { code: &'static str, detail: String },
    /// A rule with `policy = "reject"` was broken.
    Rejected { findings: Vec<Finding> },
    /// Same id, other content; or the thing is in another state.
    Conflict { code: &'static str, detail: String },
    /// Too much in flight; nothing was done.
    Overloaded { retry_after_ms: u64 },
    /// Not let in, so that what was let in is answered in time; nothing was done.
    Shed { code: &'static str, detail: String, retry_after_ms: u64 },
    /// Not answered in time.
    Deadline,
    /// The disk or a part of the system is not available; nothing was acknowledged.
    Unavailable { code: &'static str, detail: String },
    /// The model did not answer as its signature says, or with no number.
    Model { fault: ModelFault, detail: String },
    /// A bug or a panic; the part concerned is being restarted.
    Internal { detail: String },
}

/// What a model did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelFault {
    /// Not as many scores as rows, or a score that is no probability.
    Shape,
    /// NaN or infinite.
    NotFinite,
    /// It said so itself.
    Error,
    Panic,
    /// A call did not end within `models.hang`.
    Hang,
    /// It could not be loaded, or did not answer its golden requests as recorded.
    Load,
}

impl ModelFault {
    pub fn name(self) -> &'static str {
        match self {
            ModelFault::Shape => "shape",
            ModelFault::NotFinite => "not_finite",
            ModelFault::Error => "error",
            ModelFault::Panic => "panic",
            ModelFault::Hang => "hang",
            ModelFault::Load => "load",
        }
    }

    /// The stable code of a refusal for it.
    pub fn code(self) -> &'static str {
        match self {
            ModelFault::Shape | ModelFault::NotFinite => "model_contract",
            ModelFault::Hang => "model_hangs",
            ModelFault::Load => "model_not_loadable",
            ModelFault::Error | ModelFault::Panic => "model_error",
        }
    }
}

/// One line of a replayed stream: the event, and the predictions it asked for.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayedLine {
    pub id: String,
    pub ingest: IngestOutcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predictions: Vec<ReplayedPrediction>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReplayedPrediction {
    pub model: String,
    /// Prediction id, if it was served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Stable code of the refusal, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A posted outcome's status, or why it was not taken.
pub type OutcomeResult = Result<OutcomeStatus, Refusal>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelStatus {
    pub model: String,
    /// Version that is served; null before the first training.
    pub champion: Option<String>,
    pub epoch: u64,
    pub loaded: bool,
    /// Oldest first, archived ones too.
    pub versions: Vec<String>,
    /// Alias to version; `champion` is the one that is served.
    pub aliases: BTreeMap<String, String>,
    pub archived: Vec<String>,
    /// Versions in memory.
    pub in_memory: Vec<String>,
    pub features: Vec<String>,
    pub feature_set: String,
    pub provenance: Option<Provenance>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Backfilling,
    Training,
    Registered,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobStatus {
    pub job: u64,
    pub model: String,
    pub state: JobState,
    /// 0..1 of the current state.
    pub progress: f32,
    pub message: String,
    pub rows: u64,
    pub version: Option<String>,
}

/// Value, window and evidence of one feature of one entity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeatureExplanation {
    pub feature: String,
    pub entity: String,
    pub id: Vec<String>,
    pub value: Value,
    pub as_of: Timestamp,
    pub window_from: Option<Timestamp>,
    pub events_counted: u64,
    pub newest_event: Option<Timestamp>,
    pub age_s: Option<f64>,
    pub stale: bool,
}

/// What stood behind some features of a prediction.
#[derive(Clone, Debug, Serialize)]
pub struct Behind {
    pub entity: String,
    pub id: Vec<String>,
    /// Age of the newest event when the prediction was asked for, in whole seconds.
    pub age_s: u32,
    /// Features of this entity whose newest event it is.
    pub features: Vec<String>,
    /// The newest event; `None` if it is no longer in the log, or was not found near its time of arrival.
    pub event: Option<LoggedEvent>,
}

/// The drift of one feature, and where it comes from.
#[derive(Clone, Debug, Serialize)]
pub struct DriftExplanation {
    pub model: String,
    pub feature: String,
    /// One sentence.
    pub verdict: String,
    /// The likeliest first.
    pub suspects: Vec<Suspect>,
    /// Event types that the feature is made of.
    pub reads: Vec<String>,
    #[serde(flatten)]
    pub case: DriftCase,
}

/// Health of one supervised actor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActorHealth {
    pub actor: String,
    pub ready: bool,
    pub restarts: u64,
    pub panics: u64,
    pub detail: String,
}
