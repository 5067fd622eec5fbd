//! Words of `monitor`, `drift`, `faults` and `rules`.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum FaultsCommand {
    /// The catalogue
    List,
    /// Run the faults through the code that serves, and the clean rest of the recording
    Run {
        /// This fault alone, without the clean rest
        #[arg(long)]
        only: Option<String>,
        /// End of the data that the reference is made of (RFC 3339)
        #[arg(long, default_value = "2013-04-01T00:00:00Z")]
        train_until: String,
        /// Day on which each fault begins; 44 days later if not said
        #[arg(long)]
        from: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum DriftCommand {
    /// What drifted, by window; one feature with both histograms
    Show {
        model: String,
        /// This feature alone; `(score)` is the score
        #[arg(long)]
        feature: Option<String>,
        /// First event time (RFC 3339)
        #[arg(long)]
        from: Option<String>,
        #[arg(long)]
        until: Option<String>,
    },
    /// The feeds under watch: what is wrong with which, since when
    Feeds {
        /// First event time (RFC 3339)
        #[arg(long)]
        from: Option<String>,
        #[arg(long)]
        until: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Open alerts and silences
    List {
        /// Also those that are over, and how those who are told do
        #[arg(long)]
        all: bool,
    },
    /// Tell nobody of alerts that match, for a while
    Silence {
        /// Label and value, all of which must match: alertname, severity, feed, model; `feed=weather*` matches a beginning
        #[arg(value_name = "LABEL=VALUE", value_parser = super::pair, required = true)]
        matches: Vec<(String, String)>,
        /// How long: 30m, 2h, 7d
        #[arg(long = "for", value_name = "DURATION")]
        lasting: String,
        /// Why, for those who wonder
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// End a silence before its time
    Unsilence { id: String },
    /// Say that an alert is over; it opens again if its cause is still there
    Resolve { id: String },
    /// Fire a test alert and see whether it arrives
    Test,
}

#[derive(Debug, Subcommand)]
pub enum MonitorCommand {
    /// Traffic, matured quality and latency by window
    Show {
        model: String,
        /// First event time (RFC 3339)
        #[arg(long)]
        from: Option<String>,
        #[arg(long)]
        until: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// What the rules of a file would have done to logged traffic; changes nothing
    Try {
        file: PathBuf,
        #[arg(long)]
        model: Option<String>,
    },
}
