//! What the watch over the feeds had counted, `feeds.checkpoint` in the data directory: written anew as a whole and renamed
//! into place. Checksummed frames one after the other; their bodies together are the state. What cannot be read is no
//! loss: the event log has it.

use super::codec::{self, Record};
use super::segment::{io, sync_dir};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use understudy_actors::ports::{FeedCheckpoint, StoreError};
use understudy_domain::feed::FeedWatch;

/// Name of the file.
pub const FILE: &str = "feeds.checkpoint";
/// Bytes of the state in one frame.
const PART: usize = 4 << 20;
/// A file larger than this was not written by us.
const MAX_BYTES: u64 = 1 << 30;

/// A part of the state.
#[derive(Serialize, Deserialize)]
struct Part {
    /// Last event counted.
    seq: u64,
    /// Parts in all.
    of: u32,
    bytes: Vec<u8>,
}

impl Record for Part {
    const MAGIC: u8 = 0xF7;
}

/// The checkpoint on disk.
pub struct FeedFile(PathBuf);

impl FeedFile {
    pub fn new(dir: &Path) -> FeedFile {
        FeedFile(dir.join(FILE))
    }
}

fn key(part: usize) -> [u8; 4] {
    (part as u32).to_be_bytes()
}

impl FeedCheckpoint for FeedFile {
    fn save(&self, seq: u64, watch: &FeedWatch) -> Result<(), StoreError> {
        let (path, new) = (&self.0, self.0.with_extension("new"));
        let bad = |e: codec::CodecError| StoreError::Io(format!("{}: {e}", path.display()));
        let state = codec::encode_whole(watch).map_err(bad)?;
        let of = state.len().div_ceil(PART).max(1) as u32;
        let mut bytes = Vec::new();
        for (i, part) in state.chunks(PART).enumerate() {
            bytes.extend(codec::encode(&key(i), &Part { seq, of, bytes: part.to_vec() }).map_err(bad)?);
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        file.and_then(|mut f| f.write_all(&bytes).and_then(|()| f.sync_all())).map_err(|e| io(&new, e))?;
        fs::rename(&new, path).map_err(|e| io(path, e))?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    fn load(&self) -> Result<Option<(u64, FeedWatch)>, StoreError> {
        let path = &self.0;
        let bytes = match fs::metadata(path) {
            Ok(found) if found.len() <= MAX_BYTES => fs::read(path).map_err(|e| io(path, e))?,
            Ok(found) => return Err(StoreError::Corrupt(format!("{}: {} bytes", path.display(), found.len()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(path, e)),
        };
        let wrong = |what: &str| StoreError::Corrupt(format!("{}: {what}", path.display()));
        let (mut at, mut state, mut parts, mut whole) = (0, Vec::new(), 0, None);
        while at < bytes.len() {
            let length = codec::frame_len(&bytes[at..]).filter(|n| at + n <= bytes.len());
            let length = length.ok_or_else(|| wrong("it is cut off"))?;
            let part: Part = codec::decode(&key(parts), &bytes[at..at + length]).map_err(|e| wrong(&e.to_string()))?;
            let (seq, of) = *whole.get_or_insert((part.seq, part.of));
            if (part.seq, part.of) != (seq, of) {
                return Err(wrong("parts of different states"));
            }
            state.extend_from_slice(&part.bytes);
            (at, parts) = (at + length, parts + 1);
        }
        let (seq, of) = whole.ok_or_else(|| wrong("it is empty"))?;
        if parts != of as usize {
            return Err(wrong("parts are missing"));
        }
        let watch = codec::decode_whole(&state).map_err(|e| wrong(&e.to_string()))?;
        Ok(Some((seq, watch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::event::{Event, LoggedEvent};
    use understudy_domain::project::DriftSpec;
    use understudy_domain::time::{Span, Timestamp};
    use understudy_domain::value::Value;

    fn reading(n: i64) -> LoggedEvent {
        let time = Timestamp(0) + Span(n * Span::days(1).0 / 100);
        let event = Event {
            id: format!("r{n}"),
            kind: "reading".into(),
            time,
            entities: [("station".to_string(), Some(format!("s{}", n % 3)))].into_iter().collect(),
            properties: [("value".to_string(), Value::Float((n * 7919 % 100) as f64))].into_iter().collect(),
        };
        LoggedEvent { seq: n as u64 + 1, ingested: time, late: false, event }
    }

    #[test]
    fn a_watch_goes_on_where_it_was_saved_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = FeedFile::new(dir.path());
        assert!(file.load().unwrap().is_none());
        let mut watch = FeedWatch::new(DriftSpec::default());
        // Saved while its columns are being learnt, and when they are known.
        for until in [300, 2000] {
            for n in watch.statuses().first().map_or(0, |s| s.events as i64)..until {
                watch.on_event(&reading(n));
            }
            file.save(until as u64, &watch).unwrap();
            let (seq, back) = file.load().unwrap().unwrap();
            assert_eq!((seq, format!("{back:?}")), (until as u64, format!("{watch:?}")));
        }
        let (_, mut back) = file.load().unwrap().unwrap();
        for n in 2000..2400 {
            assert_eq!(back.on_event(&reading(n)), watch.on_event(&reading(n)));
        }
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for damaged in [
            whole[..whole.len() - 1].to_vec(),
            {
                let mut d = whole.clone();
                d[40] ^= 1;
                d
            },
            Vec::new(),
        ] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            assert!(matches!(file.load(), Err(StoreError::Corrupt(_))));
        }
    }
}
