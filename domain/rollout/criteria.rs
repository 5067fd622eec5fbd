//! From settings to tests, and from counts to evidence.

use super::counts::SegmentCounts;
use super::decision::Standing;
use super::settings::{Better, RolloutSettings};
use super::share::Share;
use crate::evidence::{Grid, Mixture, Pooled, Side, threshold};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bad answers: against the limit, and against the baseline.
    Errors,
    /// Position among the latency criteria.
    Latency(usize),
    /// Position among the outcome criteria.
    Outcome(usize),
}

/// One thing that the canary must not be worse at.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    pub name: String,
    pub kind: Kind,
    /// Tolerated ratio of the canary's rate of (bad) events to the baseline's.
    pub margin: f64,
    worse: (Side, Grid),
    better: (Side, Grid),
}

impl Criterion {
    /// In the order in which they are reported: errors, latency, outcomes.
    pub fn all(settings: &RolloutSettings) -> Vec<Criterion> {
        let fault = ((Side::Above, Grid::Wide), (Side::Below, Grid::Fine));
        let make = |name: String, kind, margin, (worse, better)| Criterion { name, kind, margin, worse, better };
        let mut all = vec![make("errors".into(), Kind::Errors, 1.0, fault)];
        for (i, l) in settings.latency.iter().enumerate() {
            // Slow is beyond the margin already, so the tolerated ratio of slow answers is 1.
            let percent = (l.quantile * 1e4).round() / 1e2;
            all.push(make(format!("latency p{percent}"), Kind::Latency(i), 1.0, fault));
        }
        for (i, o) in settings.outcomes.iter().enumerate() {
            let sides = match o.better {
                Better::Higher => ((Side::Below, Grid::Fine), (Side::Above, Grid::Fine)),
                Better::Lower => ((Side::Above, Grid::Fine), (Side::Below, Grid::Fine)),
            };
            all.push(make(format!("outcome {}", o.name), Kind::Outcome(i), o.margin, sides));
        }
        all
    }

    pub fn technical(&self) -> bool {
        !matches!(self.kind, Kind::Outcome(_))
    }

    /// The share tests of a segment, against "not worse" and against "worse".
    pub(super) fn tests(&self, share: Share) -> (Mixture, Mixture) {
        let of = |(side, grid)| Mixture::of_share(share.fraction(), self.margin, side, grid);
        (of(self.worse), of(self.better))
    }

    /// What the share test counts in a segment: (canary, baseline).
    pub(super) fn events(&self, c: &SegmentCounts) -> (u64, u64) {
        match self.kind {
            Kind::Errors => (c.canary.bad, c.baseline.bad),
            Kind::Latency(i) => (c.canary.slow(i), c.baseline.slow(i)),
            Kind::Outcome(i) => (c.canary.outcome(i).events, c.baseline.outcome(i).events),
        }
    }

    /// Fewer bad events of the canary never roll back. Two errors among the first ten answers can reject, and three slow
    /// ones among the first four; they are flukes of the first seconds, and a canary that plainly fails is found by the
    /// hard-incident rule.
    fn rollback_from(&self) -> u64 {
        match (self.kind, self.worse.0) {
            (Kind::Errors, _) => 3,
            (_, Side::Above) => 8,
            _ => 0,
        }
    }

    /// What these are counted among.
    fn among(&self, c: &SegmentCounts) -> (u64, u64) {
        match self.kind {
            Kind::Outcome(i) => (c.canary.outcome(i).matured, c.baseline.outcome(i).matured),
            _ => (c.canary.entities, c.baseline.entities),
        }
    }
}

/// A time with one share and unbroken counting, with its tests made ready.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub share: Share,
    pub counts: SegmentCounts,
    /// Per criterion; empty where there is no baseline to compare with.
    shares: Vec<(Mixture, Mixture)>,
    /// "Equal rates" at this share, for matches and delays of outcomes.
    equal: Option<Mixture>,
    assignment: Option<Mixture>,
}

impl Segment {
    pub fn new(number: u32, share: Share, criteria: &[Criterion]) -> Self {
        let both = share > Share::ZERO && share < Share::ALL;
        Segment {
            share,
            counts: SegmentCounts { segment: number, ..SegmentCounts::default() },
            shares: if both { criteria.iter().map(|c| c.tests(share)).collect() } else { Vec::new() },
            equal: both.then(|| Mixture::of_share(share.fraction(), 1.0, Side::Both, Grid::Doubling)),
            assignment: both.then(|| Mixture::of_assignment(share.fraction())),
        }
    }

    /// Evidence against "each arm gets its share of the entities"; 0 where one arm gets everything.
    pub fn log_e_assignment(&self) -> f64 {
        let (canary, baseline) = (self.counts.canary.entities, self.counts.baseline.entities);
        self.assignment.as_ref().map_or(0.0, |m| m.log_e(canary, baseline))
    }
}

