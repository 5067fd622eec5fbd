//! The words of `store` and `chaos`.

use super::args::pair;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read every record of every segment (of a copy: nothing is changed); exit code 3 with findings
    Verify {
        /// Data directory, or project
        dir: PathBuf,
        /// Where the copy is made; beside the data if not said
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
    /// Write all logs and the feature state to one checked file
    Export {
        dir: PathBuf,
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Make a new data directory out of an exported file
    Import {
        dir: PathBuf,
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Write the logs anew without dead space; an interrupted one is ended at the next start
    Compact { dir: PathBuf },
    /// Copy the whole data directory, models and all
    Snapshot {
        dir: PathBuf,
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ChaosCommand {
    /// kill -9 under load, again and again on one directory
    Kill(CampaignArgs),
    /// Power cuts under load: what was not synced is taken back (needs a C compiler)
    Power(CampaignArgs),
    /// kill -9 in the middle of a rollout, again and again: the journal of decisions stays the same, byte for byte
    Rollout {
        /// How often
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        kills: u64,
        /// Of one pass over the stream
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100))]
        per_pass: u64,
        /// Seed of all random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Flip every byte of a small store, and cut its files at every byte
    Flip {
        /// Size of the store in bytes
        #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1 << 14..=1 << 26))]
        bytes: u64,
        /// Only every K-th byte
        #[arg(long, default_value_t = 1, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
        every: u64,
    },
}

#[derive(Clone, Debug, Args)]
pub struct CampaignArgs {
    /// How often
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub runs: u64,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Connections that send without pause
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub connections: u64,
    /// Longest load before the end of a run, in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub load_ms: u64,
    /// Override a setting of the server: --set storage.durability=process (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Keep the work directory here instead of in a temporary one; it must not exist
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
}
