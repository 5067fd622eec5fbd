//! The order of verdicts: whatever comes first in the list decides, in every combination of what comes after.

use super::super::verdict::{Known, judge};
use super::*;

fn standing(name: &str) -> Standing {
    Standing {
        name: name.into(),
        required: true,
        canary: 100,
        baseline: 100,
        canary_of: 1000,
        baseline_of: 1000,
        margin: 1.0,
        log_e_worse: 0.0,
        rollback_at: 5.7,
        rollback_from: 3,
        log_e_better: 4.0,
        log_e_better_max: 4.0,
        certify_at: 3.0,
        certified: true,
        segments: vec![(500, 100, 100)],
    }
}

/// A rollout that may be promoted.
fn fine(criteria: &[Standing]) -> Known<'_> {
    Known {
        criteria,
        log_e_assignment: 0.0,
        assignment_at: 9.2,
        canary_entities: 1000,
        contract_violations: 0,
        non_finite: 0,
        crashes: false,
        both_arms_fail: false,
        incomplete: None,
        baseline_alert: None,
        unmatched: None,
        calm: Span::hours(1),
        dwell: Span::hours(1),
        elapsed: Span::hours(2),
        max_duration: Span::hours(24),
        expected_entities: 50_000.0,
        min_entities: 2000,
        mode: Mode::Act,
    }
}

/// What may be the matter, most decisive first, with the verdict it leads to.
const MATTERS: [(&str, Verdict, Reason); 15] = [
    ("contract", Verdict::Incident, Reason::Contract),
    ("non-finite", Verdict::Incident, Reason::NonFinite),
    ("crashes", Verdict::Incident, Reason::Crashes),
    ("assignment", Verdict::Incident, Reason::Assignment),
    ("incomplete", Verdict::Hold, Reason::Incomplete),
    ("harm", Verdict::Rollback, Reason::Worse),
    ("doubtful assignment", Verdict::Hold, Reason::Assignment),
    ("both arms", Verdict::Hold, Reason::BothArmsFail),
    ("baseline alert", Verdict::Hold, Reason::BaselineAlert),
    ("unmatched", Verdict::Hold, Reason::MatchRate),
    ("uncertified", Verdict::Hold, Reason::Waiting),
    ("dwell", Verdict::Hold, Reason::Waiting),
    ("ask", Verdict::Hold, Reason::Approval),
    ("little traffic", Verdict::Hold, Reason::Approval),
    ("nothing", Verdict::Promote, Reason::Certified),
];

fn apply<'a>(k: &mut Known<'a>, matter: &str) {
    match matter {
        "contract" => k.contract_violations = 1,
        "non-finite" => k.non_finite = 3,
        "crashes" => k.crashes = true,
        "assignment" => k.log_e_assignment = 10.0,
        "incomplete" => k.incomplete = Some("node 2"),
        "doubtful assignment" => k.log_e_assignment = k.log_e_assignment.max(5.0),
        "both arms" => (k.both_arms_fail, k.calm) = (true, Span::ZERO),
        "baseline alert" => k.baseline_alert = Some("p99"),
        "unmatched" => k.unmatched = Some("conversion"),
        "dwell" => k.calm = Span::ZERO,
        "ask" => k.mode = Mode::Ask,
        "little traffic" => k.expected_entities = 1999.0,
        _ => {}
    }
}

#[test]
fn the_first_matter_decides_in_all_combinations() {
    for set in 0u32..1 << (MATTERS.len() - 1) {
        let of = |name: &str| MATTERS.iter().position(|m| m.0 == name).is_some_and(|i| set & (1 << i) != 0);
        let mut criteria = [standing("errors"), standing("outcome conversion")];
        if of("harm") {
            criteria[1].log_e_worse = 6.0;
        }
        if of("uncertified") {
            criteria[0].certified = false;
        }
        let mut known = fine(&criteria);
        for (i, (name, ..)) in MATTERS.iter().enumerate() {
            if set & (1 << i) != 0 {
                apply(&mut known, name);
            }
        }
        let first = set.trailing_zeros().min(MATTERS.len() as u32 - 1) as usize;
        let judged = judge(&known);
        let (name, verdict, because) = MATTERS[first];
        assert_eq!((judged.verdict, judged.because), (verdict, because), "{name} of {set:b}: {}", judged.reason);
        // At the end of the time whoever only waits for evidence is inconclusive; nothing else changes.
        known.elapsed = known.max_duration;
        let waits = verdict == Verdict::Hold && because != Reason::Approval;
        let expected = if waits { Verdict::Inconclusive } else { verdict };
        assert_eq!(judge(&known).verdict, expected, "{name} of {set:b} at the end");
    }
}

#[test]
fn edges() {
    let judge_with = |change: &dyn Fn(&mut Standing)| {
        let mut s = standing("latency p95");
        change(&mut s);
        judge(&fine(&[s])).verdict
    };
    assert_eq!(judge_with(&|s| s.log_e_worse = 5.7), Verdict::Rollback);
    assert_eq!(judge_with(&|s| s.log_e_worse = 5.6999), Verdict::Promote);
    assert_eq!(judge_with(&|s| (s.log_e_worse, s.canary) = (50.0, 2)), Verdict::Promote, "two events are a fluke");
    assert_eq!(judge_with(&|s| (s.log_e_worse, s.canary_of) = (50.0, 0)), Verdict::Promote, "nobody was served");
    assert_eq!(judge_with(&|s| (s.required, s.certified) = (false, false)), Verdict::Promote);
    let criteria = [standing("errors")];
    let none = Known { canary_entities: 0, ..fine(&criteria) };
    assert_eq!(judge(&none).because, Reason::NoCanaryTraffic);
    // No canary answer at all, though some were due: told, but nobody is at risk.
    let lost = Known { log_e_assignment: 50.0, ..none };
    assert_eq!((judge(&lost).verdict, judge(&lost).because), (Verdict::Hold, Reason::NoCanaryTraffic));
    assert_eq!(judge(&Known { non_finite: 2, ..fine(&criteria) }).verdict, Verdict::Promote);
}

#[test]
fn the_worst_criterion_is_named() {
    let mut criteria = [standing("errors"), standing("latency p95"), standing("outcome conversion")];
    (criteria[1].log_e_worse, criteria[2].log_e_worse) = (7.0, 9.0);
    let reason = judge(&fine(&criteria)).reason;
    assert!(reason.starts_with("outcome conversion is worse"), "{reason}");
}
