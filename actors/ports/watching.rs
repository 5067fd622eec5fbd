//! Ports of the watch over feeds and of the alerts.

use super::StoreError;
use serde::{Deserialize, Serialize};
use understudy_domain::alert::{Entry, Told};
use understudy_domain::feed::FeedWatch;

/// What the watch over the feeds begins with after a restart. Every call blocks.
pub trait FeedCheckpoint: Send + Sync {
    /// Replaces what was saved, whole or not at all; `seq` is the last event counted in it.
    fn save(&self, seq: u64, watch: &FeedWatch) -> Result<(), StoreError>;
    fn load(&self) -> Result<Option<(u64, FeedWatch)>, StoreError>;
}

/// Keeps nothing: a restart reads the event log.
impl FeedCheckpoint for () {
    fn save(&self, _: u64, _: &FeedWatch) -> Result<(), StoreError> {
        Ok(())
    }
    fn load(&self) -> Result<Option<(u64, FeedWatch)>, StoreError> {
        Ok(None)
    }
}

/// What became of alerts, in order. Every call blocks.
pub trait AlertJournal: Send + Sync {
    /// Durable, whole or not at all, when it returns.
    fn append(&self, entries: &[Entry]) -> Result<(), StoreError>;
    /// All entries, oldest first.
    fn read(&self) -> Result<Vec<Entry>, StoreError>;
}

/// Forgets everything with the process.
impl AlertJournal for () {
    fn append(&self, _: &[Entry]) -> Result<(), StoreError> {
        Ok(())
    }
    fn read(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }
}

/// Who is told of alerts.
pub trait AlertSink: Send + Sync {
    /// Takes it or counts it as dropped; never blocks.
    fn offer(&self, told: &Told);
    fn status(&self) -> SinkStatus;
}

/// How a sink does. Counts are of tellings, not of alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    pub name: String,
    pub delivered: u64,
    /// Given up after the last attempt.
    pub failed: u64,
    /// Not taken: the queue was full.
    pub dropped: u64,
    pub queued: u64,
    /// Why the last attempt failed, if it did.
    pub last_error: String,
}
