//! The event log and the outcome log: blocks under the position of their first record.

use super::codec::{self, CodecError, Record};
use super::log::{Framed, Layout, SegmentedLog};
use super::{segment, skim};
use std::ops::ControlFlow;
use understudy_actors::ports::{Commit, EventLog, OutcomeLog, StoreError};
use understudy_domain::event::{LoggedEvent, Trace};
use understudy_domain::prediction::OutcomeRecord;

fn blocks<T: Record>(records: &[T], last: u64) -> Result<Vec<Framed>, CodecError> {
    let runs = codec::runs(records)?;
    let framed = runs.into_iter().map(|(range, body)| {
        let key = (last + 1 + range.start as u64).to_be_bytes();
        Ok((key.to_vec(), codec::frame::<T>(&key, &body)?))
    });
    framed.collect()
}

fn position(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

impl Layout for LoggedEvent {
    const NAME: &'static str = "events";
    type Item = Self;
    const ORDERED: bool = true;
    fn check(records: &[Self], last: u64) -> Result<(), StoreError> {
        match records.iter().zip(last + 1..).find(|(e, want)| e.seq != *want) {
            Some((e, want)) => Err(super::gap(e.seq, want)),
            None => Ok(()),
        }
    }
    fn blocks(records: Vec<Self>, last: u64) -> Result<Vec<Framed>, CodecError> {
        blocks(&records, last)
    }
    fn position(key: &[u8]) -> Option<u64> {
        position(key)
    }
}

impl Layout for OutcomeRecord {
    const NAME: &'static str = "outcomes";
    type Item = Self;
    const ORDERED: bool = true;
    fn blocks(records: Vec<Self>, last: u64) -> Result<Vec<Framed>, CodecError> {
        blocks(&records, last)
    }
    fn position(key: &[u8]) -> Option<u64> {
        position(key)
    }
}

/// Is given position, key and frame of a block; says how many records it has, and whether that is enough.
type BlockVisitor<'a> = dyn FnMut(u64, &[u8], &[u8]) -> Result<(u64, ControlFlow<()>), CodecError> + 'a;

impl<T: Layout> SegmentedLog<T> {
    /// Visits records at positions `from ..`, durable ones only.
    fn scan_positions(&self, from: u64, visit: &mut dyn FnMut(T) -> ControlFlow<()>) -> Result<(), StoreError> {
        let end = self.files.position();
        self.visit_blocks(from, end, &mut |first, key, frame| {
            let records = codec::decode_block::<T>(key, frame)?;
            let n = records.len() as u64;
            for (r, position) in records.into_iter().zip(first..) {
                if position >= from && position <= end && visit(r).is_break() {
                    return Ok((n, ControlFlow::Break(())));
                }
            }
            Ok((n, ControlFlow::Continue(())))
        })
    }

    /// Visits the blocks that hold the positions `from ..= end`, in order; damaged ones are reported and left out.
    fn visit_blocks(&self, from: u64, end: u64, visit: &mut BlockVisitor<'_>) -> Result<(), StoreError> {
        let files = &self.files;
        let key = from.to_be_bytes();
        let numbers = files.segments.numbers();
        // Start where the block that holds `from` is: old segments stay closed.
        let mut first = 0;
        for (i, n) in numbers.iter().enumerate().rev() {
            let Some(db) = files.segments.readable(*n)? else { continue };
            let reaches = segment::guarded(|| {
                db.range(..=segment::part_key(&key, 0)).next_back().transpose().map_err(segment::engine)
            });
            if matches!(reaches, Ok(Some(_)) | Err(StoreError::Corrupt(_))) {
                first = i;
                break;
            }
        }
        let mut expected = None;
        for n in &numbers[first.min(numbers.len())..] {
            let label = files.segments.label(*n);
            let Some(db) = files.segments.readable(*n)? else { continue };
            let at = segment::guarded(|| {
                db.range(..=segment::part_key(&key, u16::MAX)).next_back().transpose().map_err(segment::engine)
            });
            drop(db);
            let mut start = match at {
                Ok(Some((k, _))) => k[..k.len().saturating_sub(2)].to_vec(),
                _ => key.to_vec(),
            };
            loop {
                let page = segment::sound_page(&files.segments, *n, &mut start, &end.to_be_bytes())?;
                let Some((last, _)) = page.last() else { break };
                start = segment::after(last);
                for (key, frame) in page {
                    let Some(first) = T::position(&key) else { continue };
                    let (records, flow) = match visit(first, &key, &frame) {
                        Ok(read) => read,
                        Err(e @ CodecError::Newer { .. }) => return Err(e.into()),
                        Err(e) => {
                            files.segments.health.damaged(&label, first, &e.to_string());
                            continue;
                        }
                    };
                    if let Some(expected) = expected.filter(|want| first > *want) {
                        let what = format!("positions {expected} to {} are missing", first - 1);
                        files.segments.health.damaged(&label, expected, &what);
                    }
                    expected = Some(first + records);
                    if flow.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        // The end of the log itself: what the newest segment lost shows up nowhere else.
        if let Some(expected) = expected.filter(|want| *want <= end) {
            let newest = files.segments.label(numbers.last().copied().unwrap_or(0));
            let what = format!("positions {expected} to {end} are missing");
            files.segments.health.damaged(&newest, expected, &what);
        }
        Ok(())
    }
}

impl EventLog for SegmentedLog<LoggedEvent> {
    fn last_seq(&self) -> u64 {
        self.files.position()
    }
    fn accepting(&self) -> Result<(), StoreError> {
        self.files.accepting()
    }
    fn append(&self, events: Vec<LoggedEvent>) -> Commit {
        self.append_records(events)
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(LoggedEvent) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.scan_positions(from, visit)
    }
    fn skim(&self, from: u64, until: u64, visit: &mut dyn FnMut(Trace)) -> Result<(), StoreError> {
        let end = until.min(self.files.position());
        self.visit_blocks(from, end, &mut |first, key, frame| {
            let traces = skim::block(key, frame)?;
            traces.iter().filter(|t| (from..=end).contains(&t.seq)).for_each(|t| visit(*t));
            let flow =
                if first + traces.len() as u64 > end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            Ok((traces.len() as u64, flow))
        })
    }
}

impl OutcomeLog for SegmentedLog<OutcomeRecord> {
    fn accepting(&self) -> Result<(), StoreError> {
        self.files.accepting()
    }
    fn append(&self, records: Vec<OutcomeRecord>) -> Commit {
        self.append_records(records)
    }
    fn position(&self) -> u64 {
        self.files.position()
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(OutcomeRecord) -> ControlFlow<()>) -> Result<(), StoreError> {
        // Outside, positions count from 0 (how many came before); inside from 1.
        self.scan_positions(from.saturating_add(1), visit)
    }
}
