//! `simulate`: the real actors under seeded faults; parsers under seeded bytes; rollouts of known faults. Needs no project and no server.

use super::args::SimulateCommand;
use super::error::{CliError, Result};
use super::output;
use super::target::Context;
use crate::simulate::drift::{self, DriftOptions};
use crate::simulate::watching::{Sample, watching};
use crate::simulate::{self, Run, parsers};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub fn run(ctx: &Context, command: &SimulateCommand) -> Result {
    match command {
        SimulateCommand::System { seeds, seed } => system(ctx, *seeds, *seed),
        SimulateCommand::Parsers { inputs, target, seed } => parsers(ctx, *inputs, target.as_deref(), *seed),
        SimulateCommand::Drift { days, features, rows_per_window, windows_per_day, shift, seed } => drifting(
            ctx,
            &DriftOptions {
                days: *days,
                features: *features as usize,
                rows_per_window: *rows_per_window as usize,
                windows_per_day: *windows_per_day,
                shift: *shift,
                runs: 400,
                seed: *seed,
            },
        ),
        SimulateCommand::Monitor { predictions, seed } => watched(ctx, *predictions, *seed),
        SimulateCommand::Rollout(args) => super::simulate_rollout::run(ctx, args),
    }
}

/// Runs seeds; one that fails says its number, the step and the reason.
fn system(ctx: &Context, seeds: u64, only: Option<u64>) -> Result {
    let (first, n) = only.map_or((0, seeds), |seed| (seed, 1));
    let done = AtomicU64::new(0);
    let runs = simulate::seeds(first, n, &|run: &Run| {
        if let Some(failure) = &run.failure {
            ctx.note(&format!("seed {} fails at step {}: {}", run.seed, failure.step, failure.reason));
        }
        let done = done.fetch_add(1, Relaxed) + 1;
        if done.is_multiple_of(500) && done < n {
            ctx.note(&format!("{done} of {n} seeds"));
        }
    });
    let (mut fired, mut calls) = (BTreeMap::new(), BTreeMap::new());
    for run in &runs {
        run.fired.iter().for_each(|(name, n)| *fired.entry(*name).or_insert(0) += n);
        run.calls.iter().for_each(|(name, n)| *calls.entry(*name).or_insert(0) += n);
    }
    let inventory = simulate::inventory();
    let missed: Vec<_> = inventory.iter().filter(|name| !fired.contains_key(*name)).collect();
    let failed: Vec<_> = runs.iter().filter_map(|r| r.failure.as_ref().map(|f| (r, f))).collect();
    let steps: u64 = runs.iter().map(|r| r.steps).sum();
    if ctx.json {
        output::json(&json!({
            "seeds": n,
            "steps": steps,
            "failed": failed.iter().map(|(r, f)| json!({
                "seed": r.seed, "step": f.step, "reason": f.reason,
                "replay": format!("understudy simulate system --seed {}", r.seed),
            })).collect::<Vec<_>>(),
            "fault_points": {
                "reached": inventory.len() - missed.len(), "total": inventory.len(), "missed": missed, "fired": fired,
            },
            "calls": calls,
            "trace": only.and(runs.first()).map(|r| format!("{:016x}", r.hash)),
        }));
    } else {
        output::line(&format!("{n} seeds, {steps} steps: {} failed", failed.len()));
        output::line(&format!("fault points: {} of {} reached", inventory.len() - missed.len(), inventory.len()));
        for name in missed.iter().filter(|_| only.is_none()) {
            output::line(&format!("  not reached: {name}"));
        }
        if let Some(run) = only.and(runs.first()) {
            let lines = run.failure.iter().flat_map(|f| &f.trace);
            lines.for_each(|line| output::line(line));
            output::line(&format!("trace {:016x}", run.hash));
        }
    }
    match failed.first() {
        None => Ok(()),
        Some((run, failure)) => Err(CliError::new(format!(
            "{} of {n} seeds failed; the first is seed {} at step {}: {}",
            failed.len(),
            run.seed,
            failure.step,
            failure.reason
        ))
        .hint(format!("`understudy simulate system --seed {}` replays it and prints its last lines", run.seed))),
    }
}

