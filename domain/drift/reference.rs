//! What windows are compared with: the training rows of a version, counted in bins.

use super::bins::Binning;
use super::compare::compare;
use crate::model::Signature;
use crate::time::{Span, Timestamp};
use crate::value::{Value, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the score among the columns.
pub const SCORE: &str = "(score)";
/// Windows inside the reference with fewer rows say nothing of how it differs from itself.
const MIN_ROWS: u32 = 200;

/// A row of the reference.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'a> {
    pub time: Timestamp,
    pub vector: &'a [Value],
    pub score: Option<f64>,
}

/// The reference of one version: its features in signature order, then the score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub rows: u64,
    /// Length of a window, and after how long the same hour comes again.
    pub window: Span,
    pub period: Span,
    pub columns: Vec<Column>,
}

/// One feature of the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub binning: Binning,
    /// By phase of the period: windows shorter than it are compared with the same hours only.
    pub phases: Vec<Vec<u32>>,
    /// How much a tenth of the reference's own windows differ from the rest of it, beyond chance: slow features and
    /// seasons differ from themselves, and that is no drift.
    pub floor: f64,
}

impl Reference {
    /// Counts `rows`, which are in order of time, by windows of `window`. Windows at least as long as `period` are
    /// compared with all of the reference.
    pub fn build<'a>(
        signature: &Signature,
        rows: impl Iterator<Item = Sampled<'a>> + Clone,
        window: Span,
        period: Span,
    ) -> Reference {
        let features: Vec<(&str, bool)> =
            signature.features.iter().map(|f| (f.name.as_str(), f.kind == ValueType::Category)).collect();
        let scores = rows.clone().any(|r| r.score.is_some());
        let score = scores.then_some((SCORE, false));
        let mut out = Reference { rows: rows.clone().count() as u64, window, period, columns: Vec::new() };
        for (i, (name, text)) in features.into_iter().chain(score).enumerate() {
            let values = rows.clone().map(|r| (r.time, value(&r, i, name)));
            out.columns.push(column(name, text, values, &out));
        }
        out
    }

    /// Which of a column's phases a window that starts at `start` is compared with.
    pub fn phase(&self, start: Timestamp) -> usize {
        phase(start, self.window, self.period)
    }

    /// A fresh set of counts.
    pub fn blank(&self) -> Vec<Vec<u32>> {
        self.columns.iter().map(|c| vec![0; c.binning.bins()]).collect()
    }
}

impl Column {
    /// Counts to compare a window of this phase with.
    pub fn counts(&self, phase: usize) -> &[u32] {
        self.phases.get(phase).or(self.phases.first()).map_or(&[], Vec::as_slice)
    }
}

fn phases(window: Span, period: Span) -> usize {
    if window.0 <= 0 || window >= period { 1 } else { (period.0 / window.0).clamp(1, 24 * 7) as usize }
}

fn phase(start: Timestamp, window: Span, period: Span) -> usize {
    match phases(window, period) {
        1 => 0,
        n => ((start.0 - start.floor(period).0) / window.0) as usize % n,
    }
}

fn value(row: &Sampled<'_>, column: usize, name: &str) -> Value {
    match row.score {
        Some(score) if name == SCORE && column >= row.vector.len() => Value::Float(score),
        _ => row.vector.get(column).cloned().unwrap_or_default(),
    }
}

fn column(
    name: &str,
    text: bool,
    values: impl Iterator<Item = (Timestamp, Value)> + Clone,
    reference: &Reference,
) -> Column {
    let binning = if text {
        let all: Vec<Value> = values.clone().map(|(_, v)| v).collect();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        all.iter().filter_map(Value::as_str).for_each(|t| *counts.entry(t).or_default() += 1);
        Binning::category(&counts)
    } else {
        Binning::numeric(values.clone().filter_map(|(_, v)| v.as_f64()).collect())
    };
    let (window, period) = (Span(reference.window.0.max(1)), reference.period);
    let mut all = vec![vec![0; binning.bins()]; phases(window, period)];
    let mut windows: BTreeMap<Timestamp, Vec<u32>> = BTreeMap::new();
    for (time, v) in values {
        let (bin, start) = (binning.of(&v), time.floor(window));
        all[phase(start, window, period)][bin] += 1;
        windows.entry(start).or_insert_with(|| vec![0; binning.bins()])[bin] += 1;
    }
    let own = windows
        .iter()
        .filter(|(_, w)| w.iter().sum::<u32>() >= MIN_ROWS)
        .filter_map(|(start, w)| {
            let rest: Vec<u32> = all[phase(*start, window, period)].iter().zip(w).map(|(a, b)| a - b).collect();
            compare(&binning, &rest, w).map(|c| c.effect - c.noise)
        })
        .collect();
    Column { name: name.to_string(), binning, phases: all, floor: upper_decile(own).max(0.0) }
}

/// The value that a tenth reaches; 0 for none.
pub(super) fn upper_decile(mut effects: Vec<f64>) -> f64 {
    effects.sort_unstable_by(f64::total_cmp);
    effects.get((effects.len() as f64 * 0.9) as usize).copied().unwrap_or(0.0)
}
