//! The words of the command line. Noun first: `model list`, `feature explain`.

pub use super::args_outcome::{OutcomeArgs, OutcomeCommand};
pub use super::args_storage::{ChaosCommand, StoreCommand};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

mod bench;
mod bench_pool;
mod drift;
mod entity;
mod models;
mod replay;
mod retrain;
mod rollout;
mod security;
mod simulate;
mod telemetry;

pub use bench::{
    BenchArgs, BenchCommand, MemoryArgs, ModelBenchArgs, OverloadArgs, PredictBenchArgs, ReloadArgs, TelemetryBenchArgs,
};
pub use bench_pool::{BatchBenchArgs, PoolBenchArgs, RolloutBenchArgs};
pub use drift::{AlertsCommand, DriftCommand, FaultsCommand, MonitorCommand, RulesCommand};
pub use entity::EntityCommand;
pub use models::{ModelCheckArgs, ModelCommand};
pub use replay::{DemoArgs, Pace, ReplayArgs, Speed};
pub use retrain::{CandidateName, ExplainCommand, RetrainCommand, RetrainMode};
pub use rollout::{RolloutCommand, SettingsArgs, StepArgs};
pub use security::{AuditCommand, KeysCommand};
pub use simulate::{RolloutArgs, SimulateCommand};
pub use telemetry::TelemetryCommand;

/// Takes a model from a notebook to production and keeps it good there.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Project directory (holds understudy.toml) [default: .]
    #[arg(long, global = true, value_name = "DIR", env = "UNDERSTUDY_PROJECT")]
    pub project: Option<PathBuf>,
    /// Talk to this running server instead of the project's own
    #[arg(long, global = true, value_name = "URL", env = "UNDERSTUDY_URL")]
    pub url: Option<String>,
    /// How results are printed
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay a recorded year: train, predict, join outcomes, show the quality of every week
    Demo(DemoArgs),
    /// Make a new project with one example of everything
    Init {
        /// Directory to make; must be empty or not exist
        dir: PathBuf,
    },
    /// Run the server in the foreground until Ctrl-C or SIGTERM
    Serve {
        /// Override a setting: --set server.port=9000 (repeatable)
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
    },
    /// Send a recorded stream to the server in its order (needs clock.source = "stream")
    Replay(ReplayArgs),
    /// Events of the present
    #[command(subcommand)]
    Events(EventsCommand),
    /// Train a model on the event log and register the version
    Train {
        model: String,
        /// Return at once with the job's number
        #[arg(long)]
        no_wait: bool,
    },
    /// Ask a model for a prediction
    Predict(PredictArgs),
    /// Models and their versions
    #[command(subcommand)]
    Model(ModelCommand),
    /// Challengers: plan, start, watch, promote, abort, verify
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Features: definitions, values, checks
    #[command(subcommand)]
    Feature(FeatureCommand),
    /// Quality over time
    #[command(subcommand)]
    Monitor(MonitorCommand),
    /// Whether what the models see and say still looks like what they were trained on
    #[command(subcommand)]
    Drift(DriftCommand),
    /// What is wrong, who is told, and who is not
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Data faults put into the recording: which are caught, when, and by what
    #[command(subcommand)]
    Faults(FaultsCommand),
    /// The prediction log
    #[command(subcommand)]
    Log(LogCommand),
    /// Everything known about one prediction: inputs, ages, findings, version, outcome
    Why {
        /// Prediction id (a ULID)
        id: String,
    },
    /// Entities: the people and things that features belong to
    #[command(subcommand)]
    Entity(EntityCommand),
    /// When and how models are mended
    #[command(subcommand)]
    Retrain(RetrainCommand),
    /// Why something happened
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Validation rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The truth about earlier predictions
    #[command(subcommand)]
    Outcome(OutcomeCommand),
    /// The project's files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure the real server, beside a bare handler on the same machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// API keys: who may do what from elsewhere
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Who changed what, when, from where
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Run the real actors, on one thread and out of seeds, under faults; needs no project
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// The data directory of a stopped server: check, move, shrink, copy
    #[command(subcommand)]
    Store(StoreCommand),
    /// Kill the real program, cut its power, damage its store, and check what it had acknowledged
    #[command(subcommand)]
    Chaos(ChaosCommand),
    /// The metric inventory, and the dashboards and alert rules made from it; needs no project
    #[command(subcommand)]
    Telemetry(TelemetryCommand),
    /// Check the machine and the project for what would go wrong
    Doctor,
    /// Print the completion script of a shell
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Ingest a file of events (NDJSON, plain or .zst, `-` for stdin)
    Import {
        file: PathBuf,
        /// Lines of one request to the server
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        batch: u32,
    },
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    pub model: String,
    /// Entity key of the request (repeatable)
    #[arg(long = "entity", value_name = "KEY=ID", value_parser = pair)]
    pub entities: Vec<(String, String)>,
    /// Context field of the request (repeatable); numbers, true, false and null are read as such
    #[arg(long = "context", value_name = "FIELD=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
    /// The whole request body from a file, `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["entities", "context"])]
    pub json: Option<PathBuf>,
    /// Show every feature with its age, and where the time went
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Subcommand)]
pub enum FeatureCommand {
    /// All features
    List,
    /// Value of a feature for an entity, with the window and the events behind it
    Explain {
        name: String,
        /// `KEY=ID`; once per key of the entity
        #[arg(long = "entity", value_name = "KEY=ID", value_parser = pair, required = true)]
        entities: Vec<(String, String)>,
        /// As of this time (RFC 3339); now if not said
        #[arg(long)]
        time: Option<String>,
    },
    /// Compare feature values with expected ones: counts exactly, floats within 1e-9
    Verify {
        /// NDJSON of {"id": REQUEST, "features": {NAME: VALUE}}
        expected: PathBuf,
        /// The recording to fold; the project's own if not said (with --url: what that server logged)
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
        /// The model whose request event is meant (with --url: whose logged vectors); the first if not said
        #[arg(long)]
        model: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Ndjson,
    Csv,
    /// One model, to a file; needs a build with `--features parquet`
    Parquet,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// The newest predictions
    Tail {
        /// How many
        #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        n: u32,
        #[arg(long)]
        model: Option<String>,
    },
    /// Every logged prediction in order of time, to stdout or a Parquet file
    Export {
        #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
        format: ExportFormat,
        #[arg(long, required_if_eq("format", "parquet"))]
        model: Option<String>,
        /// First event time (RFC 3339), inclusive
        #[arg(long)]
        from: Option<String>,
        /// Last event time (RFC 3339), exclusive
        #[arg(long)]
        until: Option<String>,
        /// Leave out the measured times: two runs over one stream then print the same bytes
        #[arg(long)]
        without_timing: bool,
        /// Parquet only: the file to write
        #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check every file of the project; prints what is wrong, where, and the remedy
    Check,
    /// Print the settings
    Show {
        /// With every default filled in
        #[arg(long)]
        effective: bool,
    },
    /// The configuration in force on the server: generation, last error, what waits for a start
    Status,
    /// Make the server look at the files now; prints what changed, or why nothing did
    Reload,
    /// Changes of the configuration, newest first: who, what, and what became of it
    History,
    /// Keys that differ between two generations
    Diff { from: u64, to: u64 },
    /// Make the files those of an earlier generation, and apply them as a new one
    Revert { generation: u64 },
}

/// `KEY=VALUE`
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.to_string(), v.to_string())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests;
