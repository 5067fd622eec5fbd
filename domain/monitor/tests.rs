use super::*;
use crate::join::Change;
use crate::prediction::{Finding, Placement, Policy, PredictionId, Timing, Verdict};
use crate::value::Value;

fn at(hours: i64) -> Timestamp {
    Timestamp(0) + Span::hours(hours)
}

fn monitor(keep: usize) -> Monitor {
    let spec = MonitorSpec { window: Span::hours(1), keep };
    Monitor::new("m", spec, vec!["x".into(), "y".into()], Some(Span::hours(2)))
}

fn record(time: Timestamp, score: f64, verdict: Verdict) -> PredictionRecord {
    PredictionRecord {
        placement: Placement::default(),
        id: PredictionId::new(time, 1),
        model: "m".into(),
        version: "v1".into(),
        feature_set: "f".into(),
        epoch: 1,
        request_id: None,
        time,
        entities: Default::default(),
        context: Default::default(),
        vector: vec![Value::Null, Value::Float(1.0)],
        ages: vec![None, None],
        score,
        label: "late".into(),
        confidence: score,
        verdict,
        findings: vec![],
        timing: Timing { model_us: 100, total_us: 400, ..Timing::default() },
    }
}

fn joined(time: Timestamp, score: f64, change: Change) -> Joined {
    Joined { model: "m".into(), version: "v1".into(), id: PredictionId::new(time, 1), time, score, change }
}

fn all(m: &Monitor) -> MonitorReport {
    m.report(None, None, at(4))
}

#[test]
fn counts_a_window() {
    let mut m = monitor(10);
    m.on_served(&record(at(0), 0.31, Verdict::Valid));
    let finding = Finding {
        rule: "rule.a".into(),
        feature: None,
        value: Value::Null,
        expected: "b".into(),
        policy: Policy::Reject,
    };
    m.on_served(&PredictionRecord { findings: vec![finding], ..record(at(0), 0.0, Verdict::Rejected) });
    m.on_error(at(0), "overloaded");
    m.on_expired(at(0));
    m.on_served(&record(at(2), 0.9, Verdict::Valid));
    let r = all(&m);
    assert_eq!(
        r.windows.iter().map(|w| (w.start, w.end, w.mature)).collect::<Vec<_>>(),
        [(at(0), at(1), true), (at(2), at(3), false)]
    );
    let w = &r.windows[0];
    assert_eq!((w.requests, w.errors["overloaded"], w.verdicts["rejected"], w.findings["rule.a"]), (3, 1, 1, 1));
    assert_eq!((w.nulls[0].nulls, w.nulls[0].share, w.nulls[1].nulls), (2, 1.0, 0));
    assert_eq!((w.scores.n, w.scores.histogram[6], w.versions["v1"], w.labels["late"]), (1, 1, 1, 1));
    assert!((w.scores.mean - 0.31).abs() < 1e-9 && (w.rate_per_s - 3.0 / 3600.0).abs() < 1e-12);
    assert_eq!((w.outcomes.expired, w.quality), (1, None));
    assert_eq!(w.timing.unwrap().total.p99_us, 400);
    assert_eq!((r.total.requests, r.total.mature, r.total.start, r.total.end), (4, false, at(0), at(3)));
    assert_eq!(m.report(Some(at(2)), Some(at(3)), at(4)).total.requests, 1, "only what was asked for");
    assert_eq!(m.report(Some(at(3)), Some(at(2)), at(4)).windows, []);
    let json = serde_json::to_string(&r.clone().without_timing()).unwrap();
    assert!(!json.contains("timing"));
    assert_eq!(serde_json::from_str::<MonitorReport>(&serde_json::to_string(&r).unwrap()).unwrap(), r);
}

#[test]
fn amended_outcomes_leave_the_figures_of_the_last_word() {
    let (mut m, mut plain) = (monitor(10), monitor(10));
    for c in [
        Change::Matured { label: false },
        Change::Amended { from: Some(false), to: true },
        Change::Voided { was: Some(true) },
        Change::Amended { from: None, to: true },
    ] {
        m.on_joined(&joined(at(0), 0.8, c));
    }
    m.on_joined(&joined(at(0), 0.4, Change::Voided { was: None }));
    plain.on_joined(&joined(at(0), 0.8, Change::Matured { label: true }));
    let (r, p) = (all(&m).total, all(&plain).total);
    assert_eq!((r.outcomes.matured, r.outcomes.voided, r.outcomes.amended), (1, 1, 3));
    assert_eq!((r.quality, &r.quality_by_version), (p.quality, &p.quality_by_version));
}

#[test]
fn keeps_the_newest_windows() {
    let mut m = monitor(2);
    for h in [0, 1, 2, 0] {
        m.on_error(at(h), "x");
    }
    let r = all(&m);
    assert_eq!((r.windows.len(), r.windows[0].start, r.too_old), (2, at(1), 1));
}

#[test]
fn names_are_bounded_and_order_does_not_matter() {
    let (mut a, mut b) = (monitor(10), monitor(10));
    for i in 0..1_000 {
        a.on_error(at(0), &format!("code{i}"));
    }
    let errors = &all(&a).total.errors;
    assert!(errors.len() <= 65 && errors["other"] == 936, "{}", errors.len());
    let records: Vec<_> = (0..50).map(|i| record(at(i % 3), i as f64 / 50.0, Verdict::Valid)).collect();
    let mut c = monitor(10);
    records.iter().for_each(|r| b.on_served(r));
    records.iter().rev().for_each(|r| c.on_served(r));
    assert_eq!(serde_json::to_string(&all(&b)).unwrap(), serde_json::to_string(&all(&c)).unwrap());
}
