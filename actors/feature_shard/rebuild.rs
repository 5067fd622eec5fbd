//! A table made anew: the last snapshot of its shard plus the events after it.

use super::Layout;
use crate::ports::{FeatureStore, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::LoggedEvent;
use understudy_domain::features::{EntityState, FeatureTable};

/// A whole table, and what it pushed out of memory that is not on disk yet.
pub(crate) struct Rebuilt {
    pub table: FeatureTable,
    pub unsaved: BTreeMap<EntityHash, EntityState>,
}

/// A table in the making.
pub(crate) struct Rebuilding {
    shard: usize,
    store: Arc<dyn FeatureStore>,
    watermark: u64,
    made: Rebuilt,
    failed: Option<StoreError>,
}

impl Rebuilding {
    pub fn new(layout: &Layout, shard: usize) -> Result<Rebuilding, StoreError> {
        let watermark = layout.store.watermark(shard)?;
        let mut table = layout.empty_table(shard);
        table.set_may_be_cold(watermark > 0);
        table.resume(watermark);
        let made = Rebuilt { table, unsaved: BTreeMap::new() };
        Ok(Rebuilding { shard, store: layout.store.clone(), watermark, made, failed: None })
    }

    /// The first event that it needs; earlier ones are in the snapshot.
    pub fn from(&self) -> u64 {
        self.watermark + 1
    }

    /// Folds an event; one that the snapshot has, or that was folded before, changes nothing.
    pub fn apply(&mut self, e: &LoggedEvent) {
        if e.seq <= self.watermark {
            return;
        }
        let Rebuilt { table, unsaved } = &mut self.made;
        let (shard, store, failed) = (self.shard, &self.store, &mut self.failed);
        let saved = self.watermark > 0;
        table.apply(e, &mut |h| {
            unsaved.remove(&h).or_else(|| {
                if !saved {
                    return None;
                }
                store.load(shard, h).unwrap_or_else(|e| {
                    *failed = Some(e);
                    None
                })
            })
        });
        unsaved.extend(table.take_evicted());
    }

    /// # Errors
    /// What the snapshot holds of an entity could not be read: without it the table is not whole.
    pub fn finish(self) -> Result<Rebuilt, StoreError> {
        self.failed.map_or(Ok(self.made), Err)
    }
}
