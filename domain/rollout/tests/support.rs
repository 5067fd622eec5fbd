//! A rollout in a world of expected counts: what each test drives.

use super::*;

/// Three stages of a minute at least, 10 s ticks, one latency and one outcome criterion.
pub fn settings() -> RolloutSettings {
    RolloutSettings {
        stages: [1, 10, 50, 100].map(Share::percent).to_vec(),
        min_dwell: Span(MINUTE),
        hold: Span(2 * MINUTE),
        max_duration: Span::hours(2),
        shadow_answers: 0,
        latency: vec![LatencyCriterion { quantile: 0.95, margin: 1.1 }],
        outcomes: vec![OutcomeCriterion {
            name: "conversion".into(),
            counts: Counted::Positive,
            better: Better::Higher,
            margin: 0.9,
            maturity: None,
        }],
        ..RolloutSettings::default()
    }
}

/// Chances per entity, and how many come in a tick.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub per_tick: f64,
    pub canary_bad: f64,
    pub baseline_bad: f64,
    /// Beyond the limit of its arm.
    pub canary_slow: f64,
    pub baseline_slow: f64,
    pub canary_event: f64,
    pub baseline_event: f64,
    /// Of the slots that should be the canary's, how many are.
    pub assigned: f64,
}

pub fn healthy() -> Rates {
    Rates {
        per_tick: 20_000.0,
        canary_bad: 0.0002,
        baseline_bad: 0.0002,
        canary_slow: 0.02,
        baseline_slow: 0.05,
        canary_event: 0.2,
        baseline_event: 0.2,
        assigned: 1.0,
    }
}

/// A rollout with its journal, all actions, and the exact (fractional) counts behind the whole ones it is shown.
pub struct Run {
    pub rollout: Rollout,
    pub journal: Vec<JournalEntry>,
    pub actions: Vec<Action>,
    pub now: Timestamp,
    seen: f64,
    segment: Option<u32>,
}

impl Run {
    pub fn start(settings: RolloutSettings) -> Run {
        let frozen = settings.latency.iter().map(|l| FrozenQuantile { quantile: l.quantile, us: 1000 }).collect();
        let start = Start {
            id: "r1".into(),
            model: "m".into(),
            champion: "v1".into(),
            challenger: "v2".into(),
            settings,
            frozen,
        };
        let (rollout, reaction) = Rollout::start(start, Timestamp(0)).expect("settings that work");
        let mut run =
            Run { rollout, journal: Vec::new(), actions: Vec::new(), now: Timestamp(0), seen: 0.0, segment: None };
        run.keep(reaction);
        run
    }

    fn keep(&mut self, reaction: Reaction) -> Vec<Action> {
        self.journal.extend(reaction.entry);
        self.actions.extend(reaction.actions.clone());
        reaction.actions
    }

    pub fn on(&mut self, input: Input) -> Vec<Action> {
        let reaction = self.rollout.on(input, self.now).expect("no conflict");
        self.keep(reaction)
    }

    /// An input that may be refused; then nothing has changed.
    pub fn offer(&mut self, input: Input) {
        let before = format!("{:?}", self.rollout);
        match self.rollout.on(input, self.now) {
            Ok(reaction) => drop(self.keep(reaction)),
            Err(_) => assert_eq!(before, format!("{:?}", self.rollout)),
        }
    }

    /// Through loading and warm-up.
    pub fn warm(&mut self) {
        self.on(Input::Loaded { step: self.rollout.step() });
        self.on(Input::Warmed { step: self.rollout.step() });
    }

    /// One tick later, with the counts that these rates give.
    pub fn tick(&mut self, rates: &Rates) -> Decision {
        self.tick_with(rates, Tick::default())
    }

    pub fn tick_with(&mut self, rates: &Rates, tick: Tick) -> Decision {
        self.now = self.now + self.rollout.started_as().settings.tick;
        if self.segment != self.rollout.segment() {
            (self.segment, self.seen) = (self.rollout.segment(), 0.0);
        }
        self.seen += rates.per_tick;
        let counts = counts(self.segment.unwrap_or(0), self.rollout.share(), self.seen, rates);
        self.on(Input::Tick(Tick { segments: vec![counts], ..tick }));
        self.rollout.decision().cloned().expect("a decision")
    }

    /// Ticks until nothing more happens, or for 3,000 ticks; the states on the way.
    pub fn until_end(&mut self, rates: &Rates) -> Vec<State> {
        let mut states = vec![self.rollout.state()];
        for _ in 0..3000 {
            if self.rollout.state().ended() {
                break;
            }
            self.tick(rates);
            if states.last() != Some(&self.rollout.state()) {
                states.push(self.rollout.state());
            }
        }
        states
    }

    /// All shares that were set, in order.
    pub fn shares(&self) -> Vec<u32> {
        let share = |a: &Action| if let Action::SetShare { share, .. } = a { Some(share.0) } else { None };
        self.actions.iter().filter_map(share).collect()
    }

    pub fn alerts(&self) -> Vec<AlertKind> {
        let kind = |a: &Action| if let Action::RaiseAlert { kind, .. } = a { Some(*kind) } else { None };
        self.actions.iter().filter_map(kind).collect()
    }
}

fn counts(segment: u32, share: Share, seen: f64, r: &Rates) -> SegmentCounts {
    let arm = |n: f64, bad: f64, slow: f64, event: f64| {
        let of = |p: f64| (n * p).round() as u64;
        ArmCounts {
            answers: of(1.0),
            entities: of(1.0),
            bad: of(bad),
            first: FirstAnswers { answers: of(1.0), bad: of(bad) },
            slow: vec![of(slow)],
            outcomes: vec![OutcomeCounts { matured: of(1.0), events: of(event), ..OutcomeCounts::default() }],
            ..ArmCounts::default()
        }
    };
    let canary = seen * share.fraction() * r.assigned;
    SegmentCounts {
        segment,
        canary: arm(canary, r.canary_bad, r.canary_slow, r.canary_event),
        baseline: arm(seen - canary, r.baseline_bad, r.baseline_slow, r.baseline_event),
    }
}
