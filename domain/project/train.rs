//! `[train]` of a model: what the built-in trainer is told.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    Logistic,
    Mlp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    None,
    #[default]
    Platt,
    Isotonic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeight {
    #[default]
    None,
    /// Both classes weigh the same in the loss; calibration undoes the shift.
    Balanced,
}

/// `[train]` of a model: the built-in trainer's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    pub algorithm: Algorithm,
    /// Only requests at or after it.
    pub from: Option<Timestamp>,
    #[serde(default = "hidden")]
    pub hidden: Vec<usize>,
    /// Width of the category embeddings of the MLP; 0 is one-hot.
    #[serde(default)]
    pub embedding: usize,
    #[serde(default = "epochs")]
    pub max_epochs: usize,
    /// Epochs without a better held-out loss before stopping.
    #[serde(default = "patience")]
    pub patience: usize,
    #[serde(default = "batch")]
    pub batch: usize,
    #[serde(default = "rate")]
    pub learning_rate: f64,
    /// Decoupled weight decay of AdamW (Loshchilov and Hutter 2019), per step times the learning rate.
    #[serde(default)]
    pub l2: f64,
    /// Last share of the rows by time, held out for early stopping and calibration.
    #[serde(default = "held_out")]
    pub held_out: f64,
    /// Networks of different seeds whose probabilities are averaged.
    #[serde(default = "one")]
    pub members: usize,
    #[serde(default = "one_u64")]
    pub seed: u64,
    #[serde(default)]
    pub class_weight: ClassWeight,
    #[serde(default)]
    pub calibration: CalibrationMethod,
    /// The name that leads to a trained version: `champion` answers from then on, any other waits to be promoted.
    #[serde(default = "champion")]
    pub alias: String,
}

fn champion() -> String {
    crate::registry::CHAMPION.into()
}

fn hidden() -> Vec<usize> {
    vec![64, 32]
}
fn epochs() -> usize {
    20
}
fn patience() -> usize {
    2
}
fn batch() -> usize {
    512
}
fn rate() -> f64 {
    1e-3
}
fn held_out() -> f64 {
    0.15
}
fn one() -> usize {
    1
}
fn one_u64() -> u64 {
    1
}
