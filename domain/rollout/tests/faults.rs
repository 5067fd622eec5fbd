//! What may go wrong in a rollout, and what it does then.

use super::support::*;
use super::*;
use crate::evidence::{HardEvidence, HardIncident, threshold};

fn serving() -> Run {
    let mut run = Run::start(settings());
    run.warm();
    run
}

fn bad(answers: u64, log_e: f64) -> HardEvidence {
    HardEvidence { answers, bad: answers, log_e }
}

#[test]
fn three_crashes_within_a_minute_are_an_incident_and_slow_ones_are_not() {
    let crash = || Input::CanaryFault(Fault::Crash { detail: "signal 11".into() });
    let mut run = serving();
    for seconds in [0, 40, 80, 120] {
        run.now = Timestamp(0) + Span::seconds(seconds);
        run.on(crash());
        assert!(run.rollout.state().serving(), "two within any minute");
    }
    run.now = Timestamp(0) + Span::seconds(121);
    let actions = run.on(crash());
    assert_eq!(run.rollout.state(), State::Incident);
    // Weights go first, then people are told.
    assert!(matches!(actions[0], Action::SetShare { share: Share::ZERO, .. }), "{actions:?}");
    assert_eq!(run.alerts(), [AlertKind::Incident]);
}

#[test]
fn a_canary_that_only_fails_is_an_incident_within_ten_answers() {
    let mut run = serving();
    let (mut canary, mut answers) = (HardIncident::default(), 0);
    while run.rollout.state().serving() {
        answers += 1;
        if canary.on_answer(true) >= threshold(run.rollout.started_as().settings.alpha_incident) {
            run.on(Input::HardIncident { canary: canary.evidence(), baseline: HardEvidence::default() });
        }
    }
    assert!(answers <= 10, "{answers}");
    assert_eq!((run.rollout.state(), run.rollout.share()), (State::Incident, Share::ZERO));
    let decision = run.rollout.decision().expect("a decision");
    assert_eq!((decision.verdict, decision.because), (Verdict::Incident, Reason::BadAnswers));
    Rollout::replay(&run.journal).expect("the journal gives the same");
}

#[test]
fn evidence_that_does_not_suffice_changes_nothing() {
    let mut run = serving();
    let entries = run.journal.len();
    let actions = run.on(Input::HardIncident { canary: bad(3, 6.0), baseline: HardEvidence::default() });
    assert!(actions.is_empty() && run.journal.len() == entries);
}

#[test]
fn both_arms_failing_is_not_the_canarys_fault() {
    let mut run = serving();
    let actions = run.on(Input::HardIncident { canary: bad(20, 30.0), baseline: bad(400, 300.0) });
    assert!(actions.contains(&Action::ResetHardIncident));
    assert_eq!(run.alerts(), [AlertKind::BothArmsFail]);
    // An outage of both for ten minutes: no rollback, no promotion, and nobody is told twice.
    let outage = Rates { canary_bad: 0.5, baseline_bad: 0.5, canary_event: 0.0, baseline_event: 0.0, ..healthy() };
    for _ in 0..60 {
        let decision = run.tick(&outage);
        assert_eq!(decision.verdict, Verdict::Hold, "{}", decision.reason);
        run.on(Input::HardIncident { canary: bad(20, 30.0), baseline: bad(400, 300.0) });
    }
    assert_eq!(run.rollout.state(), State::Stage(0));
    assert_eq!(run.alerts(), [AlertKind::BothArmsFail]);
}

#[test]
fn a_canary_without_traffic_is_never_promoted_and_told_about() {
    let mut run = serving();
    let states = run.until_end(&Rates { assigned: 0.0, ..healthy() });
    assert_eq!(states, [State::Stage(0), State::Inconclusive]);
    assert_eq!(run.alerts(), [AlertKind::NoCanaryTraffic, AlertKind::Inconclusive]);
    assert_eq!(run.shares(), [100, 0]);
}

