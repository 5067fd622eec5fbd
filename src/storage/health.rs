//! What is wrong with the store while it runs: damage that reading met, what was set aside, space.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Findings that are kept in words; further ones are only counted.
const KEPT: usize = 100;

#[derive(Default)]
pub struct Health {
    /// Less space than the floor.
    low: AtomicBool,
    free: AtomicU64,
    damaged: AtomicU64,
    quarantined: AtomicU64,
    /// Places that were reported: a scan meets them again and again.
    known: Mutex<BTreeSet<(String, u64)>>,
    words: Mutex<Vec<String>>,
}

/// A reading of [`Health`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    pub low_space: bool,
    pub free_bytes: u64,
    /// Damaged places that reading met; their records are left out, never served.
    pub damaged: u64,
    /// Segments that were set aside since the start.
    pub quarantined: u64,
    /// The first of them in words.
    pub findings: Vec<String>,
}

impl Health {
    /// A damaged place in a segment; told once.
    pub fn damaged(&self, segment: &str, at: u64, what: &str) {
        let new = self.known.lock().unwrap_or_else(PoisonError::into_inner).insert((segment.to_owned(), at));
        if new {
            self.damaged.fetch_add(1, Relaxed);
            let place = if at == u64::MAX { String::new() } else { format!(" at {at}") };
            self.say(format!("{segment}{place}: {what}; left out, the rest is served"));
        }
    }

    pub fn quarantined(&self, segment: &str, to: &Path, reason: &str) {
        self.quarantined.fetch_add(1, Relaxed);
        self.say(format!("{segment} could not be opened and was moved to {} ({reason})", to.display()));
    }

    /// A segment was opened after all, from its log alone.
    pub fn salvaged(&self, segment: &str, copy: &Path, reason: &str) {
        self.quarantined.fetch_add(1, Relaxed);
        self.say(format!(
            "{segment} was damaged ({reason}) and read from its log alone; as it was found it is in {}",
            copy.display()
        ));
    }

    fn say(&self, text: String) {
        tracing::error!("storage: {text}");
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() < KEPT {
            words.push(text);
        }
    }

    /// True when the state changed.
    pub fn space(&self, free: u64, low: bool) -> bool {
        self.free.store(free, Relaxed);
        self.low.swap(low, Relaxed) != low
    }

    pub fn is_low(&self) -> bool {
        self.low.load(Relaxed)
    }

    pub fn report(&self) -> HealthReport {
        HealthReport {
            low_space: self.is_low(),
            free_bytes: self.free.load(Relaxed),
            damaged: self.damaged.load(Relaxed),
            quarantined: self.quarantined.load(Relaxed),
            findings: self.words.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
