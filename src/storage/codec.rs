//! How records become bytes and back: the only place that knows bincode and zstd.
//!
//! Frame: `[magic u8][version u8][flags u8][crc32 u32 LE][len u32 LE][body]`. The checksum covers the
//! key, the other header bytes and the body, so a frame under a wrong key is found. Nothing is
//! decoded before its checksum holds. The records of version 1 are the domain types as they stand;
//! a changed type needs another version and an upgrade on read.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::ops::Range;
use understudy_domain::event::LoggedEvent;
use understudy_domain::features::EntityState;
use understudy_domain::prediction::{OutcomeRecord, PredictionRecord};

/// Bytes before the body.
pub const HEADER: usize = 11;
/// Bytes of the count of a block's records.
const COUNT: usize = 8;
/// Uncompressed size at which a block is closed.
pub const BLOCK_BYTES: usize = 60 * 1024;
/// No body is larger than this once decompressed.
pub const MAX_BODY: usize = 16 << 20;
const COMPRESSED: u8 = 1;
/// Smaller bodies gain nothing from compression.
const COMPRESS_FROM: usize = 1024;

/// A kind of record on disk. `MAGIC` keeps kinds apart, `VERSION` is what today's code writes.
pub trait Record: Serialize + DeserializeOwned {
    const MAGIC: u8;
    const VERSION: u8 = 1;

    /// The records of a block's body, of this version or an earlier one.
    fn read_block(_version: u8, body: &[u8]) -> Result<Vec<Self>, CodecError> {
        options().deserialize(body).map_err(|e| CodecError::Corrupt(e.to_string()))
    }
}
impl Record for LoggedEvent {
    const MAGIC: u8 = 0xE1;
}
impl Record for PredictionRecord {
    const MAGIC: u8 = 0xB2;
    const VERSION: u8 = 3;

    fn read_block(version: u8, body: &[u8]) -> Result<Vec<Self>, CodecError> {
        match version {
            1 => {
                let records: Vec<super::first_prediction::FirstVersion> =
                    options().deserialize(body).map_err(|e| CodecError::Corrupt(e.to_string()))?;
                Ok(records.into_iter().map(Into::into).collect())
            }
            _ => super::prediction_block::read(version, body),
        }
    }
}
impl Record for OutcomeRecord {
    const MAGIC: u8 = 0xC3;
}
impl Record for EntityState {
    const MAGIC: u8 = 0xD4;
}
/// A position in a log, or a shard's watermark.
impl Record for u64 {
    const MAGIC: u8 = 0xA5;
}
/// What a segment must hold: compared when it is opened, so that a block that vanished is missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct SegmentSum {
    pub blocks: u64,
    /// Sum of the hashes of the blocks' keys, wrapping.
    pub keys: u64,
}
impl SegmentSum {
    pub fn add(&mut self, key: &[u8]) {
        self.blocks += 1;
        self.keys = self.keys.wrapping_add(xxhash_rust::xxh3::xxh3_64(key));
    }
}
impl Record for SegmentSum {
    const MAGIC: u8 = 0x87;
}
/// The layout of the feature store.
impl Record for String {
    const MAGIC: u8 = 0x96;
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// Damaged: length, checksum, kind or content is wrong.
    Corrupt(String),
    /// Intact, but of a later version of this program.
    Newer { found: u8, known: u8 },
    /// The record does not fit `MAX_BODY`.
    TooLarge(String),
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CodecError::Corrupt(e) => f.write_str(e),
            CodecError::Newer { found, known } => write!(
                f,
                "written by a newer version of understudy (record version {found}, this one reads up to {known}); run the newer version"
            ),
            CodecError::TooLarge(e) => write!(f, "record larger than {MAX_BODY} bytes: {e}"),
        }
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_BODY as u64).reject_trailing_bytes()
}

fn checksum(key: &[u8], head: [u8; 3], len: [u8; 4], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(&head);
    crc.update(&len);
    crc.update(body);
    crc.finalize()
}

/// The bytes of one record, without a frame; used to measure and to fill blocks.
pub fn encode_plain<T: Record>(record: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    write_plain(record, &mut out)?;
    Ok(out)
}

/// Appends the bytes of one record. Without bincode's limit, which would walk the record a first time
/// just to measure it.
fn write_plain<T: Record>(record: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = out.len();
    let written = options().with_no_limit().serialize_into(&mut *out, record);
    written.map_err(|e| CodecError::Corrupt(e.to_string()))?;
    match out.len() - before {
        n if n > MAX_BODY => Err(CodecError::TooLarge(format!("{n} bytes"))),
        _ => Ok(()),
    }
}

thread_local! {
    /// Made once a thread: new ones allocate and clear more memory than most blocks have.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(packed: &[u8], size: usize) -> Result<Vec<u8>, CodecError> {
    let failed = |e: std::io::Error| CodecError::Corrupt(e.to_string());
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(d) => d,
            None => kept.insert(zstd::bulk::Decompressor::new().map_err(failed)?),
        };
        decompressor.decompress(packed, size).map_err(failed)
    })
}

