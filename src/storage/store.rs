//! The data directory as a whole: lock, free space, the three logs and the feature store.

use super::health::{Health, HealthReport};
use super::keeper::{Keeper, Mend};
use super::log::SegmentedLog;
use super::report::{OpenError, OpenReport};
use super::segment::io;
use super::state::SledFeatures;
use super::writer::WriterStats;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use understudy_actors::ports::{EventLog, FeatureStore, OutcomeLog, PredictionLog, StoreError};
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::{OutcomeRecord, PredictionRecord};

/// What an acknowledged record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Loss of power, by `fdatasync` before the answer.
    #[default]
    Power,
    /// The end of the process, not the loss of power.
    Process,
}

/// Locked while a process has the directory open; holds its pid and host.
pub const LOCK_FILE: &str = "lock";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    pub durability: Durability,
    /// Size in bytes at which a log goes on in a new segment.
    pub segment_bytes: u64,
    /// Records that may wait in one log's queue; more are answered `Full`.
    pub queue_records: usize,
    /// Page cache of each open segment, in bytes.
    pub cache_bytes: u64,
    /// Free bytes on the disk below which the store does not open.
    pub free_floor: u64,
    /// Free bytes on the disk below which nothing is written to the logs.
    pub min_free: u64,
    /// A database that takes longer to open is treated as damaged.
    pub open_deadline: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            durability: Durability::Power,
            segment_bytes: 1 << 30,
            queue_records: 65_536,
            cache_bytes: 32 << 20,
            free_floor: 256 << 20,
            min_free: 0,
            open_deadline: Duration::from_secs(60),
        }
    }
}

/// A log, for retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogName {
    Events,
    Predictions,
    Outcomes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub events: WriterStats,
    pub predictions: WriterStats,
    pub outcomes: WriterStats,
}

/// An open data directory. Dropping it closes it.
pub struct Store {
    events: Arc<SegmentedLog<LoggedEvent>>,
    predictions: Arc<SegmentedLog<PredictionRecord>>,
    outcomes: Arc<SegmentedLog<OutcomeRecord>>,
    features: Arc<SledFeatures>,
    report: OpenReport,
    durability: Durability,
    health: Arc<Health>,
    keeper: Keeper,
    /// Held for as long as the store: the lock goes with the descriptor.
    _lock: File,
}

impl Store {
    /// Opens or creates the store. What cannot be opened is moved to `quarantine/` and reported.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
        let lock = take_lock(dir)?;
        let free = free_bytes(dir)?;
        if free < options.free_floor {
            return Err(OpenError::NoSpace { path: dir.to_owned(), free, floor: options.free_floor });
        }
        let mut report = OpenReport::default();
        super::compact::finish(dir)?;
        let health = Arc::new(Health::default());
        let events = Arc::new(SegmentedLog::open(dir, &options, health.clone(), &mut report)?);
        let predictions = Arc::new(SegmentedLog::open(dir, &options, health.clone(), &mut report)?);
        let outcomes = Arc::new(SegmentedLog::open(dir, &options, health.clone(), &mut report)?);
        let features = Arc::new(SledFeatures::open(dir, &options, &mut report)?);
        let keeper = {
            let mends: Vec<Mend> = vec![mend(&events), mend(&predictions), mend(&outcomes)];
            Keeper::start(dir.to_owned(), options.min_free, health.clone(), mends)?
        };
        let durability = options.durability;
        Ok(Store { events, predictions, outcomes, features, report, durability, health, keeper, _lock: lock })
    }

    /// Damage that reading met, and space.
    pub fn health(&self) -> HealthReport {
        self.health.report()
    }

    /// Why a log takes no records now, if it does not.
    pub fn accepting(&self) -> Result<(), StoreError> {
        self.events.files.accepting()?;
        self.predictions.files.accepting()?;
        self.outcomes.files.accepting()
    }

    pub(super) fn state(&self) -> &SledFeatures {
        &self.features
    }

    /// The three logs.
    #[allow(clippy::type_complexity)]
    pub(super) fn logs(
        &self,
    ) -> (&SegmentedLog<LoggedEvent>, &SegmentedLog<PredictionRecord>, &SegmentedLog<OutcomeRecord>) {
        (&self.events, &self.predictions, &self.outcomes)
    }

    pub fn events(&self) -> Arc<dyn EventLog> {
        self.events.clone()
    }
    pub fn predictions(&self) -> Arc<dyn PredictionLog> {
        self.predictions.clone()
    }
    pub fn outcomes(&self) -> Arc<dyn OutcomeLog> {
        self.outcomes.clone()
    }
    pub fn features(&self) -> Arc<dyn FeatureStore> {
        self.features.clone()
    }
    /// What opening found that is not as it was left.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }
    pub fn durability(&self) -> Durability {
        self.durability
    }
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            events: self.events.stats(),
            predictions: self.predictions.stats(),
            outcomes: self.outcomes.stats(),
        }
    }

    /// Retention: deletes the oldest segments of a log while it holds more than `keep` bytes; never
    /// the newest one. Returns the numbers of the deleted segments.
    pub fn drop_oldest(&self, log: LogName, keep: u64) -> Result<Vec<u32>, StoreError> {
        match log {
            LogName::Events => self.events.drop_oldest(keep),
            LogName::Predictions => self.predictions.drop_oldest(keep),
            LogName::Outcomes => self.outcomes.drop_oldest(keep),
        }
    }

    /// Commits what is queued, joins the threads and closes the files. Later appends get `Closed`.
    pub fn close(&self) {
        self.keeper.stop();
        self.events.close();
        self.predictions.close();
        self.outcomes.close();
        self.features.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn mend<T: super::log::Layout>(log: &Arc<SegmentedLog<T>>) -> Mend {
    let files = log.files.clone();
    Box::new(move || files.try_mend())
}

/// Free bytes for this user on the disk that holds `dir`.
pub fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let s = rustix::fs::statvfs(dir).map_err(|e| io(dir, e.into()))?;
    Ok(s.f_bavail.saturating_mul(s.f_frsize))
}

pub(super) fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| io(&path, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked { path: dir.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(e)) => return Err(io(&path, e).into()),
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "pid {} on host {host}", std::process::id()));
    written.map_err(|e| io(&path, e))?;
    Ok(file)
}
