//! Entities: the things features belong to.

use crate::fixed_hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The ids that an event or a request carries, by key name: `{"carrier": "UA", "origin": "EWR"}`.
/// A key that is absent or null is a null key: features of its entities are null.
pub type EntityIds = BTreeMap<String, Option<String>>;

/// An entity by name. `id` of a composite entity has one part per key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityKey {
    pub entity: String,
    pub id: Vec<String>,
}

impl EntityKey {
    /// The fixed hash that places the entity on a shard and finds its state.
    pub fn hash(&self) -> EntityHash {
        EntityHash::new(&self.entity, self.id.iter().map(String::as_str))
    }
}

/// 128-bit fixed hash of (entity type, id parts); what the state tables are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityHash(pub u128);

impl EntityHash {
    pub fn new<'a>(entity: &'a str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        EntityHash(fixed_hash::of_parts(std::iter::once(entity.as_bytes()).chain(parts.into_iter().map(str::as_bytes))))
    }

    /// The shard that owns the entity.
    pub fn shard(self, shards: usize) -> usize {
        ((self.0 >> 64) as u64 % shards as u64) as usize
    }
}
