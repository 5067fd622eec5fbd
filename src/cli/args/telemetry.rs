//! Words of `telemetry`.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum TelemetryCommand {
    /// Every metric: name, kind, unit, meaning
    Metrics {
        /// As docs/metrics.md
        #[arg(long)]
        markdown: bool,
    },
    /// Write the Grafana dashboards, the Prometheus alert rules and their tests
    Dashboards {
        /// Folder to write to
        #[arg(long, default_value = "dashboards")]
        to: PathBuf,
    },
}
