//! What was appended to the prediction log after a position: its keys are in order of id, so each of the segments that
//! reach so far is looked through by key.

use super::codec;
use super::log::{LogFiles, SegmentedLog, TAIL};
use super::predictions::decode;
use super::segment::{self, guarded};
use std::ops::ControlFlow;
use understudy_actors::ports::StoreError;
use understudy_domain::prediction::PredictionRecord;

struct At {
    position: u64,
    segment: u32,
    key: Vec<u8>,
}

/// Blocks of commits after `position`, in order. A commit's blocks all lie after it, or none.
fn blocks(files: &LogFiles<PredictionRecord>, position: u64) -> Result<Vec<At>, StoreError> {
    let mut found = Vec::new();
    let end = files.position();
    for n in files.segments.numbers().into_iter().rev() {
        let Some(db) = files.segments.readable(n)? else { continue };
        let tail = segment::page(&db, &TAIL, &TAIL).ok().and_then(|mut page| page.pop());
        let tail = tail.and_then(|(key, frame)| codec::decode::<u64>(&key, &frame).ok());
        if tail.is_some_and(|tail| tail <= position) {
            break;
        }
        let looked = guarded(|| {
            for key in db.range(..&TAIL[..1]).keys() {
                let key = key.map_err(segment::engine)?;
                let Some(key) = key.strip_suffix(&[0, 0]) else { continue };
                let at = <PredictionRecord as super::log::Layout>::position(key);
                if let Some(position) = at.filter(|p| *p > position && *p <= end) {
                    found.push(At { position, segment: n, key: key.to_vec() });
                }
            }
            Ok(())
        });
        match looked {
            Err(StoreError::Corrupt(e)) => {
                let what = format!("its keys cannot be read: {e}");
                files.segments.health.damaged(&files.segments.label(n), position, &what);
            }
            other => other?,
        }
    }
    found.sort_by_key(|at| at.position);
    Ok(found)
}

impl SegmentedLog<PredictionRecord> {
    pub(super) fn visit_after(
        &self,
        position: u64,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for At { segment, mut key, .. } in blocks(&self.files, position)? {
            let end = key.clone();
            for (key, frame) in segment::sound_page(&self.files.segments, segment, &mut key, &end)? {
                for record in decode(&self.files, segment, &key, &frame)? {
                    if visit(record).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
