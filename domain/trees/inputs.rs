//! From a feature vector to the numbers that an ensemble was trained on, as the manifest declares them.

use crate::model::Signature;
use crate::value::{Value, ValueType};
use serde::{Deserialize, Serialize};

/// Columns that one feature may become.
const MAX_CATEGORIES: usize = 65_536;

/// How one feature becomes numbers. Null is NaN, which the trees know as missing, unless `missing` says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum Input {
    /// The number itself; booleans are 0 and 1.
    Number {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<f64>,
    },
    /// The category's position in `order`, as in a data frame's categories; one that is not there is missing.
    Category {
        order: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<f64>,
    },
    /// A column for each category of `order`: 1 for the row's own, 0 for the others.
    OneHot { order: Vec<String> },
}

/// Of every feature of the signature, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inputs {
    of: Vec<Input>,
}

impl Inputs {
    pub fn new(of: Vec<Input>) -> Inputs {
        Inputs { of }
    }

    /// Numbers it gives.
    pub fn width(&self) -> usize {
        self.of.iter().map(|i| if let Input::OneHot { order } = i { order.len() } else { 1 }).sum()
    }

    /// Checks that these stand for `signature` and give the numbers of a model with `features` of them.
    ///
    /// # Errors
    /// Names the feature that does not fit.
    pub fn compile(&self, signature: &Signature, features: usize) -> Result<Encoding, String> {
        if self.of.len() != signature.features.len() {
            return Err(format!("{} inputs, the signature has {} features", self.of.len(), signature.features.len()));
        }
        for (input, feature) in self.of.iter().zip(&signature.features) {
            let wrong = |e: &str| Err(format!("input `{}` {e}", feature.name));
            let category = feature.kind == ValueType::Category;
            match input {
                Input::Number { .. } if category => return wrong("is a number, the signature says category"),
                Input::Category { .. } | Input::OneHot { .. } if !category => {
                    return wrong("is a category, the signature says a number");
                }
                Input::Number { missing: Some(m) } | Input::Category { missing: Some(m), .. } if !m.is_finite() => {
                    return wrong("needs a finite `missing`");
                }
                Input::Category { order, .. } | Input::OneHot { order } => {
                    let mut sorted: Vec<&String> = order.iter().collect();
                    sorted.sort();
                    if order.is_empty() || order.len() > MAX_CATEGORIES || sorted.windows(2).any(|w| w[0] == w[1]) {
                        return wrong("needs an `order` of 1..65536 categories, each once");
                    }
                }
                Input::Number { .. } => {}
            }
        }
        if self.width() != features {
            return Err(format!("the inputs give {} numbers, the model takes {features}", self.width()));
        }
        let columns = self.of.iter().map(|input| match input {
            Input::Number { missing } => Column::Number(missing.unwrap_or(f64::NAN)),
            Input::Category { order, missing } => Column::Category(sorted(order), missing.unwrap_or(f64::NAN)),
            Input::OneHot { order } => Column::OneHot(sorted(order)),
        });
        Ok(Encoding { columns: columns.collect() })
    }
}

fn sorted(order: &[String]) -> Vec<(String, u32)> {
    let mut sorted: Vec<(String, u32)> = order.iter().cloned().zip(0..).collect();
    sorted.sort();
    sorted
}

#[derive(Clone, Debug, PartialEq)]
enum Column {
    /// What a missing value is.
    Number(f64),
    /// Sorted, with positions.
    Category(Vec<(String, u32)>, f64),
    OneHot(Vec<(String, u32)>),
}

/// Checked inputs, ready for rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    columns: Vec<Column>,
}

impl Encoding {
    /// Features it takes.
    pub fn features(&self) -> usize {
        self.columns.len()
    }

    /// Appends the numbers of one row; a value of another type than declared is missing.
    pub fn encode(&self, row: &[Value], out: &mut Vec<f64>) {
        for (column, value) in self.columns.iter().zip(row) {
            let position = |sorted: &[(String, u32)]| {
                let s = value.as_str()?;
                sorted.binary_search_by(|(o, _)| o.as_str().cmp(s)).ok().map(|i| sorted[i].1)
            };
            match column {
                Column::Number(missing) => out.push(value.as_f64().unwrap_or(*missing)),
                Column::Category(order, missing) => out.push(position(order).map_or(*missing, f64::from)),
                Column::OneHot(order) => {
                    let start = out.len();
                    out.resize(start + order.len(), 0.0);
                    if let Some(i) = position(order) {
                        out[start + i as usize] = 1.0;
                    }
                }
            }
        }
    }
}