#[test]
fn a_wrong_share_is_an_incident_before_any_metric_is_read() {
    let mut run = serving();
    // 7 % where 5 % are due, and bad on top of it.
    let states = run.until_end(&Rates { assigned: 1.4, canary_bad: 0.5, ..healthy() });
    assert_eq!(states, [State::Stage(0), State::Incident]);
    let decision = run.rollout.decision().expect("a decision");
    assert_eq!(decision.because, Reason::Assignment, "{}", decision.reason);
}

#[test]
fn a_restart_keeps_stage_share_and_evidence() {
    let (mut whole, mut cut) = (serving(), serving());
    for _ in 0..4 {
        whole.tick(&healthy());
        cut.tick(&healthy());
    }
    cut.rollout = Rollout::replay(&cut.journal).expect("the journal gives the same");
    let actions = cut.on(Input::Restarted { evidence_lost: false });
    assert_eq!(actions, [Action::SetShare { step: cut.rollout.step(), share: Share(100), segment: 0 }]);
    let (a, b) = (whole.tick(&healthy()), cut.tick(&healthy()));
    assert_eq!(a, b);
    assert_eq!(whole.until_end(&healthy()), cut.until_end(&healthy()));
}

#[test]
fn lost_evidence_begins_the_stage_anew_and_says_so() {
    let mut run = serving();
    (0..5).for_each(|_| drop(run.tick(&healthy())));
    run.rollout = Rollout::replay(&run.journal).expect("the journal gives the same");
    let actions = run.on(Input::Restarted { evidence_lost: true });
    assert_eq!(actions, [Action::SetShare { step: run.rollout.step(), share: Share(100), segment: 1 }]);
    let decision = run.rollout.decision().expect("a decision");
    assert_eq!(decision.because, Reason::Restart, "{}", decision.reason);
    let decision = run.tick(&healthy());
    assert_eq!((decision.in_stage, decision.criteria[0].canary_of), (Span::seconds(10), 200));
    assert_eq!(run.until_end(&healthy()).last(), Some(&State::Promoted));
    Rollout::replay(&run.journal).expect("the journal gives the same");
}

#[test]
fn a_load_that_ends_after_the_abort_is_ignored() {
    let mut run = Run::start(settings());
    let step = run.rollout.step();
    run.on(Input::Abort { expected_step: step, by: "ann".into(), reason: "wrong version".into() });
    assert_eq!(run.rollout.state(), State::RolledBack);
    let entries = run.journal.len();
    for late in [Input::Loaded { step }, Input::Warmed { step: step + 1 }, Input::LoadFailed { reason: "gone".into() }]
    {
        assert!(run.on(late).is_empty());
    }
    assert_eq!((run.rollout.state(), run.journal.len()), (State::RolledBack, entries));
    // Nor does a load of the first attempt count for the second one.
    run.on(Input::Retry { expected_step: run.rollout.step(), by: "ann".into() });
    assert!(run.on(Input::Loaded { step }).is_empty());
    assert_eq!(run.rollout.state(), State::Loading);
    Rollout::replay(&run.journal).expect("the journal gives the same");
}

#[test]
fn promote_and_abort_together_have_one_winner() {
    let promote = |step| Input::PromoteNow { expected_step: step, by: "ann".into(), all: false };
    let abort = |step| Input::Abort { expected_step: step, by: "bob".into(), reason: "no".into() };
    for promote_first in [true, false] {
        let mut run = serving();
        let step = run.rollout.step();
        let (first, second) = if promote_first { (promote(step), abort(step)) } else { (abort(step), promote(step)) };
        run.on(first);
        let state = run.rollout.state();
        let refused = run.rollout.on(second, run.now).expect_err("the second one saw an older step");
        assert_eq!(refused, Refused::Conflict { expected_step: step, step: step + 1, state });
        assert_eq!(state, if promote_first { State::Stage(1) } else { State::RolledBack });
        Rollout::replay(&run.journal).expect("a refused command leaves no trace");
    }
}

