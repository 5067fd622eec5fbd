//! Calibration: from a raw score to a probability that holds.

mod fit;
pub use fit::{fit_isotonic, fit_platt};

use crate::metrics::CLIP;
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

impl Calibration {
    /// The calibrated probability of raw probability `p`. Never decreases as `p` grows, and lies in
    /// [0, 1] for every finite `p`.
    pub fn apply(&self, p: f64) -> f64 {
        let p = p.clamp(0.0, 1.0);
        match self {
            Calibration::None => p,
            Calibration::Platt { a, b } => sigmoid(a * logit(p) + b),
            Calibration::Isotonic { x, y } => interpolate(x, y, p),
        }
    }

    /// Whether answers may be called probabilities.
    pub fn is_calibrated(&self) -> bool {
        !matches!(self, Calibration::None)
    }
}

/// ln(p / (1 - p)), with p kept within [1e-15, 1 - 1e-15].
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(CLIP, 1.0 - CLIP);
    (p / (1.0 - p)).ln()
}

/// 1 / (1 + e^-z), without overflow.
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

/// Linear between the points, constant beyond the ends. No points: `p` itself.
fn interpolate(x: &[f64], y: &[f64], p: f64) -> f64 {
    let after = x.partition_point(|k| *k <= p);
    match (after, x.len().min(y.len())) {
        (_, 0) => p,
        (0, _) => y[0],
        (i, n) if i >= n => y[n - 1],
        (i, _) => {
            let share = (p - x[i - 1]) / (x[i] - x[i - 1]);
            (y[i - 1] + share * (y[i] - y[i - 1])).min(y[i])
        }
    }
}

#[cfg(test)]
mod tests;
