//! What became of a model's answers, day by day of event time: all that the score and the guards need, in constant
//! memory. Days are those of the request, so a day is a cohort; sums do not depend on the order of the inputs.

use crate::join::{Change, Joined};
use crate::metrics::{Fixed, bin_of, log_loss_of};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Days kept: a year and what a window needs.
const KEEP_DAYS: usize = 430;
const BINS: usize = 10;
pub(super) const DAY: Span = Span::days(1);

/// Sums over matured answers of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cohort {
    pub n: u64,
    pub positives: u64,
    /// Answers whose label was not the one that came.
    pub wrong: u64,
    loss: Fixed,
    /// (n, positives, sum of scores) of equal-width bins of the score.
    bins: [(u64, u64, Fixed); BINS],
}

impl Cohort {
    fn add(&mut self, score: f64, label: bool, threshold: f64) {
        let score = score.clamp(0.0, 1.0);
        self.n += 1;
        self.positives += u64::from(label);
        self.wrong += u64::from((score >= threshold) != label);
        self.loss.add(log_loss_of(score, label));
        let bin = &mut self.bins[bin_of(score, BINS)];
        bin.0 += 1;
        bin.1 += u64::from(label);
        bin.2.add(score);
    }

    fn remove(&mut self, score: f64, label: bool, threshold: f64) {
        let score = score.clamp(0.0, 1.0);
        if self.n == 0 {
            return;
        }
        self.n -= 1;
        self.positives = self.positives.saturating_sub(u64::from(label));
        self.wrong = self.wrong.saturating_sub(u64::from((score >= threshold) != label));
        self.loss.remove(log_loss_of(score, label));
        let bin = &mut self.bins[bin_of(score, BINS)];
        bin.0 = bin.0.saturating_sub(1);
        bin.1 = bin.1.saturating_sub(u64::from(label));
        bin.2.remove(score);
    }

    pub fn merge(&mut self, o: &Cohort) {
        self.n += o.n;
        self.positives += o.positives;
        self.wrong += o.wrong;
        self.loss.merge(o.loss);
        for (a, b) in self.bins.iter_mut().zip(&o.bins) {
            a.0 += b.0;
            a.1 += b.1;
            a.2.merge(b.2);
        }
    }

    /// Mean log loss; 0 for no rows.
    pub fn loss(&self) -> f64 {
        self.loss.value() / self.n.max(1) as f64
    }

    /// Share of wrong labels; 0 for no rows.
    pub fn wrong_rate(&self) -> f64 {
        self.wrong as f64 / self.n.max(1) as f64
    }

    /// Rows of the rarer label.
    pub fn minority(&self) -> u64 {
        self.positives.min(self.n - self.positives)
    }

    /// Expected calibration error over 10 equal-width bins, and what a perfectly calibrated model would show at
    /// these counts by chance alone: sum of sqrt(2/pi n_b p_b (1 - p_b)) / n, the mean of a folded normal per bin.
    pub fn calibration(&self) -> (f64, f64) {
        let n = self.n.max(1) as f64;
        let (mut error, mut chance) = (0.0, 0.0);
        for (count, positives, scores) in &self.bins {
            let (count, scores) = (*count as f64, scores.value());
            error += (scores - *positives as f64).abs();
            let p = scores / count.max(1.0);
            chance += (std::f64::consts::FRAC_2_PI * count * p * (1.0 - p)).max(0.0).sqrt();
        }
        (error / n, chance / n)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Day {
    served: u64,
    voided: u64,
    versions: BTreeMap<Arc<str>, Cohort>,
}

/// The days of one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ledger {
    /// Scores at or above it got the positive label.
    threshold: f64,
    days: BTreeMap<Timestamp, Day>,
}

/// What became of the requests of a period, over all versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// Answered and not voided.
    pub expected: u64,
    pub matured: u64,
}

impl Matched {
    /// `None` where nothing was expected.
    pub fn rate(self) -> Option<f64> {
        (self.expected > 0).then(|| self.matured as f64 / self.expected as f64)
    }
}

impl Ledger {
    pub fn new(threshold: f64) -> Ledger {
        Ledger { threshold, days: BTreeMap::new() }
    }

    fn day(&mut self, time: Timestamp) -> Option<&mut Day> {
        let start = time.floor(DAY);
        if !self.days.contains_key(&start) && self.days.len() >= KEEP_DAYS {
            if self.days.first_key_value().is_some_and(|(oldest, _)| start < *oldest) {
                return None;
            }
            self.days.pop_first();
        }
        Some(self.days.entry(start).or_default())
    }

    /// Counts an answered request.
    pub fn on_served(&mut self, time: Timestamp) {
        if let Some(day) = self.day(time) {
            day.served += 1;
        }
    }

