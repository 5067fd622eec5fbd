//! A network as a version, beside onnxruntime's answers (`tests/models/network.py` made both).

use super::*;
use crate::runtime::Registry;
use crate::runtime::artefact::{Golden, ONNX};
use crate::runtime::trees_tests::{csv, golden};
use std::path::Path;
use understudy_actors::ports::ModelLoader;
use understudy_domain::calibrate::Calibration;
use understudy_domain::model::{Provenance, Signature, SignatureFeature};
use understudy_domain::value::ValueType;

const NETWORK: &[u8] = include_bytes!("../../tests/models/network.onnx");
const EXPECTED: &[u8] = include_bytes!("../../tests/models/network.expected.csv");

fn rows() -> Vec<Vec<Value>> {
    csv(&golden()["filled.csv"]).into_iter().map(|row| row.into_iter().map(Value::Float).collect()).collect()
}

fn version(rows: &[Vec<Value>]) -> Artefact {
    let expected = csv(EXPECTED).concat();
    let feature = |i| SignatureFeature { name: format!("f{i}"), kind: ValueType::Float, nullable: false };
    let width = rows[0].len();
    let signature = Signature {
        features: (0..width).map(feature).collect(),
        positive_label: "late".into(),
        negative_label: "on_time".into(),
    };
    let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let profile = ReferenceProfile::build(&signature, slices.iter().copied(), &expected);
    let golden = rows.iter().zip(&expected).take(20);
    let golden = golden.map(|(r, score)| Golden { vector: r.clone(), score: *score }).collect();
    let inputs = vec![serde_json::json!({"type": "number"}); width];
    let manifest = Manifest {
        declared_latency_us: None,
        manifest_version: 1,
        model: "m".into(),
        version: "v1".into(),
        runtime: ONNX.into(),
        architecture: serde_json::json!({"inputs": inputs, "answer": "logit"}),
        feature_set: "f".into(),
        signature,
        meanings: Default::default(),
        calibration: Calibration::None,
        threshold: 0.5,
        provenance: Provenance::default(),
        files: Vec::new(),
    };
    Artefact { manifest, weights: NETWORK.into(), profile, golden }
}

fn load(artefact: Artefact, root: &Path) -> Result<std::sync::Arc<dyn ModelRuntime>, String> {
    let dir = root.join("m/v1");
    let _ = std::fs::remove_dir_all(&dir);
    artefact.write(&dir).unwrap();
    Registry::new(root.to_owned()).load("m", "v1")
}

#[test]
fn a_network_answers_as_onnxruntime_does_on_a_thousand_rows() {
    let root = tempfile::tempdir().unwrap();
    let (rows, expected) = (rows(), csv(EXPECTED).concat());
    let network = load(version(&rows), root.path()).unwrap();
    assert!(root.path().join("m/v1/model.onnx").exists());
    assert!(!network.bounded(), "its time is not known from what it is made of");
    let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let together = network.predict(&slices).unwrap();
    for (i, (score, expected)) in together.iter().zip(&expected).enumerate() {
        assert!((score - expected).abs() <= 1e-6, "row {i}: {score}, expected {expected}");
    }
    for i in (0..1000).step_by(97) {
        assert!((network.predict(&slices[i..=i]).unwrap()[0] - together[i]).abs() < 1e-6, "row {i} alone");
    }
}

#[test]
fn a_network_that_does_not_fit_is_refused_and_says_why() {
    type Change = fn(&mut Artefact);
    let table: [(Change, &str); 8] = [
        (|a| a.golden[2].score = 0.4, "golden.jsonl, request 3"),
        (|a| a.weights.truncate(2000), "model.onnx: "),
        (|a| a.weights = b"not a network".to_vec(), "model.onnx: "),
        (|a| drop(a.manifest.architecture["inputs"].as_array_mut().unwrap().pop()), "inputs, the signature has"),
        (|a| a.manifest.architecture["output"] = 7.into(), "output 7 of 1"),
        (|a| a.manifest.architecture["class"] = 2.into(), "class 2 of 1"),
        (|a| a.manifest.architecture["answer"] = "probability".into(), "say in `answer` whether it is a logit"),
        (|a| a.manifest.architecture["more"] = 1.into(), "unknown field `more`"),
    ];
    let rows = rows();
    for (change, expected) in table {
        let root = tempfile::tempdir().unwrap();
        let mut artefact = version(&rows);
        change(&mut artefact);
        let said = load(artefact, root.path()).err().unwrap_or_default();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// Damage of a real file: refused, or read and answering; never a panic.
#[test]
fn damaged_networks_never_panic() {
    for at in (0..NETWORK.len()).step_by(61) {
        let mut bad = NETWORK.to_vec();
        bad[at] ^= 0x15;
        let _ = read(&bad);
        let _ = read(&NETWORK[..at]);
    }
}
