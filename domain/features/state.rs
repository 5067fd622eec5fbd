//! The state of one entity: what is saved, and what is kept hot beside it.

use super::aggregate::{self, Folded};
use super::plan::{EntityType, SeriesDef, WindowDef};
use super::series::{Exact, Inserted, Point};
use super::tiles::Tiles;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Sequence numbers remembered per entity with tiles. Events reach a shard in order of `seq` but
/// for retries, so the window in which a repeat is recognised exactly need not be long.
const REMEMBERED: usize = 64;

/// Event times before now that stay answerable beyond each window: requests that carry their own,
/// slightly older time are still exact.
pub const GRACE: Span = Span::hours(1);

/// A series that grew by this many points or tiles is swept at once, so that feeding a long log
/// does not hold all of it.
const SWEEP_EVERY: usize = 256;

/// The state of one entity, as saved. It belongs to one `Plan::id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityState {
    /// Entity type index in the plan.
    entity: u32,
    series: Vec<Series>,
    seen: Seen,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Series {
    Exact(Exact),
    Tiles(Tiles),
}

impl Series {
    fn len(&self) -> usize {
        match self {
            Series::Exact(x) => x.len(),
            Series::Tiles(x) => x.len(),
        }
    }

    /// Drops what no window reaches at `now`; how many points or tiles.
    fn expire(&mut self, def: &SeriesDef, now: Timestamp) -> usize {
        let horizon = now - def.window - GRACE;
        match self {
            Series::Exact(x) => x.expire(horizon),
            Series::Tiles(x) => x.expire(def, horizon, now),
        }
    }

    fn sweep(&mut self, def: &SeriesDef, now: Timestamp) {
        if self.len().is_multiple_of(SWEEP_EVERY) {
            self.expire(def, now);
        }
    }
}

/// Which events the tiles hold: they cannot tell a repeat by themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Everything up to here is a repeat.
    floor: u64,
    /// Sorted; above the floor.
    recent: Vec<u64>,
}

impl Seen {
    /// False if the event was here before.
    fn admit(&mut self, seq: u64) -> bool {
        if seq <= self.floor {
            return false;
        }
        let Err(at) = self.recent.binary_search(&seq) else { return false };
        self.recent.insert(at, seq);
        if self.recent.len() > REMEMBERED {
            self.floor = self.recent.remove(0);
        }
        true
    }
}

/// What an applied event did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub changed: bool,
    pub truncated: u64,
}

impl EntityState {
    pub(super) fn new(entity: usize, def: &EntityType) -> Self {
        let empty = |s: &SeriesDef| {
            if s.hop == Span::ZERO { Series::Exact(Exact::default()) } else { Series::Tiles(Tiles::default()) }
        };
        let series = def.series.iter().map(empty).collect();
        EntityState { entity: entity as u32, series, seen: Seen::default() }
    }

    pub(super) fn entity(&self) -> usize {
        self.entity as usize
    }

    /// Whether it was made by this definition.
    pub(super) fn fits(&self, def: &EntityType) -> bool {
        self.series.len() == def.series.len()
            && self.series.iter().zip(&def.series).all(|(s, d)| matches!(s, Series::Exact(_)) == (d.hop == Span::ZERO))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.iter().all(|s| s.len() == 0)
    }

    /// Points and tiles held.
    pub(super) fn size(&self) -> (usize, usize) {
        self.series.iter().fold((0, 0), |(p, t), s| match s {
            Series::Exact(x) => (p + x.len(), t),
            Series::Tiles(x) => (p, t + x.len()),
        })
    }

    /// Puts the points of one event into their series.
    fn apply(
        &mut self,
        def: &EntityType,
        points: &[(usize, Point)],
        now: Timestamp,
        touched: &mut impl FnMut(usize),
    ) -> Applied {
        let mut done = Applied::default();
        let tiled = points.iter().any(|(i, _)| matches!(self.series[*i], Series::Tiles(_)));
        let fresh = tiled && points.first().is_some_and(|(_, p)| self.seen.admit(p.seq));
        for (i, p) in points {
            let outcome = match &mut self.series[*i] {
                Series::Exact(x) => x.insert(p.clone()),
                Series::Tiles(_) if !fresh => Inserted::Repeated,
                Series::Tiles(x) => {
                    if x.insert(p, &def.series[*i], now) {
                        Inserted::Yes
                    } else {
                        Inserted::Truncated
                    }
                }
            };
            if outcome != Inserted::Repeated {
                done.changed = true;
                touched(*i);
                self.series[*i].sweep(&def.series[*i], now);
            }
            done.truncated += u64::from(outcome == Inserted::Truncated);
        }
        done
    }

    /// The window at t, and the times [from, until) at which it is the same.
    fn fold(&self, def: &EntityType, w: &WindowDef, t: Timestamp) -> (Folded, Timestamp, Timestamp) {
        match &self.series[w.series] {
            Series::Exact(x) => {
                let range = x.window(t, w.window);
                let (from, until) = x.unchanged(&range, w.window);
                (aggregate::exact(w, x.range(range)), from, until)
            }
            Series::Tiles(x) => {
                let (from, until) = x.unchanged(t, w.hop);
                (aggregate::tiled(w, x.window(t, w.window, &def.series[w.series]).as_ref()), from, until)
            }
        }
    }

    /// Computed afresh, without the memo.
    pub(super) fn compute(&self, def: &EntityType, w: &WindowDef, t: Timestamp) -> Folded {
        self.fold(def, w, t).0
    }
}

/// An entity in memory.
#[derive(Clone)]
pub(super) struct Hot {
    pub state: EntityState,
    /// Per window: the last answer and when it holds.
    memo: Vec<Option<Memo>>,
    pub dirty: bool,
    /// When it was last used, in the table's own count.
    pub tick: u64,
}

#[derive(Clone)]
struct Memo {
    folded: Folded,
    from: Timestamp,
    until: Timestamp,
}

impl Hot {
    pub fn new(state: EntityState, dirty: bool) -> Self {
        Hot { state, memo: Vec::new(), dirty, tick: 0 }
    }

    /// Takes the points of one event, ingested at `now`.
    pub fn apply(&mut self, def: &EntityType, points: &[(usize, Point)], now: Timestamp) -> Applied {
        let memo = &mut self.memo;
        let done = self.state.apply(def, points, now, &mut |series| {
            if !memo.is_empty() {
                def.series[series].windows.iter().for_each(|w| memo[*w] = None);
            }
        });
        self.dirty |= done.changed;
        done
    }

    /// The window at t; true if the memo knew it.
    pub fn read(&mut self, def: &EntityType, window: usize, t: Timestamp) -> (&Folded, bool) {
        if self.memo.is_empty() {
            self.memo.resize_with(def.windows.len(), || None);
        }
        let hit = matches!(&self.memo[window], Some(m) if m.from <= t && t < m.until);
        if !hit {
            self.memo[window] = None;
        }
        let state = &self.state;
        let memo = self.memo[window].get_or_insert_with(|| {
            let (folded, from, until) = state.fold(def, &def.windows[window], t);
            Memo { folded, from, until }
        });
        (&memo.folded, hit)
    }

    /// Drops what no window can reach at `now`; how many points and tiles.
    pub fn expire(&mut self, def: &EntityType, now: Timestamp) -> usize {
        let mut dropped = 0;
        for (series, d) in self.state.series.iter_mut().zip(&def.series) {
            dropped += series.expire(d, now);
        }
        if dropped > 0 {
            self.memo.clear();
        }
        dropped
    }
}
