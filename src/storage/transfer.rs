//! A store taken out and put back: `export` and `import` through one checked stream, `compact` and `snapshot`.
//!
//! Stream: `USEXP001`, then records `[kind u8][key length u16][frame length u32][crc32 u32][key][frame]`, little
//! endian; at the end one of kind 0 whose frame is the number of records and the xxh3-128 of every byte before it.
//! Keys and frames are those of the logs: only blocks that hold somebody erased are encoded anew.

use super::bulk::Bulk;
use super::log::SegmentedLog;
use super::redact::{Redact, Redactor};
use super::report::OpenError;
use super::segment::{self, io};
use super::store::{Store, StoreOptions};
use super::{codec, compact, tombstones};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use understudy_actors::ports::StoreError;
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::{OutcomeRecord, PredictionRecord};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"USEXP001";
const END: u8 = 0;
/// Kinds of records: the blocks of the three logs, saved feature state, and the position of a log.
const EVENTS: u8 = 1;
const PREDICTIONS: u8 = 2;
const OUTCOMES: u8 = 3;
const STATE: u8 = 4;
const POSITION: u8 = 5;
const HEAD: usize = 11;

/// What went through.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    pub blocks: u64,
    pub bytes: u64,
    /// What was damaged and left out.
    pub findings: Vec<String>,
}

type Each<'a> = &'a mut dyn FnMut(u8, &[u8], &[u8]) -> Result<(), StoreError>;

fn blocks<T: Redact>(log: &SegmentedLog<T>, kind: u8, redactor: &mut Redactor, each: Each<'_>) -> Result<(), StoreError>
where
    T::Item: From<T>,
{
    let segments = &log.files.segments;
    for n in segments.numbers() {
        let mut start = vec![0];
        loop {
            let page = segment::sound_page(segments, n, &mut start, &[segment::SUM[0] - 1])?;
            let Some((last, _)) = page.last() else { break };
            start = segment::after(last);
            for (key, frame) in page {
                match codec::intact(&key, &frame) {
                    Ok(()) => match redactor.block::<T>(&key, &frame)? {
                        None => each(kind, &key, &frame)?,
                        Some(anew) => anew.iter().try_for_each(|(key, frame)| each(kind, key, frame))?,
                    },
                    Err(e) => {
                        segments.health.damaged(&segments.label(n), T::position(&key).unwrap_or(0), &e.to_string());
                    }
                }
            }
        }
    }
    each(POSITION, T::NAME.as_bytes(), &codec::encode(T::NAME.as_bytes(), &log.files.position())?)
}

/// Everything in an open store but what was erased, in a fixed order.
fn everything(store: &Store, dir: &Path, each: Each<'_>) -> Result<(), StoreError> {
    let (events, predictions, outcomes) = store.logs();
    let mut redactor = Redactor::new(tombstones::of(dir)?);
    blocks::<LoggedEvent>(events, EVENTS, &mut redactor, each)?;
    blocks::<PredictionRecord>(predictions, PREDICTIONS, &mut redactor, each)?;
    blocks::<OutcomeRecord>(outcomes, OUTCOMES, &mut redactor, each)?;
    store.state().entries(&mut |key, frame| each(STATE, key, frame))
}

fn findings(store: &Store) -> Vec<String> {
    let mut all: Vec<String> = store.report().warnings.iter().map(ToString::to_string).collect();
    all.extend(store.health().findings);
    all
}

/// Writes the stream of a stopped store to a file.
pub fn export(dir: &Path, options: StoreOptions, to: &Path) -> Result<Moved, OpenError> {
    let store = Store::open(dir, options)?;
    let mut out = BufWriter::new(File::create_new(to).map_err(|e| io(to, e))?);
    let (mut hash, mut moved) = (Xxh3::new(), Moved::default());
    let mut put = |bytes: &[u8], hash: &mut Xxh3| {
        hash.update(bytes);
        out.write_all(bytes).map_err(|e| io(to, e))
    };
    put(MAGIC, &mut hash)?;
    everything(&store, dir, &mut |kind, key, frame| {
        moved.blocks += 1;
        moved.bytes += (HEAD + key.len() + frame.len()) as u64;
        put(&head(kind, key, frame), &mut hash)?;
        put(key, &mut hash)?;
        put(frame, &mut hash)
    })?;
    let end = [&moved.blocks.to_le_bytes()[..], &hash.digest128().to_le_bytes()].concat();
    put(&head(END, &[], &end), &mut hash)?;
    put(&end, &mut hash)?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|e| io(to, e))?;
    moved.findings = findings(&store);
    Ok(moved)
}

fn head(kind: u8, key: &[u8], frame: &[u8]) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[0] = kind;
    out[1..3].copy_from_slice(&(key.len() as u16).to_le_bytes());
    out[3..7].copy_from_slice(&(frame.len() as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[..7]);
    crc.update(key);
    crc.update(frame);
    out[7..].copy_from_slice(&crc.finalize().to_le_bytes());
    out
}

