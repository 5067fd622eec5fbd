//! `telemetry`: the metric inventory, and the dashboards and alert rules that are made from it.

use super::args::TelemetryCommand;
use super::error::{CliError, Result};
use super::output;
use super::table::table;
use super::target::Context;
use crate::telemetry::inventory::{METRICS, Metric};
use crate::telemetry::{dashboards, page, rules};
use serde_json::json;
use std::path::Path;

pub fn run(ctx: &Context, command: &TelemetryCommand) -> Result {
    match command {
        TelemetryCommand::Metrics { markdown: true } => output::put(&page::page()),
        TelemetryCommand::Metrics { markdown: false } => metrics(ctx),
        TelemetryCommand::Dashboards { to } => write(ctx, to)?,
    }
    Ok(())
}

fn metrics(ctx: &Context) {
    if ctx.json {
        let all = METRICS.iter().map(|m| {
            json!({"name": m.name, "prometheus": m.prometheus(), "kind": format!("{:?}", m.kind).to_lowercase(),
                "unit": m.unit, "attributes": m.attributes, "meaning": m.meaning})
        });
        return output::json(&json!({"metrics": all.collect::<Vec<_>>()}));
    }
    let row = |m: &Metric| vec![m.prometheus(), format!("{:?}", m.kind).to_lowercase(), m.meaning.to_owned()];
    output::put(&table(&["metric", "kind", "meaning"], &[], METRICS.iter().map(row).collect()));
}

fn write(ctx: &Context, to: &Path) -> Result {
    let mut files = dashboards::files();
    files.push(("alerts.yaml".into(), rules::file()));
    files.push(("alerts_test.yaml".into(), rules::tests()));
    let failed = |e: std::io::Error| CliError::new(format!("cannot write to {}: {e}", to.display()));
    std::fs::create_dir_all(to).map_err(failed)?;
    for (name, text) in &files {
        std::fs::write(to.join(name), text).map_err(failed)?;
        if !ctx.quiet && !ctx.json {
            output::line(&to.join(name).display().to_string());
        }
    }
    if ctx.json {
        output::json(&json!({"written": files.iter().map(|(name, _)| name).collect::<Vec<_>>()}));
    }
    Ok(())
}
