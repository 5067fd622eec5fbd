//! Words of `rollout`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Bring a challenger in
    Start(StartArgs),
    /// What each criterion needs at the live rates, and whether it can end in promotion at all
    Plan {
        model: String,
        #[command(flatten)]
        with: SettingsArgs,
    },
    /// A live view: stage, share, evidence, and what is still missing
    Watch {
        model: String,
        /// Seconds between two looks
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: u64,
        /// One look
        #[arg(long)]
        once: bool,
    },
    /// Where a model's rollout stands; all rollouts if no model is named
    Status { model: Option<String> },
    /// To the next stage, whatever the evidence
    Promote {
        #[command(flatten)]
        at: StepArgs,
        /// All the way to 100 %
        #[arg(long)]
        all: bool,
    },
    /// End it: everything back to the champion
    Abort {
        #[command(flatten)]
        at: StepArgs,
        /// Why, for the journal
        #[arg(long, default_value = "no reason was given")]
        reason: String,
    },
    /// Let it go on where it asks
    Approve {
        #[command(flatten)]
        at: StepArgs,
    },
    /// Begin again after an end without promotion
    Retry {
        #[command(flatten)]
        at: StepArgs,
    },
    /// Recompute every verdict from the journal and the counts from the logs; exit 1 on a difference
    Verify {
        /// Id of the rollout, such as delay-1
        id: String,
    },
    /// The decision report
    Report {
        id: String,
        /// Also as one HTML page
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// The champion against itself on recorded traffic, dealt out anew many times: false alarms of these settings
    Aa {
        model: String,
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        runs: u64,
        /// Predictions of the log that are used, the newest
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
        predictions: u64,
        #[command(flatten)]
        with: SettingsArgs,
    },
}

#[derive(Debug, Args)]
pub struct StartArgs {
    pub model: String,
    /// The challenger: a version, or an alias that leads to one
    #[arg(id = "number", value_name = "VERSION")] // `version` is the flag's
    pub version: String,
    #[command(flatten)]
    pub with: SettingsArgs,
}

#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// A key of [rollout.settings] with its value in JSON, for this one: --set 'stages=[10,100]' (repeatable)
    #[arg(long = "set", value_name = "KEY=JSON", value_parser = super::pair)]
    pub set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct StepArgs {
    pub model: String,
    /// The step that you saw: refused if it has moved since. Default: the present one
    #[arg(long)]
    pub expected_step: Option<u64>,
}
