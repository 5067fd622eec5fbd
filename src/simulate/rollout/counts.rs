//! Independent requests, as counts per tick: the sums of many draws are drawn themselves.

use super::chance::Chance;
use super::world::{LEVEL, World, latency_at, slower_than};
use understudy_domain::rollout::{ArmCounts, FirstAnswers, OutcomeCounts, SegmentCounts};

/// Predictions of one tick and one arm whose outcomes are to come.
struct Cohort {
    /// Second of its start.
    since: f64,
    predictions: u64,
    /// Conversions that have not come yet.
    coming: u64,
    /// That came before maturity.
    came: u64,
}

struct ArmWorld {
    errors: f64,
    slow: f64,
    conversion: f64,
    delay_s: f64,
    cohorts: std::collections::VecDeque<Cohort>,
}

pub struct Counts {
    arms: [ArmWorld; 2],
    share: f64,
    maturity_s: f64,
    /// The baseline's quantile as it was measured over the hour before the start.
    pub frozen_us: f64,
    pub segment: SegmentCounts,
}

/// Answers of the canary in one tick.
pub struct CanaryAnswers {
    pub answers: u64,
    pub bad: u64,
}

impl Counts {
    pub fn new(w: &World, margin: f64, chance: &mut Chance) -> Counts {
        // The level at which an hour's empirical quantile really lies.
        let hour = w.per(3600.0).max(20.0);
        let level = LEVEL + chance.normal() * (LEVEL * (1.0 - LEVEL) / hour).sqrt();
        // Whole microseconds, as they are measured and frozen.
        let frozen_us = latency_at(level.clamp(0.5, 0.9999)).round();
        let arm = |errors, slow, conversion, factor| ArmWorld {
            errors,
            slow,
            conversion,
            delay_s: w.delay_minutes * 60.0 * factor,
            cohorts: Default::default(),
        };
        let canary_slow = slower_than(frozen_us * margin, w.canary_log_latency());
        let mut segment = SegmentCounts::default();
        for arm in [&mut segment.baseline, &mut segment.canary] {
            (arm.slow, arm.outcomes) = (vec![0], vec![OutcomeCounts::default()]);
        }
        Counts {
            arms: [
                arm(w.errors, slower_than(frozen_us, 0.0), w.conversion, 1.0),
                arm(w.canary_errors(), canary_slow, w.canary_conversion(), w.delay_factor),
            ],
            share: w.share.fraction(),
            // 95 % of the champion's delays.
            maturity_s: -(0.05f64.ln()) * w.delay_minutes * 60.0,
            frozen_us,
            segment,
        }
    }

    /// The tick that ends at second `now`, with `requests` on average.
    pub fn tick(&mut self, now: f64, seconds: f64, requests: f64, chance: &mut Chance) -> CanaryAnswers {
        let n = chance.poisson(requests);
        let canary = chance.binomial(n, self.share);
        let mut answers = CanaryAnswers { answers: canary, bad: 0 };
        let counts = [(n - canary, &mut self.segment.baseline), (canary, &mut self.segment.canary)];
        for (arm, (n, counts)) in self.arms.iter_mut().zip(counts) {
            let bad = chance.binomial(n, arm.errors);
            add(counts, n, bad, chance.binomial(n, arm.slow));
            let converts = chance.binomial(n, arm.conversion);
            let outcomes = &mut counts.outcomes[0];
            if arm.delay_s > 0.0 {
                arm.cohorts.push_back(Cohort { since: now - seconds, predictions: n, coming: converts, came: 0 });
                arm.pass(now, seconds, self.maturity_s, outcomes, chance);
            } else {
                outcomes.matured += n;
                outcomes.events += converts;
                outcomes.early_events += converts;
            }
            answers.bad = bad;
        }
        answers
    }
}

fn add(counts: &mut ArmCounts, n: u64, bad: u64, slow: u64) {
    counts.answers += n;
    counts.entities += n;
    counts.bad += bad;
    let FirstAnswers { answers, bad: first_bad } = &mut counts.first;
    *answers += n;
    *first_bad += bad;
    counts.slow[0] += slow;
}

impl ArmWorld {
    /// Conversions come (without memory), cohorts come of age.
    fn pass(&mut self, now: f64, seconds: f64, maturity_s: f64, counts: &mut OutcomeCounts, chance: &mut Chance) {
        let comes = 1.0 - (-seconds / self.delay_s).exp();
        for cohort in &mut self.cohorts {
            let came = chance.binomial(cohort.coming, comes);
            cohort.coming -= came;
            cohort.came += came;
            counts.early_events += came;
        }
        while self.cohorts.front().is_some_and(|c| now >= c.since + seconds + maturity_s) {
            let Some(cohort) = self.cohorts.pop_front() else { break };
            counts.matured += cohort.predictions;
            counts.events += cohort.came;
        }
    }
}