/// Fails if what is held grows with what comes.
fn watched(ctx: &Context, predictions: u64, seed: u64) -> Result {
    let kib = |bytes: usize| bytes >> 10;
    let said = |s: &Sample| {
        format!(
            "{:>12} predictions: monitor {} KiB, feed {} KiB, process {} MiB",
            output::count(s.predictions),
            kib(s.monitor_bytes),
            kib(s.feed_bytes),
            s.resident_bytes >> 20
        )
    };
    let report = watching(predictions, seed, &|s| ctx.note(&said(s))).map_err(CliError::new)?;
    if ctx.json {
        output::json(&report);
    } else {
        report.samples.iter().for_each(|s| output::line(&said(s)));
        let cost = (report.ns_per_prediction, report.ns_per_event);
        output::line(&format!(
            "growth over the second half {:.3}; {} ns a prediction, {} ns an event",
            report.growth, cost.0, cost.1
        ));
    }
    match report.constant {
        true => Ok(()),
        false => Err(CliError::new(format!("what is held grew by {:.1} %", (report.growth - 1.0) * 100.0))),
    }
}

fn drifting(ctx: &Context, options: &DriftOptions) -> Result {
    let mut c = drift::drift(options);
    c.rates = [1e4, 1e5, 1e6].iter().map(|arl| drift::rates(*arl, options.seed)).collect();
    if ctx.json {
        output::json(&c);
        return Ok(());
    }
    output::line(&format!(
        "{} model-days without drift ({} features, {} windows of {} rows a day): {} false alarms, {:.2} per 100 days",
        c.model_days,
        options.features,
        options.windows_per_day,
        options.rows_per_window,
        c.false_alarms,
        c.false_alarms_per_100_days
    ));
    if c.model_days > 0 {
        let r = &c.other_rules;
        output::line(&format!(
            "  other rules, alarms a day: PSI > 0.1: {:.2}; p < 0.05: {:.2}; FDR 0.05: {:.2}; FDR 0.01: {:.2}; FDR 0.01 and debiased PSI > 0.1: {:.3}",
            r.psi_above_0_1, r.p_below_0_05, r.fdr_0_05, r.fdr_0_01, r.fdr_0_01_and_debiased_psi_above_0_1
        ));
    }
    if let (Some(shift), Some(detected), Some(noticed)) = (options.shift, c.detected, c.noticed) {
        let windows = |w: Option<u64>| w.map_or_else(|| "never".into(), |w| w.to_string());
        output::line(&format!(
            "shift of {shift} sd: {:.1} % found in one window ({:.1} % noticed); median windows to see it {}, until the alarm holds {}",
            detected * 100.0,
            noticed * 100.0,
            windows(c.windows_to_detect),
            windows(c.windows_to_alarm)
        ));
    }
    for r in &c.rates {
        let delays: Vec<String> = r
            .delays
            .iter()
            .map(|(rate, d, found)| format!("{:.0} %: {d} ({:.0} % found)", rate * 100.0, found * 100.0))
            .collect();
        output::line(&format!(
            "rate of 5 %, {:.0e} items between false alarms: {:.0} % of quiet streams alarm; items until a rise is seen: {}",
            r.items_between_false_alarms,
            r.false_alarm_streams * 100.0,
            delays.join(", ")
        ));
    }
    Ok(())
}

fn parsers(ctx: &Context, inputs: u64, only: Option<&str>, seed: u64) -> Result {
    let names = parsers::names();
    let chosen: Vec<_> = names.iter().copied().filter(|n| only.is_none_or(|o| o == *n)).collect();
    if chosen.is_empty() {
        let what = only.unwrap_or_default();
        return Err(CliError::usage(format!("no parser is named `{what}`; there are: {}", names.join(", "))));
    }
    // What panics is counted and told with its input; thousands of backtraces would hide that.
    std::panic::set_hook(Box::new(|_| {}));
    let mut campaigns = Vec::new();
    for name in chosen {
        let done = parsers::campaign(name, seed, inputs).expect("the name is one of the targets");
        if !ctx.json {
            output::line(&format!(
                "{:13} {} inputs, {} taken, {} panics, {} hangs, {} over-allocations; slowest {} us, most held {} KiB",
                done.target,
                done.inputs,
                done.accepted,
                done.panics,
                done.hangs,
                done.over_allocations,
                done.slowest_us,
                done.peak_bytes >> 10
            ));
            for f in &done.findings {
                output::line(&format!("  --target {name} --seed {} --inputs 1: {}: {}", f.seed, f.what, f.input));
            }
        }
        campaigns.push(done);
    }
    let failed: Vec<_> = campaigns.iter().filter(|c| !c.holds()).map(|c| c.target).collect();
    if ctx.json {
        output::json(&json!({"inputs": inputs, "seed": seed, "failed": failed, "targets": campaigns}));
    }
    if failed.is_empty() { Ok(()) } else { Err(CliError::new(format!("findings in: {}", failed.join(", ")))) }
}
