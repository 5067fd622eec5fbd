//! Entities that come again and again, request by request, through the real counter and the real slots.

use super::chance::Chance;
use super::counts::CanaryAnswers;
use super::world::{LEVEL, MEDIAN_US, SIGMA, World, latency_at};
use understudy_domain::rollout::{AnswerFacts, Arm, EntityCounter, FrozenQuantile, OutcomeFacts, RolloutSettings};
use understudy_domain::route;

/// Requests per entity, on average.
const MEAN_VISITS: f64 = 8.0;
/// Exponent of the Pareto of visits, and the most that one entity weighs.
const EXPONENT: f64 = 1.2;
const MOST: f64 = 500.0;
/// Sigma of an entity's own latency; that of a single request makes up the rest.
const OWN_SIGMA: f64 = 0.45;
/// One entity of so many has trouble, and then often.
const TROUBLED: f64 = 0.002;
/// Who converts at all does so at this many times the mean rate.
const BUYER: f64 = 8.0;

struct Entity {
    hash: u64,
    arm: Arm,
    error: f64,
    conversion: f64,
    log_latency: f64,
}

pub struct Visits {
    entities: Vec<Entity>,
    /// Running sums of the weights.
    weights: Vec<f64>,
    pub counter: EntityCounter,
    pub frozen_us: f64,
}

impl Visits {
    pub fn new(w: &World, settings: &RolloutSettings, seed: u64, chance: &mut Chance) -> Visits {
        let n = (w.per(w.minutes as f64 * 60.0) / MEAN_VISITS).ceil().max(50.0) as usize;
        let (salt, mut sum) = (format!("seed-{seed}"), 0.0);
        let slots = w.share.0 as u16;
        let mut weights = Vec::with_capacity(n);
        let entities = (0..n)
            .map(|i| {
                sum += chance.heavy(EXPONENT, MOST);
                weights.push(sum);
                let arm = if route::slot(&salt, &i.to_string()) < slots { Arm::Canary } else { Arm::Baseline };
                let canary = arm == Arm::Canary;
                let (errors, conversion) =
                    if canary { (w.canary_errors(), w.canary_conversion()) } else { (w.errors, w.conversion) };
                let log_factor = if canary { w.canary_log_latency() } else { 0.0 };
                Entity {
                    hash: (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    arm,
                    // All errors are of the troubled, so that the mean is as said.
                    error: if chance.hit(TROUBLED) { (errors / TROUBLED).min(1.0) } else { 0.0 },
                    conversion: if chance.hit(1.0 / BUYER) { (conversion * BUYER).min(1.0) } else { 0.0 },
                    log_latency: log_factor + OWN_SIGMA * chance.normal(),
                }
            })
            .collect();
        let frozen_us = latency_at(LEVEL).round();
        let frozen = FrozenQuantile { quantile: LEVEL, us: frozen_us as u32 };
        let mut counter = EntityCounter::new(settings, &[frozen]);
        counter.begin(0);
        Visits { entities, weights, counter, frozen_us }
    }

    /// One tick of requests; `answered` is told of each of the canary's.
    pub fn tick(&mut self, requests: f64, chance: &mut Chance) -> CanaryAnswers {
        let mut answers = CanaryAnswers { answers: 0, bad: 0 };
        let total = self.weights.last().copied().unwrap_or(0.0);
        let request_sigma = (SIGMA * SIGMA - OWN_SIGMA * OWN_SIGMA).sqrt();
        for _ in 0..chance.poisson(requests) {
            let at = chance.unit() * total;
            let entity = &self.entities[self.weights.partition_point(|w| *w <= at).min(self.entities.len() - 1)];
            let bad = chance.hit(entity.error);
            let latency = MEDIAN_US * (entity.log_latency + request_sigma * chance.normal()).exp();
            let latency_us = (!bad).then_some(latency as u32);
            self.counter.on_answer(entity.arm, entity.hash, AnswerFacts { bad, latency_us });
            let event = chance.hit(entity.conversion);
            self.counter.on_outcome(0, entity.arm, entity.hash, 0, OutcomeFacts::Matured { event });
            if entity.arm == Arm::Canary {
                answers.answers += 1;
                answers.bad += u64::from(bad);
            }
        }
        answers
    }
}
