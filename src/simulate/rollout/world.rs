//! What is hidden from the rules: how the service really behaves.

use super::chance::{below, quantile};
use understudy_domain::rollout::Share;

/// What is wrong with the canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing: it is the champion once more (A/A).
    None,
    /// Its error rate.
    Errors(f64),
    /// Its latency is this many times the baseline's.
    Latency(f64),
    /// Its conversion is this many times the baseline's.
    Conversion(f64),
}

/// Traffic and the rates of both arms.
#[derive(Clone, Debug)]
pub struct World {
    /// Requests per second (Poisson).
    pub rate: f64,
    pub share: Share,
    pub minutes: u64,
    pub fault: Fault,
    /// Of the baseline, per request.
    pub errors: f64,
    pub conversion: f64,
    /// Mean time to the conversion in minutes (exponential); 0 is at once.
    pub delay_minutes: f64,
    /// The canary's, over the baseline's.
    pub delay_factor: f64,
    /// Entities that come a heavy-tailed number of times, each with habits of its own, instead of independent requests.
    pub visits: bool,
}

/// Latency is lognormal with this sigma.
pub const SIGMA: f64 = 0.6;
/// Median latency.
pub const MEDIAN_US: f64 = 8_000.0;
/// The compared quantile.
pub const LEVEL: f64 = 0.95;

impl World {
    pub fn canary_errors(&self) -> f64 {
        if let Fault::Errors(p) = self.fault { p } else { self.errors }
    }

    pub fn canary_conversion(&self) -> f64 {
        if let Fault::Conversion(x) = self.fault { self.conversion * x } else { self.conversion }
    }

    /// Log of the canary's latency over the baseline's.
    pub fn canary_log_latency(&self) -> f64 {
        if let Fault::Latency(x) = self.fault { x.ln() } else { 0.0 }
    }

    /// Requests in so many seconds, on average.
    pub fn per(&self, seconds: f64) -> f64 {
        self.rate * seconds
    }
}

/// Share of the latencies above `us` when all are multiplied by `e^log_factor`.
pub fn slower_than(us: f64, log_factor: f64) -> f64 {
    below(-((us / MEDIAN_US).ln() - log_factor) / SIGMA)
}

/// The latency at this level.
pub fn latency_at(level: f64) -> f64 {
    MEDIAN_US * (SIGMA * quantile(level)).exp()
}
