//! The handle that one HTTP worker has on the system.

use crate::api::*;
use std::time::Duration;
use understudy_domain::entity::EntityIds;
use understudy_domain::event::{Event, IngestOutcome};
use understudy_domain::monitor::MonitorReport;
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};
use understudy_domain::project::RuleFile;
use understudy_domain::time::Timestamp;

/// Cheap to clone; not `Send`: each worker thread makes its own.
#[derive(Clone)]
pub struct Cell {}

impl Cell {
    pub async fn predict(&self, _command: PredictCommand, _deadline: Duration) -> Result<Answer, Refusal> {
        unimplemented!()
    }
    /// One result per event, in order; resolves when the accepted ones are durable.
    pub async fn ingest(&self, _events: Vec<Event>) -> Result<Vec<IngestOutcome>, Refusal> {
        unimplemented!()
    }
    pub async fn replay(&self, _lines: Vec<Event>) -> Result<Vec<ReplayedLine>, Refusal> {
        unimplemented!()
    }
    pub async fn outcomes(&self, _outcomes: Vec<OutcomeRecord>) -> Result<Vec<OutcomeResult>, Refusal> {
        unimplemented!()
    }
    pub async fn explain(&self, _feature: &str, _ids: &EntityIds, _time: Option<Timestamp>) -> Result<FeatureExplanation, Refusal> {
        unimplemented!()
    }
    pub async fn monitor(&self, _model: &str, _from: Option<Timestamp>, _until: Option<Timestamp>) -> Result<MonitorReport, Refusal> {
        unimplemented!()
    }
    pub async fn train(&self, _model: &str) -> Result<JobStatus, Refusal> {
        unimplemented!()
    }
    pub fn jobs(&self) -> Vec<JobStatus> {
        unimplemented!()
    }
    pub fn models(&self) -> Vec<ModelStatus> {
        unimplemented!()
    }
    /// Signature and labels of the served version; loads it if needed.
    pub async fn signature(&self, _model: &str, _version: Option<&str>) -> Result<std::sync::Arc<understudy_domain::model::Signature>, Refusal> {
        unimplemented!()
    }
    /// A logged prediction and the outcomes known of it.
    pub async fn prediction(&self, _id: PredictionId) -> Result<(PredictionRecord, Vec<OutcomeRecord>), Refusal> {
        unimplemented!()
    }
    /// Up to `limit` logged predictions: in order of id after `after`, or the newest first without it.
    pub async fn predictions(&self, _model: Option<String>, _after: Option<PredictionId>, _limit: usize) -> Result<Vec<PredictionRecord>, Refusal> {
        unimplemented!()
    }
    /// JSON report per rule: what the given rules would have done to up to `limit` logged predictions.
    pub async fn try_rules(&self, _model: &str, _rules: RuleFile, _limit: usize) -> Result<serde_json::Value, Refusal> {
        unimplemented!()
    }
    /// Definitions of all features, as JSON.
    pub fn features(&self) -> serde_json::Value {
        unimplemented!()
    }
    pub fn health(&self) -> Vec<ActorHealth> {
        unimplemented!()
    }
    /// Clock, durability, logs, memory, counts: for `/v1/system` and `doctor`.
    pub fn describe(&self) -> serde_json::Value {
        unimplemented!()
    }
    /// True while a recorded stream is the clock.
    pub fn clock_is_stream(&self) -> bool {
        unimplemented!()
    }
}
