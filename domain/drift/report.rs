//! What is said about drift.

use super::compare::Bar;
use super::judge::Level;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a window was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The training rows of the version: slow drift, of the world.
    Reference,
    /// The windows before it: what changed at once, as faults do.
    Recent,
}

/// Whether a window could be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Judged,
    /// Too few rows to say anything; neither drift nor its absence.
    NotEnoughData,
    /// Its end has not come.
    Open,
}

/// One feature (or the score) in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    pub feature: String,
    pub against: Against,
    /// What holds: reached in enough of the last windows.
    pub level: Level,
    /// What this window alone says.
    pub window_level: Level,
    /// Population stability index less its sampling bias.
    pub psi: f64,
    /// What the reference differs from itself; the level is that of `psi - floor`.
    pub floor: f64,
    pub p_value: f64,
    /// After the false discovery rate over all features.
    pub significant: bool,
    /// Shares of missing values.
    pub missing_reference: f64,
    pub missing: f64,
    /// One sentence.
    #[serde(default)]
    pub explanation: String,
    /// Both histograms; empty where they were not asked for.
    #[serde(default)]
    pub bars: Vec<Bar>,
}

/// One window of one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowDrift {
    pub version: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub rows: u64,
    pub state: State,
    /// The worst level that holds.
    pub level: Level,
    /// The worst first; features without drift are not listed unless asked for.
    pub features: Vec<FeatureDrift>,
}

/// The windows of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    pub model: String,
    /// Oldest first.
    pub windows: Vec<WindowDrift>,
    /// Versions that bring no reference: their drift is not known.
    pub without_reference: Vec<String>,
}
