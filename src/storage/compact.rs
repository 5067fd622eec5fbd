//! Compaction: the logs written anew without the dead space that the engine leaves, swapped in at the end.

use super::joins::JOINS;
use super::report::OpenError;
use super::segment::{io, sync_dir};
use std::fs;
use std::path::Path;

/// Where the new logs are made.
pub const WORK: &str = "compact";
/// Stands in `WORK` from the moment on that the new logs are complete and durable.
const DONE: &str = "DONE";
/// What is swapped.
pub const PARTS: [&str; 5] = ["events", "predictions", "outcomes", "state", "state.watermark"];

/// Ends a compaction that was interrupted: one whose new logs were complete is swapped in, another is thrown away.
pub fn finish(dir: &Path) -> Result<(), OpenError> {
    let work = dir.join(WORK);
    if !work.exists() {
        return Ok(());
    }
    if work.join(DONE).exists() {
        swap(dir)?;
    }
    fs::remove_dir_all(&work).map_err(|e| io(&work, e))?;
    Ok(sync_dir(dir)?)
}

/// The new logs in `WORK` are complete and durable: from here on they are the store.
pub fn commit(dir: &Path) -> Result<(), OpenError> {
    let done = dir.join(WORK).join(DONE);
    fs::write(&done, b"").and_then(|()| fs::File::open(&done)?.sync_all()).map_err(|e| io(&done, e))?;
    sync_dir(&dir.join(WORK))?;
    sync_dir(dir)?;
    finish(dir)
}

/// Every step can be repeated: a part that is not in `WORK` any more was swapped before.
fn swap(dir: &Path) -> Result<(), OpenError> {
    let work = dir.join(WORK);
    // It counts by the positions of the old logs.
    match fs::remove_file(dir.join(JOINS)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&dir.join(JOINS), e).into()),
        _ => {}
    }
    for part in PARTS {
        let (new, now, old) = (work.join(part), dir.join(part), work.join(format!("old-{part}")));
        if !new.exists() {
            continue;
        }
        if now.exists() {
            fs::rename(&now, &old).map_err(|e| io(&now, e))?;
        }
        fs::rename(&new, &now).map_err(|e| io(&new, e))?;
    }
    sync_dir(&work)?;
    Ok(sync_dir(dir)?)
}
