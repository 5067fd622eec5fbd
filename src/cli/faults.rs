//! `faults`: the catalogue of data faults, and which of them are caught on the project's recording.

use super::args::FaultsCommand;
use super::error::{CliError, Result};
use super::output::{json, line, put};
use super::table;
use super::target::Context;
use crate::config::Project;
use crate::faults::{Campaign, Caught, FAULTS, Pipeline, campaign};
use crate::tables::open_recording;
use serde_json::json;
use std::sync::Arc;
use understudy_domain::drift::Level;
use understudy_domain::problem::Problem;
use understudy_domain::time::{Span, Timestamp};

/// Days between the end of the training data and the faults: what is recent has to be known.
const LEAD: Span = Span::days(44);

pub fn run(ctx: &Context, command: &FaultsCommand) -> Result {
    match command {
        FaultsCommand::List => {
            if ctx.json {
                let all: Vec<_> = FAULTS.iter().map(|f| json!({"name": f.name, "what": f.what})).collect();
                json(&json!({ "faults": all }));
            } else {
                let rows = FAULTS.iter().map(|f| vec![f.name.to_string(), f.what.to_string()]).collect();
                put(&table::table(&["fault", "what happens"], &[], rows));
            }
            Ok(())
        }
        FaultsCommand::Run { only, train_until, from } => faults(ctx, only.as_deref(), train_until, from.as_deref()),
    }
}

fn faults(ctx: &Context, only: Option<&str>, train_until: &str, from: Option<&str>) -> Result {
    if let Some(name) = only
        && !FAULTS.iter().any(|f| f.name == name)
    {
        let names: Vec<&str> = FAULTS.iter().map(|f| f.name).collect();
        return Err(CliError::usage(format!("no fault is named `{name}`; there are: {}", names.join(", "))));
    }
    let time = |text: &str| text.parse::<Timestamp>().map_err(|e| CliError::usage(format!("`{text}` is no time: {e}")));
    let trained = time(train_until)?;
    let start = from.map_or(Ok(trained + LEAD), time)?.floor(Span::days(1));
    let dir = ctx.project_dir();
    let wrong = |p: Vec<Problem>| CliError::from(p[0].clone());
    let project = Project::load(&dir, &[]).map_err(wrong)?;
    let catalog = Arc::new(project.compile().map_err(wrong)?);
    let features = &project.settings.features;
    let pipeline =
        Pipeline::new(catalog, features.max_future, features.lateness, features.dedupe).map_err(CliError::new)?;
    let events = open_recording(&dir)?.collect::<std::result::Result<Vec<_>, _>>()?;
    let say = |text: &str| ctx.note(text);
    let c = campaign(pipeline, &events, trained, start, only, Level::Alert, &say).map_err(CliError::new)?;
    if ctx.json {
        json(&c);
    } else {
        show(&c);
    }
    Ok(())
}

fn show(c: &Campaign) {
    let word = |caught| match caught {
        Caught::Before => "before",
        Caught::Window => "window",
        Caught::Missed => "missed",
    };
    let row = |f: &crate::faults::FaultResult| {
        let delay = f.delay.map_or_else(|| "-".into(), |d| format!("{:.1} h", d.as_secs_f64() / 3600.0));
        vec![f.name.to_string(), word(f.caught).to_string(), delay, f.by.clone()]
    };
    put(&table::table(&["fault", "caught", "after", "by"], &["after"], c.faults.iter().map(row).collect()));
    line(&format!("{:.1} % of {} faults caught", c.detected * 100.0, c.faults.len()));
    if c.clean_days > 0 {
        line(&format!("\nalarms on {} clean days: {}", c.clean_days, c.clean_alarms.len()));
        for a in &c.clean_alarms {
            let day = a.start.to_string();
            let lasted = a.end.map_or_else(|| "open".to_owned(), |end| (end - a.start).to_string());
            let what = format!("{} ({lasted}, {} findings): {}", a.source, a.findings, a.reason);
            line(&format!("  {}  {what}", day.get(..10).unwrap_or(&day)));
        }
    }
}
