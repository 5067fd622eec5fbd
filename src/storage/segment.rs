//! Segments: one sled directory each (`events/000001`, ...), rolled by size, dropped whole.
//!
//! Only the newest segment is written. Older ones are opened when a reader needs them and never
//! changed. sled allows one handle per directory, so all readers share the handles kept here; a
//! reader borrows one for a page at a time, so that a failed handle can be closed and reopened.

use super::codec::{self, SegmentSum};
use super::engine::NOT_OPEN;
pub use super::engine::{engine, guarded, io, make_durable, open_sled, sync_dir};
use super::health::Health;
pub use super::pages::{Block, after, page, page_back, part_key, put, resume};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use understudy_actors::ports::StoreError;

/// Ending of a segment that is being deleted.
const DROPPED: &str = ".dropped";

/// Snapshot files of the engine in a segment.
fn snapshots(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path()));
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snap."))).collect()
}

/// Copies a directory with everything in it, and syncs the files.
pub fn copy_dir(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(to).map_err(|e| io(to, e))?;
    for entry in fs::read_dir(from).map_err(|e| io(from, e))? {
        let entry = entry.map_err(|e| io(from, e))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(|e| io(&path, e))?;
            fs::File::open(&target).and_then(|f| f.sync_all()).map_err(|e| io(&target, e))?;
        }
    }
    sync_dir(to)
}

/// A free place in quarantine.
fn quarantine_path(root: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let dir = root.join("quarantine");
    fs::create_dir_all(&dir).map_err(|e| io(&dir, e))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let free = |n: u32| if n == 0 { format!("{now}-{name}") } else { format!("{now}-{name}-{n}") };
    Ok((0..).map(|n| dir.join(free(n))).find(|p| !p.exists()).unwrap_or_else(|| dir.join(name)))
}

/// Moves a directory that cannot be opened out of the way, with the reason beside it.
pub fn quarantine(root: &Path, path: &Path, name: &str, reason: &str) -> Result<PathBuf, StoreError> {
    let target = quarantine_path(root, name)?;
    fs::rename(path, &target).map_err(|e| io(path, e))?;
    // Both names: a power cut must not bring it back beside its successor.
    for dir in [path.parent(), target.parent()].into_iter().flatten() {
        sync_dir(dir)?;
    }
    let note = target.with_extension("reason");
    fs::write(&note, format!("{reason}\n")).map_err(|e| io(&note, e))?;
    Ok(target)
}

/// A page of blocks; where the engine cannot read, what follows behind that place. Every damage is reported.
pub fn sound_page(segments: &Segments, n: u32, start: &mut Vec<u8>, end: &[u8]) -> Result<Vec<Block>, StoreError> {
    let Some(db) = segments.readable(n)? else { return Ok(Vec::new()) };
    match page(&db, start, end) {
        Err(StoreError::Corrupt(e)) => {
            let at = start.iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
            segments.health.damaged(&segments.label(n), at, &format!("a page cannot be read: {e}"));
            match resume(&db, start, end) {
                Some(next) => {
                    *start = next;
                    page(&db, start, end).or(Ok(Vec::new()))
                }
                None => Ok(Vec::new()),
            }
        }
        result => result,
    }
}

/// Key of a segment's sum; sorts after every block.
pub const SUM: [u8; 3] = [0xff, b's', b'm'];

/// The sum of what is there.
pub fn sum_of(db: &sled::Db) -> Result<SegmentSum, StoreError> {
    guarded(|| {
        let mut sum = SegmentSum::default();
        for key in db.range(..&SUM[..1]).keys() {
            let key = key.map_err(engine)?;
            if key.ends_with(&[0, 0]) {
                sum.add(&key[..key.len() - 2]);
            }
        }
        Ok(sum)
    })
}

/// The sum on record; `None` in a segment of an earlier version of the program.
pub fn stored_sum(db: &sled::Db) -> Result<Option<SegmentSum>, StoreError> {
    match page(db, &SUM, &SUM)?.pop() {
        Some((key, frame)) => Ok(Some(codec::decode(&key, &frame)?)),
        None => Ok(None),
    }
}

/// The sum of a closed segment in a file beside it.
pub fn write_seal(dir: &Path, log: &str, n: u32, sum: &SegmentSum) -> Result<(), StoreError> {
    let path = dir.join(format!("{n:06}.sum"));
    let frame = codec::encode(format!("{log}/{n:06}").as_bytes(), sum)?;
    let wrote = fs::File::create(&path).and_then(|mut f| f.write_all(&frame).and_then(|()| f.sync_data()));
    wrote.map_err(|e| io(&path, e))
}

