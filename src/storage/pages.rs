//! Frames in the engine: cut into parts that it keeps inline, and read a page of blocks at a time, in either direction.

use super::codec;
use super::engine::{engine, guarded};
use understudy_actors::ports::StoreError;

/// Largest value given to sled. Pages of 128 KiB and more move to files that no flush covers, and a page
/// gathers ten or so changes, so a value must be much smaller; larger frames are cut into parts.
const MAX_VALUE: usize = 4 * 1024;
/// Blocks that a reader takes at a time.
const PAGE: usize = 16;

/// Adds a frame to a batch under `key ++ part`, cut into values that sled keeps inline.
pub fn put(batch: &mut sled::Batch, key: &[u8], frame: &[u8]) -> u16 {
    let mut part = 0u16;
    for chunk in frame.chunks(MAX_VALUE) {
        batch.insert(part_key(key, part), chunk);
        part += 1;
    }
    part
}

pub fn part_key(key: &[u8], part: u16) -> Vec<u8> {
    [key, &part.to_be_bytes()[..]].concat()
}

/// A key of a block and its frame, unchecked.
pub type Block = (Vec<u8>, Vec<u8>);

/// Up to a page of blocks with keys from `start` up to and including `end`, parts put together.
pub fn page(db: &sled::Db, start: &[u8], end: &[u8]) -> Result<Vec<Block>, StoreError> {
    guarded(|| {
        let (mut out, mut missing): (Vec<Block>, usize) = (Vec::new(), 0);
        for item in db.range(start.to_vec()..=part_key(end, u16::MAX)) {
            let (k, v) = item.map_err(engine)?;
            let Some((key, part)) = k.split_at_checked(k.len().saturating_sub(2)) else { continue };
            if part == [0, 0] {
                if out.len() == PAGE {
                    break;
                }
                missing = codec::frame_len(&v).unwrap_or(0).saturating_sub(v.len());
                out.push((key.to_vec(), v.to_vec()));
            } else if let Some((last, frame)) = out.last_mut()
                && last == key
                && missing > 0
            {
                missing = missing.saturating_sub(v.len());
                frame.extend_from_slice(&v);
            }
        }
        Ok(out)
    })
}

/// Up to a page of blocks with keys from `start` up to, without, `end`, the last first.
pub fn page_back(db: &sled::Db, start: &[u8], end: &[u8]) -> Result<Vec<Block>, StoreError> {
    guarded(|| {
        let mut out: Vec<Block> = Vec::new();
        // Parts of the block that is met, the last first.
        let mut parts: Vec<(Vec<u8>, sled::IVec)> = Vec::new();
        for item in db.range(start.to_vec()..end.to_vec()).rev() {
            let (k, v) = item.map_err(engine)?;
            let Some((key, part)) = k.split_at_checked(k.len().saturating_sub(2)) else { continue };
            parts.retain(|(other, _)| other == key);
            parts.push((key.to_vec(), v));
            if part == [0, 0] {
                let length = parts.last().and_then(|(_, v)| codec::frame_len(v)).unwrap_or(0);
                let mut frame: Vec<u8> = Vec::with_capacity(length.min(codec::MAX_BODY));
                for (_, v) in parts.drain(..).rev() {
                    if frame.is_empty() || frame.len() < length {
                        frame.extend_from_slice(&v);
                    }
                }
                out.push((key.to_vec(), frame));
                if out.len() == PAGE {
                    break;
                }
            }
        }
        Ok(out)
    })
}

/// The first key after every part of `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0xff, 0xff, 0xff]].concat()
}

/// Where reading can go on behind a place that the engine cannot read: the first key that is reached from the end.
pub fn resume(db: &sled::Db, start: &[u8], end: &[u8]) -> Option<Vec<u8>> {
    let mut reached: Option<Vec<u8>> = None;
    let _ = guarded(|| {
        for key in db.range(start.to_vec()..=part_key(end, u16::MAX)).keys().rev() {
            let key = key.map_err(engine)?;
            if key.ends_with(&[0, 0]) {
                reached = Some(key[..key.len() - 2].to_vec());
            }
        }
        Ok(())
    });
    reached.filter(|key| key.as_slice() > start)
}