/// The tests that do not depend on the share.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    above: Mixture,
    below: Mixture,
    /// While the challenger serves everything there is no baseline; then this limit alone counts.
    holding: Mixture,
}

impl Limits {
    pub fn new(limit: f64, holding: f64) -> Self {
        Limits {
            above: Mixture::of_rate(limit, Side::Above, Grid::Wide),
            below: Mixture::of_rate(limit, Side::Below, Grid::Deep),
            holding: Mixture::of_rate(holding, Side::Above, Grid::Wide),
        }
    }

    /// Evidence against "at most the limit" in the answers of one segment without a baseline.
    pub fn log_e_holding(&self, segment: &Segment) -> f64 {
        let first = segment.counts.canary.first;
        self.holding.log_e(first.bad, first.answers - first.bad.min(first.answers))
    }
}

/// Two-sided evidence about how outcomes come in, over all segments.
pub(super) struct OutcomeFlow {
    /// Against "unmatched at equal rates".
    pub log_e_unmatched: f64,
    /// Against "as prompt as each other".
    pub log_e_prompt: f64,
}

pub(super) fn flow(segments: &[Segment], outcome: usize) -> OutcomeFlow {
    let (mut unmatched, mut prompt) = (Pooled::default(), Pooled::default());
    for s in segments {
        let Some(equal) = &s.equal else { continue };
        let (c, b) = (s.counts.canary.outcome(outcome), s.counts.baseline.outcome(outcome));
        unmatched = unmatched.add(equal, c.unmatched, b.unmatched);
        prompt = prompt.add(equal, c.prompt, b.prompt);
    }
    OutcomeFlow { log_e_unmatched: unmatched.log_e(), log_e_prompt: prompt.log_e() }
}

/// Outcomes whose delay differs between the arms are not used before they are mature.
pub(super) const ALPHA_FLOW: f64 = 0.01;
/// Outcomes before maturity may roll back at this part of the alpha.
const EARLY: f64 = 0.1;

/// To 1e-4: what is journalled, compared and shown, so that a verdict does not hang on the last bit of a logarithm.
pub(super) fn rounded(log_e: f64) -> f64 {
    (log_e * 1e4).round() / 1e4
}

/// Where one criterion stands. `before` is its largest certifying evidence so far.
pub(super) fn stand(
    (index, criterion): (usize, &Criterion),
    segments: &[Segment],
    limits: &Limits,
    settings: &RolloutSettings,
    before: f64,
    required: bool,
) -> Standing {
    let (mut worse, mut better, mut early) = (Pooled::default(), Pooled::default(), Pooled::default());
    let (mut counted, mut of) = ((0, 0), (0, 0));
    let mut events = Vec::with_capacity(segments.len());
    let (mut first, mut first_bad) = (0, 0);
    for s in segments {
        let (among, event) = (criterion.among(&s.counts), criterion.events(&s.counts));
        of = (of.0 + among.0, of.1 + among.1);
        counted = (counted.0 + event.0, counted.1 + event.1);
        first += s.counts.canary.first.answers;
        first_bad += s.counts.canary.first.bad;
        let Some((against_not_worse, against_worse)) = s.shares.get(index) else { continue };
        events.push((s.share.0, event.0, event.1));
        worse = worse.add(against_not_worse, event.0, event.1);
        better = better.add(against_worse, event.0, event.1);
        if let Kind::Outcome(i) = criterion.kind {
            let (c, b) = (s.counts.canary.outcome(i), s.counts.baseline.outcome(i));
            early = early.add(against_not_worse, c.early_events, b.early_events);
        }
    }
    let (log_e_worse, log_e_better) = match criterion.kind {
        Kind::Errors => {
            let good = first - first_bad.min(first);
            (worse.log_e().min(limits.above.log_e(first_bad, good)), limits.below.log_e(first_bad, good))
        }
        Kind::Latency(_) => (worse.log_e(), better.log_e()),
        Kind::Outcome(i) => {
            let prompt = flow(segments, i).log_e_prompt < threshold(ALPHA_FLOW);
            let early = if prompt { early.log_e() - threshold(EARLY) } else { f64::NEG_INFINITY };
            (worse.log_e().max(early), better.log_e())
        }
    };
    let log_e_better = rounded(log_e_better);
    let log_e_better_max = log_e_better.max(before);
    let certify_at = rounded(threshold(settings.alpha_promote));
    Standing {
        name: criterion.name.clone(),
        required,
        canary: counted.0,
        baseline: counted.1,
        canary_of: of.0,
        baseline_of: of.1,
        margin: criterion.margin,
        log_e_worse: rounded(log_e_worse),
        rollback_from: criterion.rollback_from(),
        rollback_at: rounded(threshold(settings.alpha_rollback / settings.guarded() as f64)),
        log_e_better,
        log_e_better_max,
        certify_at,
        certified: log_e_better_max >= certify_at,
        segments: events,
    }
}
