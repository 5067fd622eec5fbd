//! The prediction log: blocks sorted by id, found by id without an index in memory.
//!
//! Key: `[class u8][first id u128 BE][last id u128 BE][position u64 BE]`. A block's class is the bit
//! length of the milliseconds between its first and last id, so a block of class `k` that covers an
//! id starts at most `2^k` ms before it: `get` looks at that stretch of each class and at nothing
//! else, however blocks overlap. The key tells the last id, so only covering blocks are decoded.
//! Blocks of more than a day are cut, which leaves 28 classes; live traffic uses the lowest few.

mod newest;

use super::codec::{self, CodecError};
use super::log::{Framed, Layout, LogFiles, SegmentedLog};
use super::prediction_block;
use super::segment;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use understudy_actors::ports::{Commit, PredictionLog, StoreError};
use understudy_domain::prediction::{PredictionId, PredictionRecord};

const DAY_MS: u64 = 86_400_000;
const CLASSES: u8 = 28;
const KEY: usize = 41;

fn class(first: PredictionId, last: PredictionId) -> u8 {
    (u64::BITS - (last.millis() - first.millis()).leading_zeros()) as u8
}

fn key(first: PredictionId, last: PredictionId, position: u64) -> Vec<u8> {
    [&[class(first, last)][..], &first.0.to_be_bytes(), &last.0.to_be_bytes(), &position.to_be_bytes()].concat()
}

fn id_at(key: &[u8], at: usize) -> PredictionId {
    PredictionId(key.get(at..at + 16).and_then(|b| b.try_into().ok()).map_or(0, u128::from_be_bytes))
}
fn first_id(key: &[u8]) -> PredictionId {
    id_at(key, 1)
}
fn last_id(key: &[u8]) -> PredictionId {
    id_at(key, 17)
}

/// Where blocks of this class that reach `id` can start.
fn start(class: u8, id: PredictionId) -> Vec<u8> {
    let millis = id.millis().saturating_sub(1 << class);
    [&[class][..], &((millis as u128) << 80).to_be_bytes()].concat()
}

impl Layout for PredictionRecord {
    const NAME: &'static str = "predictions";
    type Item = Arc<Self>;
    const ORDERED: bool = false;
    fn blocks(mut records: Vec<Arc<Self>>, last: u64) -> Result<Vec<Framed>, CodecError> {
        records.sort_by_key(|r| r.id); // stable: the first of two equal ids stays first
        let runs = prediction_block::runs(&records, |a, b| b.id.millis() - a.id.millis() > DAY_MS)?;
        let framed = runs.into_iter().map(|(range, body)| {
            let at = last + 1 + range.start as u64;
            let key = key(records[range.start].id, records[range.end - 1].id, at);
            Ok((key.clone(), codec::frame::<Self>(&key, &body)?))
        });
        framed.collect()
    }
    fn position(key: &[u8]) -> Option<u64> {
        if key.len() != KEY {
            return None;
        }
        key[33..].try_into().ok().map(u64::from_be_bytes)
    }
}

/// The records of a block; none of a damaged one, which is reported.
pub(super) fn decode(
    files: &LogFiles<PredictionRecord>,
    segment: u32,
    key: &[u8],
    frame: &[u8],
) -> Result<Vec<PredictionRecord>, StoreError> {
    match codec::decode_block(key, frame) {
        Ok(records) => Ok(records),
        Err(e @ CodecError::Newer { .. }) => Err(e.into()),
        Err(e) => {
            let at = PredictionRecord::position(key).unwrap_or(u64::MAX);
            files.segments.health.damaged(&files.segments.label(segment), at, &format!("from {}: {e}", first_id(key)));
            Ok(Vec::new())
        }
    }
}

/// The blocks of one class in one segment, in order of their first id.
struct Cursor {
    segment: u32,
    start: Vec<u8>,
    end: Vec<u8>,
    page: VecDeque<segment::Block>,
    done: bool,
}

impl Cursor {
    fn new(segment: u32, class: u8, from: PredictionId, to: PredictionId) -> Self {
        let end = [&[class][..], &to.0.to_be_bytes(), &[0xff; 24]].concat();
        Cursor { segment, start: start(class, from), end, page: VecDeque::new(), done: false }
    }

