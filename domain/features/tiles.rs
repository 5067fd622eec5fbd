//! Sawtooth series: mergeable sums per tile of length `hop`, for windows too busy or too long for points.
//!
//! A tile holds the events of [k hop, (k + 1) hop). The window (t - w, t] is answered from all tiles
//! from the one that holds t - w to the one that holds t, so its trailing edge moves in steps of `hop`:
//! it covers at least w and less than w + hop. Events stamped later than they were ingested wait beside
//! the tiles, so that at its head the window ends at t exactly. (Only a question about the past, t before
//! the newest ingest, sees the whole tile of t.)

use super::aggregate::order;
use super::plan::SeriesDef;
use super::series::Point;
use crate::time::{Span, Timestamp};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use sketches_ddsketch::{Config, DDSketch};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Different values kept per tile; more are not counted, and reported as truncated.
pub const MAX_DISTINCT: usize = 4_096;

/// Relative error of a quantile.
const ACCURACY: f64 = 0.01;
/// Bins of the sketch: enough for values over 17 orders of magnitude at this accuracy.
const BINS: u32 = 2_048;
/// Smaller magnitudes count as zero.
const SMALLEST: f64 = 1e-9;

/// The events of one hop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tile {
    index: i64,
    pub(super) count: u64,
    pub(super) sum: f64,
    mean: f64,
    /// Sum of squared distances from the mean (Welford; merged after Chan et al. 1979).
    m2: f64,
    pub(super) min: Value,
    pub(super) max: Value,
    pub(super) first: Point,
    pub(super) last: Point,
    /// Sorted, without repeats.
    distinct: Vec<Value>,
    sketch: Option<Sketch>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Sketch(DDSketch);

impl Sketch {
    fn of(x: f64) -> Self {
        let mut s = DDSketch::new(Config::new(ACCURACY, BINS, SMALLEST));
        s.add(x);
        Sketch(s)
    }
}

impl PartialEq for Sketch {
    fn eq(&self, o: &Self) -> bool {
        serde_json::to_string(&self.0).ok() == serde_json::to_string(&o.0).ok()
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sketch(count {}, min {:?}, max {:?})", self.0.count(), self.0.min(), self.0.max())
    }
}

impl Tile {
    fn of(index: i64, p: &Point, def: &SeriesDef) -> Self {
        let x = p.value.as_f64();
        Tile {
            index,
            count: 1,
            sum: x.unwrap_or(0.0),
            mean: x.unwrap_or(0.0),
            m2: 0.0,
            min: p.value.clone(),
            max: p.value.clone(),
            first: p.clone(),
            last: p.clone(),
            distinct: if def.distinct { vec![p.value.clone()] } else { Vec::new() },
            sketch: x.filter(|_| def.sketch).map(Sketch::of),
        }
    }

