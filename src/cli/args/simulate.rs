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
    /// Drift detection on made-up traffic: false alarms on nothing, windows until a shift is seen
    Drift {
        /// Days of traffic in which nothing changes
        #[arg(long, default_value_t = 100)]
        days: u64,
        /// Features of a row, all of them standard normal
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
        features: u64,
        /// Rows of a window
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
        rows_per_window: u64,
        /// Windows of a day
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=24))]
        windows_per_day: u64,
        /// Also move one feature by so many standard deviations, and say when it is seen
        #[arg(long)]
        shift: Option<f64>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}
