//! A store made out of finished blocks: for import and compaction.

use super::codec::{self, SegmentSum};
use super::log::{Layout, TAIL};
use super::segment::{self, SUM, io, make_durable, put};
use super::state::identity;
use super::store::StoreOptions;
use super::watermark::Watermark;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use understudy_actors::ports::StoreError;

/// Bytes of one batch.
const BATCH: usize = 1 << 20;

/// A log or the state while it is made.
struct Part {
    dir: PathBuf,
    db: sled::Db,
    n: u32,
    batch: sled::Batch,
    waiting: usize,
    sum: SegmentSum,
    tail: u64,
}

pub struct Bulk {
    root: PathBuf,
    options: StoreOptions,
    parts: BTreeMap<String, Part>,
}

impl Bulk {
    pub fn new(root: &Path, options: &StoreOptions) -> Result<Bulk, StoreError> {
        if root.exists() {
            std::fs::remove_dir_all(root).map_err(|e| io(root, e))?;
        }
        std::fs::create_dir_all(root).map_err(|e| io(root, e))?;
        Ok(Bulk { root: root.to_owned(), options: options.clone(), parts: BTreeMap::new() })
    }

    fn open(&self, path: &Path) -> Result<sled::Db, StoreError> {
        std::fs::create_dir_all(path).map_err(|e| io(path, e))?;
        segment::open_sled(path, self.options.cache_bytes, self.options.open_deadline)
    }

    fn part(&mut self, name: &str) -> Result<&mut Part, StoreError> {
        if !self.parts.contains_key(name) {
            let dir = self.root.join(name);
            let path = if name == "state" { dir.clone() } else { dir.join("000001") };
            let db = self.open(&path)?;
            let (batch, sum) = (sled::Batch::default(), SegmentSum::default());
            self.parts.insert(name.to_owned(), Part { dir, db, n: 1, batch, waiting: 0, sum, tail: 0 });
        }
        self.parts.get_mut(name).ok_or(StoreError::Closed)
    }

    /// A block of a log under the key it had.
    pub fn block<T: Layout>(&mut self, key: &[u8], frame: &[u8]) -> Result<(), StoreError> {
        let records = codec::decode_block::<T>(key, frame)?.len() as u64;
        let first = T::position(key).ok_or_else(|| StoreError::Corrupt(format!("a key of the {} log", T::NAME)))?;
        let roll_at = self.options.segment_bytes;
        let part = self.part(T::NAME)?;
        if part.waiting == 0 && part.size() >= roll_at {
            part.close()?;
            let path = part.dir.join(format!("{:06}", part.n + 1));
            let db = self.open(&path)?;
            let part = self.part(T::NAME)?;
            part.seal(T::NAME)?;
            (part.n, part.db, part.sum) = (part.n + 1, db, SegmentSum::default());
        }
        let part = self.part(T::NAME)?;
        part.sum.add(key);
        part.tail = part.tail.max(first + records - 1);
        part.add(key, frame)
    }

    /// An entry of the feature store.
    pub fn state(&mut self, key: &[u8], frame: &[u8]) -> Result<(), StoreError> {
        let part = self.part("state")?;
        part.sum.keys = part.sum.keys.wrapping_add(identity(key, frame));
        part.sum.blocks = 1;
        part.add(key, frame)
    }

    /// Where a log goes on.
    pub fn position(&mut self, log: &[u8], position: u64) -> Result<(), StoreError> {
        let name = String::from_utf8_lossy(log).into_owned();
        if !["events", "predictions", "outcomes"].contains(&name.as_str()) {
            return Err(StoreError::Corrupt(format!("a position of the unknown log `{name}`")));
        }
        let dir = self.part(&name)?.dir.clone();
        let (mark, _) = Watermark::open(&dir.join("watermark"))?;
        mark.acknowledge(position)?;
        mark.acknowledge(position)
    }

    /// Makes everything durable.
    pub fn finish(mut self) -> Result<(), StoreError> {
        for name in ["events", "predictions", "outcomes", "state"] {
            let part = self.part(name)?;
            part.close()?;
            segment::sync_dir(&part.dir)?;
        }
        let (mark, _) = Watermark::open(&self.root.join("state.watermark"))?;
        mark.acknowledge(0)?;
        segment::sync_dir(&self.root)
    }
}

impl Part {
    fn path(&self) -> PathBuf {
        if self.dir.ends_with("state") { self.dir.clone() } else { self.dir.join(format!("{:06}", self.n)) }
    }

    fn size(&self) -> u64 {
        std::fs::metadata(self.path().join("db")).map_or(0, |m| m.len())
    }

    fn add(&mut self, key: &[u8], frame: &[u8]) -> Result<(), StoreError> {
        put(&mut self.batch, key, frame);
        self.waiting += key.len() + frame.len();
        if self.waiting < BATCH { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.waiting = 0;
        self.db.apply_batch(std::mem::take(&mut self.batch)).map_err(segment::engine)?;
        self.db.flush().map(|_| ()).map_err(segment::engine)
    }

    /// Ends the segment: tail, sum, sync.
    fn close(&mut self) -> Result<(), StoreError> {
        if !self.dir.ends_with("state") {
            put(&mut self.batch, &TAIL, &codec::encode(&TAIL, &self.tail)?);
        }
        put(&mut self.batch, &SUM, &codec::encode(&SUM, &self.sum)?);
        self.write()?;
        make_durable(&self.db, &self.path(), true)?;
        segment::sync_dir(&self.path())
    }

    fn seal(&self, name: &str) -> Result<(), StoreError> {
        segment::write_seal(&self.dir, name, self.n, &self.sum)
    }
}
