//! What was asked, seen and said: the record that the prediction log keeps, and outcomes.

use crate::entity::EntityIds;
use crate::fixed_hash;
use crate::time::Timestamp;
use crate::value::Value;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A ULID: 48 bits of the request's time in milliseconds, 80 bits of entropy. Text in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredictionId(pub u128);

impl PredictionId {
    const ENTROPY: u128 = (1 << 80) - 1;

    pub fn new(time: Timestamp, entropy: u128) -> Self {
        PredictionId(((time.millis() as u128) << 80) | (entropy & Self::ENTROPY))
    }

    /// The id of a request that brought its own id: the same request gets the same prediction id
    /// in every replay, whatever the speed or batch size.
    pub fn of_request(time: Timestamp, model: &str, request: &str) -> Self {
        Self::new(time, fixed_hash::of_parts([model.as_bytes(), request.as_bytes()]))
    }

    /// Millisecond of the request's time, as carried in the id.
    pub fn millis(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ulid::Ulid(self.0))
    }
}

impl FromStr for PredictionId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        ulid::Ulid::from_string(s)
            .map(|u| PredictionId(u.0))
            .map_err(|_| format!("`{s}` is not a prediction id (a ULID of 26 letters and digits)"))
    }
}

impl Serialize for PredictionId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}
impl<'de> Deserialize<'de> for PredictionId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            u128::deserialize(d).map(PredictionId)
        }
    }
}

/// What happens to a value or request that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Serve, and say so.
    #[default]
    Flag,
    /// Serve with the feature's declared default in place of the value.
    Default,
    /// Serve the model's declared fallback score instead of running the model.
    Fallback,
    /// Refuse the request.
    Reject,
}

/// One broken rule, as answered, logged and counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable id: `schema.type`, `schema.required`, `schema.range`, `schema.values`, `schema.length`,
    /// `profile.tail`, `profile.unseen`, or `rule.<name>`.
    pub rule: String,
    pub feature: Option<String>,
    pub value: Value,
    /// What was expected, in words: `between 0 and 200`.
    pub expected: String,
    pub policy: Policy,
}

/// The sum of a request's findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    #[default]
    Valid,
    Flagged,
    Defaulted,
    Fallback,
    Rejected,
}

impl From<Policy> for Verdict {
    fn from(p: Policy) -> Self {
        match p {
            Policy::Flag => Verdict::Flagged,
            Policy::Default => Verdict::Defaulted,
            Policy::Fallback => Verdict::Fallback,
            Policy::Reject => Verdict::Rejected,
        }
    }
}

/// Microseconds spent in each step of one request, by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub parse_us: u32,
    pub features_us: u32,
    pub validate_us: u32,
    pub route_us: u32,
    pub model_us: u32,
    pub total_us: u32,
}

/// Which side of a rollout a request was on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServedArm {
    /// The champion's; without a rollout everything is.
    #[default]
    Baseline,
    Canary,
    /// A copy: the answer was given to nobody.
    Shadow,
    /// The caller asked for it; no evidence of anything.
    Override,
}

impl ServedArm {
    pub fn name(self) -> &'static str {
        match self {
            ServedArm::Baseline => "baseline",
            ServedArm::Canary => "canary",
            ServedArm::Shadow => "shadow",
            ServedArm::Override => "override",
        }
    }
}

/// How a request came to its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub arm: ServedArm,
    /// Slot of its unit; see [`crate::route::slot`].
    pub slot: u16,
    /// Slots that lead to this arm: its propensity in basis points.
    pub weight: u16,
    /// Segment of the rollout that set these shares.
    pub segment: Option<u32>,
    /// The arm's version failed or could not be loaded: `version` of the record answered in its place.
    pub instead: bool,
}

impl Placement {
    /// Chance that a unit drawn at random comes to this arm.
    pub fn propensity(&self) -> f64 {
        f64::from(self.weight) / crate::route::SLOTS as f64
    }
}

impl Default for Placement {
    /// Of requests before there were rollouts.
    fn default() -> Self {
        let weight = crate::route::SLOTS as u16;
        Placement { arm: ServedArm::Baseline, slot: 0, weight, segment: None, instead: false }
    }
}

/// One prediction as logged. The vector's names are the signature of (model, version), in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    pub id: PredictionId,
    pub model: String,
    pub version: String,
    /// Content hash of the feature definitions that made the vector.
    pub feature_set: String,
    /// Epoch of the routing table that chose the version.
    pub epoch: u64,
    pub placement: Placement,
    /// The caller's id of the request, if it brought one.
    pub request_id: Option<String>,
    /// Event time of the request: features are as of this instant.
    pub time: Timestamp,
    pub entities: EntityIds,
    pub context: BTreeMap<String, Value>,
    /// The exact vector that the model received.
    pub vector: Vec<Value>,
    /// Seconds since the newest event behind each value; `None` for context features and missing values.
    pub ages: Vec<Option<u32>>,
    /// Calibrated probability of the positive label.
    pub score: f64,
    /// Name of the predicted label.
    pub label: String,
    /// Probability of the predicted label.
    pub confidence: f64,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    pub timing: Timing,
}

impl PredictionRecord {
    /// What the request stuck to its version by; see [`unit_of`].
    pub fn unit(&self, declared: Option<&str>) -> Cow<'_, str> {
        unit_of(declared, &self.entities, &self.context, self.request_id.as_deref(), self.id)
    }
}

/// What a request sticks to its version by: the declared entity key or context field, else the request's id, else the
/// prediction's.
pub fn unit_of<'a>(
    declared: Option<&str>,
    entities: &'a EntityIds,
    context: &'a BTreeMap<String, Value>,
    request_id: Option<&'a str>,
    id: PredictionId,
) -> Cow<'a, str> {
    let named = declared.and_then(|unit| {
        let entity = entities.get(unit).and_then(|id| id.as_deref());
        entity.map(Cow::Borrowed).or_else(|| context.get(unit).map(|v| Cow::Owned(v.to_string())))
    });
    named.or_else(|| request_id.map(Cow::Borrowed)).unwrap_or_else(|| Cow::Owned(id.to_string()))
}

/// What an outcome is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeTarget {
    PredictionId(PredictionId),
    /// The id that the caller gave the request.
    RequestId(String),
}

/// The delayed truth about a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    pub model: String,
    pub target: OutcomeTarget,
    /// `Some(true)` for the positive label; `None` voids the prediction (there will be no outcome).
    pub label: Option<bool>,
    /// Event time of the outcome.
    pub time: Timestamp,
    /// A later revision replaces an earlier one.
    pub revision: u32,
}

/// What became of one posted outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum OutcomeStatus {
    /// Joined to its prediction.
    Matured,
    /// Replaced an earlier revision.
    Amended,
    /// The prediction will have no outcome.
    Voided,
    /// Kept until its prediction arrives.
    Parked,
    /// Same value as before; nothing changed.
    Duplicate,
    /// Another value for this revision is on record; nothing changed.
    Conflict,
    /// The prediction's time for outcomes has passed.
    Expired,
}
