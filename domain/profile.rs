//! The reference profile: what the training data looked like, feature by feature.
//!
//! Built once from the training rows, stored with the model version; deterministic.

use crate::drift::{Reference, Sampled};
use crate::model::Signature;
use crate::project::DriftSpec;
use crate::time::Timestamp;
use crate::value::{Value, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Probabilities at which quantiles are kept.
pub const QUANTILES: [f64; 19] =
    [0.0, 1e-4, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// Categories counted one by one; the rarer rest is `FeatureProfile::others`.
pub const MAX_CATEGORIES: usize = 10_000;

/// What the training data looked like, feature by feature, in signature order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReferenceProfile {
    pub rows: u64,
    /// (name, profile) in signature order.
    pub features: Vec<FeatureProfile>,
    /// Quantiles of the score on the training rows, at `QUANTILES`.
    pub scores: Vec<f64>,
    /// What windows are compared with; versions older than this field bring none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Reference>,
}

/// One feature of the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureProfile {
    pub name: String,
    pub nulls: u64,
    pub kind: ProfileKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ProfileKind {
    /// Quantiles at `QUANTILES`, of the non-null values.
    Numeric { mean: f64, std: f64, quantiles: Vec<f64> },
    /// Count by category, of the non-null values.
    Category { counts: std::collections::BTreeMap<String, u64> },
}

impl ReferenceProfile {
    /// Profile of `rows` (vectors in signature order) and of their `scores`. A boolean is the number
    /// 0 or 1; a value of the wrong type counts as null. Of more than `MAX_CATEGORIES` categories
    /// the most frequent are kept, ties by name.
    pub fn build<'a>(
        signature: &Signature,
        rows: impl IntoIterator<Item = &'a [Value]>,
        scores: &[f64],
    ) -> ReferenceProfile {
        let mut columns: Vec<Column<'a>> = signature
            .features
            .iter()
            .map(|f| match f.kind {
                ValueType::Category => Column::Text(BTreeMap::new()),
                _ => Column::Numbers(Vec::new()),
            })
            .collect();
        let mut nulls = vec![0; columns.len()];
        let mut count = 0;
        for row in rows {
            count += 1;
            for (i, column) in columns.iter_mut().enumerate() {
                nulls[i] += u64::from(!column.push(row.get(i).unwrap_or(&Value::Null)));
            }
        }
        let features = signature
            .features
            .iter()
            .zip(columns)
            .zip(nulls)
            .map(|((f, column), nulls)| FeatureProfile { name: f.name.clone(), nulls, kind: column.finish() })
            .collect();
        ReferenceProfile { rows: count, features, scores: grid(scores.to_vec()), drift: None }
    }
}

impl ReferenceProfile {
    /// Adds what windows will be compared with. `times` are those of the rows, in order; `spec` says how long the
    /// windows will be.
    pub fn with_drift(
        mut self,
        signature: &Signature,
        times: &[Timestamp],
        rows: &[&[Value]],
        scores: &[f64],
        spec: &DriftSpec,
    ) -> ReferenceProfile {
        let sampled = rows.iter().zip(times).enumerate().map(|(i, (vector, time))| Sampled {
            time: *time,
            vector,
            score: scores.get(i).copied(),
        });
        self.drift = Some(Reference::build(signature, sampled, spec.window, spec.period));
        self
    }
}

impl FeatureProfile {
    /// Values of categories that are not listed, given the profile's number of rows; 0 for numbers.
    pub fn others(&self, rows: u64) -> u64 {
        match &self.kind {
            ProfileKind::Numeric { .. } => 0,
            ProfileKind::Category { counts } => rows.saturating_sub(self.nulls).saturating_sub(counts.values().sum()),
        }
    }
}

enum Column<'a> {
    Numbers(Vec<f64>),
    Text(BTreeMap<&'a str, u64>),
}

impl<'a> Column<'a> {
    /// False for a null.
    fn push(&mut self, value: &'a Value) -> bool {
        match (self, value.as_f64(), value.as_str()) {
            (Column::Numbers(xs), Some(x), _) if x.is_finite() => xs.push(x),
            (Column::Text(counts), _, Some(t)) => *counts.entry(t).or_default() += 1,
            _ => return false,
        }
        true
    }

    fn finish(self) -> ProfileKind {
        match self {
            Column::Numbers(xs) => {
                let n = xs.len().max(1) as f64;
                let mean = xs.iter().map(|x| x / n).sum::<f64>();
                let std = (xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
                // A spread beyond the range of a float is kept finite, so that it survives JSON.
                ProfileKind::Numeric { mean, std: std.min(f64::MAX), quantiles: grid(xs) }
            }
            Column::Text(counts) => {
                let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
                // Stable: ties stay in name order.
                counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
                counts.truncate(MAX_CATEGORIES);
                ProfileKind::Category { counts: counts.into_iter().map(|(t, n)| (t.to_string(), n)).collect() }
            }
        }
    }
}

/// Quantiles at `QUANTILES`, empty for no data. Each is a value of the sample, rounded outward (down
/// below the median, up above it), so that the share of the sample strictly beyond the quantile at q
/// is at most q, however small the sample; the median is interpolated.
fn grid(mut xs: Vec<f64>) -> Vec<f64> {
    xs.retain(|x| x.is_finite());
    if xs.is_empty() {
        return Vec::new();
    }
    xs.sort_unstable_by(f64::total_cmp);
    let last = xs.len() - 1;
    QUANTILES
        .iter()
        .map(|q| {
            let at = last as f64 * q;
            let (down, up) = (xs[at.floor() as usize], xs[(at.ceil() as usize).min(last)]);
            match q.total_cmp(&0.5) {
                std::cmp::Ordering::Less => down,
                std::cmp::Ordering::Equal => down / 2.0 + up / 2.0,
                std::cmp::Ordering::Greater => up,
            }
        })
        .collect()
}
