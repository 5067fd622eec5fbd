//! The newest predictions, from the end of the log: keys are walked backwards class by class, and a block is decoded
//! only if it reaches a later millisecond than the oldest record that is kept. In memory are as many records as were
//! asked for, a block, and a page of blocks a class and segment.
//!
//! A block of class `k` reaches less than `2^k` ms beyond its first id, so the next block of a class bounds all before
//! it, and the walk ends when no class can reach behind what is kept. Within a millisecond ids are random: any of
//! them are as new as the others, and a millisecond with more records than were asked for costs no more than they do.

use super::{CLASSES, decode, first_id, last_id};
use crate::storage::log::{Layout, LogFiles, SegmentedLog};
use crate::storage::segment;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::ControlFlow;
use understudy_actors::ports::{PredictionLog, StoreError};
use understudy_domain::prediction::{PredictionId, PredictionRecord};

/// The blocks of one class in one segment, the last first.
struct Back {
    segment: u32,
    class: u8,
    end: Vec<u8>,
    page: VecDeque<segment::Block>,
    done: bool,
}

impl Back {
    fn new(segment: u32, class: u8) -> Self {
        Back { segment, class, end: vec![class + 1], page: VecDeque::new(), done: false }
    }

    /// The last millisecond that the next durable block, or any before it, can reach.
    fn peek(&mut self, files: &LogFiles<PredictionRecord>) -> Result<Option<u64>, StoreError> {
        loop {
            while let Some((key, _)) = self.page.front() {
                if PredictionRecord::position(key).is_some_and(|p| p <= files.position()) {
                    return Ok(Some(first_id(key).millis().saturating_add((1 << self.class) - 1)));
                }
                self.page.pop_front();
            }
            if self.done {
                return Ok(None);
            }
            let db = files.segments.readable(self.segment)?;
            let page = db.map(|db| segment::page_back(&db, &[self.class], &self.end)).transpose()?;
            self.page = page.unwrap_or_default().into();
            match self.page.back() {
                Some((key, _)) => self.end = key.clone(),
                None => self.done = true,
            }
        }
    }
}

/// The newest records that were met, by id; of two with one id, the first that was appended.
struct Kept {
    limit: usize,
    records: BTreeMap<PredictionId, (u64, PredictionRecord)>,
}

impl Kept {
    /// The millisecond of the oldest, when there are as many as were asked for.
    fn floor(&self) -> Option<u64> {
        let oldest = self.records.first_key_value().filter(|_| self.records.len() >= self.limit);
        oldest.map(|(id, _)| id.millis())
    }

    fn offer(&mut self, at: u64, record: PredictionRecord) {
        match self.records.get(&record.id) {
            Some((kept, _)) if *kept <= at => return,
            _ => self.records.insert(record.id, (at, record)),
        };
        if self.records.len() > self.limit {
            self.records.pop_first();
        }
    }
}

pub fn newest(
    log: &SegmentedLog<PredictionRecord>,
    model: Option<&str>,
    limit: usize,
) -> Result<Vec<PredictionRecord>, StoreError> {
    match walk_back(log, model, limit) {
        // A place that the engine cannot read: the way from the front reports it and leaves it out.
        Err(StoreError::Corrupt(_)) => last_of_all(log, model, limit),
        found => found,
    }
}

fn walk_back(
    log: &SegmentedLog<PredictionRecord>,
    model: Option<&str>,
    limit: usize,
) -> Result<Vec<PredictionRecord>, StoreError> {
    let files = &log.files;
    let mut kept = Kept { limit, records: BTreeMap::new() };
    let (mut cursors, mut next) = (Vec::new(), BinaryHeap::new());
    if limit > 0 {
        let segments = files.segments.numbers().into_iter();
        cursors.extend(segments.flat_map(|n| (0..CLASSES).map(move |class| Back::new(n, class))));
    }
    for (i, cursor) in cursors.iter_mut().enumerate() {
        next.extend(cursor.peek(files)?.map(|reach| (reach, i)));
    }
    while let Some((reach, i)) = next.pop() {
        let floor = kept.floor();
        if floor.is_some_and(|floor| reach <= floor) {
            break;
        }
        let Some((key, frame)) = cursors[i].page.pop_front() else { continue };
        if floor.is_none_or(|floor| last_id(&key).millis() > floor) {
            let first = PredictionRecord::position(&key).unwrap_or(u64::MAX);
            for (record, at) in decode(files, cursors[i].segment, &key, &frame)?.into_iter().zip(first..) {
                if model.is_none_or(|m| m == record.model) {
                    kept.offer(at, record);
                }
            }
        }
        next.extend(cursors[i].peek(files)?.map(|reach| (reach, i)));
    }
    Ok(kept.records.into_values().rev().map(|(_, record)| record).collect())
}

fn last_of_all(
    log: &SegmentedLog<PredictionRecord>,
    model: Option<&str>,
    limit: usize,
) -> Result<Vec<PredictionRecord>, StoreError> {
    let mut kept = VecDeque::new();
    log.scan(model, PredictionId(0), &mut |record| {
        if kept.len() == limit {
            kept.pop_front();
        }
        if limit > 0 {
            kept.push_back(record);
        }
        ControlFlow::Continue(())
    })?;
    Ok(kept.into_iter().rev().collect())
}
