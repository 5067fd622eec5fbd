//! What a plan promises.

use super::support::settings;
use super::*;

fn rates(entities_per_s: f64) -> LiveRates {
    LiveRates {
        entities_per_s,
        error_rate: 0.0005,
        beyond_margin: vec![0.0356],
        outcomes: vec![LiveOutcome { rate: 0.05, maturity: Span(0) }],
    }
}

fn one_stage(percent: u32, margin: f64) -> RolloutSettings {
    let mut s = RolloutSettings { stages: [percent, 100].map(Share::percent).to_vec(), ..settings() };
    s.outcomes[0].margin = margin;
    s.max_duration = Span::hours(24);
    s
}

/// Canary answers until an equal canary is certified, as simulated elsewhere: (criterion, rates, margin, median, nine of ten).
#[test]
fn expected_counts_come_close_to_simulated_times() {
    let certain = |errors, conversion, margin, name: &str| {
        let live = LiveRates {
            error_rate: errors,
            outcomes: vec![LiveOutcome { rate: conversion, maturity: Span(0) }],
            ..rates(1000.0)
        };
        let plan = plan(&one_stage(5, margin), &live);
        let need = plan.stages[0].needs.iter().find(|n| n.name == name).cloned().expect("a criterion");
        let canary = |t: Option<Span>| t.map_or(f64::NAN, |t| t.as_secs_f64() * 50.0);
        (canary(need.median), canary(need.p90))
    };
    for (errors, conversion, margin, name, median, p90) in [
        (0.0, 0.05, 0.95, "errors", 4_150.0, 4_150.0),
        (0.0002, 0.05, 0.95, "errors", 6_260.0, 12_700.0),
        (0.0005, 0.05, 0.95, "errors", 19_200.0, 52_200.0),
        (0.0005, 0.05, 0.95, "outcome conversion", 88_600.0, 190_600.0),
        (0.0005, 0.05, 0.90, "outcome conversion", 18_100.0, 41_200.0),
        (0.0005, 0.30, 0.95, "outcome conversion", 15_100.0, 30_900.0),
    ] {
        let (m, p) = certain(errors, conversion, margin, name);
        assert!((0.6..1.7).contains(&(m / median)), "{name} {errors} {conversion} {margin}: median {m} of {median}");
        assert!((0.6..1.7).contains(&(p / p90)), "{name} {errors} {conversion} {margin}: nine of ten {p} of {p90}");
    }
}

#[test]
fn a_plan_says_whether_it_can_end_in_promotion_and_what_to_change() {
    let quick = plan(&settings(), &rates(10_000.0));
    assert!(quick.can_promote && quick.likely && quick.hints.is_empty(), "{quick:?}");
    assert_eq!(quick.stages.len(), 3);
    assert!(quick.stages.iter().all(|s| s.lasts_median >= Some(settings().min_dwell)));
    assert!(quick.median <= quick.p90);
    // A trickle: never, and why.
    let slow = plan(&RolloutSettings { outcomes: vec![], ..one_stage(5, 0.95) }, &rates(0.2));
    assert!(!slow.can_promote, "{slow:?}");
    assert!(slow.hints[0].contains("min_entities"), "{:?}", slow.hints);
    assert!(slow.hints.iter().any(|h| h.starts_with("errors needs")), "{:?}", slow.hints);
    // Small share, enough traffic for a larger one.
    let small = plan(&one_stage(1, 0.95), &rates(100.0));
    let hint = small.hints.iter().find(|h| h.starts_with("outcome conversion")).expect("a hint");
    assert!(!small.can_promote && hint.contains("at 20% it would need"), "{hint}");
    // The champion errs more than is allowed.
    let sick = plan(&settings(), &LiveRates { error_rate: 0.002, ..rates(10_000.0) });
    assert!(!sick.can_promote && sick.hints[0].contains("error_limit"), "{:?}", sick.hints);
}

#[test]
fn outcomes_are_waited_for() {
    let mut live = rates(10_000.0);
    live.outcomes[0].maturity = Span::hours(1);
    let plan = plan(&settings(), &live);
    assert!(plan.stages[1].lasts_median < Some(Span::hours(1)), "10 % is below business_from: {plan:?}");
    assert!(plan.median >= Some(Span::hours(1)), "{plan:?}");
}
