use super::super::train::{self, tests as rows};
use super::*;
use serde_json::json;

fn artefact(spec: &str) -> Artefact {
    train::train(rows::job(300, spec), &|_, _| ()).expect("training works")
}

#[test]
fn one_row_answers_as_in_a_batch() {
    for spec in [rows::LOGISTIC.to_owned(), rows::MLP.to_owned(), format!("{}\nembedding = 3", rows::MLP)] {
        let model = CandleModel::new(artefact(&spec)).unwrap();
        let mut job = rows::job(5000, &spec); // more than one part
        job.rows[0].vector = vec![Value::Null; 4];
        job.rows[1].vector[3] = "never seen".into();
        let asked: Vec<&[Value]> = job.rows.iter().map(|r| r.vector.as_slice()).collect();
        let batch = model.predict(&asked).unwrap();
        assert_eq!(batch.len(), asked.len());
        for (row, batch) in asked.iter().zip(&batch).take(200).chain(asked.iter().zip(&batch).skip(4900)) {
            let one = model.predict(&[row]).unwrap();
            assert!((one[0] - batch).abs() < 1e-6, "{} against {batch}", one[0]);
            assert!((0.0..=1.0).contains(batch));
        }
        assert_eq!(model.predict(&[]).unwrap(), Vec::<f64>::new());
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let model = CandleModel::new(artefact(rows::LOGISTIC)).unwrap();
    let good = vec![Value::Null; 4];
    let mut infinite = good.clone();
    infinite[1] = Value::Float(f64::INFINITY);
    let mut nan = good.clone();
    nan[0] = Value::Float(f64::NAN);
    assert!(model.predict(&[&good, &good[..3]]).unwrap_err().contains("row 1 has 3 features"));
    assert!(model.predict(&[&good, &infinite]).unwrap_err().contains("row 1: feature `x1`"));
    assert!(model.predict(&[&nan]).unwrap_err().contains("row 0: feature `x0`"));
}

#[test]
fn parts_that_do_not_fit_together_are_named() {
    type Change = fn(&mut Artefact);
    let table: [(Change, &str); 17] = [
        (|a| a.manifest.runtime = "onnx".into(), "runtime `onnx`"),
        (|a| a.manifest.threshold = f64::NAN, "threshold"),
        (|a| a.manifest.architecture["members"] = json!(0), "members = 0"),
        (|a| a.manifest.architecture["members"] = json!(3), "8 tensors"),
        (|a| a.manifest.architecture["members"] = json!(u64::MAX), "members"),
        (|a| a.manifest.architecture["hidden"] = json!([usize::MAX]), "hidden"),
        (|a| a.manifest.architecture["hidden"] = json!([8]), "member.0.layer.0.weight"),
        (|a| a.manifest.architecture["extra"] = json!(1), "extra"),
        (|a| a.manifest.architecture["encoder"]["columns"][0]["std"] = json!(0.0), "`x0` needs finite"),
        (|a| a.manifest.architecture["encoder"]["columns"][0]["low"] = json!(1e9), "`x0` needs finite"),
        (|a| a.manifest.calibration = Calibration::Platt { a: -1.0, b: 0.0 }, "calibration: platt"),
        (
            |a| a.manifest.calibration = Calibration::Isotonic { x: vec![0.5, 0.1], y: vec![0.1, 0.2] },
            "calibration: isotonic",
        ),
        (|a| drop(a.manifest.signature.features.pop()), "4 columns"),
        (|a| a.profile.features.swap(0, 1), "profile.json"),
        (|a| a.golden.clear(), "golden.jsonl is empty"),
        (|a| a.golden[3].score += 2e-6, "request 4: answers"),
        (|a| a.golden[0].score = f64::NAN, "request 1: answers"),
    ];
    let spec = "algorithm = \"mlp\"\nhidden = [4]\nmembers = 2\nmax_epochs = 1";
    assert!(CandleModel::new(artefact(spec)).is_ok());
    for (change, expected) in table {
        let mut changed = artefact(spec);
        change(&mut changed);
        let said = CandleModel::new(changed).err().unwrap_or_default();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
