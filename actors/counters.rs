//! Process-wide counts that every actor and cell adds to; `/metrics` and `/v1/system` read them.
//! Decisions never do: they run on the monitor's windows.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};
use xxhash_rust::xxh3::Xxh3;

/// A counter family with a bounded set of labels. Adding to a known label set takes a read lock and
/// allocates nothing: it is on the path of every request.
#[derive(Default)]
pub struct Family {
    cells: RwLock<HashMap<u64, (Vec<String>, AtomicU64)>>,
}

/// Label sets a family may hold; further ones are counted under `other`.
const MAX_LABEL_SETS: usize = 500;

fn key(labels: &[&str]) -> u64 {
    let mut hash = Xxh3::new();
    for label in labels {
        hash.update(&(label.len() as u64).to_le_bytes());
        hash.update(label.as_bytes());
    }
    hash.digest()
}

impl Family {
    pub fn add(&self, labels: &[&str], n: u64) {
        let found = key(labels);
        if let Some((_, count)) = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&found) {
            count.fetch_add(n, Relaxed);
            return;
        }
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        let full = cells.len() >= MAX_LABEL_SETS && !cells.contains_key(&found);
        let other = vec!["other"; labels.len()];
        let (found, labels) = if full { (key(&other), &other[..]) } else { (found, labels) };
        let names = || labels.iter().map(|l| (*l).to_owned()).collect();
        cells.entry(found).or_insert_with(|| (names(), AtomicU64::new(0))).1.fetch_add(n, Relaxed);
    }

    /// Label sets and counts, in order of the labels.
    pub fn read(&self) -> Vec<(Vec<String>, u64)> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = cells.values().map(|(labels, n)| (labels.clone(), n.load(Relaxed))).collect();
        all.sort();
        all
    }
}

/// Values that go up and down, with a bounded set of labels; further ones are left out.
#[derive(Default)]
pub struct Gauges {
    cells: RwLock<BTreeMap<Vec<String>, f64>>,
}

/// Label sets of gauges: those of features are many.
const MAX_GAUGES: usize = 2000;

impl Gauges {
    pub fn set(&self, labels: &[&str], value: f64) {
        let key: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        if cells.len() < MAX_GAUGES || cells.contains_key(&key) {
            cells.insert(key, value);
        }
    }

    /// Label sets and values, in order of the labels.
    pub fn read(&self) -> Vec<(Vec<String>, f64)> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.iter().map(|(labels, value)| (labels.clone(), *value)).collect()
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
    /// {model, version, cause}: what models did wrong, loads that failed among it
    pub model_faults: Family,
    /// {model, version}: answers that the champion gave because this version could not be loaded
    pub fallbacks: Family,
    /// {model, version}: times a version was asked for that was neither loaded nor being loaded
    pub model_misses: Family,
    /// {model, version}
    pub model_loads: Family,
    /// {model, version}
    pub model_evictions: Family,
    /// {model, state}: windows judged for drift
    pub drift_windows: Family,
    /// {feed, level}: findings of the watch over the feeds, by the level that holds
    pub feed_findings: Family,
    /// {alertname, state}: what was told
    pub alerts: Family,
    /// {model, feature, against}: stability index of the last window judged, beyond what is usual
    pub drift: Gauges,
    /// {model, measure}: quality of the last mature window
    pub quality: Gauges,
    /// {model}: share of the canary, 0 to 1
    pub rollout_share: Gauges,
    /// {model, criterion, towards}: log e-value over what it takes
    pub rollout_evidence: Gauges,
    /// {model, verdict}: rollouts that ended
    pub rollout_verdicts: Family,
    pub log_dropped: AtomicU64,
    pub cold_loads: AtomicU64,
}

impl Counters {
    pub fn dropped(&self) {
        self.log_dropped.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_bounded_and_nothing_is_lost() {
        let family = Family::default();
        for i in 0..2 * MAX_LABEL_SETS {
            family.add(&["m", &i.to_string()], 1);
            family.add(&["m", "0"], 1);
        }
        let all = family.read();
        assert!(all.len() <= MAX_LABEL_SETS + 1);
        assert_eq!(all.iter().map(|(_, n)| n).sum::<u64>(), 4 * MAX_LABEL_SETS as u64);
        assert!(all.contains(&(vec!["other".into(), "other".into()], MAX_LABEL_SETS as u64)));
    }
}
