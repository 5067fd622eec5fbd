//! Short campaigns with bounds that hold with room to spare; the long ones are in docs/statistics.md.

use super::*;
use understudy_domain::rollout::{Share, Unit};
use understudy_domain::time::Span;

fn world(rate: f64, fault: Fault) -> World {
    World {
        rate,
        share: Share::percent(5),
        minutes: 30,
        fault,
        errors: 0.0005,
        conversion: 0.05,
        delay_minutes: 0.0,
        delay_factor: 1.0,
        visits: false,
    }
}

fn ours(w: &World, runs: u64) -> Summary {
    let settings = settings(w, 0.95, Unit::Entity, Span::seconds(60));
    run(w, &settings, Rule::Ours, (1, runs), &|_| ())
}

fn naive(w: &World, runs: u64) -> Summary {
    run(w, &settings(w, 0.95, Unit::Entity, Span::seconds(60)), Rule::Naive, (1, runs), &|_| ())
}

#[test]
fn an_identical_canary_stays_with_ours_and_falls_with_the_naive_rule() {
    let same = world(100.0, Fault::None);
    let (ours, naive) = (ours(&same, 150), naive(&same, 40));
    assert_eq!((ours.rolled_back, ours.incident), (0.0, 0.0), "{ours:?}");
    assert!(naive.rolled_back > 0.6, "{naive:?}");
    assert!(naive.violated["any"].at_the_last_look < 0.4, "{naive:?}");
}

#[test]
fn faults_are_found_and_margins_kept() {
    let errors = ours(&world(100.0, Fault::Errors(0.005)), 60);
    assert!(errors.rolled_back >= 0.95, "{errors:?}");
    assert!(errors.median_minutes_to_rollback.is_some_and(|m| m < 12.0), "{errors:?}");
    let slow = ours(&world(100.0, Fault::Latency(1.5)), 30);
    assert_eq!(slow.rolled_back, 1.0, "{slow:?}");
    let broken = ours(&world(10.0, Fault::Errors(1.0)), 30);
    assert_eq!((broken.incident, broken.median_minutes_to_incident), (1.0, Some(1.0)), "{broken:?}");
    for margin in [Fault::Latency(1.10), Fault::Conversion(0.95)] {
        let at = ours(&world(1000.0, margin), 60);
        assert!(at.promoted <= 0.1 && at.rolled_back <= 0.05, "{margin:?}: {at:?}");
    }
    let good = ours(&world(1000.0, Fault::None), 60);
    assert!(good.promoted > 0.3 && good.technical > Some(0.9), "{good:?}");
}

#[test]
fn the_same_seed_is_the_same_campaign() {
    let w = world(50.0, Fault::Errors(0.004));
    let text = |s: Summary| serde_json::to_string(&s).expect("numbers");
    assert_eq!(text(ours(&w, 12)), text(ours(&w, 12)));
}

#[test]
fn returning_entities_mislead_who_counts_requests() {
    let w = World { visits: true, minutes: 20, rate: 30.0, ..world(30.0, Fault::None) };
    let campaign = |unit| run(&w, &settings(&w, 0.95, unit, Span::seconds(60)), Rule::Ours, (1, 40), &|_| ());
    let (by_request, by_entity) = (campaign(Unit::Request), campaign(Unit::Entity));
    assert_eq!(by_entity.rolled_back, 0.0, "{by_entity:?}");
    assert!(by_request.rolled_back > 0.02, "{by_request:?}");
}

#[test]
fn delayed_conversions_of_one_cohort_do_not_roll_back() {
    let w = World { delay_minutes: 5.0, ..world(100.0, Fault::None) };
    let same = ours(&w, 40);
    assert_eq!(same.rolled_back, 0.0, "{same:?}");
    let worse = ours(&World { fault: Fault::Conversion(0.5), ..w }, 30);
    assert!(worse.rolled_back > 0.9, "{worse:?}");
}