fn compress(body: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(c) => c,
            None => kept.insert(zstd::bulk::Compressor::new(1).ok()?),
        };
        compressor.compress(body).ok()
    })
}

/// Frames `body` for `key`.
pub fn frame<T: Record>(key: &[u8], body: &[u8]) -> Result<Vec<u8>, CodecError> {
    if body.len() > MAX_BODY {
        return Err(CodecError::TooLarge(format!("{} bytes", body.len())));
    }
    let packed = if body.len() >= COMPRESS_FROM { compress(body) } else { None };
    let mut stored = Vec::new();
    let (flags, body) = match packed {
        Some(packed) if packed.len() + 4 < body.len() => {
            stored.extend_from_slice(&(body.len() as u32).to_le_bytes());
            stored.extend_from_slice(&packed);
            (COMPRESSED, &stored[..])
        }
        _ => (0, body),
    };
    let (head, len) = ([T::MAGIC, T::VERSION, flags], (body.len() as u32).to_le_bytes());
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(&checksum(key, head, len, body).to_le_bytes());
    out.extend_from_slice(&len);
    out.extend_from_slice(body);
    Ok(out)
}

/// An intact event frame of another version, with an empty body.
pub fn frame_of_version(version: u8, key: &[u8]) -> Vec<u8> {
    let head = [LoggedEvent::MAGIC, version, 0];
    let sum = checksum(key, head, [0; 4], &[]);
    [&head[..], &sum.to_le_bytes(), &[0; 4]].concat()
}

/// A frame around any head and body, with the checksum that fits: what a forger or a faulty writer could leave.
pub fn sealed(key: &[u8], head: [u8; 3], body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_le_bytes();
    [&head[..], &checksum(key, head, len, body).to_le_bytes(), &len, body].concat()
}

/// The whole length of a frame by its header, so that its parts can be put together.
pub fn frame_len(start: &[u8]) -> Option<usize> {
    let len: [u8; 4] = start.get(7..HEADER)?.try_into().ok()?;
    Some(HEADER + u32::from_le_bytes(len) as usize)
}

/// Checks length and checksum of a frame of any kind.
pub fn intact(key: &[u8], bytes: &[u8]) -> Result<(), CodecError> {
    if frame_len(bytes) != Some(bytes.len()) {
        return Err(CodecError::Corrupt("length differs from the header's".into()));
    }
    let (head, len) = ([bytes[0], bytes[1], bytes[2]], [bytes[7], bytes[8], bytes[9], bytes[10]]);
    if checksum(key, head, len, &bytes[HEADER..]).to_le_bytes() != bytes[3..7] {
        return Err(CodecError::Corrupt("checksum differs".into()));
    }
    Ok(())
}

/// Checks a frame and returns its body, decompressed.
pub fn unframe<T: Record>(key: &[u8], bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    let corrupt = |what: &str| CodecError::Corrupt(what.to_owned());
    intact(key, bytes)?;
    let (head, body) = ([bytes[0], bytes[1], bytes[2]], &bytes[HEADER..]);
    if head[0] != T::MAGIC {
        return Err(corrupt("record of another kind"));
    }
    if head[1] > T::VERSION {
        return Err(CodecError::Newer { found: head[1], known: T::VERSION });
    }
    match head[2] {
        0 => Ok(body.to_vec()),
        COMPRESSED => {
            let (size, packed) = body.split_at_checked(4).ok_or_else(|| corrupt("compressed body too short"))?;
            let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
            if size > MAX_BODY {
                return Err(corrupt("compressed body announces too much"));
            }
            decompress(packed, size)
        }
        _ => Err(corrupt("unknown flags")),
    }
}

/// One record in a frame of its own.
pub fn encode<T: Record>(key: &[u8], record: &T) -> Result<Vec<u8>, CodecError> {
    frame::<T>(key, &encode_plain(record)?)
}

pub fn decode<T: Record>(key: &[u8], bytes: &[u8]) -> Result<T, CodecError> {
    let body = unframe::<T>(key, bytes)?;
    options().deserialize(&body).map_err(|e| CodecError::Corrupt(e.to_string()))
}

/// Most bytes of a state that is written whole, over many frames.
const MAX_WHOLE: u64 = 1 << 30;

/// A state larger than a frame takes; its bytes go into frames of their own.
pub fn encode_whole<T: Serialize>(state: &T) -> Result<Vec<u8>, CodecError> {
    let options = options().with_varint_encoding().with_limit(MAX_WHOLE);
    options.serialize(state).map_err(|e| CodecError::TooLarge(e.to_string()))
}

