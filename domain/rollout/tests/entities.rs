//! From answers to counts.

use super::*;

fn counter(unit: Unit) -> EntityCounter {
    let settings = RolloutSettings {
        unit,
        latency: vec![LatencyCriterion { quantile: 0.95, margin: 1.1 }],
        outcomes: vec![OutcomeCriterion {
            name: "c".into(),
            counts: Counted::Positive,
            better: Better::Higher,
            margin: 0.95,
            maturity: None,
        }],
        ..RolloutSettings::default()
    };
    let mut counter = EntityCounter::new(&settings, &[FrozenQuantile { quantile: 0.95, us: 1000 }]);
    counter.begin(0);
    counter
}

const BAD: AnswerFacts = AnswerFacts { bad: true, latency_us: None };

fn good(us: u32) -> AnswerFacts {
    AnswerFacts { bad: false, latency_us: Some(us) }
}

#[test]
fn an_entity_counts_once_per_criterion() {
    let mut c = counter(Unit::Entity);
    for answer in [good(900), BAD, BAD, good(1050), good(1101), good(5000)] {
        c.on_answer(Arm::Canary, 7, answer);
    }
    c.on_answer(Arm::Baseline, 8, good(1001));
    let counts = &c.segments()[0];
    let canary = &counts.canary;
    assert_eq!((canary.answers, canary.entities, canary.bad), (6, 1, 1));
    // Its first answer was good: that is the trial of the limit.
    assert_eq!(canary.first, FirstAnswers { answers: 1, bad: 0 });
    // Slow is above 1000 in the baseline, above 1100 in the canary.
    assert_eq!((canary.slow.as_slice(), counts.baseline.slow.as_slice()), ([1].as_slice(), [1].as_slice()));
}

#[test]
fn a_bad_entity_is_not_counted_again_in_the_next_stage_nor_in_the_other_arm() {
    let mut c = counter(Unit::Entity);
    c.on_answer(Arm::Baseline, 7, BAD);
    c.begin(1);
    c.on_answer(Arm::Canary, 7, BAD);
    c.on_answer(Arm::Canary, 9, BAD);
    let [before, after] = c.segments() else { panic!("two segments") };
    assert_eq!((before.baseline.bad, after.canary.bad, after.canary.entities), (1, 1, 2));
}

#[test]
fn outcomes_belong_to_the_segment_of_their_prediction() {
    let mut c = counter(Unit::Entity);
    c.begin(1);
    for facts in [
        OutcomeFacts::Early { event: true, prompt: true },
        OutcomeFacts::Matured { event: true },
        OutcomeFacts::Matured { event: true },
        OutcomeFacts::Unmatched,
    ] {
        c.on_outcome(0, Arm::Canary, 7, 0, facts);
    }
    c.on_outcome(1, Arm::Baseline, 8, 0, OutcomeFacts::Matured { event: false });
    c.on_outcome(9, Arm::Baseline, 8, 0, OutcomeFacts::Unmatched);
    let expected = OutcomeCounts { matured: 1, events: 1, early_events: 1, unmatched: 1, prompt: 1 };
    assert_eq!(c.segments()[0].canary.outcomes, [expected]);
    assert_eq!(c.segments()[1].baseline.outcomes, [OutcomeCounts { matured: 1, ..OutcomeCounts::default() }]);
}

#[test]
fn requests_all_count() {
    let mut c = counter(Unit::Request);
    (0..5).for_each(|_| c.on_answer(Arm::Canary, 7, BAD));
    let canary = &c.segments()[0].canary;
    assert_eq!((canary.entities, canary.bad, canary.first), (5, 5, FirstAnswers { answers: 5, bad: 5 }));
}

#[test]
fn memory_is_bounded() {
    let mut c = counter(Unit::Entity);
    let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for i in 0..MAX_ENTITIES as u64 + 1000 {
        c.on_answer(Arm::Canary, hash(i), BAD);
    }
    let canary = &c.segments()[0].canary;
    assert_eq!((canary.entities, canary.bad), (MAX_ENTITIES as u64, MAX_ENTITIES as u64));
    assert_eq!(canary.first.answers, MAX_ENTITIES as u64 + 1000, "the rate goes on");
}