/// The segments of one log.
pub struct Segments {
    pub root: PathBuf,
    pub name: &'static str,
    pub health: Arc<Health>,
    cache: u64,
    deadline: Duration,
    closed: AtomicBool,
    open: Mutex<BTreeMap<u32, Option<sled::Db>>>,
}

impl Segments {
    /// Lists what is there; opens nothing.
    pub fn list(
        root: &Path,
        name: &'static str,
        options: &super::StoreOptions,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        let dir = root.join(name);
        fs::create_dir_all(&dir).map_err(|e| io(&dir, e))?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(|e| io(&dir, e))? {
            let entry = entry.map_err(|e| io(&dir, e))?;
            if entry.file_name().to_string_lossy().ends_with(DROPPED) {
                // Retention was interrupted.
                fs::remove_dir_all(entry.path()).map_err(|e| io(&entry.path(), e))?;
                continue;
            }
            if let Some(n) = entry.file_name().to_str().filter(|n| n.len() == 6).and_then(|n| n.parse().ok()) {
                open.insert(n, None);
            }
        }
        sync_dir(root)?;
        Ok(Segments {
            root: root.to_owned(),
            name,
            health,
            cache: options.cache_bytes,
            deadline: options.open_deadline,
            closed: AtomicBool::new(false),
            open: Mutex::new(open),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Option<sled::Db>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn dir(&self) -> PathBuf {
        self.root.join(self.name)
    }

    pub fn path(&self, n: u32) -> PathBuf {
        self.dir().join(format!("{n:06}"))
    }

    pub fn numbers(&self) -> Vec<u32> {
        self.lock().keys().copied().collect()
    }

    /// The handle of a segment, opened at the first use. Keep it no longer than a page.
    pub fn get(&self, n: u32) -> Result<sled::Db, StoreError> {
        let mut open = self.lock();
        if self.closed.load(SeqCst) {
            return Err(StoreError::Closed);
        }
        match open.get(&n) {
            None => Err(StoreError::Io(format!("segment {}/{n:06} was dropped by retention", self.name))),
            Some(Some(db)) => Ok(db.clone()),
            Some(None) => {
                let db = match open_sled(&self.path(n), self.cache, self.deadline) {
                    Err(StoreError::Corrupt(reason)) => self.salvage(n, reason)?,
                    opened => opened?,
                };
                self.compare(n, &db)?;
                open.insert(n, Some(db.clone()));
                Ok(db)
            }
        }
    }

    /// The same for reading: a segment that cannot be opened is set aside and reported, and reading goes on.
    pub fn readable(&self, n: u32) -> Result<Option<sled::Db>, StoreError> {
        match self.get(n) {
            Ok(db) => Ok(Some(db)),
            Err(StoreError::Corrupt(reason)) => {
                let to = self.quarantine(n, &reason)?;
                self.health.quarantined(&self.label(n), &to, &reason);
                Ok(None)
            }
            // Dropped by retention since the numbers were read.
            Err(_) if !self.closed.load(SeqCst) && !self.lock().contains_key(&n) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A damaged segment once more, without the engine's snapshots: they only save time, and what comes out of the
    /// log itself is checked record by record. The segment as it was found is kept in quarantine.
    fn salvage(&self, n: u32, reason: String) -> Result<sled::Db, StoreError> {
        let path = self.path(n);
        let snapshots = snapshots(&path);
        if snapshots.is_empty() || reason.starts_with(NOT_OPEN) {
            return Err(StoreError::Corrupt(reason));
        }
        let copy = quarantine_path(&self.root, &format!("{}-{n:06}", self.name))?;
        if copy_dir(&path, &copy).is_err() {
            // Without a copy nothing is tried on the only one.
            let _ = fs::remove_dir_all(&copy);
            return Err(StoreError::Corrupt(reason));
        }
        for snapshot in snapshots {
            fs::remove_file(&snapshot).map_err(|e| io(&snapshot, e))?;
        }
        match open_sled(&path, self.cache, self.deadline) {
            Ok(db) => {
                self.health.salvaged(&self.label(n), &copy, &reason);
                Ok(db)
            }
            Err(StoreError::Corrupt(_)) => {
                let _ = fs::remove_dir_all(&path);
                fs::rename(&copy, &path).map_err(|e| io(&path, e))?;
                Err(StoreError::Corrupt(reason))
            }
            Err(e) => Err(e),
        }
    }

    /// Keeps the sum of a segment that is not written any more outside of it: the engine may go back to an earlier
    /// state of a damaged segment, and its own sum with it.
    pub fn seal(&self, n: u32, sum: &SegmentSum) -> Result<(), StoreError> {
        write_seal(&self.dir(), self.name, n, sum)
    }

    fn seal_path(&self, n: u32) -> PathBuf {
        self.dir().join(format!("{n:06}.sum"))
    }

    /// The sum that was kept when the segment was closed, if it was closed.
    fn sealed(&self, n: u32) -> Result<Option<SegmentSum>, StoreError> {
        let path = self.seal_path(n);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(codec::decode(self.label(n).as_bytes(), &bytes)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&path, e)),
        }
    }

    fn compare(&self, n: u32, db: &sled::Db) -> Result<(), StoreError> {
        let sealed = self.sealed(n);
        let stored = match sealed.and_then(|s| if s.is_some() { Ok(s) } else { stored_sum(db) }) {
            Ok(stored) => stored,
            Err(StoreError::Corrupt(e)) => {
                self.health.damaged(&self.label(n), u64::MAX, &format!("the sum of the segment: {e}"));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let Some(stored) = stored else { return Ok(()) };
        match sum_of(db) {
            Ok(found) if found == stored => {}
            Ok(found) => self.health.damaged(
                &self.label(n),
                u64::MAX,
                &format!("{} blocks are there, {} were written, or others", found.blocks, stored.blocks),
            ),
            Err(StoreError::Corrupt(e)) => self.health.damaged(&self.label(n), u64::MAX, &e),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// `events/000001`
    pub fn label(&self, n: u32) -> String {
        format!("{}/{n:06}", self.name)
    }

    /// A new, empty, newest segment.
    pub fn create(&self) -> Result<u32, StoreError> {
        self.create_from(1)
    }

    /// The same, numbered `least` or higher.
    pub fn create_from(&self, least: u32) -> Result<u32, StoreError> {
        let mut open = self.lock();
        let n = open.keys().next_back().map_or(1, |n| n + 1).max(least);
        let db = open_sled(&self.path(n), self.cache, self.deadline)?;
        sync_dir(&self.path(n))?;
        sync_dir(&self.dir())?;
        open.insert(n, Some(db));
        Ok(n)
    }

    /// Forgets the handle of a segment; the next use opens it again.
    pub fn abandon(&self, n: u32) {
        if let Some(slot) = self.lock().get_mut(&n) {
            *slot = None;
        }
    }

    /// Takes a segment that cannot be opened out of the log.
    pub fn quarantine(&self, n: u32, reason: &str) -> Result<PathBuf, StoreError> {
        self.lock().remove(&n);
        let _ = fs::remove_file(self.seal_path(n));
        quarantine(&self.root, &self.path(n), &format!("{}-{n:06}", self.name), reason)
    }

    /// Size on disk of a segment's file, in bytes.
    pub fn bytes(&self, n: u32) -> u64 {
        fs::metadata(self.path(n).join("db")).map_or(0, |m| m.len())
    }

    /// Retention: drops the oldest sealed segments while all together are above `keep` bytes.
    pub fn drop_oldest(&self, keep: u64) -> Result<Vec<u32>, StoreError> {
        let numbers = self.numbers();
        let mut total: u64 = numbers.iter().map(|n| self.bytes(*n)).sum();
        let mut dropped = Vec::new();
        for n in numbers.iter().take(numbers.len().saturating_sub(1)) {
            if total <= keep {
                break;
            }
            total -= self.bytes(*n);
            self.drop_one(*n)?;
            dropped.push(*n);
        }
        Ok(dropped)
    }

    /// Deletes a segment. Renamed first: a half deleted directory is not taken for a damaged segment.
    pub fn drop_one(&self, n: u32) -> Result<(), StoreError> {
        self.lock().remove(&n);
        let _ = fs::remove_file(self.seal_path(n));
        let (path, gone) = (self.path(n), self.dir().join(format!("{n:06}{DROPPED}")));
        fs::rename(&path, &gone).map_err(|e| io(&path, e))?;
        sync_dir(&self.dir())?;
        fs::remove_dir_all(&gone).map_err(|e| io(&gone, e))
    }

    /// Closes every handle, for good.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
        self.lock().values_mut().for_each(|db| *db = None);
    }
}
