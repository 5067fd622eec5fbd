//! Features: from declarations and events to the vector a model receives.
//!
//! `Plan::compile` turns the project's definitions into indices once. A `FeatureTable` holds the state of
//! one shard's entities and answers as of any instant: window (t - w, t], half open, in event time.
//! `VectorPlan` puts the vector of one model together. Backfill and training run this same code.

mod aggregate;
mod check;
mod compile;
mod compile_request;
mod identity;
mod inspect;
mod plan;
mod series;
mod state;
mod table;
mod tiles;
mod transform;
mod vector;

pub use inspect::{Explanation, TableStats};
pub use plan::{FeatureMeta, FeatureSource, MAX_ID_BYTES, Plan};
pub use series::MAX_POINTS;
pub use state::{EntityState, GRACE};
pub use table::{FeatureTable, Lookup};
pub use tiles::MAX_DISTINCT;
pub use vector::{Group, Vector, VectorPlan};

#[cfg(test)]
mod tests;
