use super::*;
use crate::runtime::Registry;
use crate::runtime::train::tests::{LOGISTIC, job};
use understudy_actors::ports::{ModelLoader, Trainer};
use understudy_domain::calibrate::Calibration;

/// The rows of `job` whose labels come true more often than what was learnt says.
fn shifted(rows: usize) -> TrainingJob {
    let mut j = job(rows, LOGISTIC);
    for (i, row) in j.rows.iter_mut().enumerate() {
        row.label |= i % 3 == 0;
    }
    j
}

#[test]
fn a_recalibrated_version_keeps_its_weights_and_gives_the_rates_that_came() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(dir.path().into());
    let base = registry.train(job(900, LOGISTIC), &|_, _| ()).unwrap();
    let rows = shifted(1200).rows;
    let c = registry.recalibrate(shifted(1200), &base.version).unwrap();
    let vectors: Vec<&[Value]> = rows.iter().map(|r| r.vector.as_slice()).collect();
    let scores = c.runtime.predict(&vectors).unwrap();
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let rate = rows.iter().filter(|r| r.label).count() as f64 / rows.len() as f64;
    assert!((mean - rate).abs() < 0.01, "{mean} {rate}");
    assert!(registry.versions("m").unwrap() == ["v1"], "nothing is registered before it passed");
    // Twice the same is one version.
    let again = registry.recalibrate(shifted(1200), &base.version).unwrap();
    let (a, b) = (registry.publish(c).unwrap(), registry.publish(again).unwrap());
    assert_eq!((a.version.as_str(), b.version.as_str()), ("v2", "v2"));
    assert_eq!(registry.versions("m").unwrap(), ["v1", "v2"]);
    assert!(matches!(a.calibration, Calibration::Platt { .. }));
    assert_ne!(a.calibration, base.calibration);
    assert_eq!(a.provenance.until, base.provenance.until);
    assert_eq!(a.provenance.recalibrated_on, 1200);
    let weights = |v: &str| std::fs::read(dir.path().join("m").join(v).join("model.safetensors")).unwrap();
    assert_eq!(weights("v1"), weights("v2"));
    registry.load("m", "v2").unwrap();
}

#[test]
fn too_few_rows_of_one_label_make_no_calibration() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(dir.path().into());
    let base = registry.train(job(300, LOGISTIC), &|_, _| ()).unwrap();
    let few = registry.recalibrate(job(499, LOGISTIC), &base.version).err().unwrap();
    assert!(few.contains("499 matured rows"), "{few}");
    let mut one = job(600, LOGISTIC);
    one.rows.iter_mut().for_each(|r| r.label = true);
    assert!(registry.recalibrate(one, &base.version).is_err());
}

#[test]
fn a_hash_tells_rows_apart_that_differ_in_one_bit() {
    let of = |change: &dyn Fn(&mut TrainingRow)| {
        let mut rows = job(3, LOGISTIC).rows;
        change(&mut rows[1]);
        data_hash(&rows)
    };
    let same = of(&|_| ());
    assert_eq!(same, of(&|_| ()));
    assert_eq!(same.len(), 64);
    for change in [
        &(|r: &mut TrainingRow| r.label = !r.label) as &dyn Fn(&mut TrainingRow),
        &|r| r.time.0 += 1,
        &|r| r.request_id.push('x'),
        &|r| r.vector[0] = Value::Null,
        &|r| r.vector[2] = Value::Bool(true),
    ] {
        assert_ne!(same, of(change));
    }
}
