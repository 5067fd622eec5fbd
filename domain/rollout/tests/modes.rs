//! Who decides: modes, approval, the end of the time, shadow.

use super::support::*;
use super::*;

#[test]
fn in_ask_mode_a_person_lets_it_go_on_and_rollback_needs_nobody() {
    let mut run = Run::start(RolloutSettings { mode: Mode::Ask, ..settings() });
    run.warm();
    (0..30).for_each(|_| drop(run.tick(&healthy())));
    assert_eq!((run.rollout.state(), run.rollout.waits_for_approval()), (State::Stage(0), true));
    assert_eq!(run.alerts(), [AlertKind::DecisionNeeded], "told once");
    run.on(Input::Approve { expected_step: run.rollout.step(), by: "ann".into() });
    assert_eq!((run.rollout.state(), run.rollout.waits_for_approval()), (State::Stage(1), false));
    let early = Input::Approve { expected_step: run.rollout.step(), by: "ann".into() };
    assert!(matches!(run.rollout.on(early, run.now), Err(Refused::NotNow { .. })));
    assert_eq!(run.until_end(&Rates { canary_bad: 0.05, ..healthy() }).last(), Some(&State::RolledBack));
    Rollout::replay(&run.journal).expect("the journal gives the same");
}

#[test]
fn in_advise_mode_nothing_moves_by_itself() {
    let mut run = Run::start(RolloutSettings { mode: Mode::Advise, ..settings() });
    run.warm();
    (0..30).for_each(|_| drop(run.tick(&Rates { canary_bad: 0.05, ..healthy() })));
    assert_eq!((run.rollout.state(), run.shares().as_slice()), (State::Stage(0), [100].as_slice()));
    assert_eq!(run.rollout.decision().map(|d| d.verdict), Some(Verdict::Rollback));
    run.on(Input::CanaryFault(Fault::Contract { detail: "2 values".into() }));
    assert_eq!(run.rollout.state(), State::Stage(0));
    assert_eq!(run.alerts(), [AlertKind::DecisionNeeded, AlertKind::Incident]);
}

#[test]
fn with_little_traffic_a_person_promotes() {
    let trickle = Rates { per_tick: 2.0, canary_bad: 0.0, baseline_bad: 0.0, ..healthy() };
    let stages = [10, 100].map(Share::percent).to_vec();
    let little = RolloutSettings {
        stages,
        error_limit: 0.4,
        latency: Vec::new(),
        outcomes: Vec::new(),
        max_duration: Span::hours(2),
        ..settings()
    };
    let mut run = Run::start(little.clone());
    run.warm();
    (0..200).for_each(|_| drop(run.tick(&trickle)));
    let decision = run.rollout.decision().expect("a decision");
    assert_eq!((decision.verdict, decision.because), (Verdict::Hold, Reason::Approval), "{}", decision.reason);
    assert!(decision.reason.contains("canary entities"), "{}", decision.reason);
    let mut run = Run::start(RolloutSettings { min_entities: 100, ..little });
    run.warm();
    assert_eq!(run.until_end(&trickle).last(), Some(&State::Promoted));
}

#[test]
fn at_the_end_of_the_time_as_the_settings_say() {
    // Outcomes never come, so they can never be certified.
    let blind = Rates { canary_event: 0.0, baseline_event: 0.0, ..healthy() };
    let end = |at_inconclusive| {
        let mut run = Run::start(RolloutSettings { at_inconclusive, ..settings() });
        run.warm();
        (run.until_end(&blind).last().copied(), run.rollout.share(), run.alerts())
    };
    assert_eq!(end(AtInconclusive::Rollback), (Some(State::Inconclusive), Share::ZERO, vec![AlertKind::Inconclusive]));
    assert_eq!(end(AtInconclusive::Keep), (Some(State::Stage(2)), Share::percent(50), vec![AlertKind::Inconclusive]));
    let (state, share, _) = end(AtInconclusive::PromoteIfTechnical);
    assert_eq!((state, share), (Some(State::Promoted), Share::ALL));
}