fn wrong(from: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!("{}: {what}; the file is damaged or no export", from.display()))
}

/// Makes a new store out of a stream. The directory must not hold logs; a damaged stream leaves none behind.
pub fn import(from: &Path, dir: &Path, options: &StoreOptions) -> Result<Moved, OpenError> {
    std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    let _lock = super::store::take_lock(dir)?;
    compact::finish(dir)?;
    if let Some(part) = compact::PARTS.iter().find(|p| dir.join(p).exists()) {
        let what = format!("{} has {part}/ already; import makes a new store, name an empty directory", dir.display());
        return Err(StoreError::Io(what).into());
    }
    // As a compaction: made aside, then swapped in whole.
    let work = dir.join(compact::WORK);
    let result = read_stream(from, &work, options);
    if result.is_err() {
        let _ = std::fs::remove_dir_all(&work);
    }
    let moved = result?;
    compact::commit(dir)?;
    Ok(moved)
}

fn read_stream(from: &Path, work: &Path, options: &StoreOptions) -> Result<Moved, OpenError> {
    let file = File::open(from).map_err(|e| io(from, e))?;
    let left = file.metadata().map_err(|e| io(from, e))?.len();
    let mut input = BufReader::new(file);
    let (mut hash, mut moved, mut bulk) = (Xxh3::new(), Moved::default(), Bulk::new(work, options)?);
    let mut take = |n: usize| -> Result<Vec<u8>, StoreError> {
        if n as u64 > left {
            return Err(wrong(from, "a record announces more than the file holds"));
        }
        let mut bytes = vec![0; n];
        input.read_exact(&mut bytes).map_err(|_| wrong(from, "it ends before its trailer"))?;
        Ok(bytes)
    };
    let magic = take(MAGIC.len())?;
    if magic != MAGIC {
        return Err(wrong(from, "it does not begin as an export").into());
    }
    hash.update(&magic);
    loop {
        let before = hash.digest128();
        let start = take(HEAD)?;
        let key = take(u16::from_le_bytes([start[1], start[2]]) as usize)?;
        let frame = take(u32::from_le_bytes([start[3], start[4], start[5], start[6]]) as usize)?;
        if head(start[0], &key, &frame)[..] != start[..] {
            return Err(wrong(from, &format!("checksum of record {} differs", moved.blocks + 1)).into());
        }
        hash.update(&start);
        hash.update(&key);
        hash.update(&frame);
        match start[0] {
            END => {
                let end = [&moved.blocks.to_le_bytes()[..], &before.to_le_bytes()].concat();
                if frame != end {
                    return Err(wrong(from, "count or hash of the trailer differ").into());
                }
                bulk.finish()?;
                return Ok(moved);
            }
            EVENTS => bulk.block::<LoggedEvent>(&key, &frame)?,
            PREDICTIONS => bulk.block::<PredictionRecord>(&key, &frame)?,
            OUTCOMES => bulk.block::<OutcomeRecord>(&key, &frame)?,
            STATE => bulk.state(&key, &frame)?,
            POSITION => bulk.position(&key, codec::decode::<u64>(&key, &frame).map_err(StoreError::from)?)?,
            _ => return Err(wrong(from, "it has records of a newer version").into()),
        }
        moved.blocks += 1;
        moved.bytes += (HEAD + key.len() + frame.len()) as u64;
    }
}

/// Writes a stopped store anew, without the dead space of the engine and without what was erased. What is damaged stops it: nothing changes.
pub fn compact(dir: &Path, options: &StoreOptions) -> Result<Moved, OpenError> {
    let store = Store::open(dir, options.clone())?;
    let work = dir.join(compact::WORK);
    let mut moved = Moved::default();
    let mut bulk = Bulk::new(&work, options)?;
    everything(&store, dir, &mut |kind, key, frame| {
        moved.blocks += 1;
        moved.bytes += (key.len() + frame.len()) as u64;
        match kind {
            EVENTS => bulk.block::<LoggedEvent>(key, frame),
            PREDICTIONS => bulk.block::<PredictionRecord>(key, frame),
            OUTCOMES => bulk.block::<OutcomeRecord>(key, frame),
            STATE => bulk.state(key, frame),
            _ => bulk.position(key, codec::decode::<u64>(key, frame)?),
        }
    })?;
    bulk.finish()?;
    moved.findings = findings(&store);
    if !moved.findings.is_empty() {
        std::fs::remove_dir_all(&work).map_err(|e| io(&work, e))?;
        return Ok(moved);
    }
    // The lock stays ours until the swap is done.
    store.close();
    compact::commit(dir)?;
    Ok(moved)
}

/// Copies a stopped data directory, models and all.
pub fn snapshot(dir: &Path, to: &Path) -> Result<(), OpenError> {
    let _lock = super::store::take_lock(dir)?;
    compact::finish(dir)?;
    if to.exists() {
        return Err(StoreError::Io(format!("{} exists; name a new directory", to.display())).into());
    }
    Ok(segment::copy_dir(dir, to)?)
}