    /// Takes another's events in. False if a set was full and the count of different values is now a lower bound.
    fn merge(&mut self, o: &Tile) -> bool {
        let (n, m) = (self.count as f64, o.count as f64);
        let delta = o.mean - self.mean;
        self.mean += delta * m / (n + m);
        self.m2 += o.m2 + delta * delta * n * m / (n + m);
        self.sum += o.sum;
        self.count += o.count;
        if order(&o.min, &self.min) == Ordering::Less {
            self.min = o.min.clone();
        }
        if order(&o.max, &self.max) == Ordering::Greater {
            self.max = o.max.clone();
        }
        if (o.first.time, o.first.seq) < (self.first.time, self.first.seq) {
            self.first = o.first.clone();
        }
        if (o.last.time, o.last.seq) > (self.last.time, self.last.seq) {
            self.last = o.last.clone();
        }
        match (&mut self.sketch, &o.sketch) {
            // One configuration for all, so merging cannot fail.
            (Some(a), Some(b)) => a.0.merge(&b.0).unwrap_or_default(),
            (a @ None, Some(b)) => *a = Some(b.clone()),
            _ => {}
        }
        let mut whole = true;
        for v in &o.distinct {
            if let Err(at) = self.distinct.binary_search_by(|d| order(d, v)) {
                if self.distinct.len() < MAX_DISTINCT {
                    self.distinct.insert(at, v.clone());
                } else {
                    whole = false;
                }
            }
        }
        whole
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    pub(super) fn std(&self) -> f64 {
        (self.m2.max(0.0) / self.count as f64).sqrt()
    }

    pub(super) fn different(&self) -> usize {
        self.distinct.len()
    }

    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        self.sketch.as_ref().and_then(|s| s.0.quantile(q).ok().flatten())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tiles {
    /// Sorted by index.
    tiles: VecDeque<Tile>,
    /// Events of the future, sorted by (time, seq); few, because ingest bounds how far ahead one may be.
    ahead: Vec<Point>,
}

fn index(t: Timestamp, hop: Span) -> i64 {
    t.0.div_euclid(hop.0)
}

impl Tiles {
    /// Takes a point that was ingested at `now`. False if a bound was reached. Repeats are the caller's to keep out.
    pub(super) fn insert(&mut self, p: &Point, def: &SeriesDef, now: Timestamp) -> bool {
        let whole = self.settle(def, now);
        if p.time > now {
            let at = self.ahead.partition_point(|q| (q.time, q.seq) < (p.time, p.seq));
            self.ahead.insert(at, p.clone());
            return whole;
        }
        self.add(p, def) && whole
    }

    /// Puts the events that are no longer of the future into their tiles.
    fn settle(&mut self, def: &SeriesDef, now: Timestamp) -> bool {
        let n = self.ahead.partition_point(|p| p.time <= now);
        let due: Vec<Point> = self.ahead.drain(..n).collect();
        due.iter().filter(|p| !self.add(p, def)).count() == 0
    }

    fn add(&mut self, p: &Point, def: &SeriesDef) -> bool {
        let tile = Tile::of(index(p.time, def.hop), p, def);
        let at = self.tiles.partition_point(|x| x.index < tile.index);
        match self.tiles.get_mut(at) {
            Some(x) if x.index == tile.index => x.merge(&tile),
            _ => {
                self.tiles.insert(at, tile);
                true
            }
        }
    }

    /// The events of the window at t, merged; `None` if there are none.
    pub(super) fn window(&self, t: Timestamp, w: Span, def: &SeriesDef) -> Option<Tile> {
        let (from, to) = (index(t - w, def.hop), index(t, def.hop));
        let start = self.tiles.partition_point(|x| x.index < from);
        let mut sum: Option<Tile> = None;
        let mut add = |tile: &Tile| match &mut sum {
            Some(sum) => drop(sum.merge(tile)),
            None => sum = Some(tile.clone()),
        };
        self.tiles.range(start..).take_while(|x| x.index <= to).for_each(&mut add);
        let due = self.ahead.iter().take_while(|p| p.time <= t);
        due.map(|p| Tile::of(index(p.time, def.hop), p, def)).filter(|x| x.index >= from).for_each(|x| add(&x));
        sum
    }

    /// The times [first, second) at which the window at t holds the same tiles.
    pub(super) fn unchanged(&self, t: Timestamp, hop: Span) -> (Timestamp, Timestamp) {
        let start = Timestamp(index(t, hop).saturating_mul(hop.0));
        let n = self.ahead.partition_point(|p| p.time <= t);
        let from = self.ahead[..n].last().map_or(start, |p| start.max(p.time));
        (from, self.ahead.get(n).map_or(start + hop, |p| p.time.min(start + hop)))
    }

    /// Drops tiles that end at or before `horizon`, in the past of `now`; how many.
    pub(super) fn expire(&mut self, def: &SeriesDef, horizon: Timestamp, now: Timestamp) -> usize {
        self.settle(def, now);
        let n = self.tiles.partition_point(|x| x.index < index(horizon, def.hop));
        self.tiles.drain(..n);
        n
    }

    pub(super) fn len(&self) -> usize {
        self.tiles.len() + self.ahead.len()
    }
}
