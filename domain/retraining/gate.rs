//! The gate: a challenger against the champion on the same held-out rows, both scored afresh.
//!
//! Differences in loss hang together within a day, so days are what is resampled. The lower bound is an expanded
//! percentile of the block bootstrap (Hesterberg 2015): with few days the plain percentile lets too many equal
//! challengers through. Of k challengers on one holdout each gets a k-th of the error (Bonferroni).

use super::random::{Random, normal_cdf, student_quantile};
use crate::metrics::{ece, log_loss_of};
use crate::model::Signature;
use crate::time::{Span, Timestamp};
use crate::value::{Value, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Days that a holdout needs: fewer are no sample of days.
pub const MIN_DAYS: usize = 7;
const RESAMPLES: usize = 2000;
/// Error of the whole gate.
const ALPHA: f64 = 0.05;
/// Share of the champion's loss that a refresh may lose.
const REFRESH_SLACK: f64 = 0.005;
/// Slices looked at, their least rows, and the relative loss that is too much in one.
const SLICES: usize = 10;
const SLICE_ROWS: usize = 200;
const SLICE_SLACK: f64 = 0.05;
/// How much worse the calibration error may be.
const ECE_SLACK: f64 = 0.01;
/// How much larger than the champion an artefact may be.
const SIZE_FACTOR: f64 = 1.5;

/// What the challenger has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateKind {
    /// The champion is not good enough: it must be beaten.
    Improve,
    /// The champion is old: its successor must be no worse than half a percent of the loss.
    Refresh,
}

/// A held-out row, scored by both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub time: Timestamp,
    pub label: bool,
    pub champion: f64,
    pub challenger: f64,
}

/// Everything one judgement needs. `slices` are row numbers by name, from [`Gate::slices`].
pub struct Gate<'a> {
    pub kind: GateKind,
    pub rows: &'a [Judged],
    pub slices: &'a [(String, Vec<usize>)],
    /// Judged on this same holdout, with this one.
    pub challengers: usize,
    pub seed: u64,
    /// Memory of champion and challenger.
    pub bytes: (usize, usize),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub passed: bool,
    pub line: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub passed: bool,
    pub kind: GateKind,
    pub rows: u64,
    pub days: u64,
    /// Mean log loss of each on the holdout.
    pub champion_loss: f64,
    pub challenger_loss: f64,
    /// Lower bound of champion's minus challenger's mean loss.
    pub lower: f64,
    /// Share of the challenger's wrong labels on the holdout.
    pub challenger_wrong: f64,
    pub checks: Vec<Check>,
}

/// Sums of one day: (difference, champion's loss, rows).
type Day = (f64, f64, f64);

impl Gate<'_> {
    /// The most frequent values of the category features among these vectors: at most ten slices of enough rows.
    pub fn slices<'v>(signature: &Signature, rows: impl Iterator<Item = &'v [Value]>) -> Vec<(String, Vec<usize>)> {
        let mut of: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
        let categories: Vec<usize> =
            (0..signature.features.len()).filter(|i| signature.features[*i].kind == ValueType::Category).collect();
        for (n, row) in rows.enumerate() {
            for c in &categories {
                if let Some(text) = row.get(*c).and_then(Value::as_str) {
                    of.entry((*c, text.to_owned())).or_default().push(n);
                }
            }
        }
        let mut all: Vec<_> = of.into_iter().filter(|(_, rows)| rows.len() >= SLICE_ROWS).collect();
        all.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len())); // stable: ties stay in order of name
        all.truncate(SLICES);
        let named = |(c, text): (usize, String)| format!("{} = {text}", signature.features[c].name);
        all.into_iter().map(|(key, rows)| (named(key), rows)).collect()
    }
}

