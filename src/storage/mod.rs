//! The logs and the feature store: on disk (sled, one directory per segment) and in memory.

pub mod codec;
#[cfg(test)]
mod conformance;
mod log;
pub mod memory;
mod predictions;
mod report;
mod segment;
mod sequence;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use report::{OpenError, OpenReport, Warning};
pub use store::{Durability, LOCK_FILE, LogName, Store, StoreOptions, StoreStats};
pub use writer::WriterStats;

use understudy_actors::ports::StoreError;

/// An append that would leave a gap in the event log, or repeat a position.
fn gap(found: u64, want: u64) -> StoreError {
    StoreError::Io(format!(
        "event with seq {found} appended where {want} is next; append in order, from last_seq() + 1"
    ))
}
