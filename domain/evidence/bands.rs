//! Confidence sequences for quantiles: what a report shows beside a latency. Decisions are made on counts.

use super::interval::Interval;

/// The levels between which the true `p`-quantile lies among `n` observed values, at all times at once with chance
/// `1 - alpha`: its empirical level is within `1.5 sqrt(p (1-p) l) + 0.8 l` of `p`, with
/// `l = (1.4 ln ln(2.1 n) + ln(10/alpha)) / n` (Howard and Ramdas, "Sequential estimation of quantiles", Bernoulli 28:3,
/// 2022, theorem 1). The whole of (0, 1) before the first value.
pub fn quantile_band(p: f64, n: u64, alpha: f64) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = n as f64;
    let l = (1.4 * (2.1 * n).ln().ln().max(0.0) + (10.0 / alpha).ln()) / n;
    let width = 1.5 * (p * (1.0 - p) * l).sqrt() + 0.8 * l;
    Interval { low: (p - width).max(0.0), high: (p + width).min(1.0) }
}

/// How far an empirical distribution function of `n` values is from the true one, anywhere and at all times at once with
/// chance `1 - alpha`: `0.85 sqrt((ln ln(e n) + 0.8 ln(1612/alpha)) / n)` (the same paper, corollary 2: a form of the
/// Dvoretzky-Kiefer-Wolfowitz inequality that is uniform in time).
pub fn distribution_band(n: u64, alpha: f64) -> f64 {
    if n == 0 {
        return 1.0;
    }
    let n = n as f64;
    (0.85 * (((std::f64::consts::E * n).ln().ln() + 0.8 * (1612.0 / alpha).ln()) / n).sqrt()).min(1.0)
}
