//! From answers to counts: each entity counts once.
//!
//! Sticky routing makes the requests of one entity hang together, so requests are no independent trials; entities are, as
//! their arm is drawn without regard to what they do. A bad entity counts once per criterion in the whole rollout, not
//! once per stage: whoever was in the canary stays there, and counting it again would multiply the same chance event.

use super::counts::{Arm, ArmCounts, SegmentCounts};
use super::settings::{FrozenQuantile, RolloutSettings, Unit};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Entities that one set remembers (some 18 MB). What comes after is not counted by that criterion any more; by then
/// there is evidence enough.
pub const MAX_ENTITIES: usize = 1 << 20;

/// When an answer is slow, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyLimit {
    pub baseline_us: f64,
    /// The baseline's times the margin.
    pub canary_us: f64,
}

/// One answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    /// Error, wrong shape or not finite.
    pub bad: bool,
    /// Of a good answer.
    pub latency_us: Option<u32>,
}

/// What became known of a prediction with respect to one outcome criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeFacts {
    /// An outcome came before maturity. `prompt`: within the champion's median delay; only where outcomes of both labels
    /// are reported.
    Early { event: bool, prompt: bool },
    /// The prediction is old enough and its outcome known (or known to be the negative one by its absence).
    Matured { event: bool },
    /// Old enough, and no outcome.
    Unmatched,
}

/// The counts of a rollout, in memory. Rebuilt from the prediction log after a restart, or begun anew.
#[derive(Debug)]
pub struct EntityCounter {
    unit: Unit,
    limits: Vec<LatencyLimit>,
    segments: Vec<SegmentCounts>,
    /// Seen in the running segment, per arm.
    seen: [Set; 2],
    bad: Set,
    slow: Vec<Set>,
    outcomes: Vec<OutcomeSets>,
}

#[derive(Debug, Default)]
struct OutcomeSets {
    matured: Set,
    events: Set,
    early: Set,
    unmatched: Set,
    prompt: Set,
}

impl EntityCounter {
    pub fn new(settings: &RolloutSettings, frozen: &[FrozenQuantile]) -> Self {
        let limit = |(f, l): (&FrozenQuantile, &super::LatencyCriterion)| LatencyLimit {
            baseline_us: f64::from(f.us),
            canary_us: f64::from(f.us) * l.margin,
        };
        EntityCounter {
            unit: settings.unit,
            limits: frozen.iter().zip(&settings.latency).map(limit).collect(),
            segments: Vec::new(),
            seen: Default::default(),
            bad: Set::default(),
            slow: settings.latency.iter().map(|_| Set::default()).collect(),
            outcomes: settings.outcomes.iter().map(|_| OutcomeSets::default()).collect(),
        }
    }

    /// A new share, or a new beginning; answers from here on belong to it.
    pub fn begin(&mut self, segment: u32) {
        let mut counts = SegmentCounts { segment, ..SegmentCounts::default() };
        for arm in [&mut counts.baseline, &mut counts.canary] {
            arm.slow = vec![0; self.limits.len()];
            arm.outcomes = vec![Default::default(); self.outcomes.len()];
        }
        self.segments.push(counts);
        self.seen = Default::default();
    }

    /// All segments since the beginning of their time.
    pub fn segments(&self) -> &[SegmentCounts] {
        &self.segments
    }

    /// An answer of the running segment to the entity with this hash.
    pub fn on_answer(&mut self, arm: Arm, entity: u64, answer: AnswerFacts) {
        let every = self.unit == Unit::Request;
        let Some(counts) = self.segments.last_mut() else { return };
        let counts = of(counts, arm);
        counts.answers += 1;
        let seen = &mut self.seen[arm as usize];
        if every || seen.is_new(entity) {
            // After a set was full its entities come again as new ones: good enough for a rate, not for an assignment.
            counts.entities += u64::from(every || !seen.was_full);
            counts.first.answers += 1;
            counts.first.bad += u64::from(answer.bad);
        }
        if answer.bad {
            counts.bad += u64::from(every || self.bad.takes(entity));
        }
        let Some(us) = answer.latency_us else { return };
        for ((limit, slow), set) in self.limits.iter().zip(&mut counts.slow).zip(&mut self.slow) {
            let most = if arm == Arm::Canary { limit.canary_us } else { limit.baseline_us };
            if f64::from(us) > most {
                *slow += u64::from(every || set.takes(entity));
            }
        }
    }

    /// News of a prediction that was made in `segment`.
    pub fn on_outcome(&mut self, segment: u32, arm: Arm, entity: u64, criterion: usize, facts: OutcomeFacts) {
        let every = self.unit == Unit::Request;
        let counts = self.segments.iter_mut().find(|s| s.segment == segment);
        let (Some(counts), Some(sets)) = (counts, self.outcomes.get_mut(criterion)) else { return };
        let Some(counts) = of(counts, arm).outcomes.get_mut(criterion) else { return };
        let add = |count: &mut u64, set: &mut Set| *count += u64::from(every || set.takes(entity));
        match facts {
            OutcomeFacts::Early { event, prompt } => {
                if event {
                    add(&mut counts.early_events, &mut sets.early);
                }
                if prompt {
                    add(&mut counts.prompt, &mut sets.prompt);
                }
            }
            OutcomeFacts::Matured { event } => {
                add(&mut counts.matured, &mut sets.matured);
                if event {
                    add(&mut counts.events, &mut sets.events);
                }
            }
            OutcomeFacts::Unmatched => add(&mut counts.unmatched, &mut sets.unmatched),
        }
    }

    /// Something of the model itself, not of an entity.
    pub fn on_fault(&mut self, arm: Arm, fault: &super::Fault) {
        let Some(counts) = self.segments.last_mut() else { return };
        let counts = of(counts, arm);
        match fault {
            super::Fault::Contract { .. } => counts.contract_violations += 1,
            super::Fault::NonFinite => counts.non_finite += 1,
            super::Fault::Crash { .. } => counts.crashes += 1,
        }
    }
}

fn of(counts: &mut SegmentCounts, arm: Arm) -> &mut ArmCounts {
    match arm {
        Arm::Baseline => &mut counts.baseline,
        Arm::Canary => &mut counts.canary,
    }
}

/// Hashes of entities, bounded.
#[derive(Debug, Default)]
struct Set {
    hashes: HashSet<u64, BuildHasherDefault<AsIs>>,
    was_full: bool,
}

impl Set {
    /// True the first time. A full set takes nothing more.
    fn takes(&mut self, hash: u64) -> bool {
        self.hashes.len() < MAX_ENTITIES && self.hashes.insert(hash)
    }

    /// True the first time. A full set forgets all.
    fn is_new(&mut self, hash: u64) -> bool {
        if self.hashes.len() >= MAX_ENTITIES {
            self.hashes.clear();
            self.was_full = true;
        }
        self.hashes.insert(hash)
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |h, b| h.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}
