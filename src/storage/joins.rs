//! Where joins and monitors stood: `joins.snapshot` in the data directory, replaced whole. Losing it loses nothing: the
//! logs hold it all, and reading them takes longer.

use super::codec;
use super::segment::{io, sync_dir};
use super::store::Durability;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use understudy_actors::ports::{JoinStore, StoreError};
use understudy_actors::prediction_logger::JoinSnapshot;

/// Its file, beside the logs.
pub const JOINS: &str = "joins.snapshot";

pub struct JoinFile {
    path: PathBuf,
    durability: Durability,
    /// One save at a time.
    saving: Mutex<()>,
}

impl JoinFile {
    pub fn new(data: &Path, durability: Durability) -> JoinFile {
        JoinFile { path: data.join(JOINS), durability, saving: Mutex::default() }
    }
}

impl JoinStore for JoinFile {
    fn save(&self, snapshot: &JoinSnapshot) -> Result<(), StoreError> {
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, new) = (codec::encode_file(snapshot)?, self.path.with_extension("new"));
        let power = self.durability == Durability::Power;
        let written = File::create(&new).and_then(|mut f| {
            f.write_all(&bytes)?;
            if power { f.sync_data() } else { Ok(()) }
        });
        written.map_err(|e| io(&new, e))?;
        fs::rename(&new, &self.path).map_err(|e| io(&self.path, e))?;
        match self.path.parent() {
            Some(dir) if power => Ok(sync_dir(dir)?),
            _ => Ok(()),
        }
    }

    fn load(&self) -> Result<Option<JoinSnapshot>, StoreError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(codec::decode_file(&bytes)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&self.path, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_byte_is_damaged_it_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = JoinFile::new(dir.path(), Durability::Power);
        assert!(file.load().unwrap().is_none());
        let snapshot = JoinSnapshot::at(7, 9);
        file.save(&snapshot).unwrap();
        assert_eq!(format!("{:?}", file.load().unwrap().unwrap()), format!("{snapshot:?}"));
        let good = fs::read(dir.path().join(JOINS)).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x10;
            fs::write(dir.path().join(JOINS), &bad).unwrap();
            assert!(file.load().is_err(), "byte {i}");
            fs::write(dir.path().join(JOINS), &good[..i]).unwrap();
            assert!(file.load().is_err(), "cut at {i}");
        }
    }
}
