//! What a project declares: the shapes of `features/*.toml`, `models/*.toml` and `rules/*.toml`.
//! These are settings as written; `features::Plan` and `validate::Rules` are their compiled forms.

mod train;

pub use train::{Algorithm, CalibrationMethod, ClassWeight, TrainSpec};

use crate::prediction::Policy;
use crate::retraining::RetrainingSpec;
use crate::rollout::RolloutSpec;
use crate::time::Span;
use crate::value::{Value, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One `features/*.toml`. All files of the folder are merged; a name declared twice is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureFile {
    /// Entity types. A type that is not listed has one key of its own name.
    #[serde(default)]
    pub entities: BTreeMap<String, EntitySpec>,
    #[serde(default)]
    pub events: BTreeMap<String, EventSpec>,
    #[serde(default)]
    pub views: BTreeMap<String, ViewSpec>,
    /// Features that the request itself carries.
    #[serde(default)]
    pub context: BTreeMap<String, ContextSpec>,
    /// Features computed from other features, in CEL.
    #[serde(default)]
    pub expressions: BTreeMap<String, ExpressionSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntitySpec {
    /// The keys of an event or request that together name the entity: `["origin", "dest"]`.
    pub keys: Vec<String>,
}

/// An event type: what it may carry. Unknown properties of an event are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSpec {
    #[serde(default)]
    pub entities: Vec<String>,
    #[serde(default)]
    pub properties: BTreeMap<String, ValueType>,
}

/// A versioned group of features of one entity type, folded from one event type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSpec {
    pub entity: String,
    pub event: String,
    /// A value whose newest event is older than this is marked stale at the moment of use.
    pub ttl: Option<Span>,
    /// Only events for which this CEL predicate over the properties is true.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    pub features: BTreeMap<String, FeatureSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    /// Population standard deviation.
    Std,
    Last,
    First,
    /// Number of different non-null values.
    Distinct,
    /// `q`-quantile, linear interpolation (exact windows) or within 1 % relative error (sawtooth).
    Quantile,
    /// Events per `unit` over the window.
    Rate,
    /// Mean with weights that halve every `half_life`.
    Ewma,
    /// Time since the newest event, in `unit` (one second if not said).
    SecondsSinceLast,
    /// Share of the events for which `predicate` is true.
    Share,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    pub aggregate: Aggregate,
    pub property: Option<String>,
    /// Half-open window (t - window, t] in event time.
    pub window: Span,
    /// Granularity of the trailing edge; `0s` (default) is exact.
    #[serde(default)]
    pub hop: Span,
    #[serde(rename = "where")]
    pub filter: Option<String>,
    pub q: Option<f64>,
    pub unit: Option<Span>,
    pub half_life: Option<Span>,
    pub predicate: Option<String>,
    #[serde(default)]
    pub check: Checks,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextSpec {
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Context field of the request that carries it; its own name if not said.
    pub field: Option<String>,
    /// Taken from this entity key of the request instead of a context field.
    pub entity_key: Option<String>,
    #[serde(default)]
    pub transforms: Vec<Transform>,
    #[serde(default)]
    pub check: Checks,
}

/// A step from a context field to a feature; applied in order. Null stays null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// ln(1 + x); null for x <= -1.
    Log1p,
    Abs,
    Sqrt,
    Scale {
        by: f64,
        #[serde(default)]
        plus: f64,
    },
    Clip {
        min: f64,
        max: f64,
    },
    /// Index of the first edge that is greater than x.
    Bucket {
        edges: Vec<f64>,
    },
    Lowercase,
    Trim,
    /// Stable hash of the text modulo `buckets`, as an int.
    HashBucket {
        buckets: u32,
    },
    /// UTC hour of an RFC 3339 text, 0..23.
    HourOfDay,
    /// UTC weekday of an RFC 3339 text, Monday = 0.
    DayOfWeek,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpressionSpec {
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// CEL over the names of other features.
    pub cel: String,
    #[serde(default)]
    pub check: Checks,
}

/// Hard bounds of one feature's value; what breaks them meets `policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// May be null; windowed features may (nothing in the window), context features may not unless said.
    pub nullable: Option<bool>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub values: Option<Vec<String>>,
    pub max_length: Option<usize>,
    pub policy: Option<Policy>,
    /// Stands in for the value under `policy = "default"`.
    pub default: Option<Value>,
    /// Personal: its values stand in no finding, and so in no refusal, answer or log line about one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pii: bool,
}

