//! The naive rule, for comparison: two averages and a threshold, looked at each minute.
//!
//! Roll back when the canary's error rate is above the limit, its p95 above 1.1 times the baseline's, or its
//! conversion below 0.95 times the baseline's; promote if that never was so.

use super::chance::{Chance, below, quantile};
use super::world::{LEVEL, MEDIAN_US, SIGMA, World};

/// What each look said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    /// Minute of the first violation.
    pub first: Option<u64>,
    /// Per criterion (errors, latency, conversion): ever, and at the last look.
    pub ever: [bool; 3],
    pub last: [bool; 3],
}

/// Latencies in cells of 1 % width.
struct Histogram {
    /// Chance of a cell given that no cell before it was hit.
    next: Vec<f64>,
    log_factor: f64,
    counts: Vec<u64>,
    n: u64,
}

/// Width of a cell in log latency, and how many sigmas are covered to each side.
const WIDTH: f64 = 0.01;
const SIGMAS: f64 = 4.5;
/// Up to so many latencies are drawn one by one.
const FEW: u64 = 300;

impl Histogram {
    fn new(log_factor: f64) -> Histogram {
        let cells = (2.0 * SIGMAS * SIGMA / WIDTH).ceil() as usize;
        let edge = |i: usize| (i as f64 * WIDTH - SIGMAS * SIGMA) / SIGMA;
        let mut left = 1.0;
        let next = (0..cells)
            .map(|i| {
                let low = if i == 0 { 0.0 } else { below(edge(i)) };
                let high = if i + 1 == cells { 1.0 } else { below(edge(i + 1)) };
                let p = ((high - low) / left).clamp(0.0, 1.0);
                left -= high - low;
                p
            })
            .collect();
        Histogram { next, log_factor, counts: vec![0; cells], n: 0 }
    }

    fn add(&mut self, n: u64, chance: &mut Chance) {
        self.n += n;
        if n <= FEW {
            for _ in 0..n {
                let x = (chance.normal() * SIGMA + SIGMAS * SIGMA) / WIDTH;
                let cell = (x.max(0.0) as usize).min(self.counts.len() - 1);
                self.counts[cell] += 1;
            }
            return;
        }
        let mut left = n;
        for (count, p) in self.counts.iter_mut().zip(&self.next) {
            let here = chance.binomial(left, *p);
            *count += here;
            left -= here;
        }
    }

    /// The empirical quantile, interpolated within its cell.
    fn quantile(&self, level: f64) -> f64 {
        let wanted = level * self.n as f64;
        let mut seen = 0.0;
        for (i, count) in self.counts.iter().enumerate() {
            let count = *count as f64;
            if seen + count >= wanted && count > 0.0 {
                let x = (i as f64 + (wanted - seen) / count) * WIDTH - SIGMAS * SIGMA;
                return MEDIAN_US * (x + self.log_factor).exp();
            }
            seen += count;
        }
        MEDIAN_US * (SIGMA * quantile(level)).exp()
    }
}

/// One rollout under the naive rule.
pub fn run(w: &World, seed: u64) -> Looks {
    let mut chance = Chance::new(seed, 12);
    let mut latency = [Histogram::new(0.0), Histogram::new(w.canary_log_latency())];
    let (mut n, mut errors, mut converts) = ([0u64; 2], 0u64, [0u64; 2]);
    let mut looks = Looks::default();
    for minute in 1..=w.minutes {
        let all = chance.poisson(w.per(60.0));
        let canary = chance.binomial(all, w.share.fraction());
        for (arm, more) in [(0, all - canary), (1, canary)] {
            n[arm] += more;
            latency[arm].add(more, &mut chance);
            converts[arm] += chance.binomial(more, [w.conversion, w.canary_conversion()][arm]);
        }
        errors += chance.binomial(canary, w.canary_errors());
        if n[1] == 0 || n[0] == 0 {
            continue;
        }
        let rate = |arm: usize| converts[arm] as f64 / n[arm] as f64;
        looks.last = [
            errors as f64 > 0.001 * n[1] as f64,
            latency[1].quantile(LEVEL) > 1.1 * latency[0].quantile(LEVEL),
            rate(1) < 0.95 * rate(0),
        ];
        for (ever, last) in looks.ever.iter_mut().zip(looks.last) {
            *ever |= last;
        }
        if looks.last.contains(&true) && looks.first.is_none() {
            looks.first = Some(minute);
        }
    }
    looks
}
