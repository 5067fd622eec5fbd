//! Retention: whole segments of a log are deleted, oldest first.
//!
//! The rule: a segment goes when it is older than the log may be, or while the log is larger than it may be; but
//! never the newest segment, never one that is younger than what is still needed (the longest feature window, the
//! memory of duplicates, an outcome that may still come), and never an event that saved feature state does not hold.

use super::codec;
use super::log::Layout;
use super::log::SegmentedLog;
use super::segment;
use super::store::Store;
use understudy_actors::ports::StoreError;
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::{OutcomeRecord, PredictionRecord};
use understudy_domain::time::{Span, Timestamp};

/// How much of one log is kept; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub age: Option<Span>,
    pub bytes: Option<u64>,
}

/// What is kept of each log, and what must be kept whatever the settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub events: Keep,
    pub predictions: Keep,
    pub outcomes: Keep,
    /// Events younger than this are needed by windows and by the memory of duplicates.
    pub events_needed: Span,
    /// Predictions and outcomes younger than this may still be joined.
    pub joins_needed: Span,
}

impl Policy {
    pub fn is_for_ever(&self) -> bool {
        [self.events, self.predictions, self.outcomes].iter().all(|k| *k == Keep::default())
    }
}

/// When the last record of a log's segment was made.
pub trait Dated: Layout {
    fn date(&self) -> Timestamp;
}
impl Dated for LoggedEvent {
    fn date(&self) -> Timestamp {
        self.ingested.max(self.event.time)
    }
}
impl Dated for OutcomeRecord {
    fn date(&self) -> Timestamp {
        self.time
    }
}
impl Dated for PredictionRecord {
    fn date(&self) -> Timestamp {
        self.time
    }
}

/// Last position and newest date in a segment, by its last blocks; `None` if that cannot be told.
fn end_of<T: Dated>(log: &SegmentedLog<T>, n: u32) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let Some(db) = log.files.segments.readable(n)? else { return Ok(None) };
    let mut end: Option<(u64, Timestamp)> = None;
    // Ordered keys end with the newest block; the others have one end per class of blocks.
    let stretches = if T::ORDERED { vec![(0, segment::SUM[0])] } else { (0..64).map(|c| (c, c + 1)).collect() };
    for (from, until) in stretches {
        let key =
            segment::guarded(|| db.range(vec![from]..vec![until]).next_back().transpose().map_err(segment::engine))?;
        let Some((key, _)) = key else { continue };
        let key = &key[..key.len().saturating_sub(2)];
        let Some((key, frame)) = segment::page(&db, key, key)?.pop() else { continue };
        let Ok(records) = codec::decode_block::<T>(&key, &frame) else { return Ok(None) };
        let at = T::position(&key).unwrap_or(0) + records.len() as u64;
        let date = records.iter().map(T::date).max().unwrap_or(Timestamp::MIN);
        end = Some(end.map_or((at - 1, date), |(p, d)| (p.max(at - 1), d.max(date))));
    }
    Ok(end)
}

fn retain<T: Dated>(
    log: &SegmentedLog<T>,
    keep: Keep,
    needed: Span,
    up_to: u64,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let segments = &log.files.segments;
    let mut dropped = Vec::new();
    if keep == Keep::default() {
        return Ok(dropped);
    }
    let numbers = segments.numbers();
    let mut total: u64 = numbers.iter().map(|n| segments.bytes(*n)).sum();
    for n in numbers.iter().take(numbers.len().saturating_sub(1)) {
        let Some((last, date)) = end_of(log, *n)? else { break };
        let age = now - date;
        let too_old = keep.age.is_some_and(|most| age > most);
        let too_large = keep.bytes.is_some_and(|most| total > most);
        if !(too_old || too_large) || age <= needed || last > up_to {
            break;
        }
        total -= segments.bytes(*n);
        segments.drop_one(*n)?;
        dropped.push(segments.label(*n));
    }
    Ok(dropped)
}

impl Store {
    /// Deletes what the policy lets go at `now`. `saved` is the sequence number up to which saved feature state holds
    /// every event. Returns the names of the deleted segments.
    pub fn retain(&self, policy: &Policy, saved: u64, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let (events, predictions, outcomes) = self.logs();
        let mut dropped = retain(events, policy.events, policy.events_needed, saved, now)?;
        dropped.extend(retain(predictions, policy.predictions, policy.joins_needed, u64::MAX, now)?);
        dropped.extend(retain(outcomes, policy.outcomes, policy.joins_needed, u64::MAX, now)?);
        Ok(dropped)
    }
}
