//! The logs and the feature store: on disk (sled, one directory per segment) and in memory.

mod bulk;
pub mod codec;
mod compact;
#[cfg(test)]
mod conformance;
mod engine;
pub mod feeds;
mod first_prediction;
mod health;
pub mod joins;
pub mod journal;
mod keeper;
mod layouts;
mod log;
pub mod memory;
mod pages;
mod prediction_block;
mod predictions;
mod predictions_after;
pub mod probe;
mod redact;
mod report;
pub mod retention;
mod rollouts;
pub mod sample;
mod segment;
mod sequence;
mod skim;
mod state;
mod store;
#[cfg(test)]
mod tests;
pub mod tombstones;
pub mod transfer;
mod watermark;
mod writer;

pub use health::HealthReport;
pub use layouts::features_of;
pub use report::{OpenError, OpenReport, Warning};
pub use rollouts::RolloutJournals;
pub use segment::copy_dir;
pub use store::{Durability, LOCK_FILE, LogName, Store, StoreOptions, StoreStats};
pub use writer::WriterStats;

use understudy_actors::ports::StoreError;

/// An append that would leave a gap in the event log, or repeat a position.
fn gap(found: u64, want: u64) -> StoreError {
    StoreError::Io(format!(
        "event with seq {found} appended where {want} is next; append in order, from last_seq() + 1"
    ))
}

/// Holds the lock of a data directory, so that no server opens it meanwhile.
pub fn hold(dir: &std::path::Path) -> Result<std::fs::File, OpenError> {
    let lock = store::take_lock(dir)?;
    compact::finish(dir)?;
    Ok(lock)
}

/// Copies one part of a data directory.
pub fn copy_part(dir: &std::path::Path, part: &str, to: &std::path::Path) -> Result<(), StoreError> {
    segment::copy_dir(&dir.join(part), &to.join(part))?;
    let mark = format!("{part}.watermark");
    if dir.join(&mark).exists() {
        std::fs::copy(dir.join(&mark), to.join(&mark)).map_err(|e| segment::io(&dir.join(&mark), e))?;
    }
    Ok(())
}

/// Adds a block of a later record version to a closed segment: what a test of a downgrade needs.
#[doc(hidden)]
pub fn plant_newer_record(segment: &std::path::Path) -> Result<(), StoreError> {
    let db = segment::open_sled(segment, 1 << 20, std::time::Duration::from_secs(10))?;
    let key = (1u64 << 40).to_be_bytes();
    let mut batch = sled::Batch::default();
    segment::put(&mut batch, &key, &codec::frame_of_version(200, &key));
    db.apply_batch(batch).map_err(segment::engine)?;
    segment::make_durable(&db, segment, true)
}
