//! (to be written)

use serde::{Deserialize, Serialize};

/// What the training data looked like, feature by feature, in signature order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReferenceProfile {
    pub rows: u64,
    /// (name, profile) in signature order.
    pub features: Vec<FeatureProfile>,
    /// Quantiles of the score on the training rows, at `QUANTILES`.
    pub scores: Vec<f64>,
}

/// One feature of the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureProfile {
    pub name: String,
    pub nulls: u64,
    pub kind: ProfileKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ProfileKind {
    /// Quantiles at `QUANTILES`, of the non-null values.
    Numeric { mean: f64, std: f64, quantiles: Vec<f64> },
    /// Count by category, of the non-null values.
    Category { counts: std::collections::BTreeMap<String, u64> },
}

