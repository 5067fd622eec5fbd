//! The hard-incident rule: a canary that plainly fails is stopped within a handful of answers.

use serde::{Deserialize, Serialize};

/// The share of bad answers that is not yet an incident.
pub const HARD_NULL: f64 = 0.05;
/// Alternatives.
const BAD: [f64; 4] = [0.10, 0.25, 0.50, 0.90];
/// Likelihood ratios of a bad and of a good answer.
const RATIO_BAD: [f64; 4] = [0.10 / 0.05, 0.25 / 0.05, 0.50 / 0.05, 0.90 / 0.05];
const RATIO_GOOD: [f64; 4] = [0.90 / 0.95, 0.75 / 0.95, 0.50 / 0.95, 0.10 / 0.95];
/// Evidence beyond it changes nothing.
const CAP: f64 = 1e200;

/// The e-process against "at most 5 % of the answers are bad", fed with every answer of one arm.
///
/// A plain likelihood ratio would need as many bad answers to forget 100,000 good ones. So this is a mixture over the
/// time at which it began to fail: process `j` starts at answer `j` with weight `1/(j (j+1))`, and stands for its weight
/// before. Weights have the sum one and each process is an e-process, so the mixture is one, for ever, at the price of
/// `2 ln j` (after Shiryaev and Roberts; Shin, Ramdas and Rinaldo, "E-detectors", NEJSDS 2024).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HardIncident {
    answers: u64,
    bad: u64,
    /// Per alternative: weighted sum of the processes that have begun.
    begun: [f64; 4],
}

/// What the rule has seen, as journalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HardEvidence {
    pub answers: u64,
    pub bad: u64,
    pub log_e: f64,
}

impl HardIncident {
    /// One answer more; the log e-value after it.
    pub fn on_answer(&mut self, bad: bool) -> f64 {
        self.answers += 1;
        self.bad += u64::from(bad);
        let n = self.answers as f64;
        let weight = 1.0 / (n * (n + 1.0));
        let ratios = if bad { &RATIO_BAD } else { &RATIO_GOOD };
        for (begun, ratio) in self.begun.iter_mut().zip(ratios) {
            *begun = ((*begun + weight) * ratio).min(CAP);
        }
        if bad { self.log_e() } else { f64::NEG_INFINITY }
    }

    /// `n` good answers in a row; they never raise the evidence.
    pub fn on_good(&mut self, n: u64) {
        for _ in 0..n {
            self.on_answer(false);
        }
    }

    pub fn log_e(&self) -> f64 {
        let begun: f64 = self.begun.iter().sum::<f64>() / BAD.len() as f64;
        (begun + 1.0 / (self.answers as f64 + 1.0)).ln()
    }

    pub fn evidence(&self) -> HardEvidence {
        HardEvidence { answers: self.answers, bad: self.bad, log_e: self.log_e() }
    }
}

impl HardEvidence {
    /// Whether the evidence suffices at `alpha`.
    pub fn rejects(&self, alpha: f64) -> bool {
        self.log_e >= super::threshold(alpha)
    }
}
