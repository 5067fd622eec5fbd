use super::*;

const DAY: Span = Span::days(1);

/// Days of rows whose true probability moves from day to day; both models err around it, and all answers of a day
/// share a part of their error, as days of weather do.
fn holdout(seed: u64, days: usize, per_day: usize, champion: f64, challenger: f64) -> Vec<Judged> {
    let mut r = Random::new(seed);
    let mut normal = {
        let mut r = Random::new(seed ^ 0xabcd);
        move || (0..12).map(|_| r.unit()).sum::<f64>() - 6.0
    };
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    let mut rows = Vec::new();
    for d in 0..days {
        let level = -1.2 + 0.6 * normal();
        let (shared_a, shared_b) = (normal(), normal());
        for _ in 0..per_day {
            let z = level + normal();
            let a = z + champion * (0.7 * shared_a + 0.7 * normal());
            let b = z + challenger * (0.7 * shared_b + 0.7 * normal());
            rows.push(Judged {
                time: Timestamp(0) + Span(d as i64 * DAY.0 + 1),
                label: r.unit() < sigmoid(z),
                champion: sigmoid(a),
                challenger: sigmoid(b),
            });
        }
    }
    rows
}

fn verdict(rows: &[Judged], kind: GateKind, challengers: usize) -> Verdict {
    judge(&Gate { kind, rows, slices: &[], challengers, seed: 5, bytes: (100, 100) }, 0.5)
}

fn share(runs: u64, mut passes: impl FnMut(u64) -> bool) -> f64 {
    (0..runs).filter(|s| passes(*s)).count() as f64 / runs as f64
}

fn failed(v: &Verdict) -> Vec<&str> {
    v.checks.iter().filter(|c| !c.passed).map(|c| c.name.as_str()).collect()
}

#[test]
fn an_equal_challenger_passes_as_rarely_as_promised() {
    // 200 runs: a true 5 % shows at most 16 with 95 %.
    for days in [7, 14] {
        let passed = share(200, |s| verdict(&holdout(s, days, 60, 0.5, 0.5), GateKind::Improve, 1).lower > 0.0);
        assert!(passed <= 0.08, "{days} days: {passed}");
    }
}

#[test]
fn a_better_challenger_passes_and_a_worse_one_does_not() {
    let better = share(60, |s| verdict(&holdout(s, 14, 150, 1.0, 0.3), GateKind::Improve, 2).passed);
    let worse = share(60, |s| verdict(&holdout(s, 14, 150, 0.3, 1.0), GateKind::Refresh, 1).passed);
    assert!(better >= 0.8, "{better}");
    assert!(worse == 0.0, "{worse}");
}

#[test]
fn more_challengers_on_a_holdout_need_more_evidence() {
    let rows = holdout(3, 10, 80, 0.6, 0.5);
    assert!(verdict(&rows, GateKind::Improve, 5).lower < verdict(&rows, GateKind::Improve, 1).lower);
}

#[test]
fn the_same_model_is_a_refresh_and_no_improvement() {
    let rows: Vec<Judged> =
        holdout(1, 8, 50, 0.4, 0.0).into_iter().map(|r| Judged { challenger: r.champion, ..r }).collect();
    assert!(verdict(&rows, GateKind::Refresh, 2).passed);
    assert_eq!(failed(&verdict(&rows, GateKind::Improve, 2)), ["loss"]);
}

#[test]
fn each_check_fails_alone() {
    let rows = holdout(2, 6, 150, 1.0, 0.1);
    assert_eq!(failed(&verdict(&rows, GateKind::Refresh, 1)), ["days"]);
    let rows = holdout(2, 12, 150, 1.0, 0.1);
    let of = |slices: &[(String, Vec<usize>)], bytes| {
        judge(&Gate { kind: GateKind::Improve, rows: &rows, slices, challengers: 1, seed: 5, bytes }, 0.5)
    };
    assert!(of(&[], (100, 150)).passed);
    assert_eq!(failed(&of(&[], (100, 151))), ["size"]);
    // A slice of the rows on which the challenger happened to be worse.
    let bad = (0..rows.len())
        .filter(|i| {
            let r = &rows[*i];
            log_loss_of(r.challenger, r.label) > 1.1 * log_loss_of(r.champion, r.label)
        })
        .collect::<Vec<_>>();
    let v = of(&[("carrier = XX".into(), bad)], (1, 1));
    assert_eq!(failed(&v), ["slices"]);
    assert!(v.checks.iter().any(|c| c.line.contains("carrier = XX")), "{v:?}");
    // Sharper and better, but pushed away from the rates that came.
    let biased: Vec<Judged> = rows
        .iter()
        .map(|r| Judged { champion: r.challenger, challenger: (r.challenger + 0.1).min(0.99), ..*r })
        .collect();
    assert!(failed(&verdict(&biased, GateKind::Refresh, 1)).contains(&"calibration"));
}

#[test]
fn slices_are_the_most_frequent_values_of_categories() {
    use crate::model::SignatureFeature;
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    let signature = Signature {
        features: vec![feature("carrier", ValueType::Category), feature("x", ValueType::Float)],
        positive_label: "y".into(),
        negative_label: "n".into(),
    };
    let rows: Vec<Vec<Value>> = (0..1000)
        .map(|i| {
            vec![
                Value::from(
                    ["AA", "BB", "CC"][if i < 500 {
                        0
                    } else if i < 900 {
                        1
                    } else {
                        2
                    }],
                ),
                Value::Float(0.0),
            ]
        })
        .collect();
    let slices = Gate::slices(&signature, rows.iter().map(Vec::as_slice));
    let found: Vec<(&str, usize)> = slices.iter().map(|(n, r)| (n.as_str(), r.len())).collect();
    assert_eq!(found, [("carrier = AA", 500), ("carrier = BB", 400)]);
}
