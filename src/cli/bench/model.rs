//! `bench model`: what one call of a model takes in this process, without any server around it.

use super::histogram::Histogram;
use crate::cli::args::ModelBenchArgs;
use crate::cli::error::{CliError, Result};
use crate::cli::model_rows;
use crate::cli::output::{json, put};
use crate::cli::table;
use crate::cli::target::Context;
use crate::runtime::artefact::GOLDEN;
use crate::runtime::folder::{Folder, numbers};
use serde_json::json;
use std::hint::black_box;
use std::time::{Duration, Instant};
use understudy_domain::trees::Scratch;
use understudy_domain::value::Value;

/// Rows made up where none are given.
const EXAMPLES: usize = 1000;
/// Calls before the first that counts, by time.
const WARM_UP: Duration = Duration::from_millis(200);

pub fn run(ctx: &Context, args: &ModelBenchArgs) -> Result {
    let folder = Folder::open(&args.model).map_err(CliError::new)?;
    let golden = args.model.join(GOLDEN);
    let path = args.rows.clone().or_else(|| golden.exists().then_some(golden));
    let vectors = match &path {
        Some(path) => model_rows::read(path, folder.signature())?.vectors,
        None => Vec::new(),
    };
    let time = Duration::from_secs(args.seconds.into());
    let batch = args.batch as usize;
    let took = match &folder {
        Folder::Plain { ensemble, .. } => {
            let rows: std::result::Result<Vec<Vec<f64>>, String> =
                vectors.iter().map(|v| numbers(v, ensemble.features())).collect();
            let rows = match rows.map_err(CliError::new)?.concat() {
                none if none.is_empty() => ensemble.example_rows(EXAMPLES),
                rows => rows,
            };
            let (mut scratch, mut out) = (Scratch::default(), Vec::new());
            let calls = calls(&rows, ensemble.features(), batch);
            measure(&calls, time, |rows| {
                if batch == 1 {
                    black_box(ensemble.predict_one(rows, &mut scratch));
                } else {
                    out.clear();
                    ensemble.predict_batch(rows, &mut scratch, &mut out);
                    black_box(&out);
                }
            })
        }
        _ if vectors.is_empty() => {
            return Err(CliError::new("there are no rows to ask").hint("give some with --rows FILE"));
        }
        Folder::Served(runtime) => {
            let slices: Vec<&[Value]> = vectors.iter().map(Vec::as_slice).collect();
            runtime.predict(&slices).map_err(CliError::new)?;
            measure(&calls(&slices, 1, batch), time, |rows| drop(black_box(runtime.predict(rows))))
        }
        Folder::Values { trees, .. } => {
            let slices: Vec<&[Value]> = vectors.iter().map(Vec::as_slice).collect();
            trees.answers(&slices, |_| ()).map_err(CliError::new)?;
            let each = |answer: &[f64]| {
                black_box(answer);
            };
            measure(&calls(&slices, 1, batch), time, |rows| drop(trees.answers(rows, each)))
        }
    };
    let us = |q: f64| took.quantile_us(q).unwrap_or(0.0);
    let result = json!({
        "model": folder.what(),
        "batch": batch,
        "calls": took.count(),
        "p50_us": us(0.5),
        "p99_us": us(0.99),
        "rows_per_s": (batch as f64 * 1e6 / us(0.5).max(1e-3)).round(),
    });
    if ctx.json {
        json(&result)
    } else {
        put(&table::pairs(&result))
    }
    Ok(())
}

/// The rows of each call, `batch` of `width` items, over and over until all began one once.
fn calls<T: Clone>(rows: &[T], width: usize, batch: usize) -> Vec<Vec<T>> {
    let n = rows.len() / width;
    let starts = (0..n).step_by(batch);
    let row = |i: usize| &rows[(i % n) * width..][..width];
    starts.map(|start| (start..start + batch).flat_map(row).cloned().collect()).collect()
}

fn measure<T>(calls: &[Vec<T>], time: Duration, mut call: impl FnMut(&[T])) -> Histogram {
    let mut took = Histogram::new();
    let mut inputs = calls.iter().cycle();
    let begun = Instant::now();
    let end = WARM_UP + time;
    while begun.elapsed() < end {
        // The clock of the loop is read once for many calls; each call has its own.
        for rows in inputs.by_ref().take(64) {
            let started = Instant::now();
            call(rows);
            let ns = started.elapsed().as_nanos() as u64;
            if begun.elapsed() > WARM_UP {
                took.record(ns);
            }
        }
    }
    took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_around() {
        assert_eq!(calls(&[1, 2, 3], 1, 1), [[1], [2], [3]]);
        assert_eq!(calls(&[1, 2, 3], 1, 2), [[1, 2], [3, 1]]);
        assert_eq!(calls(&[1, 2, 3, 4], 2, 3), [[1, 2, 3, 4, 1, 2]]);
    }
}
