//! `retrain ...` and `explain retrain`.

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub enum RetrainCommand {
    /// Start a job now: candidates are made, judged against the champion, and come in by the model's settings
    Start {
        model: String,
        /// What is tried (repeatable); those of the model's settings if not said
        #[arg(long = "candidate", value_enum)]
        candidates: Vec<CandidateName>,
    },
    /// When each model is evaluated, its last score, and its running job
    Status { model: Option<String> },
    /// All jobs, and what became of them
    List { model: Option<String> },
    /// Why a job started, what was tried, and why it came in or did not
    Explain {
        /// `MODEL/NUMBER`, or a number that only one model has
        job: String,
    },
    /// Bring in the challenger of a job that waits for a word
    Approve { job: String },
    /// Refuse it
    Decline { job: String },
}

#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    /// The newest drift of a feature: what changed, both histograms, and where it comes from
    Drift {
        /// `MODEL/FEATURE`, or a feature that only one model has; `(score)` is the score
        feature: String,
        /// The last window that starts before it (RFC 3339)
        #[arg(long)]
        until: Option<String>,
    },
    /// A retraining job: the score with its inputs, the guards, every candidate's gate
    Retrain {
        /// `MODEL/NUMBER`, or a number that only one model has
        job: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CandidateName {
    Recalibrate,
    Retrain,
}

/// How a replay mends its models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetrainMode {
    /// Never changed after the first training
    Off,
    /// Trained anew on everything at each month's start, unjudged
    Monthly,
    /// By each model's [retraining] table, without a person
    Auto,
}
