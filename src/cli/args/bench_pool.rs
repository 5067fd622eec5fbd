//! The words of `bench pool`, `bench batch` and `bench rollout`.

use clap::Args;

#[derive(Clone, Debug, Args)]
pub struct PoolBenchArgs {
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Models that are asked, in no order
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub models: u32,
    /// Versions that fit in memory
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Connections that always have one request under way
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
    /// Width of each model's two hidden layers
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub width: u32,
}

#[derive(Clone, Debug, Args)]
pub struct BatchBenchArgs {
    /// Both servers together
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(4..=3600))]
    pub seconds: u32,
    /// Connections that always have one request under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
    /// Width of the model's three hidden layers: decides how slow it is
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(16..=8192))]
    pub width: u32,
}

#[derive(Clone, Debug, Args)]
pub struct RolloutBenchArgs {
    /// How long each of the three servers is measured: no rollout, a canary, shadow copies
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Connections that always have one request under way
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
    /// Share of the traffic that the canary answers, in percent
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub canary_percent: u32,
    /// Share of the traffic that is copied, in percent
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub shadow_percent: u32,
    /// Rollouts of a canary that always fails, one after another
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub rollbacks: u32,
}
