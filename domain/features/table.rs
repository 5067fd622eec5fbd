//! The feature state of one shard: entities in memory, least recently used ones handed out to be saved.
//!
//! An event's effect is idempotent by `seq` and independent of order, so after a restart the table may be
//! fed again from any point at or before the saved watermark: entities saved later than it do not count twice.

use super::plan::{Plan, Source};
use super::series::Point;
use super::state::{EntityState, Hot};
use super::vector::{Group, Vector};
use crate::entity::EntityHash;
use crate::event::LoggedEvent;
use crate::time::Timestamp;
use crate::value::Value;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Where a read found the entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Hot,
    /// It has no events; the values are those of empty windows.
    Absent,
    /// Not in memory, but perhaps in the store: load it, `insert` it and read again
    /// (or call `absent` if the store has none). No value was set.
    Cold,
}

/// Keys are hashes already.
#[derive(Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u128(&mut self, x: u128) {
        self.0 = x as u64; // the upper half chose the shard
    }
}

pub(super) type ByHash<T> = HashMap<EntityHash, T, BuildHasherDefault<AsIs>>;

/// State of one shard's share of the entities.
#[derive(Clone)]
pub struct FeatureTable {
    pub(super) plan: Arc<Plan>,
    shard: usize,
    shards: usize,
    max_entities: usize,
    pub(super) hot: ByHash<Hot>,
    /// Changed entities pushed out of memory and not yet taken to be saved.
    pub(super) evicted: ByHash<EntityState>,
    /// (tick, entity) of each use, oldest first; an entry is void if the entity was used later.
    pub(super) uses: VecDeque<(u64, EntityHash)>,
    tick: u64,
    watermark: u64,
    newest: Timestamp,
    may_be_cold: bool,
    pub(super) memo_hits: u64,
    pub(super) memo_misses: u64,
    pub(super) truncated: u64,
}

impl FeatureTable {
    /// Owns the entities whose hash falls to `shard` of `shards`; keeps at most `max_entities` in memory.
    pub fn new(plan: Arc<Plan>, shard: usize, shards: usize, max_entities: usize) -> Self {
        FeatureTable {
            plan,
            shard,
            shards: shards.max(1),
            max_entities: max_entities.max(1),
            hot: ByHash::default(),
            evicted: ByHash::default(),
            uses: VecDeque::new(),
            tick: 0,
            watermark: 0,
            newest: Timestamp::MIN,
            may_be_cold: false,
            memo_hits: 0,
            memo_misses: 0,
            truncated: 0,
        }
    }

    /// Whether an entity that is not in memory may be in the store. True after any eviction.
    pub fn set_may_be_cold(&mut self, may: bool) {
        self.may_be_cold = may;
    }

    /// Keeps at most this many entities in memory from now on; what was changed is handed out by
    /// [`Self::take_evicted`].
    pub fn limit_entities(&mut self, most: usize) {
        self.max_entities = most.max(1);
        self.evict();
    }

    /// Entities in memory.
    pub fn entities(&self) -> usize {
        self.hot.len()
    }

