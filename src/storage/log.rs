//! A log on segments: what the three logs share. Where records stand is the business of `Layout`.

use super::codec::{self, CodecError, Record, SegmentSum};
use super::health::Health;
use super::report::{OpenError, OpenReport, Warning};
use super::segment::{self, SUM, Segments, guarded, make_durable, put};
use super::watermark::Watermark;
use super::writer::{Writer, WriterStats};
use std::borrow::Borrow;
use std::io::Write;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use understudy_actors::ports::{Commit, StoreError};

/// A log that could not be mended is tried again after this long.
const RETRY: Duration = Duration::from_millis(250);
/// Bytes of the file that asks whether the disk takes any.
const PROBE: usize = 256 * 1024;
/// How many of the newest blocks are checked at open.
const VERIFIED: usize = 64;

/// A block ready to be written: its key and frame.
pub type Framed = (Vec<u8>, Vec<u8>);

/// What differs between logs.
pub trait Layout: Record + Send + Sync + 'static {
    /// Name of the directory.
    const NAME: &'static str;
    /// A record on its way to the log: itself, or shared.
    type Item: Borrow<Self> + Send + 'static;
    /// Whether these records may follow position `last`.
    fn check(_records: &[Self::Item], _last: u64) -> Result<(), StoreError> {
        Ok(())
    }
    /// Blocks for records that take the positions `last + 1 ..`.
    fn blocks(records: Vec<Self::Item>, last: u64) -> Result<Vec<Framed>, CodecError>;
    /// Position of the first record of the block under this key; `None` for a key of another sort.
    fn position(key: &[u8]) -> Option<u64>;
    /// Keys tell positions in order, so that the tail can be found from the last key.
    const ORDERED: bool;
}

/// Key of the position that a commit ends at, written in the same batch; sorts after every block.
pub const TAIL: [u8; 3] = [0xff, b't', b'l'];

struct Active {
    n: u32,
    /// What the segment holds; `None` in one that an earlier version of the program began.
    sum: Option<SegmentSum>,
    /// Why the last commit failed: nothing is written before the segment is reopened and cleared of it.
    repair: Option<StoreError>,
    tried: Instant,
}

/// The files of one log: segments and watermark.
pub struct LogFiles<T> {
    pub segments: Segments,
    watermark: Watermark,
    position: AtomicU64,
    /// A commit failed and could not be mended yet.
    blocked: AtomicBool,
    active: Mutex<Active>,
    power: bool,
    roll_at: u64,
    _record: PhantomData<fn() -> T>,
}

impl<T: Layout> LogFiles<T> {
    /// Opens the newest segment and finds the position; damage is set aside and reported.
    pub fn open(
        root: &Path,
        options: &super::StoreOptions,
        health: Arc<Health>,
        report: &mut OpenReport,
    ) -> Result<Self, OpenError> {
        let segments = Segments::list(root, T::NAME, options, health)?;
        let power = options.durability == super::Durability::Power;
        let (watermark, told) = Watermark::open(&segments.dir().join("watermark"))?;
        segment::sync_dir(&segments.dir())?;
        let acknowledged = told.acknowledged;
        if let Some(detail) = told.damage {
            report.warnings.push(Warning::WatermarkUnreadable { log: T::NAME, detail });
        }
        let mut tail = None;
        if let Some(n) = segments.numbers().last().copied() {
            match segments.get(n).and_then(|db| recover::<T>(&db, acknowledged, n, report)) {
                Ok(t) => {
                    tail = Some((n, t));
                    // A crash right after a roll leaves an empty newest segment: the tail is in the one before.
                    let before = segments.numbers().iter().rev().nth(1).copied();
                    if let (0, Some(b)) = (t, before)
                        && let Some(db) = segments.readable(b)?
                        && let Ok(t) = recover::<T>(&db, acknowledged, b, report)
                    {
                        tail = Some((n, t));
                    }
                }
                Err(StoreError::Newer(e)) => return Err(OpenError::Newer(e)),
                Err(StoreError::Corrupt(reason)) => {
                    let to = segments.quarantine(n, &reason)?;
                    report.warnings.push(Warning::Quarantined { name: segments.label(n), to, reason });
                    // The lost segment's number is not used again, and older ones stay readable.
                    tail = Some((segments.create_from(n + 1)?, 0));
                }
                // The machine, not the data: nothing is moved, and the start is refused.
                Err(e) => return Err(e.into()),
            }
        }
        let (active, found) = match tail {
            Some(t) => t,
            None => (segments.create_from(1)?, 0),
        };
        if found < acknowledged {
            report.warnings.push(Warning::TailLost { log: T::NAME, found, acknowledged });
        }
        if told.begun > found.max(acknowledged) {
            let records = told.begun - found.max(acknowledged);
            report.warnings.push(Warning::LostAtMost { log: T::NAME, records });
        }
        let db = segments.get(active)?;
        let sum = sum_to_keep(&db)?;
        watermark.acknowledge(found.max(acknowledged))?;
        watermark.acknowledge(found.max(acknowledged))?;
        watermark.begin(found.max(acknowledged))?;
        Ok(LogFiles {
            segments,
            watermark,
            // Positions of lost records are never given out again.
            position: AtomicU64::new(found.max(acknowledged)),
            blocked: AtomicBool::new(false),
            active: Mutex::new(Active { n: active, sum, repair: None, tried: Instant::now() }),
            power,
            roll_at: options.segment_bytes,
            _record: PhantomData,
        })
    }

