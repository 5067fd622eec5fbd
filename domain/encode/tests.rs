use super::*;
use crate::model::SignatureFeature;
use proptest::prelude::*;

fn signature() -> Signature {
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    Signature {
        features: vec![feature("x", ValueType::Float), feature("c", ValueType::Category)],
        positive_label: "yes".into(),
        negative_label: "no".into(),
    }
}

#[test]
fn missing_unseen_and_extreme_values_have_their_place() {
    let rows: Vec<Vec<Value>> = (0..1000)
        .map(|i| {
            vec![if i % 20 == 0 { Value::Null } else { Value::Float(f64::from(i)) }, ["a", "b"][i as usize % 2].into()]
        })
        .collect();
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let encoder = Encoder::fit(&signature(), &rows);
    assert_eq!((encoder.width(), encoder.features(), encoder.categories()), (4, 2, vec![(2, 2)]));
    let encode = |row: [Value; 2]| {
        let mut out = Vec::new();
        encoder.encode(&row, &mut out);
        out
    };
    let null = encode([Value::Null, "b".into()]);
    assert_eq!(&null[1..], [1.0, 0.0, 1.0]);
    let extreme = encode([Value::Float(1e12), "never seen".into()]);
    assert!(extreme[0] < 2.0, "clipped: {extreme:?}");
    assert_eq!(&extreme[1..], [0.0, 0.0, 0.0]);
    assert_eq!(encode(["wrong type".into(), Value::Null]), [null[0], 1.0, 0.0, 0.0]);
}

#[test]
fn a_column_is_flagged_above_one_percent_missing() {
    for (missing, flagged) in [(0, false), (10, false), (11, true)] {
        let rows: Vec<Vec<Value>> =
            (0..1000).map(|i| vec![if i < missing { Value::Null } else { Value::Int(i) }, "a".into()]).collect();
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        assert_eq!(Encoder::fit(&signature(), &rows).width(), 2 + usize::from(flagged), "{missing} of 1000");
    }
}

#[test]
fn encoders_that_would_answer_nonsense_are_refused() {
    let good = |low, high, std| Column::Numeric { median: 0.0, low, high, mean: 0.0, std, missing: false };
    let words = |w: &[&str]| Column::Category { vocabulary: w.iter().map(|s| (*s).to_string()).collect() };
    let table = [
        (vec![good(0.0, 1.0, 1.0), words(&["a", "b"])], ""),
        (vec![good(0.0, 1.0, 1.0)], "1 columns"),
        (vec![good(2.0, 1.0, 1.0), words(&["a"])], "`x` needs finite"),
        (vec![good(0.0, f64::NAN, 1.0), words(&["a"])], "`x` needs finite"),
        (vec![good(0.0, 1.0, 0.0), words(&["a"])], "`x` needs finite"),
        (vec![good(0.0, 1.0, 1.0), words(&["b", "a"])], "`c` needs a vocabulary"),
        (vec![good(0.0, 1.0, 1.0), words(&["a", "a"])], "`c` needs a vocabulary"),
        (vec![words(&["a"]), words(&["a"])], "`x` is a category"),
        (vec![good(0.0, 1.0, 1.0), good(0.0, 1.0, 1.0)], "`c` is numeric"),
    ];
    for (columns, expected) in table {
        let encoder = Encoder { columns: columns.clone() };
        match encoder.check(&signature()) {
            Ok(()) => assert_eq!(expected, "", "{columns:?}"),
            Err(e) => assert!(!expected.is_empty() && e.contains(expected), "{e}"),
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Vec<Value>>> {
    let x = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        (-100.0..100.0f64).prop_map(Value::Float),
        proptest::num::f64::NORMAL.prop_map(Value::Float),
        Just(Value::Float(f64::NAN)),
        Just(Value::Float(f64::INFINITY)),
    ];
    let c = prop_oneof![Just(Value::Null), "[a-d]".prop_map(|s| Value::text(&s))];
    proptest::collection::vec((x, c).prop_map(|(x, c)| vec![x, c]), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_row_becomes_width_finite_numbers(train in rows(), asked in rows()) {
        let slices: Vec<&[Value]> = train.iter().map(Vec::as_slice).collect();
        let encoder = Encoder::fit(&signature(), &slices);
        prop_assert_eq!(encoder.check(&signature()), Ok(()));
        for row in train.iter().chain(&asked) {
            let mut out = Vec::with_capacity(encoder.width());
            let room = out.capacity();
            encoder.encode(row, &mut out);
            prop_assert_eq!((out.len(), out.capacity()), (encoder.width(), room));
            prop_assert!(out.iter().all(|x| x.is_finite()), "{:?} -> {:?}", row, out);
            let (at, size) = encoder.categories()[0];
            let known = train.iter().any(|r| !r[1].is_null() && r[1] == row[1]);
            prop_assert_eq!(out[at..at + size].iter().sum::<f32>(), f32::from(u8::from(known)));
        }
    }

    #[test]
    fn a_larger_value_never_encodes_smaller(train in rows(), a in -1e3..1e3f64, b in -1e3..1e3f64) {
        let slices: Vec<&[Value]> = train.iter().map(Vec::as_slice).collect();
        let encoder = Encoder::fit(&signature(), &slices);
        let of = |x: f64| { let mut out = Vec::new(); encoder.encode(&[Value::Float(x), Value::Null], &mut out); out[0] };
        prop_assert!(of(a.min(b)) <= of(a.max(b)));
    }
}
