//! Tree ensembles as versions, and the libraries' own models with the libraries' own answers
//! (`tests/models/make.py` trained and asked them).

use super::Registry;
use super::artefact::{Artefact, Golden};
use super::folder::Folder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use understudy_actors::ports::ModelLoader;
use understudy_domain::calibrate::Calibration;
use understudy_domain::model::{Manifest, Provenance, Signature, SignatureFeature};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::trees::import::Format;
use understudy_domain::value::{Value, ValueType};

/// Largest difference from the library's own answer, relative where that is above 1.
const TOLERANCE: f64 = 1e-6;

/// Every file of the archive, by name.
pub(super) fn golden() -> BTreeMap<String, Vec<u8>> {
    let packed = include_bytes!("../../tests/models/golden.tar.zst");
    let raw = zstd::decode_all(&packed[..]).unwrap();
    let mut archive = tar::Archive::new(&raw[..]);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

pub(super) fn csv(bytes: &[u8]) -> Vec<Vec<f64>> {
    let number = |x: &str| if x.is_empty() { f64::NAN } else { x.parse().unwrap() };
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().skip(1).map(|l| l.split(',').map(number).collect()).collect()
}

#[test]
fn answers_are_the_libraries_own_on_a_thousand_rows_each() {
    let files = golden();
    let mut seen = BTreeMap::new();
    for (name, bytes) in &files {
        let parts: Vec<&str> = name.split('.').collect();
        let Some(format) =
            Format::ALL.into_iter().find(|f| f.file().ends_with(&format!(".{}", parts[parts.len() - 1])))
        else {
            continue;
        };
        let [model, rows, _] = parts[..] else { continue };
        let (rows, expected) = (csv(&files[&format!("{rows}.csv")]), csv(&files[&format!("{model}.expected.csv")]));
        assert_eq!((rows.len(), expected.len()), (1000, 1000));
        let ensemble = format.read(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut scratch = Default::default();
        let mut batch = Vec::new();
        ensemble.predict_batch(&rows.concat(), &mut scratch, &mut batch);
        for (i, (row, expected)) in rows.iter().zip(&expected).enumerate() {
            let answer = ensemble.predict_one(row, &mut scratch);
            assert_eq!(answer, &batch[i * answer.len()..][..answer.len()], "{name} row {i}: one by one and together");
            // Libraries give the second of two probabilities alone.
            assert!(answer.len() == expected.len() || (answer.len(), expected.len()) == (2, 1), "{name}");
            for (a, e) in answer[answer.len() - expected.len()..].iter().zip(expected) {
                assert!((a - e).abs() <= TOLERANCE * e.abs().max(1.0), "{name} row {i}: {a}, expected {e}");
            }
        }
        *seen.entry(format.file()).or_insert(0) += 1;
    }
    let least = [("model.txt", 23), ("model.json", 18), ("model.ubj", 4), ("model.onnx", 20)];
    assert!(least.iter().all(|(file, n)| seen[file] >= *n), "{seen:?}");
}

/// Damage of the real files: refused or read, and what is read answers.
#[test]
fn damaged_binary_models_never_panic() {
    let files = golden();
    for name in
        ["xgboost-categories-ubj.rows.ubj", "onnx-forest-classes.filled.onnx", "onnx-lightgbm-categories.filled.onnx"]
    {
        let format = if name.ends_with("ubj") { Format::XgboostUbj } else { Format::Onnx };
        let good = &files[name];
        for i in 0..150 {
            let at = i * 7919 % good.len();
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (i % 8);
            for damaged in [&bytes[..], &bytes[..at]] {
                if let Ok(ensemble) = format.read(damaged) {
                    let row = vec![1.0; ensemble.features()];
                    ensemble.predict_one(&row, &mut Default::default());
                }
            }
        }
    }
}

/// `x <= 0.5` or missing is 1, else by category: b and c 2, others -3.
const MODEL: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\nobjective=binary sigmoid:1\n\n\
    Tree=0\nnum_leaves=3\nnum_cat=1\nsplit_feature=0 1\nthreshold=0.5 0\ndecision_type=10 1\nleft_child=-1 -2\n\
    right_child=1 -3\nleaf_value=1 2 -3\ncat_boundaries=0 1\ncat_threshold=6\nis_linear=0\n\n\nend of trees\n";

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn version() -> Artefact {
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    let signature = Signature {
        features: vec![feature("x", ValueType::Float), feature("c", ValueType::Category)],
        positive_label: "yes".into(),
        negative_label: "no".into(),
    };
    let rows: Vec<Vec<Value>> = vec![
        vec![Value::Float(0.5), "a".into()],
        vec![Value::Null, "a".into()],
        vec![Value::Float(0.6), "b".into()],
        vec![Value::Int(1), "c".into()],
        vec![Value::Float(0.6), "a".into()],
        vec![Value::Float(0.6), "unseen".into()],
        vec![Value::Float(0.6), Value::Null],
    ];
    let scores = [1.0, 1.0, 2.0, 2.0, -3.0, -3.0, -3.0].map(sigmoid);
    let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let profile = ReferenceProfile::build(&signature, slices.iter().copied(), &scores);
    let golden = rows.iter().zip(scores).map(|(r, score)| Golden { vector: r.clone(), score }).collect();
    let manifest = Manifest {
        declared_latency_us: None,
        manifest_version: 1,
        model: "m".into(),
        version: "v1".into(),
        runtime: "trees".into(),
        architecture: serde_json::json!({
            "format": "lightgbm",
            "inputs": [{"type": "number"}, {"type": "category", "order": ["a", "b", "c"]}],
        }),
        feature_set: "f".into(),
        signature,
        meanings: Default::default(),
        calibration: Calibration::None,
        threshold: 0.5,
        provenance: Provenance::default(),
        files: Vec::new(),
    };
    Artefact { manifest, weights: MODEL.into(), profile, golden }
}

fn load(artefact: Artefact, root: &Path) -> Result<f64, String> {
    let dir = root.join("m/v1");
    let _ = fs::remove_dir_all(&dir);
    artefact.write(&dir).unwrap();
    let loaded = Registry::new(root.to_owned()).load("m", "v1")?;
    assert!(loaded.bounded() && loaded.row_time().is_some());
    assert!(loaded.predict(&[&[Value::Null]]).unwrap_err().contains("1 features, the model takes 2"));
    Ok(loaded.predict(&[&[Value::Float(0.6), "b".into()]]).unwrap()[0])
}

#[test]
fn a_version_of_trees_is_written_loaded_and_asked() {
    let root = tempfile::tempdir().unwrap();
    assert!((load(version(), root.path()).unwrap() - sigmoid(2.0)).abs() < 1e-12);
    let dir = root.path().join("m/v1");
    assert!(dir.join("model.txt").exists());
    assert!(matches!(Folder::open(&dir).unwrap(), Folder::Served(_)));
    let registry = Registry::new(root.path().to_owned());
    assert!(registry.weigh("m", "v1").unwrap() >= MODEL.len() as u64);
    // Calibration is applied to the library's probability.
    let mut calibrated = version();
    calibrated.manifest.calibration = Calibration::Platt { a: 0.5, b: 0.0 };
    calibrated.golden.iter_mut().for_each(|g| g.score = sigmoid(0.5 * (g.score / (1.0 - g.score)).ln()));
    assert!((load(calibrated, root.path()).unwrap() - sigmoid(1.0)).abs() < 1e-9);
}

#[cfg(not(feature = "onnx"))]
#[test]
fn a_network_says_what_it_needs() {
    let root = tempfile::tempdir().unwrap();
    let mut network = version();
    network.manifest.runtime = "onnx".into();
    let said = load(network, root.path()).unwrap_err();
    assert!(said.contains("cargo build --release --features onnx"), "{said}");
}

#[test]
fn a_version_that_does_not_fit_is_refused_and_says_why() {
    type Change = fn(&mut Artefact);
    let table: [(Change, &str); 11] = [
        (|a| a.golden[2].score = 0.4, "golden.jsonl, request 3: answers 0.88"),
        (|a| a.golden.clear(), "golden.jsonl is empty"),
        (|a| a.weights.truncate(200), "model.txt: Tree=0: `leaf_value` is missing"),
        (
            |a| a.manifest.architecture["inputs"][1]["order"] = serde_json::json!(["a", "b", "b"]),
            "`c` needs an `order`",
        ),
        (|a| a.manifest.architecture["inputs"][1] = serde_json::json!({"type": "number"}), "`c` is a number"),
        (
            |a| a.manifest.architecture["inputs"][1] = serde_json::json!({"type": "one_hot", "order": ["a", "b"]}),
            "the inputs give 3 numbers, the model takes 2",
        ),
        (|a| drop(a.manifest.architecture["inputs"].as_array_mut().unwrap().pop()), "1 inputs, the signature has 2"),
        (|a| a.manifest.architecture["class"] = 2.into(), "class 2 of 1"),
        (|a| a.manifest.architecture["more"] = 1.into(), "unknown field `more`"),
        (|a| a.weights = MODEL.replace("binary sigmoid:1", "regression").into(), "the model predicts quantities"),
        (|a| a.manifest.threshold = 2.0, "threshold 2 is outside"),
    ];
    for (change, expected) in table {
        let root = tempfile::tempdir().unwrap();
        let mut artefact = version();
        change(&mut artefact);
        let said = load(artefact, root.path()).unwrap_err();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn one_class_of_several_can_be_served_and_quantities_can_be_asked() {
    let three = MODEL
        .replace("num_tree_per_iteration=1", "num_tree_per_iteration=3")
        .replace("binary sigmoid:1", "multiclass num_class:3");
    let one_leaf = |t: usize, v: f64| format!("Tree={t}\nnum_leaves=1\nnum_cat=0\nleaf_value={v}\n\n\n");
    let three = three.replace("end of trees", &format!("{}{}end of trees", one_leaf(1, 0.0), one_leaf(2, 1.0)));
    let root = tempfile::tempdir().unwrap();
    let of = |class: Option<usize>| {
        let mut artefact = version();
        artefact.weights = three.clone().into();
        if let Some(class) = class {
            artefact.manifest.architecture["class"] = class.into();
        }
        let z = |first: f64| {
            let all = [first.exp(), 1.0, 1f64.exp()];
            all[class.unwrap_or(0)] / all.iter().sum::<f64>()
        };
        artefact
            .golden
            .iter_mut()
            .zip([1.0, 1.0, 2.0, 2.0, -3.0, -3.0, -3.0])
            .for_each(|(g, first)| g.score = z(first));
        artefact
    };
    let e = [2f64.exp(), 1.0, 1f64.exp()];
    assert!((load(of(Some(2)), root.path()).unwrap() - e[2] / e.iter().sum::<f64>()).abs() < 1e-12);
    assert!(load(of(None), root.path()).unwrap_err().contains("say in `architecture` the `class`"));
    let Folder::Values { trees, .. } = Folder::open(&root.path().join("m/v1")).unwrap() else { panic!("is served") };
    assert_eq!(trees.ensemble().width(), 3);
}
