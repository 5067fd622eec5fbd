//! The same figures as running sums: constant memory, mergeable, and an outcome can be taken back.

use super::{bin_of, brier_of, log_loss_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const ECE_BINS: usize = 10;
const SCORE_BINS: usize = 4096;

/// A sum in units of 2^-40. Whole numbers make it independent of the order of the additions, so
/// that taking a value back and merging parts give exactly the sum that one pass would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, u64)", into = "(i64, u64)")]
pub struct Fixed(i128);

impl Fixed {
    const ONE: f64 = (1u64 << 40) as f64;

    fn of(x: f64) -> i128 {
        (x * Self::ONE).round() as i128
    }
    pub fn add(&mut self, x: f64) {
        self.0 += Self::of(x);
    }
    pub fn remove(&mut self, x: f64) {
        self.0 -= Self::of(x);
    }
    pub fn merge(&mut self, o: Fixed) {
        self.0 += o.0;
    }
    pub fn value(self) -> f64 {
        self.0 as f64 / Self::ONE
    }
}

// JSON has no 128-bit integers.
impl From<(i64, u64)> for Fixed {
    fn from((high, low): (i64, u64)) -> Self {
        Fixed((i128::from(high) << 64) | i128::from(low))
    }
}
impl From<Fixed> for (i64, u64) {
    fn from(f: Fixed) -> Self {
        ((f.0 >> 64) as i64, f.0 as u64)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Bin {
    n: u64,
    positives: u64,
    score: Fixed,
}

/// Quality of a set of (score, label) pairs in constant memory.
///
/// Log loss, Brier score, mean score and ECE are exact up to the rounding of one addend (2^-41).
/// AUC comes from counts in 4,096 equal-width bins of the score in which a pair of one bin counts
/// half; it is off by at most [`Quality::auc_error_bound`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    n: u64,
    positives: u64,
    score: Fixed,
    log_loss: Fixed,
    brier: Fixed,
    bins: [Bin; ECE_BINS],
    /// (negatives, positives) of the score bins in use.
    scores: BTreeMap<u16, (u32, u32)>,
}

/// The figures of a [`Quality`]. All are 0 when `n` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualitySummary {
    pub n: u64,
    pub positives: u64,
    /// Share of positives.
    pub rate: f64,
    pub mean_score: f64,
    /// `None` unless both labels occurred.
    pub auc: Option<f64>,
    pub log_loss: f64,
    pub brier: f64,
    /// Over 10 equal-width bins.
    pub ece: f64,
}

/// One bin of the reliability curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    pub n: u64,
    pub mean_score: f64,
    pub rate: f64,
}

impl Quality {
    /// Counts a score in [0, 1] with its label. A score that is not a number is not counted.
    pub fn add(&mut self, score: f64, label: bool) {
        if score.is_nan() {
            return;
        }
        let s = score.clamp(0.0, 1.0);
        let one = u64::from(label);
        self.n += 1;
        self.positives += one;
        self.score.add(s);
        self.log_loss.add(log_loss_of(s, label));
        self.brier.add(brier_of(s, label));
        let bin = &mut self.bins[bin_of(s, ECE_BINS)];
        bin.n += 1;
        bin.positives += one;
        bin.score.add(s);
        let counts = self.scores.entry(bin_of(s, SCORE_BINS) as u16).or_default();
        *if label { &mut counts.1 } else { &mut counts.0 } += 1;
    }

    /// Takes back what `add` counted with the same arguments. A pair that was never added is
    /// ignored when its score bin shows it; nothing becomes negative.
    pub fn remove(&mut self, score: f64, label: bool) {
        let s = score.clamp(0.0, 1.0);
        let key = bin_of(s, SCORE_BINS) as u16;
        let Some(counts) = self.scores.get_mut(&key) else { return };
        let count = if label { &mut counts.1 } else { &mut counts.0 };
        if score.is_nan() || *count == 0 {
            return;
        }
        *count -= 1;
        if *counts == (0, 0) {
            self.scores.remove(&key);
        }
        let one = u64::from(label);
        self.n -= 1;
        self.positives -= one;
        self.score.remove(s);
        self.log_loss.remove(log_loss_of(s, label));
        self.brier.remove(brier_of(s, label));
        let bin = &mut self.bins[bin_of(s, ECE_BINS)];
        // 4,096 bins do not divide into 10, so a score that was never added may share only the finer bin.
        bin.n = bin.n.saturating_sub(1);
        bin.positives = bin.positives.saturating_sub(one);
        bin.score.remove(s);
    }

    /// Adds all pairs of `other`.
    pub fn merge(&mut self, other: &Quality) {
        self.n += other.n;
        self.positives += other.positives;
        self.score.merge(other.score);
        self.log_loss.merge(other.log_loss);
        self.brier.merge(other.brier);
        for (a, b) in self.bins.iter_mut().zip(&other.bins) {
            a.n += b.n;
            a.positives += b.positives;
            a.score.merge(b.score);
        }
        for (bin, (negatives, positives)) in &other.scores {
            let counts = self.scores.entry(*bin).or_default();
            counts.0 += negatives;
            counts.1 += positives;
        }
    }

    /// Pairs counted.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The figures now.
    pub fn summary(&self) -> QualitySummary {
        let per = |x: f64| if self.n == 0 { 0.0 } else { x / self.n as f64 };
        QualitySummary {
            n: self.n,
            positives: self.positives,
            rate: per(self.positives as f64),
            mean_score: per(self.score.value()),
            auc: self.auc(),
            log_loss: per(self.log_loss.value()),
            brier: per(self.brier.value()),
            ece: per(self.bins.iter().map(|b| (b.score.value() - b.positives as f64).abs()).sum()),
        }
    }

    /// Mean score and rate of positives in each of the 10 bins of the score.
    pub fn reliability(&self) -> Vec<ReliabilityBin> {
        let per = |x: f64, n: u64| if n == 0 { 0.0 } else { x / n as f64 };
        self.bins
            .iter()
            .map(|b| ReliabilityBin {
                n: b.n,
                mean_score: per(b.score.value(), b.n),
                rate: per(b.positives as f64, b.n),
            })
            .collect()
    }

    /// |AUC of the bins - exact AUC| is at most this: half of the share of (positive, negative)
    /// pairs whose scores fall in one bin. `None` unless both labels occurred.
    pub fn auc_error_bound(&self) -> Option<f64> {
        let pairs = self.pairs()?;
        Some(self.scores.values().map(|(n, p)| f64::from(*n) * f64::from(*p)).sum::<f64>() / 2.0 / pairs)
    }

    fn pairs(&self) -> Option<f64> {
        let negatives = self.n - self.positives;
        (self.positives > 0 && negatives > 0).then_some(self.positives as f64 * negatives as f64)
    }

    fn auc(&self) -> Option<f64> {
        let pairs = self.pairs()?;
        let (mut below, mut twice_won) = (0u64, 0u128);
        for (negatives, positives) in self.scores.values() {
            twice_won += u128::from(*positives) * u128::from(2 * below + u64::from(*negatives));
            below += u64::from(*negatives);
        }
        Some(twice_won as f64 / 2.0 / pairs)
    }
}
