//! From records and outcomes to counts: what a controller adds up while it runs, and what anyone can add up again from
//! the logs.

use super::counts::{Arm, SegmentCounts};
use super::entities::{AnswerFacts, EntityCounter, OutcomeFacts};
use super::input::{Fault, Start};
use super::settings::{Counted, Unit};
use crate::evidence::HardEvidence;
use crate::fixed_hash;
use crate::prediction::{PredictionId, PredictionRecord, ServedArm};
use crate::route::unit_hash;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

/// An answer that one arm could not give. It is in no prediction log, so it stands in the rollout's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedAnswer {
    /// The id that the prediction would have, or has if the other arm answered.
    pub id: PredictionId,
    pub at: Timestamp,
    pub segment: u32,
    pub arm: Arm,
    /// Of the unit.
    pub unit: u64,
    pub error: String,
    /// What the model itself did wrong, beyond an error.
    pub fault: Option<Fault>,
    /// The hard-incident rule rejected with this answer: canary and baseline.
    pub hard: Option<(HardEvidence, HardEvidence)>,
}

/// What latency is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencySource {
    /// The time of each answer.
    #[default]
    Measured,
    /// While a recorded stream is the clock, the time that a replay takes says nothing of the recorded service and would
    /// make decisions hang on the machine. Then each answer takes its version's declared median, in microseconds,
    /// spread by a lognormal (sigma 0.6) drawn from a hash of the prediction's id.
    Modelled { baseline_us: f64, canary_us: f64 },
}

/// Spread of modelled latencies.
const SIGMA: f64 = 0.6;

impl LatencySource {
    /// Of one answer, in microseconds.
    pub fn of(&self, arm: Arm, record: &PredictionRecord) -> u32 {
        match self {
            LatencySource::Measured => record.timing.total_us,
            LatencySource::Modelled { baseline_us, canary_us } => {
                let median = if arm == Arm::Canary { canary_us } else { baseline_us };
                (median * spread(record.id)).min(f64::from(u32::MAX)) as u32
            }
        }
    }
}

/// A lognormal of median 1, the same for the same id (Box and Muller 1958).
fn spread(id: PredictionId) -> f64 {
    let hash = fixed_hash::of_parts([&id.0.to_le_bytes()[..]]);
    let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (u, v) = (uniform(hash as u64), uniform((hash >> 64) as u64));
    (SIGMA * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).exp()
}

/// What else counting needs to know of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counting {
    /// The unit that the model declares.
    pub unit: Option<String>,
    pub threshold: f64,
    /// A prediction without an outcome at maturity has the negative one.
    pub absence_is_negative: bool,
    pub latency: LatencySource,
}

struct Pending {
    time: Timestamp,
    segment: u32,
    arm: Arm,
    unit: u64,
    score: f64,
    /// `None` until an outcome came; then its label (`None`: there will be none) and time.
    outcome: Option<(Option<bool>, Timestamp)>,
    /// Criteria that it has not matured for.
    open: usize,
}

struct Matures {
    counts: Counted,
    after: Span,
    /// In order of arrival.
    waiting: VecDeque<PredictionId>,
}

/// The counts of one rollout while it runs.
pub struct Tally {
    about: Counting,
    by_request: bool,
    counter: EntityCounter,
    segment: Option<u32>,
    criteria: Vec<Matures>,
    pending: HashMap<PredictionId, Pending>,
    /// Ids counted in a recovery that may come again.
    recovered: HashSet<PredictionId>,
    failed: HashSet<PredictionId>,
    reported: Vec<SegmentCounts>,
    /// Answers of a segment that was over when they came.
    pub stragglers: u64,
}

impl Tally {
    /// Maturities are those of the settings; they must be given by then.
    pub fn new(start: &Start, about: Counting) -> Self {
        let s = &start.settings;
        let criteria = s.outcomes.iter().map(|o| Matures {
            counts: o.counts,
            after: o.maturity.unwrap_or(Span::days(1)),
            waiting: VecDeque::new(),
        });
        Tally {
            about,
            by_request: s.unit == Unit::Request,
            counter: EntityCounter::new(s, &start.frozen),
            segment: None,
            criteria: criteria.collect(),
            pending: HashMap::new(),
            recovered: HashSet::new(),
            failed: HashSet::new(),
            reported: Vec::new(),
            stragglers: 0,
        }
    }

    /// Answers of `segment` are counted from here on.
    pub fn begin(&mut self, segment: u32) {
        if self.segment != Some(segment) {
            self.segment = Some(segment);
            self.counter.begin(segment);
        }
    }