#[test]
fn a_failed_load_on_any_node_is_an_incident() {
    for warm in [false, true] {
        let mut run = Run::start(settings());
        if warm {
            run.warm();
        }
        run.on(Input::LoadFailed { reason: "sha256 differs".into() });
        assert_eq!((run.rollout.state(), run.rollout.share()), (State::Incident, Share::ZERO));
    }
    let mut run = Run::start(settings());
    run.on(Input::Loaded { step: 0 });
    run.on(Input::WarmupFailed { step: 1, reason: "3 of 50 golden requests".into() });
    assert_eq!(run.rollout.state(), State::Incident);
    assert_eq!(run.shares(), [0], "it never had traffic");
}

#[test]
fn the_clock_going_back_or_a_missing_node_holds() {
    let mut run = serving();
    run.tick(&healthy());
    run.now = run.now - Span::hours(1);
    let decision = run.tick(&healthy());
    assert_eq!((decision.verdict, decision.because), (Verdict::Hold, Reason::Incomplete), "{}", decision.reason);
    let missing = Tick { incomplete: Some("node 2 has not reported".into()), ..Tick::default() };
    let decision = run.tick_with(&healthy(), missing);
    assert_eq!(decision.because, Reason::Incomplete);
    // A jump ahead by a day is not a day of observation.
    run.now = run.now + Span::days(1);
    let decision = run.tick(&healthy());
    assert!(decision.elapsed <= Span::seconds(150), "{}", decision.elapsed);
    assert_eq!(run.until_end(&healthy()).last(), Some(&State::Promoted));
}

#[test]
fn counts_that_shrink_hold_and_are_not_taken() {
    let mut run = serving();
    (0..3).for_each(|_| drop(run.tick(&healthy())));
    let before = run.rollout.decision().cloned().expect("a decision");
    run.now = run.now + Span::seconds(10);
    run.on(Input::Tick(Tick { segments: vec![SegmentCounts::default()], ..Tick::default() }));
    let after = run.rollout.decision().expect("a decision");
    assert_eq!((after.because, &after.criteria), (Reason::Incomplete, &before.criteria));
}

#[test]
fn rollback_stays_armed_while_holding() {
    let mut run = serving();
    while run.rollout.state() != State::Holding {
        run.tick(&healthy());
    }
    assert_eq!(run.rollout.share(), Share::ALL);
    let states = run.until_end(&Rates { canary_bad: 0.01, ..healthy() });
    assert_eq!(states, [State::Holding, State::RolledBack]);
    assert!(!run.actions.iter().any(|a| matches!(a, Action::SetAlias { .. })), "the champion never changed");
}

#[test]
fn outcomes_that_mature_while_holding_still_roll_back() {
    let mut run = Run::start(RolloutSettings { at_inconclusive: AtInconclusive::Keep, ..settings() });
    run.warm();
    run.tick(&healthy());
    run.on(Input::PromoteNow { expected_step: run.rollout.step(), by: "ann".into(), all: true });
    assert_eq!(run.rollout.state(), State::Holding);
    let outcomes = |events| vec![OutcomeCounts { matured: 20_000, events, ..OutcomeCounts::default() }];
    let mut late = run.rollout.clone();
    let mut counts = SegmentCounts { segment: 0, ..SegmentCounts::default() };
    (counts.canary.answers, counts.canary.entities) = (200, 200);
    (counts.canary.first.answers, counts.baseline.first.answers) = (200, 19_800);
    (counts.baseline.answers, counts.baseline.entities, counts.baseline.bad) = (19_800, 19_800, 4);
    (counts.baseline.first.bad, counts.canary.slow, counts.baseline.slow) = (4, vec![4], vec![990]);
    (counts.canary.outcomes, counts.baseline.outcomes) = (outcomes(40), outcomes(16_000));
    let tick = Input::Tick(Tick { segments: vec![counts], ..Tick::default() });
    late.on(tick, run.now + Span::seconds(10)).expect("no command");
    assert_eq!(late.state(), State::RolledBack);
    assert!(late.decision().is_some_and(|d| d.reason.starts_with("outcome conversion")));
}