    /// Counts an outcome in the day of its request.
    pub fn on_joined(&mut self, j: &Joined) {
        let threshold = self.threshold;
        let Some(day) = self.day(j.time) else { return };
        let cohort = day.versions.entry(j.version.clone()).or_default();
        match j.change {
            Change::Matured { label } => cohort.add(j.score, label, threshold),
            Change::Amended { from, to } => {
                match from {
                    Some(was) => cohort.remove(j.score, was, threshold),
                    None => day.voided = day.voided.saturating_sub(1),
                }
                cohort.add(j.score, to, threshold);
            }
            Change::Voided { was } => {
                if let Some(was) = was {
                    cohort.remove(j.score, was, threshold);
                }
                day.voided += 1;
            }
        }
    }

    /// The days in [from, until) with the cohort of one version in each, oldest first.
    pub fn days(&self, version: &str, from: Timestamp, until: Timestamp) -> Vec<&Cohort> {
        let days = self.days.range(from..until.max(from));
        days.filter_map(|(_, d)| d.versions.get(version)).filter(|c| c.n > 0).collect()
    }

    /// One version's answers to the requests of the days in [from, until).
    pub fn cohort(&self, version: &str, from: Timestamp, until: Timestamp) -> Cohort {
        let mut sum = Cohort::default();
        self.days(version, from, until).into_iter().for_each(|c| sum.merge(c));
        sum
    }

    /// All versions' answers of those days.
    pub fn all(&self, from: Timestamp, until: Timestamp) -> Cohort {
        let mut sum = Cohort::default();
        for (_, day) in self.days.range(from..until.max(from)) {
            day.versions.values().for_each(|c| sum.merge(c));
        }
        sum
    }

    pub fn matched(&self, from: Timestamp, until: Timestamp) -> Matched {
        let mut m = Matched::default();
        for (_, day) in self.days.range(from..until.max(from)) {
            m.expected += day.served.saturating_sub(day.voided);
            m.matured += day.versions.values().map(|c| c.n).sum::<u64>();
        }
        m
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(day: i64, version: &str, score: f64, change: Change) -> Joined {
        let time = Timestamp(0) + Span(day * DAY.0 + 5);
        Joined { model: "m".into(), version: version.into(), id: Default::default(), time, score, change }
    }

    #[test]
    fn an_amended_and_a_voided_outcome_leave_no_trace_of_what_was() {
        let mut l = Ledger::new(0.5);
        for _ in 0..4 {
            l.on_served(Timestamp(7));
        }
        l.on_joined(&joined(0, "v1", 0.8, Change::Matured { label: true }));
        l.on_joined(&joined(0, "v1", 0.3, Change::Matured { label: true }));
        l.on_joined(&joined(0, "v1", 0.3, Change::Amended { from: Some(true), to: false }));
        l.on_joined(&joined(0, "v1", 0.6, Change::Matured { label: false }));
        l.on_joined(&joined(0, "v1", 0.6, Change::Voided { was: Some(false) }));
        let c = l.cohort("v1", Timestamp(0), Timestamp(0) + DAY);
        assert_eq!((c.n, c.positives, c.wrong, c.minority()), (2, 1, 0, 1));
        assert!((c.loss() - -(0.8f64.ln() + 0.7f64.ln()) / 2.0).abs() < 1e-9);
        assert_eq!(l.matched(Timestamp(0), Timestamp(0) + DAY), Matched { expected: 3, matured: 2 });
        assert_eq!(l.cohort("v2", Timestamp(0), Timestamp(0) + DAY).n, 0);
    }

    #[test]
    fn chance_alone_explains_the_error_of_a_calibrated_model() {
        // A fixed pseudo-random sequence: labels drawn at the rate that the score says.
        let mut rng = super::super::random::Random::new(11);
        let mut ratio = 0.0;
        for _ in 0..40 {
            let mut c = Cohort::default();
            for _ in 0..1000 {
                let p = 0.05 + 0.5 * rng.unit();
                c.add(p, rng.unit() < p, 0.5);
            }
            let (error, chance) = c.calibration();
            ratio += error / chance / 40.0;
        }
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
    }

    proptest! {
        #[test]
        fn order_does_not_matter(mut rows in prop::collection::vec((0i64..5, 0.0f64..1.0, any::<bool>()), 1..40)) {
            let fold = |rows: &[(i64, f64, bool)]| {
                let mut l = Ledger::new(0.5);
                rows.iter().for_each(|(d, s, y)| l.on_joined(&joined(*d, "v1", *s, Change::Matured { label: *y })));
                l.all(Timestamp(0), Timestamp(0) + Span::days(9))
            };
            let a = fold(&rows);
            rows.reverse();
            prop_assert_eq!(a, fold(&rows));
        }
    }
}
