//! What is told about a loop: plain data.

use serde::{Deserialize, Serialize};
use understudy_domain::retraining::{Champion, Evaluation, Job, Machine, RetrainingSpec};
use understudy_domain::time::Timestamp;

/// Evaluations in a status; the journal has all.
const EVALUATIONS: usize = 400;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetrainingStatus {
    pub model: String,
    pub settings: RetrainingSpec,
    /// Whether the model has a [retraining] table: without it nothing is evaluated, jobs can still be asked for.
    pub evaluated: bool,
    pub champion: Option<Champion>,
    /// When it is evaluated next.
    pub next: Option<Timestamp>,
    /// Newest last.
    pub jobs: Vec<Job>,
    pub evaluations: Vec<Evaluation>,
    /// Where the running job is.
    pub progress: Option<String>,
}

pub(super) fn status(
    model: &str,
    machine: &Machine,
    evaluated: bool,
    next: Option<Timestamp>,
    progress: Option<String>,
) -> RetrainingStatus {
    let all = machine.evaluations();
    RetrainingStatus {
        model: model.to_owned(),
        settings: machine.spec().clone(),
        evaluated,
        champion: machine.champion().cloned(),
        next,
        jobs: machine.jobs().cloned().collect(),
        evaluations: all.iter().skip(all.len().saturating_sub(EVALUATIONS)).cloned().collect(),
        progress,
    }
}
