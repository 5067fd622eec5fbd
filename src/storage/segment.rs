//! Segments: one sled directory each (`events/000001`, ...), rolled by size, dropped whole.
//!
//! Only the newest segment is written. Older ones are opened when a reader needs them and never
//! changed. sled allows one handle per directory, so all readers share the handles kept here; a
//! reader borrows one for a page at a time, so that a failed handle can be closed and reopened.

use super::codec::{self, CodecError};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use understudy_actors::ports::StoreError;

/// A database that takes longer to open is treated as damaged.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);
/// Largest value given to sled. Pages of 128 KiB and more move to files that no flush covers, and a page
/// gathers ten or so changes, so a value must be much smaller; larger frames are cut into parts.
pub const MAX_VALUE: usize = 4 * 1024;
/// Blocks that a reader takes at a time.
const PAGE: usize = 16;

/// Turns a panic inside sled (it asserts on damaged pages) into an error.
pub fn guarded<R>(what: impl FnOnce() -> Result<R, StoreError>) -> Result<R, StoreError> {
    catch_unwind(AssertUnwindSafe(what))
        .unwrap_or_else(|_| Err(StoreError::Corrupt("the database engine panicked on damaged data".into())))
}

pub fn engine(e: sled::Error) -> StoreError {
    match e {
        sled::Error::Corruption { .. } => StoreError::Corrupt(e.to_string()),
        e => StoreError::Io(e.to_string()),
    }
}

pub fn io(path: &Path, e: std::io::Error) -> StoreError {
    StoreError::Io(format!("{}: {e}", path.display()))
}

impl From<CodecError> for StoreError {
    fn from(e: CodecError) -> Self {
        match e {
            CodecError::Corrupt(_) => StoreError::Corrupt(e.to_string()),
            e => StoreError::Io(e.to_string()),
        }
    }
}

/// Opens one sled directory in a thread of its own: it may panic on damage, or hang.
pub fn open_sled(path: &Path, cache: u64) -> Result<sled::Db, StoreError> {
    let (tx, rx) = mpsc::channel();
    let owned = path.to_owned();
    std::thread::spawn(move || {
        let opened = guarded(|| {
            // Flushing is the writer's business: the background flusher only logs its errors.
            sled::Config::new().path(owned).flush_every_ms(None).cache_capacity(cache).open().map_err(engine)
        });
        let _ = tx.send(opened);
    });
    rx.recv_timeout(OPEN_DEADLINE)
        .unwrap_or_else(|_| Err(StoreError::Corrupt(format!("not open after {} s", OPEN_DEADLINE.as_secs()))))
}

pub fn sync_dir(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path).and_then(|d| d.sync_all()).map_err(|e| io(path, e))
}

/// `flush`, and with `power` also `fdatasync`, which sled's flush is not.
pub fn make_durable(db: &sled::Db, path: &Path, power: bool) -> Result<(), StoreError> {
    db.flush().map_err(engine)?;
    if power {
        let file = path.join("db");
        fs::File::open(&file).and_then(|f| f.sync_data()).map_err(|e| io(&file, e))?;
    }
    Ok(())
}

/// Moves a directory that cannot be opened out of the way, with the reason beside it.
pub fn quarantine(root: &Path, path: &Path, name: &str, reason: &str) -> Result<PathBuf, StoreError> {
    let dir = root.join("quarantine");
    fs::create_dir_all(&dir).map_err(|e| io(&dir, e))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let free = |n: u32| if n == 0 { format!("{now}-{name}") } else { format!("{now}-{name}-{n}") };
    let target = (0..).map(|n| dir.join(free(n))).find(|p| !p.exists()).unwrap_or_else(|| dir.join(name));
    fs::rename(path, &target).map_err(|e| io(path, e))?;
    let note = target.with_extension("reason");
    fs::write(&note, format!("{reason}\n")).map_err(|e| io(&note, e))?;
    Ok(target)
}

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

/// The first key after every part of `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0xff, 0xff, 0xff]].concat()
}

/// The segments of one log.
pub struct Segments {
    pub root: PathBuf,
    pub name: &'static str,
    cache: u64,
    closed: AtomicBool,
    open: Mutex<BTreeMap<u32, Option<sled::Db>>>,
}

impl Segments {
    /// Lists what is there; opens nothing.
    pub fn list(root: &Path, name: &'static str, cache: u64) -> Result<Self, StoreError> {
        let dir = root.join(name);
        fs::create_dir_all(&dir).map_err(|e| io(&dir, e))?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(|e| io(&dir, e))? {
            let entry = entry.map_err(|e| io(&dir, e))?;
            if let Some(n) = entry.file_name().to_str().filter(|n| n.len() == 6).and_then(|n| n.parse().ok()) {
                open.insert(n, None);
            }
        }
        Ok(Segments { root: root.to_owned(), name, cache, closed: AtomicBool::new(false), open: Mutex::new(open) })
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
                let db = open_sled(&self.path(n), self.cache)
                    .map_err(|e| StoreError::Corrupt(format!("{}: {e}", self.path(n).display())))?;
                open.insert(n, Some(db.clone()));
                Ok(db)
            }
        }
    }

    /// A new, empty, newest segment.
    pub fn create(&self) -> Result<u32, StoreError> {
        self.create_from(1)
    }

    /// The same, numbered `least` or higher.
    pub fn create_from(&self, least: u32) -> Result<u32, StoreError> {
        let mut open = self.lock();
        let n = open.keys().next_back().map_or(1, |n| n + 1).max(least);
        let db = open_sled(&self.path(n), self.cache)?;
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
            self.lock().remove(n);
            let path = self.path(*n);
            fs::remove_dir_all(&path).map_err(|e| io(&path, e))?;
            dropped.push(*n);
        }
        Ok(dropped)
    }

    /// Closes every handle, for good.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
        self.lock().values_mut().for_each(|db| *db = None);
    }
}
