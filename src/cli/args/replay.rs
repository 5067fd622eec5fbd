//! `demo` and `replay`: recorded streams, and their pace.

use super::RetrainMode;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// A shorter run: about a month of training, three weeks of serving
    #[arg(long)]
    pub quick: bool,
    /// Serve the same models four ways: never changed, recalibrated monthly, retrained monthly, and by the loop
    #[arg(long = "loop", conflicts_with_all = ["stay", "report"])]
    pub closed_loop: bool,
    /// With --loop: only this model (repeatable); all if not said
    #[arg(long = "model", value_name = "MODEL", requires = "closed_loop")]
    pub models: Vec<String>,
    /// With --loop: a week of a fault of the catalogue (`faults list`) from this day on, such as `stalled_feed@2013-08-05`
    /// (repeatable): who is blamed, and whether it is learnt
    #[arg(long = "fault", value_name = "NAME@DAY", requires = "closed_loop")]
    pub faults: Vec<String>,
    /// Keep serving at the end, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
    /// Write a report with plots (one HTML file)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Keep the data here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub pace: Pace,
}

#[derive(Clone, Debug, Args)]
pub struct Pace {
    /// Lines of one request to the server
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// `max`, or how many times faster than real time: `3600x`
    #[arg(long, visible_alias = "replay-speed", default_value = "max", value_parser = speed)]
    pub speed: Speed,
}

/// How fast a recorded stream is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    Max,
    /// Event seconds per second.
    Times(f64),
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// NDJSON of events, plain or .zst, `-` for stdin; the project's recording if not said
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Train at the recording's date, mend the models this way, and print every week: on a server and data of its own
    #[arg(long, value_enum, conflicts_with = "events")]
    pub retrain: Option<RetrainMode>,
    #[command(flatten)]
    pub pace: Pace,
}

pub(super) fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let digits = text.strip_suffix('x').unwrap_or(text);
    match digits.parse::<f64>() {
        Ok(n) if n.is_finite() && n > 0.0 => Ok(Speed::Times(n)),
        _ => Err(format!("`{text}` is neither `max` nor a factor such as 3600x")),
    }
}