    /// Position of the last durable record.
    pub fn position(&self) -> u64 {
        self.position.load(SeqCst)
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a commit can be expected to succeed.
    pub fn accepting(&self) -> Result<(), StoreError> {
        if self.segments.health.is_low() {
            return Err(StoreError::DiskFull("less space is free than storage.min_free_bytes".into()));
        }
        if !self.blocked.load(SeqCst) {
            return Ok(());
        }
        // Not waited for: a mending may take as long as an open.
        let why = self.active.try_lock().ok().and_then(|active| active.repair.clone());
        Err(why.unwrap_or_else(|| StoreError::Io("the log is being reopened".into())))
    }

    /// Writes and makes durable; only the writer thread calls this. Returns the bytes written.
    pub fn commit(&self, records: Vec<T::Item>) -> Result<u64, StoreError> {
        let (last, n) = (self.position(), records.len() as u64);
        let blocks = T::blocks(records, last)?;
        let mut active = self.active();
        if let Some(why) = active.repair.clone() {
            if active.tried.elapsed() < RETRY {
                return Err(why);
            }
            self.mend(&mut active)?;
        }
        let written = self.write(&mut active, &blocks, last + n);
        match &written {
            Ok(_) => self.position.store(last + n, SeqCst),
            Err(e) => {
                tracing::error!(log = T::NAME, %e, "a commit failed; the log is closed for writing until it is mended");
                self.blocked.store(true, SeqCst);
                active.repair = Some(e.clone());
                // A full disk needs space first; the old handle goes on serving reads.
                if !matches!(e, StoreError::DiskFull(_)) {
                    let _ = self.mend(&mut active);
                }
            }
        }
        written
    }

    /// Mends a log whose last commit failed; true when it takes records (again).
    pub fn try_mend(&self) -> bool {
        if !self.blocked.load(SeqCst) {
            return true;
        }
        let mut active = self.active();
        active.repair.is_none() || self.mend(&mut active).is_ok()
    }

    fn mend(&self, active: &mut Active) -> Result<(), StoreError> {
        active.tried = Instant::now();
        let mended = self.probe().and_then(|()| self.repair(active.n, self.position()));
        match mended {
            Ok(sum) => {
                (active.sum, active.repair) = (sum, None);
                self.blocked.store(false, SeqCst);
                tracing::info!(log = T::NAME, position = self.position(), "the log was reopened and checked");
                Ok(())
            }
            Err(e) => {
                active.repair = Some(e.clone());
                Err(e)
            }
        }
    }

    /// Whether the disk takes and keeps bytes at all: asked before the handle that serves reads is given up.
    fn probe(&self) -> Result<(), StoreError> {
        let path = self.segments.dir().join("probe");
        let tried = std::fs::File::create(&path)
            .and_then(|mut f| f.write_all(&[0x5a; PROBE]).and_then(|()| f.sync_data()))
            .map_err(|e| segment::io(&path, e));
        let _ = std::fs::remove_file(&path);
        tried
    }

    fn write(&self, active: &mut Active, blocks: &[Framed], end: u64) -> Result<u64, StoreError> {
        if self.segments.bytes(active.n) >= self.roll_at {
            if let Some(sum) = &active.sum {
                self.segments.seal(active.n, sum)?;
            }
            (active.n, active.sum) = (self.segments.create()?, Some(SegmentSum::default()));
        }
        self.watermark.begin(end)?;
        let (mut batch, mut bytes, mut sum) = (sled::Batch::default(), 0, active.sum);
        for (key, frame) in blocks {
            put(&mut batch, key, frame);
            bytes += (key.len() + frame.len()) as u64;
            if let Some(sum) = &mut sum {
                sum.add(key);
            }
        }
        put(&mut batch, &TAIL, &codec::encode(&TAIL, &end)?);
        if let Some(sum) = &sum {
            put(&mut batch, &SUM, &codec::encode(&SUM, sum)?);
        }
        guarded(|| {
            let db = self.segments.get(active.n)?;
            db.apply_batch(batch).map_err(segment::engine)?;
            make_durable(&db, &self.segments.path(active.n), self.power)
        })?;
        self.watermark.acknowledge(end)?;
        active.sum = sum;
        Ok(bytes)
    }

    /// After a failed flush the handle stays failed, and the kernel may have dropped the pages: close
    /// it, open it anew, check the tail, and take out what was never acknowledged.
    fn repair(&self, n: u32, last: u64) -> Result<Option<SegmentSum>, StoreError> {
        self.segments.abandon(n);
        let repaired = self.segments.get(n).and_then(|db| {
            guarded(|| {
                remove_after::<T>(&db, last)?;
                let found = recover::<T>(&db, last, n, &mut OpenReport::default())?;
                // An empty segment is one that this log has just rolled to.
                if found != last && found != 0 {
                    return Err(StoreError::Corrupt(format!(
                        "the {} log ends at {found}, {last} were acknowledged",
                        T::NAME
                    )));
                }
                make_durable(&db, &self.segments.path(n), self.power)?;
                sum_to_keep(&db)
            })
        });
        if repaired.is_err() {
            self.segments.abandon(n);
        }
        repaired
    }
}

/// The sum to go on from: of what is there, if the segment has one or is new.
fn sum_to_keep(db: &sled::Db) -> Result<Option<SegmentSum>, StoreError> {
    let found = segment::sum_of(db)?;
    let kept = match segment::stored_sum(db) {
        Ok(None) => found.blocks == 0,
        // What differs was reported when the segment was opened.
        Ok(Some(_)) | Err(StoreError::Corrupt(_)) => true,
        Err(e) => return Err(e),
    };
    Ok(kept.then_some(found))
}

/// Takes out every block beyond position `last`.
fn remove_after<T: Layout>(db: &sled::Db, last: u64) -> Result<(), StoreError> {
    let mut batch = sled::Batch::default();
    // Newest first for ordered keys; the others have to be looked at one by one.
    for key in db.iter().keys().rev() {
        let key = key.map_err(segment::engine)?;
        match T::position(&key[..key.len().saturating_sub(2)]) {
            Some(p) if p > last => batch.remove(key),
            Some(_) if T::ORDERED => break,
            _ => {}
        }
    }
    put(&mut batch, &TAIL, &codec::encode(&TAIL, &last)?);
    let with_sum = !matches!(segment::stored_sum(db), Ok(None));
    db.apply_batch(batch).map_err(segment::engine)?;
    if with_sum {
        let mut batch = sled::Batch::default();
        put(&mut batch, &SUM, &codec::encode(&SUM, &segment::sum_of(db)?)?);
        db.apply_batch(batch).map_err(segment::engine)?;
    }
    Ok(())
}

/// Checks the newest blocks, drops damaged ones that nobody was told about, and returns the tail.
fn recover<T: Layout>(db: &sled::Db, acknowledged: u64, n: u32, report: &mut OpenReport) -> Result<u64, StoreError> {
    guarded(|| {
        let stored = match segment::page(db, &TAIL, &TAIL)?.pop() {
            Some((key, frame)) => codec::decode::<u64>(&key, &frame)?,
            None => 0,
        };
        if !T::ORDERED {
            return Ok(stored);
        }
        let mut firsts = Vec::new();
        for key in db.range(..&TAIL[..1]).keys().rev() {
            let key = key.map_err(segment::engine)?;
            if key.ends_with(&[0, 0]) {
                firsts.push(key[..key.len() - 2].to_vec());
            }
            if firsts.len() == VERIFIED {
                break;
            }
        }
        let mut tail = 0;
        for (i, key) in firsts.iter().rev().enumerate() {
            let Some(first) = T::position(key) else { continue };
            let block = segment::page(db, key, key)?.pop();
            let what = match block.map(|(key, frame)| codec::decode_block::<T>(&key, &frame)) {
                Some(Ok(records)) if i == 0 || first == tail + 1 => {
                    tail = first + records.len() as u64 - 1;
                    continue;
                }
                Some(Err(e @ CodecError::Newer { .. })) => return Err(e.into()),
                Some(Err(e)) => e.to_string(),
                Some(Ok(_)) => format!("gap: position {first} follows {tail}"),
                None => "block without content".into(),
            };
            let name = format!("{}/{n:06}", T::NAME);
            if first > acknowledged {
                remove_after::<T>(db, first - 1)?;
                db.flush().map_err(segment::engine)?;
                report.warnings.push(Warning::TailDropped { name, from: first, detail: what });
                return Ok(tail);
            }
            report.warnings.push(Warning::DamagedBlock { name, position: first, detail: what });
            // What follows is still good: go on behind the damage.
            tail =
                firsts.len().checked_sub(i + 2).and_then(|j| T::position(&firsts[j])).map_or(stored, |next| next - 1);
        }
        Ok(tail)
    })
}

/// A log: its files and its writer thread.
pub struct SegmentedLog<T: Layout> {
    pub files: Arc<LogFiles<T>>,
    writer: Writer<T>,
}

impl<T: Layout> SegmentedLog<T> {
    pub fn open(
        root: &Path,
        options: &super::StoreOptions,
        health: Arc<Health>,
        report: &mut OpenReport,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(LogFiles::open(root, options, health, report)?);
        let writer = Writer::start(files.clone(), options.queue_records)?;
        Ok(SegmentedLog { files, writer })
    }
    pub fn append_records(&self, records: Vec<T::Item>) -> Commit {
        self.writer.append(records)
    }
    pub fn stats(&self) -> WriterStats {
        self.writer.stats()
    }
    /// Deletes the oldest segments while the log holds more than `keep` bytes; never the newest one.
    pub fn drop_oldest(&self, keep: u64) -> Result<Vec<u32>, StoreError> {
        self.files.segments.drop_oldest(keep)
    }
    pub fn close(&self) {
        self.writer.close();
        self.files.segments.close();
    }
}
