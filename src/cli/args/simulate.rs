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
}
