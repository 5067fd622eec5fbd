use super::*;
use std::sync::Mutex;
use understudy_actors::ports::TrainingRow;
use understudy_domain::model::SignatureFeature;
use understudy_domain::time::{Span, Timestamp};

use super::super::random::SplitMix;

/// Label: late in the day on bad days (an interaction), more often for carrier `b`; x2 is noise.
pub fn job(rows: usize, spec: &str) -> TrainingJob {
    let mut random = SplitMix(42);
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    let rows = (0..rows).map(|i| {
        let (x0, x1, x2) = (random.uniform(1.0), random.uniform(1.0), random.uniform(1.0));
        let b = random.uniform(1.0) > 0.0;
        let z = 6.0 * x0 * x1 + 3.0 * x0 + if b { 1.5 } else { -1.5 };
        let label = random.uniform(0.5) + 0.5 < 1.0 / (1.0 + (-z).exp());
        let first = if i % 9 == 0 { Value::Null } else { Value::Float(x0.into()) };
        TrainingRow {
            request_id: i.to_string(),
            time: Timestamp::default() + Span::seconds(i as i64),
            vector: vec![
                first,
                Value::Float(x1.into()),
                Value::Int((x2 * 100.0) as i64),
                if b { "b" } else { "a" }.into(),
            ],
            label,
        }
    });
    TrainingJob {
        model: "m".into(),
        spec: toml::from_str(spec).expect("a valid [train] table"),
        signature: Signature {
            features: vec![
                feature("x0", ValueType::Float),
                feature("x1", ValueType::Float),
                feature("x2", ValueType::Int),
                feature("c", ValueType::Category),
            ],
            positive_label: "yes".into(),
            negative_label: "no".into(),
        },
        feature_set: "f".into(),
        meanings: Default::default(),
        drift: Default::default(),
        threshold: 0.5,
        created: Timestamp::default(),
        rows: rows.collect(),
    }
}

pub const LOGISTIC: &str =
    "algorithm = \"logistic\"\nmax_epochs = 30\nlearning_rate = 0.02\nbatch = 64\nheld_out = 0.3";
pub const MLP: &str = "algorithm = \"mlp\"\nhidden = [16, 8]\nmax_epochs = 30\nlearning_rate = 0.01\nbatch = 64\nheld_out = 0.3\nmembers = 2";

fn run(rows: usize, spec: &str) -> Artefact {
    train(job(rows, spec), &|_, _| ()).expect("training works")
}

#[test]
fn both_algorithms_learn_and_the_network_sees_the_interaction() {
    let auc = |spec: &str| run(1500, spec).manifest.provenance.held_out["auc"];
    let (linear, network) = (auc(LOGISTIC), auc(MLP));
    assert!(linear > 0.75, "{linear}");
    assert!(network > linear + 0.02, "{network} against {linear}");
    let embedded = auc(&format!("{MLP}\nembedding = 2"));
    assert!(embedded > linear + 0.02, "{embedded}");
}

#[test]
fn same_seed_and_rows_give_the_same_bytes_and_another_seed_does_not() {
    let of = |seed: u64| run(300, &format!("{MLP}\nseed = {seed}"));
    let (a, b, c) = (of(1), of(1), of(2));
    assert_eq!(a.weights, b.weights);
    assert_eq!(a.manifest, b.manifest);
    assert_eq!(a.golden, b.golden);
    assert_ne!(a.weights, c.weights);
}

#[test]
fn training_stops_when_the_held_out_loss_stops_falling() {
    let said = Mutex::new(Vec::new());
    // So few rows that a wide network knows them by heart soon.
    let spec = "algorithm = \"mlp\"\nhidden = [64]\nmax_epochs = 200\npatience = 3\nlearning_rate = 0.02\nbatch = 16\nheld_out = 0.3";
    train(job(200, spec), &|share, text| said.lock().unwrap().push((share, text.to_owned()))).unwrap();
    let said = said.into_inner().unwrap();
    let losses: Vec<f64> = said.iter().filter_map(|(_, t)| t.split("log loss ").nth(1)?.parse().ok()).collect();
    assert!(losses.len() < 200, "stopped after {}", losses.len());
    let best = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert!((losses.len() - 1 - best).abs_diff(3) <= 1, "best {best} of {losses:?}");
    // The final network is trained for the best number of epochs, to which rounded losses may tie.
    let last = &said.last().unwrap();
    assert_eq!(last.0, 1.0);
    let final_epochs: usize = last.1.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(final_epochs + 3, losses.len(), "{}", last.1);
    assert!(said.windows(2).all(|w| w[0].0 <= w[1].0), "progress never goes back");
}

#[test]
fn calibration_repairs_balanced_class_weights() {
    let rare = |spec: &str| {
        let mut job = job(1500, spec);
        let mut positives = 0;
        job.rows.retain(|r| {
            positives += usize::from(r.label);
            !r.label || positives % 4 == 0
        });
        let share = job.rows.iter().filter(|r| r.label).count() as f64 / job.rows.len() as f64;
        let artefact = train(job, &|_, _| ()).unwrap();
        (artefact.profile.scores[9], artefact.manifest.provenance.held_out["ece"], share)
    };
    let balanced = format!("{LOGISTIC}\nclass_weight = \"balanced\"");
    let (_, raw, _) = rare(&format!("{balanced}\ncalibration = \"none\""));
    for method in ["platt", "isotonic"] {
        let (_, ece, share) = rare(&format!("{balanced}\ncalibration = \"{method}\""));
        assert!(raw > 0.1 && ece < raw / 2.0, "{method}: {ece} against {raw} at {share} positive");
    }
}

#[test]
fn what_cannot_be_trained_is_said() {
    type Change = fn(&mut TrainingJob);
    let table: [(Change, &str); 13] = [
        (|j| j.rows.truncate(20), "20 labelled rows"),
        (|j| j.rows.iter_mut().for_each(|r| r.label = true), "with both labels"),
        (|j| drop(j.rows[7].vector.pop()), "row 7 has 3 values"),
        (|j| j.rows.swap(3, 9), "in order of time"),
        (|j| j.rows[5].vector[1] = "text".into(), "row 5: feature `x1`"),
        (|j| j.rows[5].vector[1] = Value::Float(f64::NAN), "row 5: feature `x1`"),
        (|j| j.rows[5].vector[3] = Value::Int(1), "row 5: feature `c`"),
        (|j| j.spec.learning_rate = -1.0, "`learning_rate`"),
        (|j| j.spec.learning_rate = 1e30, "diverged"),
        (|j| j.spec.held_out = 0.9, "`held_out`"),
        (|j| j.spec.batch = 0, "`batch`"),
        (|j| j.spec.hidden.clear(), "`hidden`"),
        (|j| j.spec.from = Some(Timestamp::default() + Span::days(9)), "0 labelled rows"),
    ];
    for (change, expected) in table {
        let mut job = job(200, MLP);
        change(&mut job);
        let said = train(job, &|_, _| ()).err().unwrap_or_default();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn rows_before_from_are_not_used() {
    let from = Timestamp::default() + Span::seconds(100);
    let mut all = job(300, LOGISTIC);
    let mut late = job(300, LOGISTIC);
    all.spec.from = Some(from);
    late.rows.retain(|r| r.time >= from);
    let (all, late) = (train(all, &|_, _| ()).unwrap(), train(late, &|_, _| ()).unwrap());
    assert_eq!((all.weights, all.manifest.provenance.rows), (late.weights, 200));
}
