//! The monitor's answer: counts with the figures derived from them.

use super::latency::LatencySummary;
use crate::metrics::{QualitySummary, ReliabilityBin};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorReport {
    pub model: String,
    /// Oldest first; windows in which nothing happened are left out.
    pub windows: Vec<WindowReport>,
    /// All windows above merged.
    pub total: WindowReport,
    /// Inputs not counted because their window is no longer kept.
    pub too_old: u64,
    /// Restarts in which inputs were lost; empty as a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// The monitor was restarted and some of what it was told is not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When, by the clock of decisions.
    pub at: Timestamp,
    /// Predictions and outcomes.
    pub inputs: u64,
}

impl MonitorReport {
    /// Without wall-clock figures: what two replays of one stream must agree on byte for byte.
    pub fn without_timing(mut self) -> Self {
        self.windows.iter_mut().for_each(|w| w.timing = None);
        self.total.timing = None;
        self
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowReport {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Whether outcomes had time to come.
    pub mature: bool,
    /// Answered requests and errors.
    pub requests: u64,
    /// Requests per second of event time.
    pub rate_per_s: f64,
    /// By code.
    pub errors: BTreeMap<String, u64>,
    pub verdicts: BTreeMap<String, u64>,
    /// By rule.
    pub findings: BTreeMap<String, u64>,
    /// In signature order.
    pub nulls: Vec<FeatureNulls>,
    /// Findings about a feature, as `rule feature`: out of range, of the wrong type, ...
    #[serde(default)]
    pub breaches: BTreeMap<String, u64>,
    /// Categories that training never saw, as `feature=value`.
    #[serde(default)]
    pub unseen: BTreeMap<String, Unseen>,
    /// Age of the newest event behind each value when it was used; features without events are not listed.
    #[serde(default)]
    pub freshness: Vec<FeatureAge>,
    pub scores: Scores,
    pub labels: BTreeMap<String, u64>,
    pub versions: BTreeMap<String, u64>,
    pub outcomes: OutcomeCounts,
    /// `None` before the first outcome.
    pub quality: Option<QualitySummary>,
    /// 10 bins of the score; empty before the first outcome.
    pub reliability: Vec<ReliabilityBin>,
    pub quality_by_version: BTreeMap<String, QualitySummary>,
    /// Wall-clock figures; the rest of the report is the same in every replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<TimingReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureNulls {
    pub feature: String,
    pub nulls: u64,
    /// Of the answered requests.
    pub share: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    pub rows: u64,
    /// Event time of the first of these rows.
    pub first: Timestamp,
}

/// Seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureAge {
    pub feature: String,
    /// Values with an event behind them.
    pub n: u64,
    pub p50_s: u32,
    pub p99_s: u32,
    pub max_s: u32,
}

/// Scores of answered requests that were not rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub n: u64,
    /// 0 if `n` is 0.
    pub mean: f64,
    /// 20 equal-width bins.
    pub histogram: Vec<u64>,
}

/// Where the cohort's outcomes stand now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCounts {
    pub matured: u64,
    pub voided: u64,
    pub expired: u64,
    /// Changes of an outcome after the first.
    pub amended: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingReport {
    pub features: LatencySummary,
    pub validate: LatencySummary,
    pub route: LatencySummary,
    pub model: LatencySummary,
    pub total: LatencySummary,
}
