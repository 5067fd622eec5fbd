//! Fine bins of one feature: fixed once, so that counts of different windows can be added and compared.

use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Fine quantile bins of a number; a multiple of the bins that are compared, so that those are exact deciles.
const FINE: usize = 40;
/// Categories counted by name; the rest is one bin.
const TOP: usize = 20;
/// Bins beyond either end of the reference, each twice as wide as the one before; the first is a quarter of the range.
const BEYOND: usize = 5;

/// Index of the bin of missing values, of every feature.
pub const MISSING: usize = 0;

/// How the values of one feature fall into bins. Bin 0 is for missing values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binning {
    /// Ascending upper ends, each inclusive; the last bin has none.
    Numeric { edges: Vec<f64> },
    /// One bin each, and a last one for all others.
    Category { names: Vec<String> },
}

impl Binning {
    /// Quantile bins of a sample. A value that makes up more than a bin gets one of its own: equal quantiles are one
    /// edge. Infinite values and NaN are left out.
    pub fn numeric(mut sample: Vec<f64>) -> Binning {
        sample.retain(|x| x.is_finite());
        if sample.is_empty() {
            return Binning::Numeric { edges: Vec::new() };
        }
        sample.sort_unstable_by(f64::total_cmp);
        let last = sample.len() - 1;
        let mut edges: Vec<f64> =
            (0..=FINE).map(|i| sample[(last as f64 * i as f64 / FINE as f64).round() as usize]).collect();
        let atoms: Vec<f64> = edges.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].next_down()).collect();
        edges.extend(atoms);
        let at = |q: f64| sample[(last as f64 * q).round() as usize];
        let range = (at(0.99) - at(0.01)).max(sample[last] - sample[0]).min(f64::MAX / 64.0);
        let mut step = range / 4.0;
        for _ in 0..BEYOND {
            edges.push(sample[0] - step);
            edges.push(sample[last] + step);
            step *= 2.0;
        }
        edges.retain(|x| x.is_finite());
        edges.sort_unstable_by(f64::total_cmp);
        edges.dedup();
        Binning::Numeric { edges }
    }

    /// One bin for each whole number of a sample, and as many again around it: hours, weekdays and small counts, of which
    /// a short sample shows a part. `None` if there are others or too many.
    pub fn whole(sample: &[f64]) -> Option<Binning> {
        let (least, most) = sample.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
        let few = most - least <= FINE as f64 && least.abs() < 1e9;
        (few && sample.iter().all(|x| x.fract() == 0.0)).then(|| {
            let around = (FINE as f64 - (most - least)) / 2.0;
            let first = (least - around.floor()) as i64;
            Binning::Numeric { edges: (first..=first + FINE as i64).map(|x| x as f64).collect() }
        })
    }

    /// The most frequent categories, ties by name.
    pub fn category(counts: &BTreeMap<&str, u64>) -> Binning {
        let mut all: Vec<(&str, u64)> = counts.iter().map(|(t, n)| (*t, *n)).collect();
        all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all.truncate(TOP);
        Binning::Category { names: all.into_iter().map(|(t, _)| t.to_string()).collect() }
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        2 + match self {
            Binning::Numeric { edges } => edges.len(),
            Binning::Category { names } => names.len(),
        }
    }

    /// Bin of a value. A boolean is the number 0 or 1; a value of the wrong type counts as missing.
    pub fn of(&self, value: &Value) -> usize {
        match self {
            Binning::Numeric { .. } => value.as_f64().map_or(MISSING, |x| self.of_number(x)),
            Binning::Category { .. } => value.as_str().map_or(MISSING, |t| self.of_text(t)),
        }
    }

    /// Bin of a number; missing if it is not finite, or if categories are counted.
    pub fn of_number(&self, x: f64) -> usize {
        match self {
            Binning::Numeric { edges } if x.is_finite() => 1 + edges.partition_point(|e| *e < x),
            _ => MISSING,
        }
    }

    /// Bin of a category; missing if numbers are counted.
    pub fn of_text(&self, text: &str) -> usize {
        match self {
            Binning::Category { names } => 1 + names.iter().position(|n| n == text).unwrap_or(names.len()),
            Binning::Numeric { .. } => MISSING,
        }
    }

    /// Bins in words, from the first to the last of a group.
    pub fn label(&self, first: usize, last: usize) -> String {
        if first == MISSING {
            return "missing".into();
        }
        match self {
            Binning::Category { names } => names.get(first - 1).cloned().unwrap_or_else(|| "other".into()),
            Binning::Numeric { edges } => {
                let below = first.checked_sub(2).and_then(|i| edges.get(i)).map(|x| short(*x));
                let upto = edges.get(last - 1).map(|x| short(*x));
                match (below, upto) {
                    (None, None) => "any".into(),
                    (None, Some(b)) => format!("<= {b}"),
                    (Some(a), None) => format!("> {a}"),
                    (Some(a), Some(b)) if a == b => b,
                    (Some(a), Some(b)) => format!("{a} .. {b}"),
                }
            }
        }
    }
}

/// A number with four significant digits.
pub(super) fn short(x: f64) -> String {
    let digits = if x == 0.0 { 0 } else { (3 - x.abs().log10().floor() as i64).clamp(0, 6) as usize };
    let text = format!("{x:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}
