//! What opening the store found, and why it may refuse.

use std::fmt;
use std::path::PathBuf;
use understudy_actors::ports::StoreError;

/// Why the store was not opened. Nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Locked {
        path: PathBuf,
        holder: String,
    },
    /// Less free space than the floor, in bytes.
    NoSpace {
        path: PathBuf,
        free: u64,
        floor: u64,
    },
    /// A later version of this program wrote here.
    Newer(String),
    Store(StoreError),
}

impl From<StoreError> for OpenError {
    fn from(e: StoreError) -> Self {
        OpenError::Store(e)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { path, holder } => write!(
                f,
                "{} is in use by {holder}; stop that process, or give this one another data directory",
                path.display()
            ),
            OpenError::NoSpace { path, free, floor } => write!(
                f,
                "{}: {} MiB free, at least {} MiB are needed; free some space or lower the floor",
                path.display(),
                free >> 20,
                floor >> 20
            ),
            OpenError::Newer(e) => write!(f, "the data directory was {e}"),
            OpenError::Store(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// What was found at open and is not as it was left. None of these stops the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Incident: the log ends before the last acknowledged position. Positions go on after it.
    TailLost { log: &'static str, found: u64, acknowledged: u64 },
    /// Damaged blocks from this position on were dropped; none had been acknowledged.
    TailDropped { name: String, from: u64, detail: String },
    /// Incident: an acknowledged block is damaged. It is left out when read.
    DamagedBlock { name: String, position: u64, detail: String },
    /// A directory could not be opened and was moved away; the store went on without it.
    Quarantined { name: String, to: PathBuf, reason: String },
    /// The program ended while records were being written. In async mode so many predictions may have been answered
    /// and are not on record; nothing else was acknowledged of them.
    LostAtMost { log: &'static str, records: u64 },
    /// The watermark file is damaged: a lost tail would not be noticed this time.
    WatermarkUnreadable { log: &'static str, detail: String },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::TailLost { log, found, acknowledged } => {
                write!(f, "{log}: acknowledged up to {acknowledged}, but the log ends at {found}: records were lost")
            }
            Warning::TailDropped { name, from, detail } => {
                write!(f, "{name}: unacknowledged tail from {from} dropped ({detail})")
            }
            Warning::DamagedBlock { name, position, detail } => {
                write!(f, "{name}: block at {position} is damaged ({detail})")
            }
            Warning::Quarantined { name, to, reason } => {
                write!(f, "{name} could not be opened and was moved to {} ({reason})", to.display())
            }
            Warning::LostAtMost { log, records } => {
                write!(f, "{log}: lost_at_most={records}: the last group was being written when the program ended")
            }
            Warning::WatermarkUnreadable { log, detail } => write!(f, "{log}: watermark unreadable ({detail})"),
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    pub warnings: Vec<Warning>,
}
