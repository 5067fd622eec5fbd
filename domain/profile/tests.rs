use super::*;
use crate::model::SignatureFeature;

fn signature() -> Signature {
    let f = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    Signature {
        features: vec![f("x", ValueType::Float), f("b", ValueType::Bool), f("t", ValueType::Category)],
        positive_label: "yes".into(),
        negative_label: "no".into(),
    }
}

fn rows(n: i64) -> Vec<Vec<Value>> {
    (0..n)
        .map(|i| {
            let x = if i % 10 == 9 { Value::Null } else { Value::Float((i * 7919 % n) as f64) };
            vec![x, Value::Bool(i % 4 == 0), Value::text(if i % 3 == 0 { "a" } else { "b" })]
        })
        .collect()
}

#[test]
fn counts_moments_and_quantiles() {
    let rows = rows(1000);
    let p = ReferenceProfile::build(&signature(), rows.iter().map(Vec::as_slice), &[0.1, 0.2, 0.3]);
    assert_eq!((p.rows, p.features[0].nulls, p.scores.len()), (1000, 100, QUANTILES.len()));
    assert_eq!((p.scores[0], p.scores[9], p.scores[18]), (0.1, 0.2, 0.3));
    let ProfileKind::Numeric { mean, quantiles, .. } = &p.features[1].kind else { panic!("bool is numeric") };
    assert!((mean - 0.25).abs() < 1e-12);
    assert_eq!((quantiles[9], quantiles[13]), (0.0, 1.0));
    let ProfileKind::Category { counts } = &p.features[2].kind else { panic!("text is a category") };
    assert_eq!((counts["a"], counts["b"], p.features[2].others(p.rows)), (334, 666, 0));
}

#[test]
fn no_more_of_the_sample_lies_beyond_a_quantile_than_its_name_says() {
    for n in [1usize, 2, 7, 100, 1000, 12_345] {
        let xs: Vec<f64> = (0..n).map(|i| ((i * 7919) % n) as f64).collect();
        let grid = grid(xs.clone());
        for (q, bound) in QUANTILES.iter().zip(&grid) {
            let beyond = xs.iter().filter(|x| if *q < 0.5 { *x < bound } else { *x > bound }).count();
            assert!(beyond as f64 <= n as f64 * q.min(1.0 - q) + 1e-6, "n {n}, q {q}: {beyond}");
        }
    }
}

#[test]
fn deterministic_and_round_trips() {
    let mut rows = rows(500);
    let build = |rows: &[Vec<Value>]| ReferenceProfile::build(&signature(), rows.iter().map(Vec::as_slice), &[0.5]);
    let p = build(&rows);
    let json = serde_json::to_string(&p).unwrap();
    assert_eq!(serde_json::from_str::<ReferenceProfile>(&json).unwrap(), p);
    rows.reverse();
    let (a, b) = (build(&rows), p);
    assert_eq!((a.rows, &a.scores, &a.features[2]), (b.rows, &b.scores, &b.features[2]));
}

#[test]
fn categories_beyond_the_cap_are_counted_together() {
    let rows: Vec<Vec<Value>> =
        (0..MAX_CATEGORIES + 50).map(|i| vec![Value::Null, Value::Null, Value::text(&format!("c{i:06}"))]).collect();
    let p = ReferenceProfile::build(&signature(), rows.iter().map(Vec::as_slice), &[]);
    let ProfileKind::Category { counts } = &p.features[2].kind else { panic!() };
    assert_eq!((counts.len(), p.features[2].others(p.rows)), (MAX_CATEGORIES, 50));
    assert!(matches!(&p.features[0].kind, ProfileKind::Numeric { quantiles, .. } if quantiles.is_empty()));
}