#[test]
fn shadow_comes_before_traffic() {
    let report = |answers, errors| ShadowReport { answers, errors, ..ShadowReport::default() };
    let shadowing = || {
        let mut run = Run::start(RolloutSettings { shadow_answers: 500, shadow_disagreement: Some(0.2), ..settings() });
        run.warm();
        assert_eq!(run.rollout.state(), State::Shadow);
        run
    };
    let shadow = |run: &mut Run, report| run.on(Input::Shadow { step: run.rollout.step(), report });
    let mut run = shadowing();
    shadow(&mut run, report(499, 0));
    assert_eq!(run.rollout.state(), State::Shadow);
    assert_eq!(shadow(&mut run, report(500, 0))[0], Action::StopShadow);
    assert_eq!(run.rollout.state(), State::Stage(0));
    let mut run = shadowing();
    shadow(&mut run, report(300, 20));
    assert_eq!((run.rollout.state(), run.shares().as_slice()), (State::RolledBack, [0].as_slice()));
    let mut run = shadowing();
    shadow(&mut run, ShadowReport { contract_violations: 1, ..report(10, 1) });
    assert_eq!(run.rollout.state(), State::Incident);
    let mut run = shadowing();
    shadow(&mut run, ShadowReport { disagreements: 200, ..report(400, 0) });
    assert_eq!(run.rollout.state(), State::RolledBack);
}

#[test]
fn an_alert_about_the_champion_and_unmatched_outcomes_block_promotion() {
    let mut run = Run::start(settings());
    run.warm();
    for _ in 0..20 {
        let tick = Tick { baseline_alert: Some("p99 above its limit".into()), ..Tick::default() };
        assert_eq!(run.tick_with(&healthy(), tick).verdict, Verdict::Hold);
    }
    assert_eq!(run.rollout.decision().map(|d| d.because), Some(Reason::BaselineAlert));
    let mut counts = run.journal.last().and_then(|e| e.input.clone());
    let Some(Input::Tick(tick)) = &mut counts else { panic!("a tick") };
    tick.baseline_alert = None;
    (tick.segments[0].canary.outcomes[0].unmatched, tick.segments[0].baseline.outcomes[0].unmatched) = (900, 2000);
    run.now = run.now + Span::seconds(10);
    run.on(counts.expect("a tick"));
    assert_eq!(run.rollout.decision().map(|d| d.because), Some(Reason::MatchRate));
    assert_eq!(run.alerts(), [AlertKind::OutcomesDiffer]);
}

#[test]
fn settings_that_cannot_work_are_all_named() {
    let wrong = RolloutSettings {
        stages: [5, 1, 100].map(Share::percent).to_vec(),
        alpha_rollback: 0.0,
        error_limit: 1.0,
        latency: vec![LatencyCriterion { quantile: 95.0, margin: 1.1 }],
        max_duration: Span::seconds(1),
        outcomes: vec![OutcomeCriterion {
            name: "c".into(),
            counts: Counted::Wrong,
            better: Better::Lower,
            margin: 0.95,
            maturity: None,
        }],
        ..settings()
    };
    let keys: Vec<_> = wrong.check().into_iter().map(|p| p.key).collect();
    assert_eq!(keys, ["stages", "alpha_rollback", "error_limit", "max_duration", "latency[0]", "outcomes[0].margin"]);
    assert!(RolloutSettings::default().check().is_empty());
}

#[test]
fn shares_are_percent_or_slots() {
    let read = |json: &str| serde_json::from_str::<Share>(json).map_err(|e| e.to_string());
    for (json, slots) in [("5", 500), ("0.5", 50), ("\"5%\"", 500), ("\"7 slots\"", 7), ("100", 10_000)] {
        assert_eq!(read(json), Ok(Share(slots)), "{json}");
    }
    for wrong in ["101", "-1", "0.001", "\"5 percent\"", "\"10001 slots\""] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert_eq!(serde_json::to_string(&Share(50)).ok().as_deref(), Some("\"0.5%\""));
}
