//! A sequential detector of a rate that rose: its one knob is the promise.

use serde::{Deserialize, Serialize};

/// Factors over the normal rate that are looked for.
const FACTORS: [f64; 4] = [1.5, 2.0, 3.0, 6.0];
/// Beyond this the evidence is not counted further.
const CAP: f64 = 1e300;

/// E-detector (Shin, Ramdas and Rinaldo 2024): a mixture of Shiryaev-Roberts statistics,
/// `M <- (M + 1) x likelihood ratio`, one for each factor over the normal rate. Without a change the mean number of
/// items between alarms is at least the number set, at whatever rate up to the normal one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EDetector {
    p0: f64,
    arl: f64,
    m: [f64; FACTORS.len()],
    items: u64,
}

impl EDetector {
    /// `p0` is an upper bound of the normal rate (see [`upper_rate`]), else the promise is void; `arl` the least mean
    /// number of items between false alarms: 1e6 by default, times the number of rates that are watched.
    pub fn new(p0: f64, arl: f64) -> Self {
        EDetector { p0: p0.clamp(1e-9, 0.999), arl: arl.max(1.0), m: [0.0; FACTORS.len()], items: 0 }
    }

    /// Takes the next item; true raises an alarm, after which the detector begins anew.
    pub fn on(&mut self, bad: bool) -> bool {
        self.items += 1;
        for (m, factor) in self.m.iter_mut().zip(FACTORS) {
            // A rate near 1 cannot rise by the factor: halfway to 1 is looked for instead.
            let p1 = (self.p0 * factor).min((1.0 + self.p0) / 2.0);
            let ratio = if bad { p1 / self.p0 } else { (1.0 - p1) / (1.0 - self.p0) };
            *m = ((*m + 1.0) * ratio).min(CAP);
        }
        let alarm = self.evidence() >= self.arl;
        if alarm {
            self.m = [0.0; FACTORS.len()];
        }
        alarm
    }

    /// Mean of the statistics; an alarm is raised when it reaches the number set.
    pub fn evidence(&self) -> f64 {
        self.m.iter().sum::<f64>() / self.m.len() as f64
    }

    pub fn items(&self) -> u64 {
        self.items
    }

    pub fn normal_rate(&self) -> f64 {
        self.p0
    }
}

/// The highest rate that `bad` of `items` leave possible at 99 %: the largest p with
/// items x KL(bad / items, p) <= ln 100 (Chernoff's bound, valid for every sample size).
pub fn upper_rate(bad: u64, items: u64) -> f64 {
    if items == 0 {
        return 1.0;
    }
    let n = items as f64;
    let rate = (bad as f64 / n).min(1.0);
    let kl = |p: f64| {
        let part = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
        part(rate, p) + part(1.0 - rate, 1.0 - p)
    };
    let (mut low, mut high) = (rate, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if n * kl(middle) > 100f64.ln() { high = middle } else { low = middle }
    }
    high
}
