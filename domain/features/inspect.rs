//! Looking into a table: why a value is what it is, and how much is held.

use super::series::Point;
use super::state::Hot;
use super::table::FeatureTable;
use super::tiles::Tile;
use crate::entity::EntityHash;
use crate::time::{Span, Timestamp};
use crate::value::Value;

/// A feature's value with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub value: Value,
    /// The window is (from, to].
    pub from: Timestamp,
    pub to: Timestamp,
    /// Events counted: those in the window that pass the filters and have a value.
    pub events: u64,
    pub newest: Option<Timestamp>,
    pub oldest: Option<Timestamp>,
    /// Seconds from the newest event to `to`.
    pub age_seconds: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    pub entities: usize,
    pub points: usize,
    pub tiles: usize,
    /// Estimate, without the allocator's overhead.
    pub bytes: usize,
    pub memo_hits: u64,
    pub memo_misses: u64,
    /// Points or distinct values not kept because a bound was reached.
    pub truncated: u64,
}

impl FeatureTable {
    /// A feature's value and its evidence; `None` if the entity is not in memory or the feature is not of its type.
    pub fn explain(&self, entity: EntityHash, feature: &str, t: Timestamp) -> Option<Explanation> {
        let (of, index) = self.plan.window(feature)?;
        let state = self.hot.get(&entity).map(|h| &h.state).or_else(|| self.evicted.get(&entity))?;
        if state.entity() != of {
            return None;
        }
        let def = &self.plan.entities[of];
        let w = &def.windows[index];
        let folded = state.compute(def, w, t);
        // Tiles reach back to the start of the tile that holds t - w.
        let start = t - w.window;
        let from = if w.hop == Span::ZERO { start } else { Timestamp(start.0.div_euclid(w.hop.0) * w.hop.0 - 1) };
        Some(Explanation {
            value: folded.at(w, t),
            from,
            to: t,
            events: folded.count,
            newest: folded.newest,
            oldest: folded.oldest,
            age_seconds: folded.age(t),
        })
    }

    /// Walks all entities; for reports, not for the request path.
    pub fn stats(&self) -> TableStats {
        let (points, tiles) = self.hot.values().map(|h| h.state.size()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        TableStats {
            entities: self.hot.len(),
            points,
            tiles,
            bytes: self.hot.len() * size_of::<(EntityHash, Hot)>()
                + points * size_of::<Point>()
                + tiles * size_of::<Tile>()
                + self.uses.len() * size_of::<(u64, EntityHash)>(),
            memo_hits: self.memo_hits,
            memo_misses: self.memo_misses,
            truncated: self.truncated,
        }
    }
}
