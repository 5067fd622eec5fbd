//! A model version: one immutable, checksummed artefact with its signature.

use crate::calibrate::Calibration;
use crate::time::Timestamp;
use crate::value::ValueType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One input of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureFeature {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ValueType,
    pub nullable: bool,
}

/// The ordered inputs of a model and the words for its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub features: Vec<SignatureFeature>,
    pub positive_label: String,
    pub negative_label: String,
}

/// A file of the artefact besides the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtefactFile {
    pub name: String,
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// Where a version came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub created: Timestamp,
    pub algorithm: String,
    pub seed: u64,
    pub rows: u64,
    pub positive_share: f64,
    /// Event times of the first and last training row.
    pub from: Timestamp,
    pub until: Timestamp,
    /// Figures on the held-out tail of the training period, by name (`auc`, `log_loss`, ...).
    pub held_out: std::collections::BTreeMap<String, f64>,
    /// Hash of the rows it was made from: ids, times, vectors and labels. Empty in versions older than this field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// Hash of the settings and definitions it was made with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config: String,
    /// Rows whose outcomes its calibration was fitted to after training; 0 for one that came with its weights.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recalibrated_on: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// `manifest.json` of a version's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of this file; 1.
    pub manifest_version: u32,
    pub model: String,
    pub version: String,
    /// `candle`, `trees` or `onnx`.
    pub runtime: String,
    /// The runtime's own description of the network and its input encoding.
    pub architecture: serde_json::Value,
    /// Content hash of the feature definitions it was trained on.
    pub feature_set: String,
    pub signature: Signature,
    /// Feature to the hash of all that its value depends on; a feature that means something else now is not this
    /// one. Empty in versions older than this field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meanings: BTreeMap<String, String>,
    pub calibration: Calibration,
    /// Scores at or above it get the positive label.
    pub threshold: f64,
    pub provenance: Provenance,
    /// Median time of an answer, in microseconds, that the version is held to take while a recorded stream is the clock;
    /// see [`crate::rollout::LatencySource`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_latency_us: Option<u32>,
    pub files: Vec<ArtefactFile>,
}
