//! The file of tombstones, `erased` in the data directory: written anew as a whole for each, and renamed into place.
//!
//! First line: CRC-32 of the rest in hexadecimal. Rest: JSON. It holds no id, only salted hashes; and for an erasure that is
//! not through, the (unsalted) hashes of the states that must go. A damaged file stops the start: without it, what was
//! erased would come back.

use super::report::OpenError;
use super::segment::{io, sync_dir};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use understudy_actors::erasure::{Erasures, Pending, TombstoneJournal};
use understudy_actors::ports::{FeatureStore, StoreError};
use understudy_domain::erasure::{Erased, Tombstone};

/// Name of the file.
pub const FILE: &str = "erased";

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    salt: String,
    tombstones: Vec<Tombstone>,
    pending: Vec<Pending>,
}

struct Journal(PathBuf);

impl TombstoneJournal for Journal {
    fn write(&self, erased: &Erased, pending: &[Pending]) -> Result<(), StoreError> {
        let mut tombstones: Vec<Tombstone> = erased.iter().cloned().collect();
        tombstones.sort_by_key(|t| t.mark);
        let salt = format!("{:032x}", erased.salt());
        let content = Content { version: 1, salt, tombstones, pending: pending.to_vec() };
        let json = serde_json::to_string_pretty(&content).map_err(|e| StoreError::Io(e.to_string()))?;
        let text = format!("{:08x}\n{json}\n", crc32fast::hash(json.as_bytes()));
        let (path, new) = (&self.0, self.0.with_extension("new"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        file.and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all())).map_err(|e| io(&new, e))?;
        fs::rename(&new, path).map_err(|e| io(path, e))?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

fn parse(path: &Path, text: &str) -> Result<Content, StoreError> {
    let wrong = |what: &str| {
        StoreError::Corrupt(format!(
            "{}: {what}; it says who was erased, so nothing is served without it: restore it from a snapshot of the data",
            path.display()
        ))
    };
    let (sum, json) = text.trim_end_matches('\n').split_once('\n').ok_or_else(|| wrong("it is cut off"))?;
    if u32::from_str_radix(sum, 16).ok() != Some(crc32fast::hash(json.as_bytes())) {
        return Err(wrong("its checksum differs"));
    }
    let content: Content = serde_json::from_str(json).map_err(|e| wrong(&e.to_string()))?;
    match content.version {
        1 => Ok(content),
        n => Err(StoreError::Newer(format!("{} is of version {n}; this program knows 1", path.display()))),
    }
}

fn read(dir: &Path) -> Result<Option<(Erased, Vec<Pending>)>, StoreError> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(&path, e)),
    };
    let content = parse(&path, &text)?;
    let salt = u128::from_str_radix(&content.salt, 16).map_err(|e| StoreError::Corrupt(format!("salt: {e}")))?;
    Ok(Some((Erased::new(salt, content.tombstones), content.pending)))
}

/// The tombstones of a data directory, for offline work.
pub fn of(dir: &Path) -> Result<Erased, StoreError> {
    Ok(read(dir)?.map(|(erased, _)| erased).unwrap_or_default())
}

/// The tombstones of a data directory, to be served with; `salt` is used if there are none yet.
pub fn open(dir: &Path, salt: u128) -> Result<Erasures, OpenError> {
    let (erased, pending) = read(dir)?.unwrap_or_else(|| (Erased::new(salt, []), Vec::new()));
    Ok(Erasures::new(erased, pending, Box::new(Journal(dir.join(FILE)))))
}

/// Ends the erasures that a crash interrupted: drops the states they had still to drop. Before anything reads them.
pub fn resume(erasures: &Erasures, features: &dyn FeatureStore, shards: usize) -> Result<(), StoreError> {
    for p in erasures.pending() {
        for shard in 0..shards {
            let ours: Vec<_> = p.states.iter().copied().filter(|e| e.shard(shards) == shard).collect();
            if !ours.is_empty() {
                features.forget(shard, &ours)?;
            }
        }
        erasures.finish(p.mark)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "tombstones_tests.rs"]
mod tests;
