//! How far a log was acknowledged, beside the log itself: a lost tail is noticed by it.
//!
//! One small file, written in place: two slots for the acknowledged position, used in turn so that one is always
//! whole, and one for the position that a commit under way will reach.

use super::codec;
use super::segment::io;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use understudy_actors::ports::StoreError;

/// Places of the slots: a sector each.
const SLOTS: [u64; 2] = [0, 512];
const BEGUN: u64 = 1024;
/// Bytes of a framed position.
const FRAME: usize = codec::HEADER + 8;

pub struct Watermark {
    path: PathBuf,
    file: File,
    turn: AtomicU64,
}

/// What the file said when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub acknowledged: u64,
    /// A commit up to here had begun.
    pub begun: u64,
    /// A slot is damaged.
    pub damage: Option<String>,
}

fn key(at: u64) -> &'static [u8] {
    if at == BEGUN { b"begun" } else { b"watermark" }
}

impl Watermark {
    pub fn open(path: &Path) -> Result<(Watermark, Found), StoreError> {
        let found = Self::read(path)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(|e| io(path, e))?;
        Ok((Watermark { path: path.to_owned(), file, turn: AtomicU64::new(0) }, found))
    }

    /// What the file says; nothing is written.
    pub fn read(path: &Path) -> Result<Found, StoreError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::default()),
            Err(e) => return Err(io(path, e)),
        };
        let mut found = Found::default();
        if bytes.len() < FRAME {
            found.damage = Some(format!("{} bytes", bytes.len()));
        }
        for at in [SLOTS[0], SLOTS[1], BEGUN] {
            let start = (at as usize).min(bytes.len());
            let slot = &bytes[start..(start + FRAME).min(bytes.len())];
            if slot.iter().all(|b| *b == 0) {
                continue;
            }
            match codec::decode::<u64>(key(at), slot) {
                Ok(n) if at == BEGUN => found.begun = n,
                Ok(n) => found.acknowledged = found.acknowledged.max(n),
                Err(e) => found.damage = Some(e.to_string()),
            }
        }
        Ok(found)
    }

    fn put(&self, at: u64, position: u64) -> Result<(), StoreError> {
        let frame = codec::encode(key(at), &position)?;
        self.file.write_all_at(&frame, at).map_err(|e| io(&self.path, e))
    }

    /// Everything up to here is durable.
    pub fn acknowledge(&self, position: u64) -> Result<(), StoreError> {
        let turn = self.turn.fetch_add(1, Relaxed) as usize % SLOTS.len();
        self.put(SLOTS[turn], position)
    }

    /// A commit up to here begins.
    pub fn begin(&self, position: u64) -> Result<(), StoreError> {
        self.put(BEGUN, position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watermark");
        let (w, found) = Watermark::open(&path).unwrap();
        assert_eq!(found, Found::default());
        w.begin(9).unwrap();
        w.acknowledge(7).unwrap();
        w.acknowledge(9).unwrap();
        assert_eq!(Watermark::read(&path).unwrap(), Found { acknowledged: 9, begun: 9, damage: None });
        let good = std::fs::read(&path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            let found = Watermark::read(&path).unwrap();
            assert!([7, 9].contains(&found.acknowledged), "byte {i}: {found:?}");
            assert!(found.damage.is_some() || found.acknowledged == 9, "byte {i}: {found:?}");
        }
    }

    #[test]
    fn the_file_of_the_first_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watermark");
        std::fs::write(&path, codec::encode(b"watermark", &5u64).unwrap()).unwrap();
        assert_eq!(Watermark::read(&path).unwrap().acknowledged, 5);
    }
}
