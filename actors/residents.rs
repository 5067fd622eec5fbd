//! What is in memory: an account that each loaded version is on for exactly as long as it lives, wherever it is held.
//!
//! The pool decides what is loaded; requests and workers hold what they use. So a version that had to make room is
//! gone only when the last request that uses it has ended, and only then is its room free.

use crate::ports::ModelRuntime;
use actix::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::residency::{Budget, Load};
use understudy_domain::value::Value;

/// Room became free: what waits for it may go on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RoomFreed;

/// The account. Outlives restarts of the pool.
#[derive(Default)]
pub struct Residents(Mutex<Account>);

#[derive(Clone, Copy, Default)]
struct Account {
    now: Load,
    peak: Load,
}

impl Residents {
    /// Versions and bytes in memory now.
    pub fn now(&self) -> Load {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    /// The most there ever were.
    pub fn peak(&self) -> Load {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).peak
    }

    /// A place for a version of so many bytes, if the budget has one; `freed` is told when it is empty again.
    pub fn place(self: &Arc<Self>, bytes: u64, budget: Budget, freed: Recipient<RoomFreed>) -> Option<Place> {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = account.now.plus(bytes);
        if !next.fits(budget) {
            return None;
        }
        account.now = next;
        account.peak.versions = account.peak.versions.max(next.versions);
        account.peak.bytes = account.peak.bytes.max(next.bytes);
        Some(Place { account: self.clone(), bytes, freed })
    }
}

/// A version's place in memory; free again when dropped.
pub struct Place {
    account: Arc<Residents>,
    bytes: u64,
    freed: Recipient<RoomFreed>,
}

impl Place {
    /// The real size, now that it is known; never more than the place that was given.
    pub fn shrink(&mut self, bytes: u64) {
        let mut account = self.account.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes.min(self.bytes);
        account.now.bytes -= self.bytes - bytes;
        self.bytes = bytes;
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut account = self.account.0.lock().unwrap_or_else(PoisonError::into_inner);
            account.now.versions -= 1;
            account.now.bytes -= self.bytes;
        }
        self.freed.do_send(RoomFreed);
    }
}

/// A runtime on the account.
pub struct Resident {
    runtime: Arc<dyn ModelRuntime>,
    // Dropped after the runtime, in order of declaration: the room is free when the bytes are.
    _place: Place,
}

impl Resident {
    pub fn new(runtime: Arc<dyn ModelRuntime>, place: Place) -> Resident {
        Resident { runtime, _place: place }
    }
}

impl ModelRuntime for Resident {
    fn manifest(&self) -> &Manifest {
        self.runtime.manifest()
    }
    fn profile(&self) -> &ReferenceProfile {
        self.runtime.profile()
    }
    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
        self.runtime.predict(rows)
    }
    fn bytes(&self) -> usize {
        self.runtime.bytes()
    }
    fn bounded(&self) -> bool {
        self.runtime.bounded()
    }
    fn row_time(&self) -> Option<Duration> {
        self.runtime.row_time()
    }
}
