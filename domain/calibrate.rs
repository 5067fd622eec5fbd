//! Calibration: from a raw score to a probability that holds.

use serde::{Deserialize, Serialize};

/// A fitted map from raw probability to calibrated probability.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Calibration {
    /// Not calibrated; answers say so.
    #[default]
    None,
    /// `sigmoid(a * logit(p) + b)` (Platt 1999, on the logit).
    Platt { a: f64, b: f64 },
    /// Piecewise linear through (x, y), y non-decreasing (pool adjacent violators).
    Isotonic { x: Vec<f64>, y: Vec<f64> },
}
