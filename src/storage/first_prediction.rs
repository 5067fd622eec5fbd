//! Predictions as version 1 of their blocks has them.

use std::collections::BTreeMap;
use understudy_domain::entity::EntityIds;
use understudy_domain::prediction::{Finding, Placement, PredictionId, PredictionRecord, Timing, Verdict};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

/// A record of the first version: the domain type as it was then, in bincode.
#[derive(serde::Deserialize)]
pub struct FirstVersion {
    id: PredictionId,
    model: String,
    version: String,
    feature_set: String,
    epoch: u64,
    request_id: Option<String>,
    time: Timestamp,
    entities: EntityIds,
    context: BTreeMap<String, Value>,
    vector: Vec<Value>,
    ages: Vec<Option<u32>>,
    score: f64,
    label: String,
    confidence: f64,
    verdict: Verdict,
    findings: Vec<Finding>,
    timing: Timing,
}

impl From<FirstVersion> for PredictionRecord {
    fn from(r: FirstVersion) -> Self {
        PredictionRecord {
            id: r.id,
            model: r.model,
            version: r.version,
            feature_set: r.feature_set,
            epoch: r.epoch,
            placement: Placement::default(),
            request_id: r.request_id,
            time: r.time,
            entities: r.entities,
            context: r.context,
            vector: r.vector,
            ages: r.ages,
            score: r.score,
            label: r.label,
            confidence: r.confidence,
            verdict: r.verdict,
            findings: r.findings,
            timing: r.timing,
        }
    }
}
