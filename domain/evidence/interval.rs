//! Confidence intervals for the ratio of two rates that hold at all times at once.

use super::mixture::{Grid, Mixture, Pooled, Side};
use super::threshold;
use serde::{Deserialize, Serialize};

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Ratios outside of 2^-12 .. 2^12 are of no interest.
const FAR: f64 = 12.0;

/// The ratios (canary's rate of bad events over the baseline's) that no test at `alpha` rejects: a confidence sequence
/// at level `1 - alpha`, by inversion of the two one-sided tests at `alpha/2`. `segments` are (share of the canary, its
/// bad events, the baseline's). Ends without evidence are 0 and infinity, written as 2^-12 and 2^12.
pub fn ratio_interval(segments: &[(f64, u64, u64)], alpha: f64) -> Interval {
    let needed = threshold(alpha / 2.0);
    let rejects = |exponent: f64, side: Side| {
        let pool = |pooled: Pooled, s: &(f64, u64, u64)| {
            pooled.add(&Mixture::of_share(s.0, exponent.exp2(), side, Grid::Fine), s.1, s.2)
        };
        segments.iter().fold(Pooled::default(), pool).log_e() >= needed
    };
    // Rejected margins of a side are those far enough off, so one bisection finds the last that is kept.
    let end = |side: Side, far: f64| {
        if !rejects(far, side) {
            return far.exp2();
        }
        let (mut kept, mut out) = (estimate(segments).clamp(-FAR, FAR), far);
        while (kept - out).abs() > 1e-3 {
            let middle = (kept + out) / 2.0;
            if rejects(middle, side) { out = middle } else { kept = middle }
        }
        out.exp2()
    };
    Interval { low: end(Side::Above, -FAR), high: end(Side::Below, FAR) }
}

/// Log2 of the ratio that the counts themselves show, each with half an event added.
fn estimate(segments: &[(f64, u64, u64)]) -> f64 {
    let (mut odds, mut weight) = (0.0, 0.0);
    for (share, canary, baseline) in segments.iter().filter(|s| s.1 + s.2 > 0) {
        let (c, b) = (*canary as f64 + 0.5, *baseline as f64 + 0.5);
        let n = 1.0 / (1.0 / c + 1.0 / b);
        odds += n * (c / b * (1.0 - share) / share).log2();
        weight += n;
    }
    if weight > 0.0 { odds / weight } else { 0.0 }
}
