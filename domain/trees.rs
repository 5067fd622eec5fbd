//! Tree ensembles: boosted trees and random forests of any library, in one flat form.
//!
//! `import` reads the libraries' files into `source` trees; `build` checks those and lays them out; `eval`
//! answers; `transform` makes a score of the sums; `inputs` makes the numbers out of a feature vector.
//! What a file asks for and this cannot do is refused by name when it is read, never approximated.

mod build;
mod eval;
pub mod import;
mod inputs;
mod source;
mod transform;

pub use build::{Built, MAX_DEPTH, MAX_FEATURES, MAX_NODES, MAX_OUTPUTS, MAX_TREES};
pub use eval::Scratch;
pub use inputs::{Encoding, Input, Inputs};
pub use source::{Aggregate, Forest, Leaf, Missing, Node, Precision, Split, Test, Tree};
pub use transform::{Answer, Step};

use build::Slot;

/// One node of the flat form, 16 bytes. A split goes on at `next` or `next + 1`; a leaf goes on at itself, so that
/// a walk of a fixed number of steps ends in a leaf and needs no branch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Packed {
    /// A number: on to `next + 1` if the value is greater. A set: where its bits are. A leaf: its value or the
    /// index of its vector.
    at: f64,
    /// What is compared; the two highest bits are the kind of test.
    slot: u32,
    next: u32,
}

const KIND: u32 = 3 << 30;
const NUMBER: u32 = 0;
const SET: u32 = 1 << 30;
const EQUAL: u32 = 2 << 30;
/// A set that only whole numbers are in.
const WHOLE: u32 = 3 << 30;

/// A checked ensemble, immutable; any number of threads may ask it at once.
///
/// No value of a row makes evaluation panic or go on for longer than `trees * depth` steps.
#[derive(Clone, Debug)]
pub struct Ensemble {
    features: usize,
    precision: Precision,
    /// What is derived of a row before the walk: slot 0 is no number, the others are a feature each, with its missing
    /// values replaced by what goes the declared way.
    slots: Vec<Slot>,
    nodes: Vec<Packed>,
    roots: Vec<u32>,
    depths: Vec<u32>,
    /// Output that each tree adds to; unused where leaves are vectors.
    outputs_of: Vec<u32>,
    /// Values of vector leaves, `outputs` each; empty if every leaf is one number.
    vectors: Vec<f64>,
    /// Bits of all category sets.
    sets: Vec<u64>,
    special: bool,
    outputs: usize,
    base: Vec<f64>,
    divide: f64,
    steps: Vec<Step>,
    answer: Answer,
}

impl Ensemble {
    /// Numbers that a row has.
    pub fn features(&self) -> usize {
        self.features
    }

    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// Numbers that an answer has.
    pub fn width(&self) -> usize {
        transform::width(self.outputs, &self.steps)
    }

    /// What an answer's numbers are.
    pub fn answer(&self) -> Answer {
        self.answer
    }

    /// Steps of the longest walk of one row.
    pub fn steps(&self) -> u64 {
        self.depths.iter().map(|d| u64::from(*d)).sum()
    }

    /// Memory it holds.
    pub fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Packed>()
            + self.slots.len() * size_of::<Slot>()
            + self.roots.len() * 12
            + (self.vectors.len() + self.sets.len() + self.base.len()) * 8
    }
}

#[cfg(test)]
mod tests;