    /// First id of the next durable block that reaches `from`, reading a page if needed.
    fn peek(
        &mut self,
        files: &LogFiles<PredictionRecord>,
        from: PredictionId,
    ) -> Result<Option<PredictionId>, StoreError> {
        loop {
            while let Some((key, _)) = self.page.front() {
                if PredictionRecord::position(key).is_some_and(|p| p <= files.position()) && last_id(key) >= from {
                    return Ok(Some(first_id(key)));
                }
                self.page.pop_front();
            }
            if self.done {
                return Ok(None);
            }
            self.page = segment::sound_page(&files.segments, self.segment, &mut self.start, &self.end)?.into();
            match self.page.back() {
                Some((key, _)) => self.start = segment::after(key),
                None => self.done = true,
            }
        }
    }
}

/// A record in the merge; ordered by id, then by position.
struct Item(u64, PredictionRecord);

impl PartialEq for Item {
    fn eq(&self, o: &Self) -> bool {
        self.cmp(o) == Ordering::Equal
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Item {
    fn cmp(&self, o: &Self) -> Ordering {
        (self.1.id, self.0).cmp(&(o.1.id, o.0))
    }
}

impl PredictionLog for SegmentedLog<PredictionRecord> {
    fn accepting(&self) -> Result<(), StoreError> {
        self.files.accepting()
    }
    fn append(&self, records: Vec<Arc<PredictionRecord>>) -> Commit {
        self.append_records(records)
    }

    /// Newest segments first: what is asked for was mostly logged a moment ago. Of two records with one id in a
    /// segment, the first that was appended.
    fn get(&self, id: PredictionId) -> Result<Option<PredictionRecord>, StoreError> {
        for segment in self.files.segments.numbers().into_iter().rev() {
            let mut best: Option<(u64, PredictionRecord)> = None;
            for class in 0..CLASSES {
                let mut cursor = Cursor::new(segment, class, id, id);
                while cursor.peek(&self.files, id)?.is_some() {
                    let Some((key, frame)) = cursor.page.pop_front() else { break };
                    let at = PredictionRecord::position(&key).unwrap_or(u64::MAX);
                    if best.as_ref().is_some_and(|(b, _)| *b < at) {
                        continue;
                    }
                    if let Some(r) = decode(&self.files, segment, &key, &frame)?.into_iter().find(|r| r.id == id) {
                        best = Some((at, r));
                    }
                }
            }
            if let Some((_, r)) = best {
                return Ok(Some(r));
            }
        }
        Ok(None)
    }

    fn newest(&self, model: Option<&str>, limit: usize) -> Result<Vec<PredictionRecord>, StoreError> {
        newest::newest(self, model, limit)
    }

    fn position(&self) -> u64 {
        self.files.position()
    }

    fn scan_after(
        &self,
        position: u64,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.visit_after(position, visit)
    }

    /// Merges overlapping blocks; in memory are only the blocks around the current id. An id that
    /// was appended twice is visited once.
    fn scan(
        &self,
        model: Option<&str>,
        from: PredictionId,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let to = PredictionId(u128::MAX);
        let mut cursors = Vec::new();
        for segment in self.files.segments.numbers() {
            cursors.extend((0..CLASSES).map(|class| Cursor::new(segment, class, from, to)));
        }
        // Cursors by the first id of their next block.
        let mut next = BinaryHeap::new();
        for (i, c) in cursors.iter_mut().enumerate() {
            if let Some(id) = c.peek(&self.files, from)? {
                next.push(Reverse((id, i)));
            }
        }
        let mut merged: BinaryHeap<Reverse<Item>> = BinaryHeap::new();
        let mut previous = None;
        loop {
            while let Some(Reverse((id, i))) = next.peek().copied()
                && merged.peek().is_none_or(|Reverse(r)| id <= r.1.id)
            {
                next.pop();
                let Some((key, frame)) = cursors[i].page.pop_front() else { continue };
                let at = PredictionRecord::position(&key).unwrap_or(u64::MAX);
                let segment = cursors[i].segment;
                let records =
                    decode(&self.files, segment, &key, &frame)?.into_iter().zip(at..).filter(|(r, _)| r.id >= from);
                merged.extend(records.map(|(r, at)| Reverse(Item(at, r))));
                if let Some(id) = cursors[i].peek(&self.files, from)? {
                    next.push(Reverse((id, i)));
                }
            }
            let Some(Reverse(Item(_, r))) = merged.pop() else { return Ok(()) };
            if previous.replace(r.id) != Some(r.id) && model.is_none_or(|m| m == r.model) && visit(r).is_break() {
                return Ok(());
            }
        }
    }
}
