//! A journal of decisions: few, small, each durable before it is acted on. One append-only file of checksummed frames;
//! what a crash left of a half-written last frame is cut off when the file is opened.

use super::codec::{self, Record};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use understudy_actors::ports::{AlertJournal, RetrainingJournal, StoreError};
use understudy_domain::alert;
use understudy_domain::retraining::Entry;

/// Under the data directory.
pub const RETRAINING: &str = "retraining.journal";
pub const ALERTS: &str = "alerts.journal";
/// A journal larger than this was not written by us.
const MAX_BYTES: u64 = 1 << 30;

/// One entry: the decision's own text, which later versions of its type can still read.
#[derive(Serialize, Deserialize)]
pub struct Line {
    model: String,
    /// JSON of the entry.
    entry: String,
}

impl Record for Line {
    const MAGIC: u8 = 0xF6;
}

/// The retraining journal on disk.
pub struct FileJournal {
    path: PathBuf,
    /// Held while it is written.
    file: Mutex<File>,
}

fn io(path: &Path, e: impl std::fmt::Display) -> StoreError {
    StoreError::Io(format!("{}: {e}", path.display()))
}

impl FileJournal {
    /// Opens or makes the journal; a torn end is cut off.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged before its end.
    pub fn open(dir: &Path) -> Result<FileJournal, StoreError> {
        Self::named(dir, RETRAINING)
    }

    fn named(dir: &Path, name: &str) -> Result<FileJournal, StoreError> {
        let path = dir.join(name);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(|e| io(&path, e))?;
        let bytes = contents(&mut file, &path)?;
        let (_, sound) = frames(&bytes).map_err(|e| io(&path, e))?;
        if sound < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - sound, "a half-written decision was cut off");
            file.set_len(sound as u64).and_then(|()| file.sync_all()).map_err(|e| io(&path, e))?;
        }
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io(dir, e))?;
        Ok(FileJournal { path, file: Mutex::new(file) })
    }
}

fn contents(file: &mut File, path: &Path) -> Result<Vec<u8>, StoreError> {
    let size = file.metadata().map_err(|e| io(path, e))?.len();
    if size > MAX_BYTES {
        return Err(io(path, format!("{size} bytes; at most {MAX_BYTES} are read")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    std::io::Seek::rewind(file).map_err(|e| io(path, e))?;
    file.read_to_end(&mut bytes).map_err(|e| io(path, e))?;
    Ok(bytes)
}

/// The key of a frame is its position, so that a frame in another's place is found.
fn key(at: usize) -> [u8; 8] {
    (at as u64).to_be_bytes()
}

/// The lines, and how many bytes of the whole are sound: an incomplete last frame is not, a damaged one is an error.
fn frames(bytes: &[u8]) -> Result<(Vec<Line>, usize), String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some(length) = codec::frame_len(&bytes[at..]).filter(|n| at + n <= bytes.len()) {
        let line = codec::decode::<Line>(&key(at), &bytes[at..at + length])
            .map_err(|e| format!("the decision at byte {at} is damaged: {e}"));
        match line {
            Ok(line) => lines.push(line),
            // The last frame may be whole in length and not in content when the power went.
            Err(_) if at + length == bytes.len() => break,
            Err(e) => return Err(e),
        }
        at += length;
    }
    Ok((lines, at))
}

impl FileJournal {
    /// Each entry is the decision's own text, said of `model`.
    fn write(&self, model: &str, entries: impl Iterator<Item = serde_json::Result<String>>) -> Result<(), StoreError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let start = file.metadata().map_err(|e| io(&self.path, e))?.len();
        let mut all = Vec::new();
        for entry in entries {
            let line = Line { model: model.to_owned(), entry: entry.map_err(|e| io(&self.path, e))? };
            let frame = codec::encode(&key(start as usize + all.len()), &line).map_err(|e| io(&self.path, e))?;
            all.extend_from_slice(&frame);
        }
        let written = file.write_all(&all).and_then(|()| file.sync_data());
        written.map_err(|e| {
            // What was half written must not stand before what is written next.
            let _ = file.set_len(start);
            io(&self.path, e)
        })
    }

    fn lines<T: serde::de::DeserializeOwned>(&self) -> Result<Vec<(String, T)>, StoreError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = contents(&mut file, &self.path)?;
        let (lines, _) = frames(&bytes).map_err(|e| StoreError::Corrupt(format!("{}: {e}", self.path.display())))?;
        let newer = |e| StoreError::Newer(format!("{}: a decision of another version: {e}", self.path.display()));
        lines.into_iter().map(|l| Ok((l.model, serde_json::from_str(&l.entry).map_err(newer)?))).collect()
    }
}

impl RetrainingJournal for FileJournal {
    fn append(&self, model: &str, entries: &[Entry]) -> Result<(), StoreError> {
        self.write(model, entries.iter().map(serde_json::to_string))
    }

    fn read(&self) -> Result<Vec<(String, Entry)>, StoreError> {
        self.lines()
    }
}

/// The journal of alerts on disk.
pub struct AlertFile(FileJournal);

impl AlertFile {
    /// # Errors
    /// As [`FileJournal::open`].
    pub fn open(dir: &Path) -> Result<AlertFile, StoreError> {
        FileJournal::named(dir, ALERTS).map(AlertFile)
    }
}

impl AlertJournal for AlertFile {
    fn append(&self, entries: &[alert::Entry]) -> Result<(), StoreError> {
        self.0.write("", entries.iter().map(serde_json::to_string))
    }

    fn read(&self) -> Result<Vec<alert::Entry>, StoreError> {
        Ok(self.0.lines()?.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// The same in memory.
#[derive(Default)]
pub struct MemoryJournal(Mutex<Vec<(String, Entry)>>);

impl RetrainingJournal for MemoryJournal {
    fn append(&self, model: &str, entries: &[Entry]) -> Result<(), StoreError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(entries.iter().map(|e| (model.to_owned(), e.clone())));
        Ok(())
    }

    fn read(&self) -> Result<Vec<(String, Entry)>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::time::Timestamp;

    fn entry(job: u64) -> Entry {
        Entry::Failed { job, at: Timestamp(1_400_000_000_000_000), why: "no memory".repeat(300) }
    }

    #[test]
    fn what_was_appended_is_read_back_by_the_next_life_and_a_torn_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RETRAINING);
        {
            let j = FileJournal::open(dir.path()).unwrap();
            j.append("a", &[entry(1), entry(2)]).unwrap();
            j.append("b", &[entry(3)]).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let all = [("a".to_string(), entry(1)), ("a".into(), entry(2)), ("b".into(), entry(3))];
        for cut in [whole.len(), whole.len() - 1, whole.len() - 20] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let j = FileJournal::open(dir.path()).unwrap();
            let kept = if cut == whole.len() { 3 } else { 2 };
            assert_eq!(j.read().unwrap(), all[..kept]);
            j.append("c", &[entry(4)]).unwrap();
            assert_eq!(j.read().unwrap().last(), Some(&("c".to_string(), entry(4))));
        }
        let mut damaged = whole.clone();
        damaged[30] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(FileJournal::open(dir.path()), Err(StoreError::Io(e)) if e.contains("damaged")));
    }
}
