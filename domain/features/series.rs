//! Exact series: the points of one entity, sorted by (time, seq). Windows of different length
//! are ranges of it.

use crate::time::{Span, Timestamp};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;

/// Points kept per series; the oldest is dropped beyond it and counted as truncated.
/// A million-event entity must not take the shard's memory; longer windows want a `hop`.
pub const MAX_POINTS: usize = 100_000;

/// One fact of an entity. `value` is null where only the event itself counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub time: Timestamp,
    pub seq: u64,
    pub value: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    points: VecDeque<Point>,
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    Yes,
    /// Taken, and the oldest was dropped to stay within the bound.
    Truncated,
    /// This event was here before.
    Repeated,
}

impl Exact {
    /// Puts the point where its time says; a repeated (time, seq) changes nothing.
    pub(super) fn insert(&mut self, p: Point) -> Inserted {
        let key = (p.time, p.seq);
        // Nearly always the newest: look there first.
        let at = match self.points.back() {
            Some(last) if (last.time, last.seq) >= key => self.points.partition_point(|q| (q.time, q.seq) < key),
            _ => self.points.len(),
        };
        if self.points.get(at).is_some_and(|q| (q.time, q.seq) == key) {
            return Inserted::Repeated;
        }
        self.points.insert(at, p);
        if self.points.len() > MAX_POINTS {
            self.points.pop_front();
            return Inserted::Truncated;
        }
        Inserted::Yes
    }

    /// Positions of the points in (t - w, t].
    pub(super) fn window(&self, t: Timestamp, w: Span) -> Range<usize> {
        let from = t - w;
        // Requests mostly ask about now: the newest point is within, and short windows end near it.
        let end = match self.points.back() {
            Some(last) if last.time > t => self.points.partition_point(|p| p.time <= t),
            _ => self.points.len(),
        };
        let start = self.points.partition_point(|p| p.time <= from).min(end);
        start..end
    }

    /// The times [first, second) at which the window holds exactly these positions:
    /// until a point leaves at its end or enters at its head.
    pub(super) fn unchanged(&self, range: &Range<usize>, w: Span) -> (Timestamp, Timestamp) {
        let leaves = |i: usize| self.points.get(i).map(|p| p.time + w);
        let enters = |i: usize| self.points.get(i).map(|p| p.time);
        let before = |i: usize| i.checked_sub(1);
        let from = before(range.start).and_then(leaves).max(before(range.end).and_then(enters));
        let until = [leaves(range.start), enters(range.end)].into_iter().flatten().min();
        (from.unwrap_or(Timestamp::MIN), until.unwrap_or(Timestamp(i64::MAX)))
    }

    pub(super) fn range(&self, r: Range<usize>) -> impl DoubleEndedIterator<Item = &Point> + ExactSizeIterator + Clone {
        self.points.range(r)
    }

    /// Drops points at or before `horizon`; how many.
    pub(super) fn expire(&mut self, horizon: Timestamp) -> usize {
        if self.points.front().is_none_or(|p| p.time > horizon) {
            return 0;
        }
        let n = self.points.partition_point(|p| p.time <= horizon);
        self.points.drain(..n);
        if self.points.capacity() > 64 && self.points.len() < self.points.capacity() / 4 {
            self.points.shrink_to_fit();
        }
        n
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }
}
