//! The audit log: who changed what, from where. Append-only; each record holds the hash of the one before it,
//! so that a changed, removed or reordered record breaks the chain.
//!
//! File: `UAUD` and a version byte, then frames `[length u32 LE][SHA-256 of the previous hash and the body][body]`;
//! the body is JSON. A chain cannot show that its end was cut off: compare the head with one noted elsewhere.

use super::key::hex;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use understudy_domain::time::Timestamp;

const MAGIC: &[u8; 5] = b"UAUD\x01";
const FRAME_HEAD: usize = 4 + 32;
/// Longest record; a longer length is damage.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub seq: u64,
    pub time: Timestamp,
    /// Id of the key, or the user of the machine.
    pub who: String,
    /// Address of the caller, or `command line`.
    pub from: String,
    /// `key.create`, `model.train`, `entity.erase`, ...
    pub action: String,
    /// What it was done to.
    pub target: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub before: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub after: Value,
}

/// What a reading of the whole file found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub records: u64,
    /// Hash of the last sound record.
    pub head: String,
    /// Bytes of a last record that was cut off while it was written; it was never acknowledged.
    pub torn_bytes: u64,
    /// The first record that does not follow from the one before it.
    pub broken_at: Option<String>,
}

/// The file, shared by everything in this process that changes things.
pub struct Audit {
    path: PathBuf,
    end: Mutex<End>,
}

/// How far the file was read.
#[derive(Clone, Copy, Default)]
struct End {
    offset: u64,
    seq: u64,
    hash: [u8; 32],
}

impl Audit {
    pub fn new(path: impl Into<PathBuf>) -> Audit {
        Audit { path: path.into(), end: Mutex::new(End::default()) }
    }

    /// Appends and syncs. Other processes may append too: the file is locked and read on to its end first.
    pub fn append(&self, mut record: Record) -> std::io::Result<u64> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let options = &mut OpenOptions::new();
        let mut file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&self.path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let mut at = *end;
        let length = file.metadata()?.len();
        if length < MAGIC.len() as u64 {
            file.set_len(0)?;
            file.write_all(MAGIC)?;
            at = End { offset: MAGIC.len() as u64, ..End::default() };
        } else if at.offset == 0 || at.offset > length {
            at = End::default();
        }
        let (read, broken) = scan(&mut file, at, &mut |_| {})?;
        if let Some(why) = broken {
            return Err(std::io::Error::other(format!("the audit log is damaged: {why}")));
        }
        at = read;
        record.seq = at.seq + 1;
        let body = serde_json::to_vec(&record)?;
        let hash = chain(&at.hash, &body);
        let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
        frame.extend_from_slice(&u32::try_from(body.len()).map_err(std::io::Error::other)?.to_le_bytes());
        frame.extend_from_slice(&hash);
        frame.extend_from_slice(&body);
        if length > at.offset {
            // A torn record was never acknowledged; still, what cannot be read is set aside, not thrown away.
            let mut torn = Vec::new();
            file.seek(SeekFrom::Start(at.offset))?;
            file.read_to_end(&mut torn)?;
            std::fs::write(self.path.with_extension(format!("torn-{}", at.offset)), torn)?;
            file.set_len(at.offset)?;
        }
        file.seek(SeekFrom::Start(at.offset))?;
        file.write_all(&frame)?;
        file.sync_all()?;
        *end = End { offset: at.offset + frame.len() as u64, seq: record.seq, hash };
        Ok(record.seq)
    }
}

/// Reads the whole file, gives each sound record to `each`, and says whether the chain holds.
pub fn verify(path: &Path, each: &mut dyn FnMut(Record)) -> std::io::Result<Report> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (end, broken_at) = scan(&mut file, End::default(), each)?;
    let torn_bytes = if broken_at.is_none() { length - end.offset } else { 0 };
    Ok(Report { records: end.seq, head: hex(&end.hash), torn_bytes, broken_at })
}

