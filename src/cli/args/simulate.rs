//! Words of `simulate`.

use crate::simulate::rollout::{Fault, Rule};
use clap::{Args, Subcommand};
use understudy_domain::rollout::{Share, Unit};
use understudy_domain::time::Span;

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
    /// Years of made-up traffic through the monitor and the watch over a feed: what they hold in memory, and what they cost
    Monitor {
        /// Predictions, each with an outcome and an event
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
        predictions: u64,
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
    /// Rollouts of a challenger with a known fault: how often, and how soon, each verdict comes
    Rollout(RolloutArgs),
}

#[derive(Clone, Debug, Args)]
pub struct RolloutArgs {
    /// Requests per second
    #[arg(long, default_value_t = 100.0, value_parser = above_zero)]
    pub rate: f64,
    /// Share of the canary, in percent
    #[arg(long, default_value = "5")]
    pub share: Share,
    /// Length of a rollout
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub minutes: u64,
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub runs: u64,
    /// What is wrong with the canary: none, errors:RATE, latency:TIMES or conversion:TIMES
    #[arg(long, default_value = "none", value_parser = fault)]
    pub fault: Fault,
    /// `ours`, or the naive rule (`article` or `naive`): averages against a threshold, looked at each minute
    #[arg(long, default_value = "ours", value_parser = rule)]
    pub rule: Rule,
    /// Seed of the first run; run n has this number plus n
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Error rate of the champion
    #[arg(long, default_value_t = 0.0005, value_parser = share)]
    pub errors: f64,
    /// Conversion of the champion
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    pub conversion: f64,
    /// Conversion that is tolerated, of the champion's
    #[arg(long, default_value_t = 0.95, value_parser = share)]
    pub margin: f64,
    /// Mean minutes until a conversion comes; 0 is at once
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub delay: f64,
    /// The canary's delay, over the champion's
    #[arg(long, default_value_t = 1.0, value_parser = above_zero)]
    pub delay_factor: f64,
    /// Requests come from entities, each a heavy-tailed number of times and with habits of its own
    #[arg(long)]
    pub visits: bool,
    /// What is counted: `entity` or `request`
    #[arg(long, default_value = "entity", value_parser = unit)]
    pub unit: Unit,
    /// Time between two evaluations
    #[arg(long, default_value = "10s")]
    pub tick: Span,
}

fn fault(text: &str) -> Result<Fault, String> {
    let wrong = || format!("`{text}` is not a fault; say none, errors:0.005, latency:1.2 or conversion:0.9");
    let Some((kind, number)) = text.split_once(':') else {
        return if text == "none" { Ok(Fault::None) } else { Err(wrong()) };
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    match kind {
        "errors" if (0.0..=1.0).contains(&number) => Ok(Fault::Errors(number)),
        "latency" if number > 0.0 && number.is_finite() => Ok(Fault::Latency(number)),
        "conversion" if number >= 0.0 && number.is_finite() => Ok(Fault::Conversion(number)),
        _ => Err(wrong()),
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    match text {
        "ours" => Ok(Rule::Ours),
        "article" | "naive" => Ok(Rule::Naive),
        _ => Err(format!("`{text}` is not a rule; say ours or article")),
    }
}

fn unit(text: &str) -> Result<Unit, String> {
    match text {
        "entity" => Ok(Unit::Entity),
        "request" => Ok(Unit::Request),
        _ => Err(format!("`{text}` is not a unit; say entity or request")),
    }
}

fn number(text: &str, fits: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    let n = text.parse().ok().filter(|n: &f64| n.is_finite() && fits(*n));
    n.ok_or_else(|| format!("`{text}` is not {wanted}"))
}

fn above_zero(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0, "a number above 0")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |n| n >= 0.0, "a number of at least 0")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..1.0).contains(&n), "a share between 0 and 1")
}
