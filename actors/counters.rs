//! Process-wide counts that every actor and cell adds to; `/metrics` and `/v1/system` read them.
//! Decisions never do: they run on the monitor's windows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// A counter family with a bounded set of labels.
#[derive(Default)]
pub struct Family {
    cells: Mutex<BTreeMap<Vec<String>, u64>>,
}

/// Label sets a family may hold; further ones are counted under `other`.
const MAX_LABEL_SETS: usize = 500;

impl Family {
    pub fn add(&self, labels: &[&str], n: u64) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cells.len();
        let key: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        if known >= MAX_LABEL_SETS && !cells.contains_key(&key) {
            *cells.entry(vec!["other".to_owned(); labels.len()]).or_default() += n;
        } else {
            *cells.entry(key).or_default() += n;
        }
    }

    pub fn read(&self) -> Vec<(Vec<String>, u64)> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(k, v)| (k.clone(), *v)).collect()
    }
}

/// All counts. Names match the metric inventory.
#[derive(Default)]
pub struct Counters {
    /// {model, version, verdict}
    pub predictions: Family,
    /// {model, code}
    pub refusals: Family,
    /// {model, rule}
    pub findings: Family,
    /// {status}
    pub events: Family,
    /// {model, status}
    pub outcomes: Family,
    pub log_dropped: AtomicU64,
    pub in_flight: AtomicU64,
    pub cold_loads: AtomicU64,
}

impl Counters {
    pub fn dropped(&self) {
        self.log_dropped.fetch_add(1, Relaxed);
    }
}
