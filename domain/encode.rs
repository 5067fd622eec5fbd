//! From a feature vector to the numbers of a network's input.
//!
//! Numeric features: median imputation, clip at the outer 0.1 % of the training rows, standardised, with
//! a flag "was missing" where more than 1 % were. Categories: one position each; an unseen one is all zeros.

use crate::model::Signature;
use crate::value::{Value, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Share of the training rows clipped at each end of a numeric feature.
const CLIP: f64 = 0.001;
/// Share of missing values above which "missing" becomes an input of its own.
const FLAG_FROM: f64 = 0.01;

/// Fitted once on the training rows; part of the artefact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    columns: Vec<Column>,
}

/// How one feature is encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Column {
    Numeric {
        median: f64,
        low: f64,
        high: f64,
        mean: f64,
        std: f64,
        missing: bool,
    },
    /// Sorted.
    Category {
        vocabulary: Vec<String>,
    },
}

impl Column {
    fn width(&self) -> usize {
        match self {
            Column::Numeric { missing, .. } => 1 + usize::from(*missing),
            Column::Category { vocabulary } => vocabulary.len(),
        }
    }

    fn numeric<'a>(rows: impl Iterator<Item = &'a Value> + Clone) -> Column {
        let total = rows.clone().count();
        let mut seen: Vec<f64> = rows.clone().filter_map(Value::as_f64).filter(|x| x.is_finite()).collect();
        seen.sort_by(f64::total_cmp);
        if seen.is_empty() {
            return Column::Numeric { median: 0.0, low: 0.0, high: 0.0, mean: 0.0, std: 1.0, missing: total > 0 };
        }
        let at = |q: f64| seen[((seen.len() - 1) as f64 * q).round() as usize];
        let (median, low, high) = (at(0.5), at(CLIP), at(1.0 - CLIP));
        let filled = || rows.clone().map(|v| v.as_f64().filter(|x| x.is_finite()).unwrap_or(median).max(low).min(high));
        // Divided before they are added and squared, so that huge values stay finite.
        let mean = filled().map(|x| x / total as f64).sum::<f64>();
        let size = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        let variance = filled().map(|x| (x / size - mean / size).powi(2)).sum::<f64>() / total as f64;
        // A column that does not vary beyond rounding says nothing: it becomes 0, not noise.
        let std = if variance.sqrt() > 1e-9 { variance.sqrt() * size } else { size.max(1.0) };
        let missing = (total - seen.len()) as f64 > FLAG_FROM * total as f64;
        Column::Numeric { median, low, high, mean, std, missing }
    }
}

impl Encoder {
    /// `rows` are in signature order.
    pub fn fit(signature: &Signature, rows: &[&[Value]]) -> Encoder {
        let columns = signature.features.iter().enumerate().map(|(i, feature)| {
            let column = rows.iter().map(move |r| &r[i]);
            if feature.kind == ValueType::Category {
                let vocabulary: BTreeSet<String> = column.filter_map(Value::as_str).map(str::to_owned).collect();
                Column::Category { vocabulary: vocabulary.into_iter().collect() }
            } else {
                Column::numeric(column)
            }
        });
        Encoder { columns: columns.collect() }
    }

    /// Whether this encoder can stand for `signature`; for one that was read from a file.
    pub fn check(&self, signature: &Signature) -> Result<(), String> {
        if self.columns.len() != signature.features.len() {
            return Err(format!(
                "the encoder has {} columns, the signature {} features",
                self.columns.len(),
                signature.features.len()
            ));
        }
        for (column, feature) in self.columns.iter().zip(&signature.features) {
            let said = match column {
                Column::Numeric { .. } if feature.kind == ValueType::Category => {
                    Err("is numeric, the signature says category")
                }
                Column::Category { .. } if feature.kind != ValueType::Category => {
                    Err("is a category, the signature says a number")
                }
                Column::Numeric { median, low, high, mean, std, .. }
                    if [median, low, high, mean, std].iter().any(|x| !x.is_finite()) || low > high || *std <= 0.0 =>
                {
                    Err("needs finite numbers, low <= high and std > 0")
                }
                Column::Category { vocabulary } if !vocabulary.is_sorted_by(|a, b| a < b) => {
                    Err("needs a vocabulary in order and without repeats")
                }
                _ => Ok(()),
            };
            said.map_err(|e| format!("the encoder's column `{}` {e}", feature.name))?;
        }
        Ok(())
    }

    /// Features it takes.
    pub fn features(&self) -> usize {
        self.columns.len()
    }

    /// Numbers it gives.
    pub fn width(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
    }

    /// Where the number of a numeric feature stands in the input; `None` for a category.
    pub fn position(&self, feature: usize) -> Option<usize> {
        let numeric = matches!(self.columns.get(feature)?, Column::Numeric { .. });
        numeric.then(|| self.columns[..feature].iter().map(Column::width).sum())
    }

    /// (first position, vocabulary size) of each category feature.
    pub fn categories(&self) -> Vec<(usize, usize)> {
        let mut at = 0;
        let mut found = Vec::new();
        for column in &self.columns {
            if let Column::Category { vocabulary } = column {
                found.push((at, vocabulary.len()));
            }
            at += column.width();
        }
        found
    }

    /// Appends `width` numbers for one row, all finite; allocates nothing if `out` has room.
    pub fn encode(&self, row: &[Value], out: &mut Vec<f32>) {
        let start = out.len();
        out.resize(start + self.width(), 0.0);
        self.visit(row, |at, x| out[start + at] = x);
    }

    /// Calls `set` with the position and value of every number of one row that may differ from 0. A value of
    /// the wrong type, and a number that is not finite, is treated as missing.
    pub fn visit(&self, row: &[Value], mut set: impl FnMut(usize, f32)) {
        let mut start = 0;
        for (column, value) in self.columns.iter().zip(row) {
            match column {
                Column::Numeric { median, low, high, mean, std, missing } => {
                    let known = value.as_f64().filter(|x| x.is_finite());
                    let x = known.unwrap_or(*median).max(*low).min(*high);
                    set(start, (x / std - mean / std) as f32);
                    if *missing && known.is_none() {
                        set(start + 1, 1.0);
                    }
                }
                Column::Category { vocabulary } => {
                    let found = value.as_str().and_then(|s| vocabulary.binary_search_by(|v| v.as_str().cmp(s)).ok());
                    if let Some(i) = found {
                        set(start + i, 1.0);
                    }
                }
            }
            start += column.width();
        }
    }
}

#[cfg(test)]
mod tests;
