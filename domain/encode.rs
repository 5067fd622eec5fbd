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
        let mut seen: Vec<f64> = rows.clone().filter_map(Value::as_f64).collect();
        seen.sort_by(f64::total_cmp);
        if seen.is_empty() {
            return Column::Numeric { median: 0.0, low: 0.0, high: 0.0, mean: 0.0, std: 1.0, missing: total > 0 };
        }
        let at = |q: f64| seen[((seen.len() - 1) as f64 * q).round() as usize];
        let (median, low, high) = (at(0.5), at(CLIP), at(1.0 - CLIP));
        let filled = || rows.clone().map(|v| v.as_f64().unwrap_or(median).clamp(low, high));
        let mean = filled().sum::<f64>() / total as f64;
        let variance = filled().map(|x| (x - mean).powi(2)).sum::<f64>() / total as f64;
        let std = if variance > 1e-18 { variance.sqrt() } else { 1.0 };
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

    /// Features it takes.
    pub fn features(&self) -> usize {
        self.columns.len()
    }

    /// Numbers it gives.
    pub fn width(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
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

    /// Appends `width` numbers for one row. A value of the wrong type is treated as missing.
    pub fn encode(&self, row: &[Value], out: &mut Vec<f32>) {
        for (column, value) in self.columns.iter().zip(row) {
            match column {
                Column::Numeric { median, low, high, mean, std, missing } => {
                    let known = value.as_f64();
                    out.push(((known.unwrap_or(*median).clamp(*low, *high) - mean) / std) as f32);
                    if *missing {
                        out.push(if known.is_none() { 1.0 } else { 0.0 });
                    }
                }
                Column::Category { vocabulary } => {
                    let start = out.len();
                    out.resize(start + vocabulary.len(), 0.0);
                    if let Some(i) =
                        value.as_str().and_then(|s| vocabulary.binary_search_by(|v| v.as_str().cmp(s)).ok())
                    {
                        out[start + i] = 1.0;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SignatureFeature;

    fn signature() -> Signature {
        let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
        Signature {
            features: vec![feature("x", ValueType::Float), feature("c", ValueType::Category)],
            positive_label: "yes".into(),
            negative_label: "no".into(),
        }
    }

    #[test]
    fn missing_unseen_and_extreme_values_have_their_place() {
        let rows: Vec<Vec<Value>> = (0..1000)
            .map(|i| {
                vec![
                    if i % 20 == 0 { Value::Null } else { Value::Float(f64::from(i)) },
                    ["a", "b"][i as usize % 2].into(),
                ]
            })
            .collect();
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        let encoder = Encoder::fit(&signature(), &rows);
        assert_eq!((encoder.width(), encoder.features(), encoder.categories()), (4, 2, vec![(2, 2)]));
        let encode = |row: [Value; 2]| {
            let mut out = Vec::new();
            encoder.encode(&row, &mut out);
            out
        };
        let null = encode([Value::Null, "b".into()]);
        assert_eq!(&null[1..], [1.0, 0.0, 1.0]);
        let extreme = encode([Value::Float(1e12), "never seen".into()]);
        assert!(extreme[0] < 2.0, "clipped: {extreme:?}");
        assert_eq!(&extreme[1..], [0.0, 0.0, 0.0]);
        assert_eq!(encode(["wrong type".into(), Value::Null]), [null[0], 1.0, 0.0, 0.0]);
    }
}