/// The verdict; the same inputs and seed give the same one. `threshold` is the model's.
pub fn judge(gate: &Gate<'_>, threshold: f64) -> Verdict {
    let n = gate.rows.len();
    let days = by_day(gate.rows.iter());
    let champion_loss = mean(gate.rows.iter().map(|r| log_loss_of(r.champion, r.label)));
    let challenger_loss = mean(gate.rows.iter().map(|r| log_loss_of(r.challenger, r.label)));
    let alpha = ALPHA / gate.challengers.max(1) as f64;
    let blocks: Vec<(f64, f64)> = days.values().map(|d| (d.0, d.2)).collect();
    let lower = lower_bound(&blocks, alpha, gate.seed);
    let floor = match gate.kind {
        GateKind::Improve => 0.0,
        GateKind::Refresh => -REFRESH_SLACK * champion_loss,
    };
    let check = |name: &str, passed: bool, line: String| Check { name: name.into(), passed, line };
    let mut checks = vec![
        check("days", days.len() >= MIN_DAYS, format!("{n} rows of {} days; {MIN_DAYS} days are needed", days.len())),
        check(
            "loss",
            lower > floor,
            format!(
                "loss {challenger_loss:.4} against {champion_loss:.4}; gain at least {lower:+.5} at {:.1} %, must exceed {floor:+.5}",
                (1.0 - alpha) * 100.0
            ),
        ),
    ];
    checks.push(slice_check(gate));
    let labels: Vec<bool> = gate.rows.iter().map(|r| r.label).collect();
    let of = |f: fn(&Judged) -> f64| ece(&gate.rows.iter().map(f).collect::<Vec<_>>(), &labels, 10);
    let (before, after) = (of(|r| r.champion), of(|r| r.challenger));
    checks.push(check(
        "calibration",
        after <= before + ECE_SLACK,
        format!("calibration error {after:.4} against {before:.4}; {ECE_SLACK} more is too much"),
    ));
    let (mine, theirs) = (gate.bytes.1, gate.bytes.0.max(1));
    checks.push(check(
        "size",
        mine as f64 <= theirs as f64 * SIZE_FACTOR,
        format!("{mine} bytes against {theirs}; {SIZE_FACTOR} times is too much"),
    ));
    Verdict {
        passed: checks.iter().all(|c| c.passed),
        kind: gate.kind,
        rows: n as u64,
        days: days.len() as u64,
        champion_loss,
        challenger_loss,
        lower,
        challenger_wrong: mean(gate.rows.iter().map(|r| f64::from(u8::from((r.challenger >= threshold) != r.label)))),
        checks,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0u64);
    for v in values {
        (sum, n) = (sum + v, n + 1);
    }
    sum / n.max(1) as f64
}

fn by_day<'r>(rows: impl Iterator<Item = &'r Judged>) -> BTreeMap<Timestamp, Day> {
    let mut days: BTreeMap<Timestamp, Day> = BTreeMap::new();
    for r in rows {
        let champion = log_loss_of(r.champion, r.label);
        let day = days.entry(r.time.floor(Span::days(1))).or_default();
        day.0 += champion - log_loss_of(r.challenger, r.label);
        day.1 += champion;
        day.2 += 1.0;
    }
    days
}

/// Means of the resampled blocks (sum, rows), sorted.
fn resample(blocks: &[(f64, f64)], seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut sum, mut n) = (0.0, 0.0);
            for _ in 0..blocks.len() {
                let b = blocks[random.below(blocks.len())];
                (sum, n) = (sum + b.0, n + b.1);
            }
            sum / f64::max(n, 1.0)
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    means
}

/// Lower bound at `alpha` of the mean per row; negative infinity for fewer than two blocks.
fn lower_bound(blocks: &[(f64, f64)], alpha: f64, seed: u64) -> f64 {
    if blocks.len() < 2 {
        return f64::MIN;
    }
    let d = blocks.len() as f64;
    let expanded = normal_cdf(student_quantile(alpha, d - 1.0) * (d / (d - 1.0)).sqrt());
    let means = resample(blocks, seed);
    means[((expanded * RESAMPLES as f64) as usize).min(RESAMPLES - 1)]
}

/// No slice may be worse by more than 5 % of its loss, beyond chance: one-sided bootstrap by day in each slice, false
/// discovery rate 5 % over the slices (Benjamini and Hochberg 1995).
fn slice_check(gate: &Gate<'_>) -> Check {
    let mut found: Vec<(f64, f64, &str)> = Vec::new();
    for (i, (name, rows)) in gate.slices.iter().enumerate() {
        let days = by_day(rows.iter().map(|r| &gate.rows[*r]));
        if days.len() < 2 {
            continue;
        }
        let blocks: Vec<(f64, f64)> = days.values().map(|d| (d.0 + SLICE_SLACK * d.1, d.2)).collect();
        let means = resample(&blocks, gate.seed.wrapping_add(i as u64 + 1));
        let tolerable = means.iter().filter(|m| **m >= 0.0).count();
        let total = days.values().fold((0.0, 0.0), |s, d| (s.0 + d.0, s.1 + d.1));
        found.push(((tolerable + 1) as f64 / (RESAMPLES + 1) as f64, -total.0 / total.1, name));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let m = found.len() as f64;
    let rejected = found.iter().enumerate().rev().find(|(i, f)| f.0 <= ALPHA * (*i + 1) as f64 / m).map(|(i, _)| i + 1);
    let worst = found.iter().map(|f| (f.1, f.2)).max_by(|a, b| a.0.total_cmp(&b.0));
    let line = match (worst, rejected) {
        (None, _) => "no slice has enough rows".to_owned(),
        (Some((by, name)), None) => format!("{} slices; the worst is {name}: loss {:+.1} %", found.len(), by * 100.0),
        (Some(_), Some(k)) => {
            let names: Vec<String> = found[..k].iter().map(|f| format!("{} {:+.1} %", f.2, f.1 * 100.0)).collect();
            format!("worse by more than {:.0} % beyond chance: {}", SLICE_SLACK * 100.0, names.join(", "))
        }
    };
    Check { name: "slices".into(), passed: rejected.is_none(), line }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
