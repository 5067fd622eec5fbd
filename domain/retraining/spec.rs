//! `[retraining]` of a model: when it is mended, by what, and how the result comes in.

use crate::time::Span;
use serde::{Deserialize, Serialize};

/// What is done with an evaluation that asks for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Evaluations are stored and shown; no job starts by itself.
    #[default]
    Advise,
    /// A job starts and is gated by itself; what passed waits for a person's word.
    Ask,
    /// Everything by itself.
    Act,
}

/// What asks for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The score, over its threshold in `persistence` of the last evaluations, and all guards.
    #[default]
    Score,
    /// The first evaluation of each UTC month, whatever the score and the guards say: a calendar, to compare with.
    Monthly,
}

/// A way to make a challenger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Candidate {
    /// The champion's weights with its scores fitted anew to matured outcomes (Platt 1999): seconds.
    Recalibrate,
    /// A new fit on everything matured.
    Retrain,
}

impl Candidate {
    pub fn name(self) -> &'static str {
        match self {
            Candidate::Recalibrate => "recalibrate",
            Candidate::Retrain => "retrain",
        }
    }
}

/// How a challenger that passed the gate comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// It becomes the champion at once.
    Immediate,
    /// By the model's rollout; its verdict decides.
    #[default]
    Rollout,
}

/// Settings of the loop of one model. A model without this table is never evaluated; a job can still be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainingSpec {
    pub mode: Mode,
    pub trigger: Trigger,
    /// Tried in this order, all judged by one gate; the best that passes comes in.
    pub candidates: Vec<Candidate>,
    /// Without it the first candidate that could be made comes in unjudged.
    pub gate: bool,
    pub promotion: Promotion,
    /// Time between evaluations, event time.
    pub every: Span,
    /// Score above it asks for a job; in [0, 1].
    pub threshold: f64,
    /// Evaluations above the threshold, of the last `of`, that are needed.
    pub persistence: usize,
    pub of: usize,
    /// Relative loss above the champion's own at promotion that makes the performance term 1.
    pub tolerance: f64,
    /// Weights of the terms in the noisy-or; each in [0, 1].
    pub weight_performance: f64,
    pub weight_calibration: f64,
    pub weight_drift: f64,
    pub weight_age: f64,
    /// Age at which the age term begins and at which it is 1.
    pub min_age: Span,
    pub max_age: Span,
    /// Matured cohorts that the loss and the calibration of now are measured on.
    pub window: Span,
    /// Wait after a finished job; doubles with each rejected challenger in a row, up to `max_cool_down`.
    pub cool_down: Span,
    pub max_cool_down: Span,
    /// Matured rows since the last training cut, and rows of the rarer label among them, that a job needs.
    pub min_rows: u64,
    pub min_minority: u64,
    /// Share of predictions with an outcome, relative to what is usual, below which labels are not trusted.
    pub min_match: f64,
    /// Jobs a day (of event time) and a week.
    pub jobs_a_day: u32,
    pub jobs_a_week: u32,
    /// A challenger promoted less than this ago that triggers again is an alert, not a job: the cause is upstream.
    pub loop_guard: Span,
    /// Newest part of the matured rows that judges, by time; never trained on by what it judges.
    pub holdout: Span,
    /// ... and at least so many rows.
    pub holdout_rows: usize,
    /// Seed of the resampling in the gate; training has its own.
    pub seed: u64,
}

impl Default for RetrainingSpec {
    fn default() -> Self {
        RetrainingSpec {
            mode: Mode::Advise,
            trigger: Trigger::Score,
            candidates: vec![Candidate::Recalibrate, Candidate::Retrain],
            gate: true,
            promotion: Promotion::Rollout,
            every: Span::days(1),
            threshold: 0.5,
            persistence: 2,
            of: 3,
            tolerance: 0.10,
            weight_performance: 1.0,
            weight_calibration: 0.6,
            weight_drift: 0.4,
            weight_age: 0.5,
            min_age: Span::days(30),
            max_age: Span::days(90),
            window: Span::days(14),
            cool_down: Span::days(1),
            max_cool_down: Span::days(14),
            min_rows: 2000,
            min_minority: 100,
            min_match: 0.9,
            jobs_a_day: 2,
            jobs_a_week: 4,
            loop_guard: Span::days(3),
            holdout: Span::days(7),
            holdout_rows: 2000,
            seed: 1,
        }
    }
}
