//! A demo's report: weeks, totals and challengers as one page.

use super::Run;
use super::totals::{self, Reference};
use super::weeks::{self, Figures};
use crate::cli::args::DemoArgs;
use crate::cli::output::{self, count};
use crate::report;
use std::path::Path;

/// The report's content.
pub fn describe(project: &Path, args: &DemoArgs, run: &Run, reference: &[Reference]) -> report::Report {
    let series = |of: fn(&Figures) -> Option<f64>| -> Vec<report::Series> {
        let values = |m: &String| run.weeks.iter().map(|w| w.models.get(m).and_then(of)).collect();
        run.models.iter().map(|m| report::Series { name: m.clone(), values: values(m) }).collect()
    };
    let one = |name: &str, values: Vec<Option<f64>>| vec![report::Series { name: name.into(), values }];
    let plot = |title: &str, unit: &str, series| report::Plot { title: title.into(), unit: unit.into(), series };
    let first = |of: fn(&Figures) -> Option<f64>| run.weeks.iter().map(|w| of(&w.first)).collect::<Vec<_>>();
    let fact = |k: &str, v: String| (k.to_string(), v);
    report::Report {
        title: "How good was every week?".into(),
        subtitle: format!(
            "{} replayed through one Understudy server: features, validation, prediction, log, outcomes and monitoring are the ones that serve live.",
            project.file_name().map_or_else(|| "A recording".into(), |n| n.to_string_lossy().into_owned())
        ),
        facts: vec![
            fact("run", if args.quick { "quick".into() } else { "whole recording".into() }),
            fact("stream until", run.last.to_string()),
            fact("events", count(run.tally.lines)),
            fact("predictions", count(run.tally.predictions)),
            fact("rejected lines", count(run.tally.rejected)),
            fact("wall time", format!("{:.1} s", run.wall_s)),
            fact("of it training", format!("{:.1} s", run.train_s)),
            fact("version", env!("CARGO_PKG_VERSION").into()),
        ],
        tables: vec![
            report::Table {
                title: "Whole run".into(),
                note: match reference {
                    [] => "Over all requests with an outcome.".into(),
                    _ => {
                        "Over all requests with an outcome. Reference: an independent implementation on the same rows."
                            .into()
                    }
                },
                headers: totals::HEADERS.map(str::to_string).to_vec(),
                rows: totals::rows(&run.totals, &run.algorithms, reference),
            },
            calibration(run),
            rolled_out(run),
        ],
        x: run.weeks.iter().map(|w| w.week.clone()).collect(),
        plots: vec![
            plot("Discrimination", "AUC", series(|f| f.auc)),
            plot("Log loss", "nats", series(|f| f.log_loss)),
            plot("Calibration error", "ECE", series(|f| f.ece)),
            plot("Positive share and mean score", "share", {
                let mut s = series(|f| f.mean_score);
                s.extend(one("observed", first(|f| f.positive_share)));
                s
            }),
            plot("Traffic", "requests per week", one("requests", first(|f| Some(f.requests as f64)))),
            plot("Latency, first model", "microseconds", {
                let mut s = one("p50", first(|f| f.p50_us));
                s.extend(one("p99", first(|f| f.p99_us)));
                s
            }),
        ],
    }
}

/// What was said beside what came: one line per week and model.
fn calibration(run: &Run) -> report::Table {
    let mut rows = Vec::new();
    for w in &run.weeks {
        for (m, f) in &w.models {
            let gap = f.mean_score.zip(f.positive_share).map(|(s, o)| s - o);
            rows.push(vec![
                w.week.clone(),
                m.clone(),
                count(f.n),
                weeks::some(f.mean_score, 4),
                weeks::some(f.positive_share, 4),
                gap.map_or_else(|| "-".into(), |g| format!("{g:+.4}")),
            ]);
        }
    }
    report::Table {
        title: "Said and seen".into(),
        note: "Mean score beside the observed positive share; a calibrated model keeps the gap near zero.".into(),
        headers: ["week", "model", "n", "mean score", "observed", "gap"].map(str::to_string).to_vec(),
        rows,
    }
}

/// The challengers, step by step.
fn rolled_out(run: &Run) -> report::Table {
    let mut rows = Vec::new();
    for told in &run.rollouts {
        for step in told.report["timeline"].as_array().into_iter().flatten() {
            let of = |key: &str| output::cell(&step[key]);
            rows.push(vec![told.name.clone(), of("at"), of("standing"), of("share"), of("reason")]);
        }
    }
    report::Table {
        title: "Challengers".into(),
        note: "What was rolled out meanwhile; each step was decided by the server itself.".into(),
        headers: ["challenger", "time", "state", "share", "reason"].map(str::to_string).to_vec(),
        rows,
    }
}
