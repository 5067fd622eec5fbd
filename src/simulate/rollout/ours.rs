//! One rollout by the real machine: what it is told is drawn, what it decides is its own.

use super::chance::Chance;
use super::counts::{CanaryAnswers, Counts};
use super::visits::Visits;
use super::world::{LEVEL, World};
use understudy_domain::evidence::{HardEvidence, HardIncident, threshold};
use understudy_domain::rollout::{
    Better, Counted, FrozenQuantile, Input, LatencyCriterion, OutcomeCriterion, Rollout, RolloutSettings,
    SegmentCounts, Share, Start, State, Tick, Unit,
};
use understudy_domain::time::{Span, Timestamp};

/// How a run ended.
#[derive(Clone, Debug)]
pub struct End {
    pub state: State,
    /// Since the first share.
    pub minutes: f64,
    /// Errors and latency were certified, whatever became of the rest.
    pub technical: bool,
    /// Per criterion: canary answers until it was certified.
    pub certified: Vec<Option<u64>>,
}

/// The settings of a simulated rollout: the defaults, with one stage that lasts as long as the simulation.
pub fn settings(w: &World, margin: f64, unit: Unit, tick: Span) -> RolloutSettings {
    let time = Span(w.minutes as i64 * 60_000_000);
    RolloutSettings {
        unit,
        stages: vec![w.share, Share::ALL],
        min_dwell: time,
        max_duration: time,
        tick,
        hold: Span::ZERO,
        shadow_answers: 0,
        latency: vec![LatencyCriterion { quantile: LEVEL, margin: 1.10 }],
        outcomes: vec![OutcomeCriterion {
            name: "conversion".into(),
            counts: Counted::Positive,
            better: Better::Higher,
            margin,
            maturity: None,
        }],
        ..RolloutSettings::default()
    }
}

enum Traffic {
    Counts(Counts),
    Visits(Visits),
}

impl Traffic {
    fn frozen_us(&self) -> f64 {
        match self {
            Traffic::Counts(c) => c.frozen_us,
            Traffic::Visits(v) => v.frozen_us,
        }
    }

    fn segment(&self) -> SegmentCounts {
        match self {
            Traffic::Counts(c) => c.segment.clone(),
            Traffic::Visits(v) => v.counter.segments()[0].clone(),
        }
    }
}

/// Runs one rollout to its end. The same seed gives the same run.
pub fn run(w: &World, settings: &RolloutSettings, seed: u64) -> End {
    let mut chance = Chance::new(seed, 11);
    let mut traffic = if w.visits {
        Traffic::Visits(Visits::new(w, settings, seed, &mut chance))
    } else {
        Traffic::Counts(Counts::new(w, settings.latency[0].margin, &mut chance))
    };
    let start = Start {
        id: format!("seed-{seed}"),
        model: "simulated".into(),
        champion: "champion".into(),
        challenger: "challenger".into(),
        settings: settings.clone(),
        frozen: vec![FrozenQuantile { quantile: LEVEL, us: traffic.frozen_us() as u32 }],
    };
    let (mut rollout, _) = Rollout::start(start, Timestamp(0)).expect("settings of our own that work");
    let tell = |rollout: &mut Rollout, input: Input, now| rollout.on(input, now).expect("no command is given");
    tell(&mut rollout, Input::Loaded { step: 0 }, Timestamp(0));
    tell(&mut rollout, Input::Warmed { step: 1 }, Timestamp(0));
    let seconds = settings.tick.as_secs_f64();
    let ticks = (w.minutes as f64 * 60.0 / seconds).ceil() as u64;
    let (mut hard, mut tick, mut certified) = (HardIncident::default(), 0, vec![None; settings.guarded()]);
    while tick < ticks && rollout.state().serving() {
        tick += 1;
        let now = Timestamp(0) + Span(settings.tick.0 * tick as i64);
        let answers = match &mut traffic {
            Traffic::Counts(c) => c.tick(now.0 as f64 / 1e6, seconds, w.per(seconds), &mut chance),
            Traffic::Visits(v) => v.tick(w.per(seconds), &mut chance),
        };
        if hard_incident(&mut hard, answers, settings.alpha_incident, &mut chance) {
            let input = Input::HardIncident { canary: hard.evidence(), baseline: HardEvidence::default() };
            tell(&mut rollout, input, now);
            break;
        }
        let segment = traffic.segment();
        let canary = segment.canary.entities;
        tell(&mut rollout, Input::Tick(Tick { segments: vec![segment], ..Tick::default() }), now);
        let standings = rollout.decision().map_or(&[][..], |d| &d.criteria);
        for (at, _) in certified.iter_mut().zip(standings).filter(|(at, s)| at.is_none() && s.certified) {
            *at = Some(canary);
        }
    }
    End {
        state: rollout.state(),
        minutes: tick as f64 * seconds / 60.0,
        technical: certified[..2].iter().all(Option::is_some),
        certified,
    }
}

/// The canary's answers of one tick in an order drawn at random, each judged.
fn hard_incident(hard: &mut HardIncident, of: CanaryAnswers, alpha: f64, chance: &mut Chance) -> bool {
    let (mut left, mut bad) = (of.answers, of.bad);
    while bad > 0 {
        let is_bad = chance.hit(bad as f64 / left as f64);
        left -= 1;
        bad -= u64::from(is_bad);
        if hard.on_answer(is_bad) >= threshold(alpha) {
            return true;
        }
    }
    hard.on_good(left);
    false
}
