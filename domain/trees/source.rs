//! A forest as the importers give it: every library's trees in one vocabulary, not checked yet.

use super::transform::{Answer, Step};

/// In what numbers the library compares and adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Values are rounded to `f32` before they are compared, and sums are kept in `f32` (XGBoost, ONNX).
    Single,
    /// LightGBM, and ONNX models of doubles.
    Double,
}

/// What a split asks of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `x <= t`
    AtMost(f64),
    /// `x < t`
    Below(f64),
    /// `x == t`
    Equal(f64),
    /// The whole part of `x` is in the set: bit `c % 64` of word `c / 64`. Negative ones are in none.
    In(Vec<u64>),
    /// `x` is a whole number of the set.
    OneOf(Vec<u64>),
}

/// Which values count as missing, and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No number is missing: goes to `yes` or to `no`.
    Nan { yes: bool },
    /// No number and zero (within 1e-35) are missing.
    Zero { yes: bool },
    /// No number counts as 0.
    IsZero,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub feature: usize,
    pub test: Test,
    pub missing: Missing,
    /// Indices into the tree's nodes.
    pub yes: usize,
    pub no: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// Added to the tree's output.
    One(f64),
    /// (output, value) pairs; an output that is not named gets nothing.
    Many(Vec<(usize, f64)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Split(Split),
    Leaf(Leaf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    pub root: usize,
    pub nodes: Vec<Node>,
    /// Output that its `Leaf::One` add to.
    pub output: usize,
}

/// How the trees' values become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aggregate {
    Sum,
    /// The sum divided by this: trees of each output in a random forest.
    Mean(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    pub features: usize,
    pub precision: Precision,
    pub trees: Vec<Tree>,
    pub outputs: usize,
    /// Added to the sums, one for each output; empty is zeros.
    pub base: Vec<f64>,
    pub aggregate: Aggregate,
    pub steps: Vec<Step>,
    pub answer: Answer,
}