    /// Latest event time folded, of whichever entity: no clock is needed to know that it is at least as late as this.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Highest sequence number applied.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The store holds every event up to here; feeding may start at the next one.
    pub fn resume(&mut self, watermark: u64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// Drops an entity from memory, for erasure; whether it was there.
    pub fn forget(&mut self, entity: EntityHash) -> bool {
        let evicted = self.evicted.remove(&entity).is_some();
        self.hot.remove(&entity).is_some() || evicted
    }

    /// Folds the event into the entities this shard owns. `cold` looks an entity up in the store;
    /// it is asked only for entities that are not in memory and may have been saved.
    pub fn apply(&mut self, e: &LoggedEvent, cold: &mut dyn FnMut(EntityHash) -> Option<EntityState>) {
        self.watermark = self.watermark.max(e.seq);
        if e.late {
            return;
        }
        self.newest = self.newest.max(e.event.time);
        let plan = Arc::clone(&self.plan);
        let Some(def) = plan.events.get(&e.event.kind) else { return };
        let mut facts = None;
        for route in &def.routes {
            let entity = &plan.entities[route.entity];
            let Some(hash) = entity.hash(&e.event.entities).filter(|h| h.shard(self.shards) == self.shard) else {
                continue;
            };
            let (values, results) = facts.get_or_insert_with(|| def.facts(&e.event));
            let mut points = Vec::with_capacity(route.feeds.len());
            for feed in &route.feeds {
                if !feed.filters.iter().all(|f| results[*f] == Value::Bool(true)) {
                    continue;
                }
                let value = match feed.value {
                    Source::Event => Value::Null,
                    Source::Property(i) if !values[i].is_null() => values[i].clone(),
                    Source::Program(i) if !results[i].is_null() => results[i].clone(),
                    _ => continue,
                };
                points.push((feed.series, Point { time: e.event.time, seq: e.seq, value }));
            }
            if points.is_empty() {
                continue;
            }
            if !self.hot.contains_key(&hash) {
                self.load(hash, route.entity, cold);
            }
            self.touch(hash);
            if let Some(hot) = self.hot.get_mut(&hash) {
                // A clock that was ahead for a while must not close windows that are open.
                let now = e.ingested.min(self.newest);
                self.truncated += hot.apply(entity, &points, now).truncated;
            }
        }
        self.evict();
    }

    /// Brings the entity into memory: from the evicted, from the store, or new.
    fn load(&mut self, hash: EntityHash, entity: usize, cold: &mut dyn FnMut(EntityHash) -> Option<EntityState>) {
        if self.recall(hash) {
            return;
        }
        let def = &self.plan.entities[entity];
        let saved = if self.may_be_cold { cold(hash) } else { None };
        let saved = saved.filter(|s| s.entity() == entity && s.fits(def));
        // Dirty even if this event turns out to be a repeat: the caller may have handed over its only copy.
        let dirty = saved.is_some();
        let state = saved.unwrap_or_else(|| EntityState::new(entity, def));
        self.hot.insert(hash, Hot::new(state, dirty));
    }

    /// Takes an entity back that was evicted a moment ago.
    fn recall(&mut self, hash: EntityHash) -> bool {
        let Some(state) = self.evicted.remove(&hash) else { return false };
        self.hot.insert(hash, Hot::new(state, true));
        true
    }

    fn touch(&mut self, hash: EntityHash) {
        if self.max_entities == usize::MAX {
            return;
        }
        self.tick += 1;
        if let Some(hot) = self.hot.get_mut(&hash) {
            hot.tick = self.tick;
            self.uses.push_back((self.tick, hash));
        }
        if self.uses.len() > 4 * self.hot.len() + 1_024 {
            let hot = &self.hot;
            self.uses.retain(|(tick, h)| hot.get(h).is_some_and(|x| x.tick == *tick));
        }
    }

    fn evict(&mut self) {
        while self.hot.len() > self.max_entities {
            let Some((tick, hash)) = self.uses.pop_front() else { return };
            if self.hot.get(&hash).is_none_or(|h| h.tick != tick) {
                continue;
            }
            if let Some(h) = self.hot.remove(&hash).filter(|h| h.dirty) {
                self.evicted.insert(hash, h.state);
            }
            self.may_be_cold = true;
        }
    }

    /// Sets the group's features as of `t`, in the slots that the vector plan gave them.
    pub fn read(&mut self, entity: EntityHash, group: &Group, t: Timestamp, out: &mut Vector) -> Lookup {
        if !self.hot.contains_key(&entity) && !self.recall(entity) {
            if self.may_be_cold {
                return Lookup::Cold;
            }
            self.absent(group, out);
            return Lookup::Absent;
        }
        self.touch(entity);
        let def = &self.plan.entities[group.entity];
        let Some(hot) = self.hot.get_mut(&entity) else { return Lookup::Cold };
        for (window, slot, ttl) in &group.features {
            let w = &def.windows[*window];
            let (folded, hit) = hot.read(def, *window, t);
            if hit {
                self.memo_hits += 1;
            } else {
                self.memo_misses += 1;
            }
            out.set(*slot, folded.at(w, t), folded.age(t), *ttl);
        }
        self.evict();
        Lookup::Hot
    }

    /// Sets the group's features to those of an entity without events.
    pub fn absent(&self, group: &Group, out: &mut Vector) {
        for (window, slot, _) in &group.features {
            let w = &self.plan.entities[group.entity].windows[*window];
            out.set(*slot, super::aggregate::empty(w.aggregate).value, None, None);
        }
    }

    /// Puts a saved state into memory. Nothing happens if the entity is there already (memory is newer),
    /// is another shard's, or the state was made by other definitions; false then. The state counts as not
    /// saved, because it may be the caller's only copy (evicted, and on its way to the store).
    pub fn insert(&mut self, entity: EntityHash, state: EntityState) -> bool {
        let ours = entity.shard(self.shards) == self.shard;
        let fits = self.plan.entities.get(state.entity()).is_some_and(|def| state.fits(def));
        if !ours || !fits || self.hot.contains_key(&entity) || self.recall(entity) {
            return false;
        }
        self.hot.insert(entity, Hot::new(state, true));
        self.touch(entity);
        self.evict();
        true
    }

    /// Changed entities pushed out since the last call, ordered by hash. Save them before the next read:
    /// from here on they are known to the store only.
    pub fn take_evicted(&mut self) -> Vec<(EntityHash, EntityState)> {
        let mut all: Vec<_> = std::mem::take(&mut self.evicted).into_iter().collect();
        all.sort_unstable_by_key(|(h, _)| *h);
        all
    }

    /// Every entity changed since the last snapshot, the evicted ones too, ordered by hash. Together with
    /// what was saved before they hold every event up to `watermark`.
    pub fn snapshot_dirty(&mut self) -> Vec<(EntityHash, EntityState)> {
        let mut all = self.take_evicted();
        for (hash, hot) in self.hot.iter_mut().filter(|(_, h)| h.dirty) {
            hot.dirty = false;
            all.push((*hash, hot.state.clone()));
        }
        all.sort_unstable_by_key(|(h, _)| *h);
        all
    }

    /// Drops data that no window reaches at `now` (less a grace of one hour) and entities left with none;
    /// how many points and tiles.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let mut dropped = 0;
        let plan = &self.plan;
        self.hot.retain(|_, hot| {
            dropped += hot.expire(&plan.entities[hot.state.entity()], now);
            !hot.state.is_empty()
        });
        dropped
    }
}
