//! What a set of shards folds by, and how far it has come when it is made from the log.

use crate::ports::FeatureStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use understudy_domain::features::{FeatureTable, Plan};

/// What a shard folds by: the definitions, how entities are shared out, and where the state is kept.
#[derive(Clone)]
pub struct Layout {
    pub plan: Arc<Plan>,
    pub shards: usize,
    /// Entities in memory over all shards.
    pub max_entities: usize,
    /// Holds the state of this layout alone.
    pub store: Arc<dyn FeatureStore>,
    /// How far a table that is made from the log has come; and to give it up.
    pub scan: Arc<Scan>,
}

/// Progress of shards that read the log.
#[derive(Default)]
pub struct Scan {
    pub seq: AtomicU64,
    pub stop: AtomicBool,
}

impl Layout {
    pub fn empty_table(&self, index: usize) -> FeatureTable {
        FeatureTable::new(self.plan.clone(), index, self.shards, (self.max_entities / self.shards).max(1))
    }

    /// What saved state belongs to: other features or another number of shards start from the log.
    pub fn id(&self) -> String {
        layout_id(&self.plan, self.shards)
    }
}

pub fn layout_id(plan: &Plan, shards: usize) -> String {
    format!("{}/{shards}", plan.state_id())
}
