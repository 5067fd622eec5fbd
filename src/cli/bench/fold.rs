//! How many events one core folds into feature state: the recording's events into one table, nothing else.

use crate::cli::error::{CliError, Result};
use crate::cli::source;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::features::{FeatureTable, Plan};

/// Different events that are folded.
const EVENTS: usize = 200_000;
/// Shortest measurement; the events are folded again into a fresh table until it is over.
const MEASURED: Duration = Duration::from_secs(1);

/// Events per second; `None` if the project has no recording.
pub fn per_core(project: &Path) -> Result<Option<f64>> {
    let Ok(lines) = source::recording(project) else { return Ok(None) };
    let spec = crate::cli::config::load(project)?.features;
    let plan = Plan::compile(&spec).map_err(|p| CliError::new(format!("the features cannot be compiled: {p:?}")))?;
    let plan = Arc::new(plan);
    let mut events = Vec::with_capacity(EVENTS);
    for line in lines.take(EVENTS) {
        let Ok(event) = serde_json::from_str::<Event>(&line?.json) else { continue };
        let seq = events.len() as u64 + 1;
        events.push(LoggedEvent { seq, ingested: event.time, late: false, event });
    }
    if events.is_empty() {
        return Ok(None);
    }
    let (mut folded, mut spent) = (0u64, Duration::ZERO);
    while spent < MEASURED {
        let mut table = FeatureTable::new(plan.clone(), 0, 1, usize::MAX);
        let begun = Instant::now();
        for event in &events {
            table.apply(event, &mut |_| None);
        }
        spent += begun.elapsed();
        folded += events.len() as u64;
    }
    Ok(Some(folded as f64 / spent.as_secs_f64()))
}
