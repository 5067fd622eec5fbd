//! Words of `simulate`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// Traffic, faults and interleavings; every promise is checked after every step
    System {
        /// How many seeds, from 0 on
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Replay this one seed and print its last lines
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Mutated bytes for every parser of outside bytes: no panic, no hang, no allocation out of proportion
    Parsers {
        /// How many inputs a target
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        inputs: u64,
        /// One target only; all if not said
        #[arg(long)]
        target: Option<String>,
        /// Where the inputs start: input n follows from this number plus n
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}
