use super::*;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use understudy_domain::prediction::{PredictionId, Verdict};
use understudy_domain::time::Timestamp;

fn feature(name: &str, kind: ValueType) -> SignatureFeature {
    SignatureFeature { name: name.into(), kind, nullable: true }
}

fn record(i: i64) -> PredictionRecord {
    let time = Timestamp(1_357_000_000_000_000 + i);
    let number = if i % 3 == 0 { Value::Null } else { Value::Float(i as f64 / 2.0) };
    let category = if i % 5 == 0 { Value::Null } else { Value::text(["UA", "B6", "Zürich"][(i % 3) as usize]) };
    PredictionRecord {
        id: PredictionId::new(time, i as u128),
        model: "delay".into(),
        version: "v1".into(),
        feature_set: "abc".into(),
        epoch: 7,
        placement: Default::default(),
        request_id: (i % 2 == 0).then(|| format!("r{i}")),
        time,
        entities: Default::default(),
        context: Default::default(),
        vector: vec![number, category, Value::Int(i), Value::Bool(i % 2 == 1)],
        ages: vec![None; 4],
        score: i as f64 / 1000.0,
        label: "on_time".into(),
        confidence: 1.0 - i as f64 / 1000.0,
        verdict: if i % 10 == 0 { Verdict::Flagged } else { Verdict::Valid },
        findings: Vec::new(),
        timing: Default::default(),
    }
}

/// The fields of a row by name.
fn named(row: &Row) -> HashMap<&str, &Field> {
    row.get_column_iter().map(|(name, field)| (name.as_str(), field)).collect()
}

/// A file of these records, read by the format's own reader.
fn written(features: &[SignatureFeature], names: &[&str], rows: i64, group: usize) -> SerializedFileReader<File> {
    let mut file = tempfile::tempfile().unwrap();
    let mut out = Export::new(&mut file, features, group).unwrap();
    for i in 0..rows {
        out.add(&record(i), &places(names, features)).unwrap();
    }
    assert_eq!(out.finish().unwrap(), rows as u64);
    SerializedFileReader::new(file).unwrap()
}

#[test]
fn a_thousand_rows_are_read_back_as_written() {
    use ValueType::{Bool, Category, Float, Int};
    let features = [feature("speed", Float), feature("carrier", Category), feature("n", Int), feature("late", Bool)];
    let reader = written(&features, &["speed", "carrier", "n", "late"], 1000, 300);
    let sizes: Vec<_> = reader.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(sizes, [300, 300, 300, 100], "row groups are bounded");
    let names: Vec<_> =
        reader.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name().to_string()).collect();
    let expected: Vec<_> = FIXED.iter().map(|f| f.0).chain(["speed", "carrier", "n", "late"]).collect();
    assert_eq!(names, expected);

    let text = |s: &str| Field::Str(s.into());
    let mut seen = 0;
    for (i, row) in reader.get_row_iter(None).unwrap().enumerate() {
        let (row, r) = (row.unwrap(), record(i as i64));
        let got = named(&row);
        assert_eq!(got["id"], &text(&r.id.to_string()));
        assert_eq!((got["model"], got["version"], got["feature_set"]), (&text("delay"), &text("v1"), &text("abc")));
        assert_eq!(got["epoch"], &Field::Long(7));
        assert_eq!(got["request_id"], &r.request_id.as_deref().map_or(Field::Null, text));
        assert_eq!(got["time"], &Field::TimestampMicros(r.time.0));
        assert_eq!((got["score"], got["confidence"]), (&Field::Double(r.score), &Field::Double(r.confidence)));
        assert_eq!(got["label"], &text("on_time"));
        assert_eq!(got["verdict"], &text(if i % 10 == 0 { "flagged" } else { "valid" }));
        assert_eq!(got["speed"], &if i % 3 == 0 { Field::Null } else { Field::Double(i as f64 / 2.0) });
        assert_eq!(got["carrier"], &if i % 5 == 0 { Field::Null } else { text(["UA", "B6", "Zürich"][i % 3]) });
        assert_eq!((got["n"], got["late"]), (&Field::Double(i as f64), &Field::Double((i % 2) as f64)));
        seen += 1;
    }
    assert_eq!(seen, 1000);
}

#[test]
fn versions_with_other_inputs_are_matched_by_name() {
    use ValueType::{Float, Int};
    // The served version swapped two inputs, has a new one, and `carrier` was a category before.
    let features = [feature("n", Int), feature("speed", Float), feature("new", Float), feature("carrier", Float)];
    let reader = written(&features, &["speed", "carrier", "n", "late"], 2, 10);
    let row = reader.get_row_iter(None).unwrap().nth(1).unwrap().unwrap();
    let got = named(&row);
    assert_eq!((got["n"], got["speed"]), (&Field::Double(1.0), &Field::Double(0.5)));
    assert_eq!((got["new"], got["carrier"]), (&Field::Null, &Field::Null));
}

#[test]
fn a_feature_that_is_called_like_a_column_keeps_both() {
    let features = [feature("score", ValueType::Category)];
    let reader = written(&features, &["x", "score"], 2, 10);
    let row = reader.get_row_iter(None).unwrap().nth(1).unwrap().unwrap();
    let got = named(&row);
    assert_eq!((got["score"], got["feature_score"]), (&Field::Double(0.001), &Field::Str("B6".into())));
}

#[test]
fn an_empty_log_is_a_file_without_rows() {
    let reader = written(&[feature("n", ValueType::Int)], &["n"], 0, 10);
    assert_eq!((reader.metadata().num_row_groups(), reader.get_row_iter(None).unwrap().count()), (0, 0));
}
