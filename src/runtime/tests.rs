//! The trainer, the artefact and the runtime, on small made-up rows.

use super::Registry;
use std::fs;
use std::path::Path;
use understudy_actors::ports::{ModelLoader, Trainer, TrainingJob, TrainingRow};
use understudy_domain::metrics;
use understudy_domain::model::{Signature, SignatureFeature};
use understudy_domain::project::{ModelSpec, TrainSpec};
use understudy_domain::time::Timestamp;
use understudy_domain::value::{Value, ValueType};

/// Rows whose label follows x and the category, with some noise; seeded by the row number.
fn rows(n: usize) -> Vec<TrainingRow> {
    (0..n)
        .map(|i| {
            let h = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (x, noise) = ((h >> 40) as f64 / (1 << 24) as f64, (h >> 16 & 0xffff) as f64 / 65536.0);
            let category = ["a", "b", "c"][i % 3];
            let label = x + if category == "b" { 0.4 } else { 0.0 } + 0.5 * noise > 0.9;
            let first = if i % 11 == 0 { Value::Null } else { Value::Float(x) };
            let time = Timestamp(i as i64 * 1_000_000);
            TrainingRow { request_id: i.to_string(), time, vector: vec![first, category.into()], label }
        })
        .collect()
}

fn job(train: &str, rows: Vec<TrainingRow>) -> TrainingJob {
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    let spec: ModelSpec = toml::from_str(&format!("name = \"m\"\nfeatures = []\n[train]\n{train}")).unwrap();
    let spec: TrainSpec = spec.train.unwrap();
    TrainingJob {
        model: "m".into(),
        spec,
        signature: Signature {
            features: vec![feature("x", ValueType::Float), feature("c", ValueType::Category)],
            positive_label: "yes".into(),
            negative_label: "no".into(),
        },
        feature_set: "f".into(),
        meanings: Default::default(),
        drift: Default::default(),
        threshold: 0.5,
        created: Timestamp(0),
        rows,
    }
}

const LOGISTIC: &str = "algorithm = \"logistic\"\nlearning_rate = 0.02\nbatch = 64\nmax_epochs = 30";
const MLP: &str = "algorithm = \"mlp\"\nhidden = [8, 4]\nembedding = 2\nmembers = 2\nlearning_rate = 0.02\nbatch = 64\n\
                   calibration = \"isotonic\"\nclass_weight = \"balanced\"";

fn train(root: &Path, settings: &str, n: usize) -> Result<String, String> {
    Registry::new(root.to_owned()).train(job(settings, rows(n)), &|_, _| {}).map(|m| m.version)
}

#[test]
fn both_kinds_learn_and_one_row_equals_the_batch() {
    for settings in [LOGISTIC, MLP] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(train(dir.path(), settings, 2000).unwrap(), "v1");
        let model = Registry::new(dir.path().to_owned()).load("m", "v1").unwrap();
        let all = rows(2500);
        let fresh: Vec<&[Value]> = all[2000..].iter().map(|r| r.vector.as_slice()).collect();
        let labels: Vec<bool> = all[2000..].iter().map(|r| r.label).collect();
        let batch = model.predict(&fresh).unwrap();
        assert!(metrics::auc(&batch, &labels).unwrap() > 0.85, "{settings}");
        assert!(metrics::log_loss(&batch, &labels) < 0.5, "{settings}");
        for (row, p) in fresh.iter().zip(&batch) {
            assert!((model.predict(&[row]).unwrap()[0] - p).abs() < 1e-6);
        }
        assert!(model.predict(&[&[Value::Null]]).unwrap_err().contains("1 features"));
    }
}

#[test]
fn same_seed_and_rows_give_the_same_bytes() {
    let weights = |settings: &str| {
        let dir = tempfile::tempdir().unwrap();
        train(dir.path(), settings, 600).unwrap();
        fs::read(dir.path().join("m/v1/model.safetensors")).unwrap()
    };
    assert_eq!(weights(MLP), weights(MLP));
    assert_ne!(weights(MLP), weights(&format!("{MLP}\nseed = 2")));
}

#[test]
fn too_few_rows_or_one_label_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(train(dir.path(), LOGISTIC, 20).unwrap_err().contains("at least 50"));
    let one_sided = rows(500).into_iter().filter(|r| r.label).collect();
    let registry = Registry::new(dir.path().to_owned());
    assert!(registry.train(job(LOGISTIC, one_sided), &|_, _| {}).unwrap_err().contains("both labels"));
    assert_eq!(registry.versions("m").unwrap(), Vec::<String>::new());
}

#[test]
fn a_damaged_artefact_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), LOGISTIC, 300).unwrap();
    let version = dir.path().join("m/v1");
    let refused = |what: &str, damage: &dyn Fn(&Path), expected: &str| {
        let copy = tempfile::tempdir().unwrap();
        let to = copy.path().join("m/v1");
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(&version).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        damage(&to);
        let error = Registry::new(copy.path().to_owned()).load("m", "v1").err().expect(what);
        assert!(error.contains(expected), "{what}: {error}");
    };
    for name in ["model.safetensors", "profile.json", "golden.jsonl"] {
        refused("missing", &|d| fs::remove_file(d.join(name)).unwrap(), name);
        refused("cut", &|d| cut(&d.join(name)), "the manifest says");
        refused("flipped", &|d| flip(&d.join(name)), "sha256");
    }
    refused("no manifest", &|d| fs::remove_file(d.join("manifest.json")).unwrap(), "manifest.json");
    refused("cut manifest", &|d| cut(&d.join("manifest.json")), "manifest.json");
    refused("other runtime", &|d| replace(&d.join("manifest.json"), "\"candle\"", "\"pickle\""), "pickle");
    refused(
        "newer manifest",
        &|d| replace(&d.join("manifest.json"), "\"manifest_version\": 1", "\"manifest_version\": 2"),
        "newer",
    );
    assert!(Registry::new(dir.path().to_owned()).load("../m", "v1").is_err());
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}
