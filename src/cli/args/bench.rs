//! The words of `bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Predictions of one model, bodies from logged or recorded requests
    Predict(PredictBenchArgs),
    /// Events over HTTP, durable when answered; and how fast one core folds them
    Ingest(IngestBenchArgs),
    /// More models than fit in memory, asked by many at once; exit 1 if a request fails or the budget is not kept
    Pool(super::PoolBenchArgs),
    /// A slow model that is given what waits as one batch, beside one that is not
    Batch(super::BatchBenchArgs),
    /// More predictions than the server can answer, or slow clients beside ordinary ones
    Overload(OverloadArgs),
    /// What a canary and shadow copies cost a prediction; and how fast a canary that always fails is gone, under load.
    /// Exit 1 if a request fails or the canary is not gone in time
    Rollout(super::RolloutBenchArgs),
    /// A server that sends traces and metrics beside one that does not
    Telemetry(TelemetryBenchArgs),
    /// A server process whose project is changed under load, in right and in wrong ways; exit 1 if any request
    /// fails or an answer is made by two generations
    Reload(ReloadArgs),
    /// Many predictions and events over many entities: how the memory of the server grows
    Memory(MemoryArgs),
    /// One call of a model in this process, without a server
    Model(ModelBenchArgs),
}

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// How long each of the two servers is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Connections that always have one request under way
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// The model to ask; the first one if not said
    #[arg(long)]
    pub model: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct PredictBenchArgs {
    #[command(flatten)]
    pub load: BenchArgs,
    /// Instead: this many requests a second, whatever the answers take, to a server of its own
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
}

#[derive(Clone, Debug, Args)]
pub struct TelemetryBenchArgs {
    #[command(flatten)]
    pub load: BenchArgs,
    /// Share of the requests whose trace is kept
    #[arg(long, default_value_t = 0.01)]
    pub sample_share: f64,
}

#[derive(Clone, Debug, Args)]
pub struct IngestBenchArgs {
    #[command(flatten)]
    pub load: BenchArgs,
    /// Events in one request
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
}

#[derive(Clone, Debug, Args)]
pub struct OverloadArgs {
    /// How long the overload lasts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// How many times the most that the server can answer is sent
    #[arg(long, default_value_t = 3.0)]
    pub factor: f64,
    /// Connections of the client
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// Predictions in one request
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub instances: u32,
    /// Deadline of each request, in milliseconds; later answers count for nothing
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub deadline_ms: u32,
    /// Instead: this many connections that send their head one byte a second, beside an ordinary load
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub slow_clients: Option<u32>,
    /// The model to ask; the first one if not said
    #[arg(long)]
    pub model: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// How long each of the two phases lasts at least: without reloads, and with
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Changes of the project
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub reloads: u32,
    /// Connections that always have one request under way
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
}

#[derive(Clone, Debug, Args)]
pub struct MemoryArgs {
    /// Predictions that are asked
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    pub predictions: u64,
    /// Entities that they and the events are about
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    pub entities: u64,
    /// limits.memory_cap_bytes of the server, in MiB; 0 is no cap
    #[arg(long, default_value_t = 0, value_name = "MIB")]
    pub cap_mib: u64,
    /// Connections that always have one request under way
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
    /// Override a setting of the server: --set features.max_entities=100000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The model to ask; the first one if not said
    #[arg(long)]
    pub model: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct ModelBenchArgs {
    /// A version's folder, or one with just a tree model's file
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Rows of each call
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Rows to ask, as for `model check`; if not said the golden requests, or values of the trees' own splits
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// How long it is measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
}