    /// What the unit of a record is in this rollout.
    pub fn unit<'a>(&self, record: &'a PredictionRecord) -> Cow<'a, str> {
        record.unit(if self.by_request { None } else { self.about.unit.as_deref() })
    }

    /// The arm that a record is evidence of, if it is.
    pub fn arm(record: &PredictionRecord) -> Option<Arm> {
        match record.placement.arm {
            _ if record.placement.instead => None,
            ServedArm::Baseline => Some(Arm::Baseline),
            ServedArm::Canary => Some(Arm::Canary),
            ServedArm::Shadow | ServedArm::Override => None,
        }
    }

    /// While the logs are read again: also remembers that it was counted, if it may come a second time.
    pub fn on_recovered(&mut self, record: &PredictionRecord, may_come_again: bool) {
        if let Some(segment) = record.placement.segment.filter(|s| self.segment.is_none_or(|now| now < *s)) {
            self.begin(segment);
        }
        self.on_served(record);
        if may_come_again {
            self.recovered.insert(record.id);
        }
    }

    pub fn on_served(&mut self, record: &PredictionRecord) {
        let (Some(arm), Some(segment)) = (Self::arm(record), record.placement.segment) else { return };
        if self.recovered.remove(&record.id) {
            return;
        }
        if self.segment != Some(segment) {
            self.stragglers += 1;
            return;
        }
        let unit = unit_hash(&self.unit(record));
        let latency_us = Some(self.about.latency.of(arm, record));
        self.counter.on_answer(arm, unit, AnswerFacts { bad: false, latency_us });
        if self.criteria.is_empty() {
            return;
        }
        let (time, score, open) = (record.time, record.score, self.criteria.len());
        self.pending.insert(record.id, Pending { time, segment, arm, unit, score, outcome: None, open });
        self.criteria.iter_mut().for_each(|c| c.waiting.push_back(record.id));
    }

    /// False if it was counted before.
    pub fn on_failed(&mut self, failed: &FailedAnswer) -> bool {
        if !self.failed.insert(failed.id) {
            return false;
        }
        if self.segment != Some(failed.segment) {
            self.stragglers += 1;
            return true;
        }
        self.counter.on_answer(failed.arm, failed.unit, AnswerFacts { bad: true, latency_us: None });
        if let Some(fault) = &failed.fault {
            self.counter.on_fault(failed.arm, fault);
        }
        true
    }

    /// The outcome of a prediction, or a later revision; `None` voids it.
    pub fn on_outcome(&mut self, id: PredictionId, label: Option<bool>, at: Timestamp) {
        let threshold = self.about.threshold;
        let Some(p) = self.pending.get_mut(&id) else { return };
        let first = p.outcome.is_none();
        p.outcome = Some((label, at));
        let (Some(label), true) = (label, first) else { return };
        for (i, c) in self.criteria.iter().enumerate() {
            if at - p.time <= c.after && c.counts.counts(p.score, threshold, label) {
                self.counter.on_outcome(
                    p.segment,
                    p.arm,
                    p.unit,
                    i,
                    OutcomeFacts::Early { event: true, prompt: false },
                );
            }
        }
    }

    /// What has matured by `now` is counted.
    pub fn mature(&mut self, now: Timestamp) {
        for (i, c) in self.criteria.iter_mut().enumerate() {
            while let Some(id) = c.waiting.front().copied() {
                let Some(p) = self.pending.get_mut(&id) else {
                    c.waiting.pop_front();
                    continue;
                };
                let due = p.time + c.after;
                if due > now {
                    break;
                }
                c.waiting.pop_front();
                let label = match p.outcome {
                    Some((label, at)) if at <= due => label.map(Some),
                    // It came too late, or not at all.
                    _ if self.about.absence_is_negative => Some(Some(false)),
                    _ => Some(None),
                };
                let facts = label.map(|label| match label {
                    Some(y) => OutcomeFacts::Matured { event: c.counts.counts(p.score, self.about.threshold, y) },
                    None => OutcomeFacts::Unmatched,
                });
                if let Some(facts) = facts {
                    self.counter.on_outcome(p.segment, p.arm, p.unit, i, facts);
                }
                p.open -= 1;
                if p.open == 0 {
                    self.pending.remove(&id);
                }
            }
        }
    }

    /// Every segment's counts at this moment.
    pub fn segments(&self) -> &[SegmentCounts] {
        self.counter.segments()
    }

    /// Takes these for what was told last, after a recovery.
    pub fn set_reported(&mut self, reported: Vec<SegmentCounts>) {
        self.reported = reported;
    }

    /// Every request is a unit.
    pub fn by_request(&self) -> bool {
        self.by_request
    }

    /// The segments that changed since this was asked last.
    pub fn news(&mut self) -> Vec<SegmentCounts> {
        let now = self.counter.segments();
        let old = |s: &&SegmentCounts| !self.reported.contains(s);
        let news = now.iter().filter(old).cloned().collect();
        self.reported = now.to_vec();
        news
    }
}

impl Counted {
    /// Whether a prediction with this outcome is an event.
    pub fn counts(self, score: f64, threshold: f64, label: bool) -> bool {
        match self {
            Counted::Positive => label,
            Counted::Wrong => (score >= threshold) != label,
            Counted::SquaredErrorAbove(limit) => (score - f64::from(u8::from(label))).powi(2) > limit,
        }
    }
}