/// What `encode_whole` wrote; all of `bytes` must be used.
pub fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let options = options().with_varint_encoding().with_limit(MAX_WHOLE);
    options.deserialize(bytes).map_err(|e| CodecError::Corrupt(e.to_string()))
}

/// The records of a block.
pub fn decode_block<T: Record>(key: &[u8], bytes: &[u8]) -> Result<Vec<T>, CodecError> {
    let body = unframe::<T>(key, bytes)?;
    T::read_block(bytes[1], &body)
}

/// The bytes of a part of a record that has no layout of its own.
pub fn encode_part<T: Serialize>(part: &T) -> Result<Vec<u8>, CodecError> {
    options().with_varint_encoding().serialize(part).map_err(|e| CodecError::TooLarge(e.to_string()))
}

/// What `encode_part` wrote; all of `bytes` must be used.
pub fn decode_part<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    options().with_varint_encoding().deserialize(bytes).map_err(|e| CodecError::Corrupt(e.to_string()))
}

/// A file that is written and read whole: `[magic u8][version u8][0 0][crc32 u32 LE][len u64 LE][body, compressed]`.
/// The checksum covers all after it and the kind.
pub trait WholeFile: Serialize + DeserializeOwned {
    const MAGIC: u8;
    const VERSION: u8;
}
impl WholeFile for understudy_actors::prediction_logger::JoinSnapshot {
    const MAGIC: u8 = 0x69;
    const VERSION: u8 = 1;
}

/// Bytes before the body of a whole file.
const FILE_HEADER: usize = 16;
/// The body of a whole file decompressed: as much as 2 million remembered predictions of a few models take, several times.
const MAX_FILE: usize = 4 << 30;

fn file_checksum(head: &[u8], rest: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(rest);
    crc.finalize().to_le_bytes()
}

pub fn encode_file<T: WholeFile>(content: &T) -> Result<Vec<u8>, CodecError> {
    let failed = |e: &dyn std::fmt::Display| CodecError::TooLarge(e.to_string());
    let body = options().with_varint_encoding().with_no_limit().serialize(content).map_err(|e| failed(&e))?;
    if body.len() > MAX_FILE {
        return Err(CodecError::TooLarge(format!("{} bytes", body.len())));
    }
    let mut out = vec![T::MAGIC, T::VERSION, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&zstd::bulk::compress(&body, 1).map_err(|e| failed(&e))?);
    let crc = file_checksum(&out[..4], &out[8..]);
    out[4..8].copy_from_slice(&crc);
    Ok(out)
}

pub fn decode_file<T: WholeFile>(bytes: &[u8]) -> Result<T, CodecError> {
    let corrupt = |what: &str| CodecError::Corrupt(what.to_owned());
    let (head, body) = bytes.split_at_checked(FILE_HEADER).ok_or_else(|| corrupt("shorter than its header"))?;
    if head[0] != T::MAGIC || file_checksum(&head[..4], &bytes[8..]) != head[4..8] {
        return Err(corrupt("checksum differs"));
    }
    if head[1] != T::VERSION {
        return Err(CodecError::Newer { found: head[1], known: T::VERSION });
    }
    let size = u64::from_le_bytes(head[8..].try_into().map_err(|_| corrupt("header"))?);
    let size = usize::try_from(size).ok().filter(|s| *s <= MAX_FILE).ok_or_else(|| corrupt("announces too much"))?;
    let body = zstd::bulk::decompress(body, size).map_err(|e| CodecError::Corrupt(e.to_string()))?;
    let read = options().with_varint_encoding().with_limit(body.len() as u64).deserialize(&body);
    read.map_err(|e| CodecError::Corrupt(e.to_string()))
}

/// Which records a block takes, and its body.
pub type Run = (Range<usize>, Vec<u8>);

/// Cuts `records` into runs whose bodies stay near `BLOCK_BYTES`; a larger record stands alone. A body is
/// the count, then the records.
pub fn runs<T: Record>(records: &[T]) -> Result<Vec<Run>, CodecError> {
    let empty = |capacity| {
        let mut body = Vec::with_capacity(capacity);
        body.extend_from_slice(&[0; COUNT]);
        body
    };
    let (mut out, mut body, mut start) = (Vec::new(), empty(BLOCK_BYTES + BLOCK_BYTES / 16), 0);
    let close = |mut body: Vec<u8>, range: Range<usize>| {
        body[..COUNT].copy_from_slice(&(range.len() as u64).to_le_bytes());
        (range, body)
    };
    for (i, r) in records.iter().enumerate() {
        let before = body.len();
        write_plain(r, &mut body)?;
        if i > start && body.len() - COUNT > BLOCK_BYTES {
            let mut next = empty(BLOCK_BYTES);
            next.extend_from_slice(&body[before..]);
            body.truncate(before);
            out.push(close(std::mem::replace(&mut body, next), start..i));
            start = i;
        }
    }
    if start < records.len() {
        out.push(close(body, start..records.len()));
    }
    Ok(out)
}
