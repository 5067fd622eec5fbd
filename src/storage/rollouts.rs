//! Journals of rollouts: `rollouts/<id>.journal` in the data directory, one frame per line, each synced before it is
//! told of. Small files that only grow: a rollout evaluated every ten seconds for a day writes some 15 MB.

use super::codec::{self, HEADER, Record};
use super::segment::io;
use super::store::Durability;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use understudy_actors::ports::{RolloutJournal, StoreError};
use understudy_actors::rollout::JournalLine;

const ENDING: &str = ".journal";
/// Longest line; a line holds one evaluation.
const MAX_LINE: usize = 4 << 20;

impl Record for JournalLine {
    const MAGIC: u8 = 0x78;
}

/// An open journal: where it ends, and the number of its next line.
struct Open {
    file: File,
    length: u64,
    lines: u64,
}

pub struct RolloutJournals {
    dir: PathBuf,
    durability: Durability,
    open: Mutex<HashMap<String, Open>>,
}

impl RolloutJournals {
    pub fn new(data: &Path, durability: Durability) -> Result<RolloutJournals, StoreError> {
        let dir = data.join("rollouts");
        fs::create_dir_all(&dir).map_err(|e| io(&dir, e))?;
        Ok(RolloutJournals { dir, durability, open: Mutex::default() })
    }

    fn path(&self, id: &str) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            return Err(StoreError::Io(format!("`{id}` is not the name of a rollout")));
        }
        Ok(self.dir.join(format!("{id}{ENDING}")))
    }

    fn bytes(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(id)?;
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(drop).map_err(|e| io(&path, e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io(&path, e)),
        }
        Ok(bytes)
    }

    /// Opens at the end of the last whole line; what follows was never told of.
    fn open(&self, id: &str) -> Result<Open, StoreError> {
        let path = self.path(id)?;
        let (lines, length) = whole(&self.bytes(id)?)?;
        let new = !path.exists();
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|e| io(&path, e))?;
        file.set_len(length).map_err(|e| io(&path, e))?;
        if new && self.durability == Durability::Power {
            File::open(&self.dir).and_then(|d| d.sync_all()).map_err(|e| io(&self.dir, e))?;
        }
        Ok(Open { file, length, lines: lines.len() as u64 })
    }
}

/// The lines, and where the last whole one ends. A frame that is not whole can only be the last.
fn whole(bytes: &[u8]) -> Result<(Vec<JournalLine>, u64), StoreError> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some(length) = bytes.get(at..at + HEADER).and_then(codec::frame_len) {
        let Some(frame) = (length <= MAX_LINE).then(|| bytes.get(at..at + length)).flatten() else { break };
        let key = (lines.len() as u64).to_be_bytes();
        match codec::decode::<JournalLine>(&key, frame) {
            Ok(line) => lines.push(line),
            Err(codec::CodecError::Newer { found, known }) => {
                return Err(StoreError::Newer(codec::CodecError::Newer { found, known }.to_string()));
            }
            // Torn by a loss of power, if nothing follows; else damage.
            Err(_) if at + length >= bytes.len() => break,
            Err(e) => return Err(StoreError::Corrupt(format!("line {} of a rollout's journal: {e}", lines.len()))),
        }
        at += length;
    }
    Ok((lines, at as u64))
}

impl RolloutJournal for RolloutJournals {
    fn list(&self, model: &str) -> Result<Vec<String>, StoreError> {
        let mut numbers: Vec<u64> = fs::read_dir(&self.dir)
            .map_err(|e| io(&self.dir, e))?
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_suffix(ENDING)?.strip_prefix(model)?.strip_prefix('-')?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|n| format!("{model}-{n}")).collect())
    }

    fn append(&self, id: &str, lines: &[JournalLine]) -> Result<(), StoreError> {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = match all.remove(id) {
            Some(open) => open,
            None => self.open(id)?,
        };
        let mut bytes = Vec::new();
        for (line, number) in lines.iter().zip(open.lines..) {
            let frame = codec::encode(&number.to_be_bytes(), line).map_err(|e| StoreError::Io(e.to_string()))?;
            bytes.extend_from_slice(&frame);
        }
        let path = self.path(id)?;
        let full = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::StorageFull => StoreError::DiskFull(format!("{}: {e}", path.display())),
            _ => io(&path, e),
        };
        let written = open.file.write_all(&bytes).and_then(|()| match self.durability {
            Durability::Power => open.file.sync_data(),
            Durability::Process => Ok(()),
        });
        if let Err(e) = written {
            // Half a line must not stay; the next append opens the file anew and cuts what is not whole.
            let _ = open.file.set_len(open.length);
            return Err(full(e));
        }
        open.length += bytes.len() as u64;
        open.lines += lines.len() as u64;
        all.insert(id.to_owned(), open);
        Ok(())
    }

    fn read(&self, id: &str) -> Result<Vec<JournalLine>, StoreError> {
        Ok(whole(&self.bytes(id)?)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::prediction::PredictionId;
    use understudy_domain::rollout::{Arm, FailedAnswer, Fault};
    use understudy_domain::time::Timestamp;

    fn line(n: u128) -> JournalLine {
        let failed = FailedAnswer {
            id: PredictionId(n),
            at: Timestamp(n as i64),
            segment: 1,
            arm: Arm::Canary,
            unit: 9,
            error: "e".into(),
            fault: Some(Fault::NonFinite),
            hard: None,
        };
        JournalLine { failed: Some(failed), entry: None }
    }

    #[test]
    fn a_cut_line_is_left_out_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let journals = RolloutJournals::new(dir.path(), Durability::Process).unwrap();
        journals.append("m-1", &[line(1), line(2)]).unwrap();
        journals.append("m-10", &[line(1)]).unwrap();
        journals.append("m-2", &[line(1)]).unwrap();
        journals.append("m-x-1", &[line(1)]).unwrap();
        assert_eq!(journals.list("m").unwrap(), ["m-1", "m-2", "m-10"]);
        let path = dir.path().join("rollouts/m-1.journal");
        let bytes = fs::read(&path).unwrap();
        for end in bytes.len() / 2 + 1..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            let again = RolloutJournals::new(dir.path(), Durability::Power).unwrap();
            assert_eq!(again.read("m-1").unwrap(), [line(1)], "cut at {end}");
            again.append("m-1", &[line(2)]).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        let mut damaged = bytes.clone();
        damaged[HEADER + 3] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let e = RolloutJournals::new(dir.path(), Durability::Process).unwrap().read("m-1").unwrap_err();
        assert!(matches!(e, StoreError::Corrupt(_)), "{e}");
        assert!(journals.append("../x", &[line(1)]).is_err());
        assert!(journals.read("none").unwrap().is_empty());
    }
}
