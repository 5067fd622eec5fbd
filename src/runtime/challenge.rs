//! Challengers: trained or recalibrated versions that are registered nowhere until they have passed their gate.

use super::artefact::{Artefact, Golden};
use super::candle::CandleModel;
use super::network::{Architecture, Network, encode};
use super::train;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use understudy_actors::ports::{Challenger, Progress, TrainingJob, TrainingRow};
use understudy_domain::calibrate::fit_platt;
use understudy_domain::metrics;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::value::Value;

/// Fewer matured rows than this say too little about a calibration.
const MIN_ROWS: usize = 500;
/// Rows encoded at once.
const BATCH: usize = 4096;

/// Trains as for a version, and stops before registering.
pub fn prepare(job: TrainingJob, progress: Progress<'_>) -> Result<Challenger, String> {
    challenger(train::train(job, progress)?)
}

fn challenger(artefact: Artefact) -> Result<Challenger, String> {
    // Answers its own golden requests here, as it will have to when it is loaded.
    let runtime = CandleModel::new(artefact.clone())?;
    Ok(Challenger { runtime: Arc::new(runtime), content: Box::new(artefact) })
}

/// What `prepare` or `recalibrate` made.
pub fn artefact(challenger: Challenger) -> Result<Artefact, String> {
    challenger.content.downcast::<Artefact>().map(|a| *a).map_err(|_| "another trainer made this challenger".into())
}

/// The version in `dir` with Platt's scaling of its raw scores fitted to the job's rows (Platt 1999): the weights, what
/// they learnt from and the profile of it stay; the recorded scores are those of the new calibration.
pub fn recalibrate(job: TrainingJob, dir: &Path) -> Result<Challenger, String> {
    let base = Artefact::read(dir)?;
    if base.manifest.runtime != "candle" {
        return Err(format!("recalibration of a version that runs on `{}` is not built", base.manifest.runtime));
    }
    if base.manifest.signature != job.signature {
        return Err("the model's features are not those of the version that serves".into());
    }
    let labels: Vec<bool> = job.rows.iter().map(|r| r.label).collect();
    let positives = labels.iter().filter(|l| **l).count();
    if labels.len() < MIN_ROWS || positives == 0 || positives == labels.len() {
        return Err(format!(
            "{} matured rows since its training, {positives} of them positive: at least {MIN_ROWS} with both labels are needed",
            labels.len()
        ));
    }
    let architecture: Architecture =
        serde_json::from_value(base.manifest.architecture.clone()).map_err(|e| e.to_string())?;
    let network = Network::load(&base.weights, &architecture)?;
    let raw = |rows: &[&[Value]]| -> Result<Vec<f64>, String> {
        let mut all = Vec::with_capacity(rows.len());
        for part in rows.chunks(BATCH) {
            let x = encode(&architecture.encoder, part).map_err(|e| e.to_string())?;
            all.extend(network.probabilities(&x).map_err(|e| e.to_string())?);
        }
        Ok(all)
    };
    let vectors: Vec<&[Value]> = job.rows.iter().map(|r| r.vector.as_slice()).collect();
    let scores = raw(&vectors)?;
    let calibration = fit_platt(&scores, &labels);
    let scores: Vec<f64> = scores.into_iter().map(|p| calibration.apply(p)).collect();
    let golden_vectors: Vec<&[Value]> = base.golden.iter().map(|g| g.vector.as_slice()).collect();
    let golden = base.golden.iter().zip(raw(&golden_vectors)?);
    let golden =
        golden.map(|(g, p)| Golden { vector: g.vector.clone(), score: calibration.apply(p) }).collect::<Vec<_>>();
    let mut manifest = base.manifest.clone();
    let mut profile = base.profile.clone();
    profile.scores = ReferenceProfile::build(&job.signature, vectors.iter().copied(), &scores).scores;
    manifest.version = String::new();
    manifest.files = Vec::new();
    manifest.calibration = calibration;
    let p = &mut manifest.provenance;
    p.created = job.created;
    p.recalibrated_on = labels.len() as u64;
    p.data = data_hash(&job.rows);
    p.held_out = [
        ("log_loss".to_owned(), metrics::log_loss(&scores, &labels)),
        ("ece".to_owned(), metrics::ece(&scores, &labels, 10)),
        ("wrong".to_owned(), wrong(&scores, &labels, job.threshold)),
        ("rows".to_owned(), labels.len() as f64),
    ]
    .into();
    challenger(Artefact { manifest, profile, golden, ..base })
}

/// Share of labels on the other side of the threshold than the score.
pub fn wrong(scores: &[f64], labels: &[bool], threshold: f64) -> f64 {
    let n = scores.iter().zip(labels).filter(|(s, l)| (**s >= threshold) != **l).count();
    n as f64 / labels.len().max(1) as f64
}

/// SHA-256 over ids, times, labels and vectors, each with its length or kind.
pub fn data_hash(rows: &[TrainingRow]) -> String {
    let mut hash = Sha256::new();
    let text = |hash: &mut Sha256, t: &str| {
        hash.update((t.len() as u64).to_le_bytes());
        hash.update(t.as_bytes());
    };
    for row in rows {
        text(&mut hash, &row.request_id);
        hash.update(row.time.0.to_le_bytes());
        hash.update([u8::from(row.label)]);
        for value in &row.vector {
            match value {
                Value::Null => hash.update([0]),
                Value::Bool(b) => hash.update([1, u8::from(*b)]),
                Value::Int(i) => {
                    hash.update([2]);
                    hash.update(i.to_le_bytes());
                }
                Value::Float(x) => {
                    hash.update([3]);
                    hash.update(x.to_bits().to_le_bytes());
                }
                Value::Text(t) => {
                    hash.update([4]);
                    text(&mut hash, t);
                }
            }
        }
    }
    hex(&hash.finalize())
}

/// SHA-256 of what a version is made by besides its rows: settings, features and what they mean.
pub fn config_hash(job: &TrainingJob) -> String {
    let all = serde_json::json!([&job.spec, &job.signature, &job.meanings, job.threshold]);
    hex(&Sha256::digest(all.to_string().as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
