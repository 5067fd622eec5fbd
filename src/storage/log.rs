//! A log on segments: what the three logs share. Where records stand is the business of `Layout`.

use super::codec::{self, CodecError, Record};
use super::report::{OpenError, OpenReport, Warning};
use super::segment::{self, Segments, guarded, make_durable, put};
use super::writer::{Writer, WriterStats};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use understudy_actors::ports::{Commit, StoreError};

/// How many of the newest blocks are checked at open.
const VERIFIED: usize = 64;

/// A block ready to be written: its key and frame.
pub type Framed = (Vec<u8>, Vec<u8>);

/// What differs between logs.
pub trait Layout: Record + Send + Sync + 'static {
    /// Name of the directory.
    const NAME: &'static str;
    /// Whether these records may follow position `last`.
    fn check(_records: &[Self], _last: u64) -> Result<(), StoreError> {
        Ok(())
    }
    /// Blocks for records that take the positions `last + 1 ..`.
    fn blocks(records: Vec<Self>, last: u64) -> Result<Vec<Framed>, CodecError>;
    /// Position of the first record of the block under this key; `None` for a key of another sort.
    fn position(key: &[u8]) -> Option<u64>;
    /// Keys tell positions in order, so that the tail can be found from the last key.
    const ORDERED: bool;
}

/// Key of the position that a commit ends at, written in the same batch; sorts after every block.
const TAIL: [u8; 3] = [0xff, b't', b'l'];

struct Active {
    n: u32,
    /// A commit failed: nothing is written before the segment is reopened and cleared of it.
    repair: bool,
}

/// The files of one log: segments and watermark.
pub struct LogFiles<T> {
    pub segments: Segments,
    position: AtomicU64,
    active: Mutex<Active>,
    power: bool,
    roll_at: u64,
    _record: PhantomData<fn() -> T>,
}

impl<T: Layout> LogFiles<T> {
    /// Opens the newest segment and finds the position; damage is set aside and reported.
    pub fn open(root: &Path, options: &super::StoreOptions, report: &mut OpenReport) -> Result<Self, OpenError> {
        let segments = Segments::list(root, T::NAME, options.cache_bytes)?;
        let power = options.durability == super::Durability::Power;
        let acknowledged = match read_watermark(&segments.dir().join("watermark")) {
            Ok(w) => w,
            Err(detail) => {
                report.warnings.push(Warning::WatermarkUnreadable { log: T::NAME, detail });
                0
            }
        };
        let mut tail = None;
        if let Some(n) = segments.numbers().last().copied() {
            match segments.get(n).and_then(|db| recover::<T>(&db, acknowledged, n, report)) {
                Ok(t) => {
                    tail = Some((n, t));
                    // A crash right after a roll leaves an empty newest segment: the tail is in the one before.
                    let before = segments.numbers().iter().rev().nth(1).copied();
                    if let (0, Some(b)) = (t, before)
                        && let Ok(t) = segments.get(b).and_then(|db| recover::<T>(&db, acknowledged, b, report))
                    {
                        tail = Some((n, t));
                    }
                }
                Err(StoreError::Io(e)) if e.contains("newer version") => return Err(OpenError::Newer(e)),
                Err(e) => {
                    let reason = e.to_string();
                    let to = segments.quarantine(n, &reason)?;
                    report.warnings.push(Warning::Quarantined { name: format!("{}/{n:06}", T::NAME), to, reason });
                    // The lost segment's number is not used again, and older ones stay readable.
                    tail = Some((segments.create_from(n + 1)?, 0));
                }
            }
        }
        let (active, found) = match tail {
            Some(t) => t,
            None => (segments.create_from(1)?, 0),
        };
        if found < acknowledged {
            report.warnings.push(Warning::TailLost { log: T::NAME, found, acknowledged });
        }
        Ok(LogFiles {
            segments,
            // Positions of lost records are never given out again.
            position: AtomicU64::new(found.max(acknowledged)),
            active: Mutex::new(Active { n: active, repair: false }),
            power,
            roll_at: options.segment_bytes,
            _record: PhantomData,
        })
    }

    /// Position of the last durable record.
    pub fn position(&self) -> u64 {
        self.position.load(SeqCst)
    }

    /// Writes and makes durable; only the writer thread calls this. Returns the bytes written.
    pub fn commit(&self, records: Vec<T>) -> Result<u64, StoreError> {
        let (last, n) = (self.position(), records.len() as u64);
        let blocks = T::blocks(records, last)?;
        let mut active = self.active.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if active.repair {
            self.repair(active.n, last)?;
            active.repair = false;
        }
        if self.segments.bytes(active.n) >= self.roll_at {
            active.n = self.segments.create()?;
        }
        match self.write(active.n, &blocks, last + n) {
            Ok(bytes) => {
                self.position.store(last + n, SeqCst);
                Ok(bytes)
            }
            Err(e) => {
                active.repair = self.repair(active.n, last).is_err();
                Err(e)
            }
        }
    }

    fn write(&self, n: u32, blocks: &[Framed], end: u64) -> Result<u64, StoreError> {
        let (mut batch, mut bytes) = (sled::Batch::default(), 0);
        for (key, frame) in blocks {
            put(&mut batch, key, frame);
            bytes += (key.len() + frame.len()) as u64;
        }
        put(&mut batch, &TAIL, &codec::encode(&TAIL, &end)?);
        guarded(|| {
            let db = self.segments.get(n)?;
            db.apply_batch(batch).map_err(segment::engine)?;
            make_durable(&db, &self.segments.path(n), self.power)
        })?;
        write_watermark(&self.segments.dir().join("watermark"), end)?;
        Ok(bytes)
    }

    /// After a failed flush the handle stays failed, and the kernel may have dropped the pages: close
    /// it, open it anew, check the tail, and take out what was never acknowledged.
    fn repair(&self, n: u32, last: u64) -> Result<(), StoreError> {
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
                make_durable(&db, &self.segments.path(n), self.power)
            })
        });
        if repaired.is_err() {
            self.segments.abandon(n);
        }
        repaired
    }
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
    db.apply_batch(batch).map_err(segment::engine)
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

fn read_watermark(path: &Path) -> Result<u64, String> {
    match std::fs::read(path) {
        Ok(bytes) => codec::decode::<u64>(b"watermark", &bytes).map_err(|e| e.to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e.to_string()),
    }
}

fn write_watermark(path: &Path, seq: u64) -> Result<(), StoreError> {
    let tmp = path.with_extension("tmp");
    std::fs::write(&tmp, codec::encode(b"watermark", &seq)?).map_err(|e| segment::io(&tmp, e))?;
    std::fs::rename(&tmp, path).map_err(|e| segment::io(path, e))
}

/// A log: its files and its writer thread.
pub struct SegmentedLog<T: Layout> {
    pub files: Arc<LogFiles<T>>,
    writer: Writer<T>,
}

impl<T: Layout> SegmentedLog<T> {
    pub fn open(root: &Path, options: &super::StoreOptions, report: &mut OpenReport) -> Result<Self, OpenError> {
        let files = Arc::new(LogFiles::open(root, options, report)?);
        let writer = Writer::start(files.clone(), options.queue_records)?;
        Ok(SegmentedLog { files, writer })
    }
    pub fn append_records(&self, records: Vec<T>) -> Commit {
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
