//! The adaptive concurrency limit: how much may be in work at once, learnt from latency.

use crate::time::Span;

/// What was measured in one window of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Requests that ended in the window.
    pub count: u64,
    /// Their mean latency, in microseconds, from admission to answer.
    pub mean_us: f64,
    /// Mean number in work during the window (by Little's law: latencies summed, over the window's length).
    pub in_flight: f64,
}

/// A concurrency limit driven by the ratio of the long-term to the present latency.
///
/// Source: `Gradient2Limit` of Netflix `concurrency-limits` (Apache-2.0), after the delay-based TCP congestion
/// control of TCP Vegas (Brakmo and Peterson, 1994). With `l` the long-term and `s` the present mean latency,
/// `g = clamp(tolerance * l / s, 0.5, 1)` and `limit' = (1 - w) * limit + w * (g * limit + q)`, where `q` is the
/// queue that is allowed, `max(4, sqrt(limit))`. If `l` is more than twice `s`, `l` was learnt in an overload and
/// is pulled down. Different from the source: while fewer than half of the limit are in use the limit does not
/// grow (as there), but it may fall, to no less than twice what is in use.
#[derive(Clone, Debug)]
pub struct Gradient {
    limit: f64,
    long_us: f64,
    min: f64,
    max: f64,
}

/// Latency may rise to this multiple of the long-term mean before the limit falls.
const TOLERANCE: f64 = 1.5;
/// Weight of a new limit against the old one.
const SMOOTHING: f64 = 0.3;
/// Weight of one window in the long-term latency: about 600 windows.
const LONG: f64 = 1.0 / 600.0;
/// Windows with fewer requests say too little.
const MIN_COUNT: u64 = 5;

impl Gradient {
    /// How long a window should be.
    pub const WINDOW: Span = Span(100_000);

    /// Starts at `start`, stays within `min` and `max`; a smaller `max` is the word of the settings and counts.
    pub fn new(start: u64, min: u64, max: u64) -> Self {
        let (min, max) = (min.min(max).max(1) as f64, max.max(1) as f64);
        Gradient { limit: (start as f64).clamp(min, max), long_us: 0.0, min, max }
    }

    pub fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// New bounds, as after a change of the settings; what was learnt is kept within them.
    pub fn rebound(&mut self, min: u64, max: u64) {
        (self.min, self.max) = (min.min(max).max(1) as f64, max.max(1) as f64);
        self.limit = self.limit.clamp(self.min, self.max);
    }

    /// The limit after one more window.
    pub fn on_window(&mut self, w: Window) -> u64 {
        if w.count < MIN_COUNT || !w.mean_us.is_finite() || w.mean_us <= 0.0 {
            return self.limit();
        }
        if self.long_us == 0.0 {
            self.long_us = w.mean_us;
        }
        self.long_us += (w.mean_us - self.long_us) * LONG;
        if self.long_us > 2.0 * w.mean_us {
            self.long_us *= 0.95;
        }
        let gradient = (TOLERANCE * self.long_us / w.mean_us).clamp(0.5, 1.0);
        let queue = self.limit.sqrt().max(4.0);
        let wanted = self.limit * gradient + queue;
        let next = self.limit + SMOOTHING * (wanted - self.limit);
        let idle = w.in_flight < self.limit / 2.0;
        self.limit = match (idle, next > self.limit) {
            (true, true) => self.limit,
            (true, false) => next.max((2.0 * w.in_flight).min(self.limit)),
            (false, _) => next,
        }
        .clamp(self.min, self.max);
        self.limit()
    }
}