/// From a known place on to the end of the last whole record, or to the first that is not sound.
fn scan(file: &mut File, from: End, each: &mut dyn FnMut(Record)) -> std::io::Result<(End, Option<String>)> {
    let mut at = from;
    if at.offset == 0 {
        let mut magic = [0; MAGIC.len()];
        file.seek(SeekFrom::Start(0))?;
        if file.read_exact(&mut magic).is_err() || &magic != MAGIC {
            return Ok((at, Some("it does not begin like an audit log".into())));
        }
        at.offset = MAGIC.len() as u64;
    }
    file.seek(SeekFrom::Start(at.offset))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let mut rest = &rest[..];
    while rest.len() >= FRAME_HEAD {
        let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let broken = |why: &str| Some(format!("record {} at byte {}: {why}", at.seq + 1, at.offset));
        if length > MAX_RECORD_BYTES {
            return Ok((at, broken("impossible length")));
        }
        let Some(body) = rest.get(FRAME_HEAD..FRAME_HEAD + length) else { break };
        let hash = chain(&at.hash, body);
        if hash != rest[4..FRAME_HEAD] {
            return Ok((at, broken("it does not follow from the record before it")));
        }
        match serde_json::from_slice::<Record>(body) {
            Ok(record) if record.seq == at.seq + 1 => each(record),
            Ok(record) => return Ok((at, broken(&format!("it has number {}", record.seq)))),
            Err(e) => return Ok((at, broken(&e.to_string()))),
        }
        at = End { offset: at.offset + (FRAME_HEAD + length) as u64, seq: at.seq + 1, hash };
        rest = &rest[FRAME_HEAD + length..];
    }
    Ok((at, None))
}

fn chain(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(target: &str) -> Record {
        Record {
            seq: 0,
            time: Timestamp(1),
            who: "k1".into(),
            from: "127.0.0.1".into(),
            action: "model.train".into(),
            target: target.into(),
            before: Value::Null,
            after: json!({"job": 1}),
        }
    }

    fn three() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let (ours, other) = (Audit::new(&path), Audit::new(&path));
        // Two processes in turn.
        assert_eq!(ours.append(record("a")).unwrap(), 1);
        assert_eq!(other.append(record("b")).unwrap(), 2);
        assert_eq!(ours.append(record("c")).unwrap(), 3);
        (dir, path)
    }

    #[test]
    fn records_are_read_back_in_order() {
        let (_dir, path) = three();
        let mut targets = Vec::new();
        let report = verify(&path, &mut |r| targets.push(r.target)).unwrap();
        assert_eq!((report.records, report.torn_bytes, &report.broken_at), (3, 0, &None));
        assert_eq!(targets, ["a", "b", "c"]);
    }

    #[test]
    fn every_changed_byte_breaks_the_chain() {
        let (_dir, path) = three();
        let sound = std::fs::read(&path).unwrap();
        let whole = verify(&path, &mut |_| {}).unwrap();
        for i in 0..sound.len() {
            let mut changed = sound.clone();
            changed[i] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let report = verify(&path, &mut |_| {}).unwrap();
            assert!(report.broken_at.is_some() || report.torn_bytes > 0, "byte {i}");
            assert_ne!(report.head, whole.head, "byte {i}");
        }
    }

    #[test]
    fn a_torn_record_is_told_and_replaced_by_the_next() {
        let (_dir, path) = three();
        let sound = std::fs::read(&path).unwrap();
        std::fs::write(&path, &sound[..sound.len() - 7]).unwrap();
        let report = verify(&path, &mut |_| {}).unwrap();
        assert_eq!((report.records, report.broken_at), (2, None));
        assert!(report.torn_bytes > 0);
        assert_eq!(Audit::new(&path).append(record("d")).unwrap(), 3);
        assert_eq!(verify(&path, &mut |_| {}).unwrap().torn_bytes, 0);
    }

    #[test]
    fn nothing_is_added_to_a_broken_chain() {
        let (_dir, path) = three();
        let mut changed = std::fs::read(&path).unwrap();
        changed[60] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(Audit::new(&path).append(record("d")).is_err());
    }
}