/// One `models/*.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    pub name: String,
    /// The ordered inputs.
    pub features: Vec<String>,
    /// What a request sticks to a version by: an entity key or a context field; the request id if not said.
    pub unit: Option<String>,
    #[serde(default = "positive")]
    pub positive_label: String,
    #[serde(default = "negative")]
    pub negative_label: String,
    #[serde(default = "half")]
    pub threshold: f64,
    /// Score answered under `policy = "fallback"`; the base rate of the training set if not said.
    pub fallback_score: Option<f64>,
    /// The event type that is a request of this model when a stream is replayed.
    pub request: Option<RequestSpec>,
    pub outcome: Option<OutcomeSpec>,
    #[serde(default)]
    pub profile: ProfileSpec,
    #[serde(default)]
    pub monitor: MonitorSpec,
    #[serde(default)]
    pub drift: DriftSpec,
    pub train: Option<TrainSpec>,
    /// When and how the model is mended; without it nothing evaluates it.
    pub retraining: Option<RetrainingSpec>,
    /// How challengers come in.
    #[serde(default)]
    pub rollout: RolloutSpec,
}

fn positive() -> String {
    "positive".into()
}
fn negative() -> String {
    "negative".into()
}
fn half() -> f64 {
    0.5
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// Its id becomes the request id, its properties the context.
    pub event: String,
}

/// How outcomes are read from events, and how long to wait for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeSpec {
    pub event: Option<String>,
    /// Property of the event that holds the request id.
    pub request_property: Option<String>,
    /// CEL over the event's properties: true is the positive label, null is no outcome.
    pub label: Option<String>,
    /// Event type that voids the request.
    pub void_event: Option<String>,
    /// A cohort is judged when it is this old.
    #[serde(default = "one_day")]
    pub matures_after: Span,
    /// A prediction without an outcome when it matures counts as the negative one (a click that did not come).
    #[serde(default)]
    pub absence_means_negative: bool,
    /// No outcome by then: the prediction is expired.
    #[serde(default = "one_week")]
    pub expires_after: Span,
}

fn one_day() -> Span {
    Span::days(1)
}
fn one_week() -> Span {
    Span::days(7)
}

/// Row-level checks against the reference profile of the model version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSpec {
    /// Share of the reference beyond each end that counts as extreme; 0 switches the check off.
    pub tail: f64,
    pub tail_policy: Policy,
    pub unseen_policy: Policy,
}

impl Default for ProfileSpec {
    fn default() -> Self {
        ProfileSpec { tail: 1e-4, tail_policy: Policy::Flag, unseen_policy: Policy::Flag }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorSpec {
    /// Length of a monitoring window, in event time.
    pub window: Span,
    /// Windows kept.
    pub keep: usize,
}

impl Default for MonitorSpec {
    fn default() -> Self {
        MonitorSpec { window: Span::days(7), keep: 104 }
    }
}

/// When the distribution of a feature or of the score counts as drifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftSpec {
    /// Length of a window, in event time. At least a period, or each window meets only the same hours of the reference.
    pub window: Span,
    /// After how long traffic repeats itself.
    pub period: Span,
    /// A window with fewer rows is `not_enough_data`.
    pub min_rows: u64,
    /// Population stability index, less its sampling bias, above which a level is reached.
    pub notice: f64,
    pub warn: f64,
    pub alert: f64,
    /// False discovery rate over the features of a window.
    pub fdr: f64,
    /// A level holds when `persist` of the last `of` windows reach it.
    pub persist: usize,
    pub of: usize,
    /// Windows before it that a window is compared with, besides the reference: what changed overnight stands out.
    pub recent: usize,
    /// Windows kept.
    pub keep: usize,
    /// Mean number of items between false alarms of a rate that is watched one by one.
    pub items_between_false_alarms: f64,
}

impl Default for DriftSpec {
    fn default() -> Self {
        DriftSpec {
            window: Span::days(1),
            period: Span::days(1),
            min_rows: 500,
            notice: 0.02,
            warn: 0.1,
            alert: 0.25,
            fdr: 0.01,
            persist: 2,
            of: 3,
            recent: 28,
            keep: 60,
            items_between_false_alarms: 1e6,
        }
    }
}

/// One `rules/*.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    #[serde(default)]
    pub rules: BTreeMap<String, RuleSpec>,
}

/// A business rule over the feature vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// CEL over feature names that must hold; a null result is not a violation.
    pub expect: String,
    /// Said in the finding.
    pub message: Option<String>,
    #[serde(default)]
    pub policy: Policy,
    /// The feature that `policy = "default"` resets.
    pub feature: Option<String>,
    /// Only for these models; all if empty.
    #[serde(default)]
    pub models: Vec<String>,
}
