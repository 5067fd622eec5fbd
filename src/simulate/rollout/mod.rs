//! Rollouts of a challenger whose faults we chose, decided by the real machine of `domain` or by the naive rule.
//!
//! Requests are independent and counted per tick, or come from entities with habits and are counted one by one.

mod chance;
mod counts;
mod naive;
mod ours;
#[cfg(test)]
mod tests;
mod visits;
mod world;

pub use ours::settings;
pub use world::{Fault, World};

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use understudy_domain::rollout::{RolloutSettings, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Ours,
    Naive,
}

/// What came of many runs; shares of all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub runs: u64,
    pub rolled_back: f64,
    pub promoted: f64,
    pub inconclusive: f64,
    pub incident: f64,
    pub median_minutes_to_rollback: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_minutes_to_incident: Option<f64>,
    /// Errors and latency certified (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub technical: Option<f64>,
    /// By criterion (ours).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certified: BTreeMap<String, Certified>,
    /// By criterion, and `any` (naive).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub violated: BTreeMap<String, Violated>,
}

/// When a criterion was certified.
#[derive(Clone, Debug, Serialize)]
pub struct Certified {
    /// Of all runs.
    pub share: f64,
    /// Canary answers until then; of all runs, so `None` if fewer got so far.
    pub median_canary: Option<u64>,
    pub p90_canary: Option<u64>,
}

/// How often the naive rule saw a criterion violated.
#[derive(Clone, Debug, Serialize)]
pub struct Violated {
    pub at_any_look: f64,
    pub at_the_last_look: f64,
}

/// Runs seeds `seed .. seed + runs` on all cores; `done` is told how many are finished.
pub fn run(
    w: &World,
    s: &RolloutSettings,
    rule: Rule,
    (seed, runs): (u64, u64),
    done: &(dyn Fn(u64) + Sync),
) -> Summary {
    match rule {
        Rule::Ours => ours_summary(s, &parallel(seed, runs, done, &|seed| ours::run(w, s, seed))),
        Rule::Naive => naive_summary(&parallel(seed, runs, done, &|seed| naive::run(w, seed))),
    }
}

/// The results in order of the seeds.
fn parallel<R: Send>(first: u64, n: u64, done: &(dyn Fn(u64) + Sync), run: &(dyn Fn(u64) -> R + Sync)) -> Vec<R> {
    let (next, ends) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    if i >= n {
                        return;
                    }
                    let end = run(first + i);
                    let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                    ends.push((i, end));
                    done(ends.len() as u64);
                }
            });
        }
    });
    let mut ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    ends.sort_by_key(|(i, _)| *i);
    ends.into_iter().map(|(_, end)| end).collect()
}

fn ours_summary(s: &RolloutSettings, ends: &[ours::End]) -> Summary {
    let n = ends.len() as f64;
    let minutes = |state| ends.iter().filter(|e| e.state == state).map(|e| e.minutes).collect::<Vec<_>>();
    let share = |state| minutes(state).len() as f64 / n;
    let (rolled_back, promoted, incident) = (share(State::RolledBack), share(State::Promoted), share(State::Incident));
    let names = ["errors".to_owned(), "latency".to_owned()];
    let names = names.into_iter().chain(s.outcomes.iter().map(|o| o.name.clone()));
    let certified = names.enumerate().map(|(i, name)| {
        let mut at: Vec<u64> = ends.iter().filter_map(|e| e.certified[i]).collect();
        at.sort_unstable();
        // Who was never certified comes last.
        let of = |level: f64| at.get((level * n) as usize).copied();
        (name, Certified { share: at.len() as f64 / n, median_canary: of(0.5), p90_canary: of(0.9) })
    });
    Summary {
        runs: ends.len() as u64,
        rolled_back,
        promoted,
        // Also those that wait for a person.
        inconclusive: (n - (rolled_back + promoted + incident) * n).round() / n,
        incident,
        median_minutes_to_rollback: median(minutes(State::RolledBack)),
        median_minutes_to_incident: median(minutes(State::Incident)),
        technical: Some(ends.iter().filter(|e| e.technical).count() as f64 / n),
        certified: certified.collect(),
        violated: BTreeMap::new(),
    }
}

fn naive_summary(ends: &[naive::Looks]) -> Summary {
    let n = ends.len() as f64;
    let share = |of: &dyn Fn(&naive::Looks) -> bool| ends.iter().filter(|e| of(e)).count() as f64 / n;
    let one = |i: usize| Violated { at_any_look: share(&|e| e.ever[i]), at_the_last_look: share(&|e| e.last[i]) };
    let any =
        Violated { at_any_look: share(&|e| e.first.is_some()), at_the_last_look: share(&|e| e.last.contains(&true)) };
    let rolled_back = any.at_any_look;
    let names = ["errors", "latency", "conversion"].into_iter().enumerate();
    let mut violated: BTreeMap<String, Violated> = names.map(|(i, name)| (name.to_owned(), one(i))).collect();
    violated.insert("any".into(), any);
    Summary {
        runs: ends.len() as u64,
        rolled_back,
        promoted: share(&|e| e.first.is_none()),
        inconclusive: 0.0,
        incident: 0.0,
        median_minutes_to_rollback: median(ends.iter().filter_map(|e| e.first.map(|m| m as f64)).collect()),
        median_minutes_to_incident: None,
        technical: None,
        certified: BTreeMap::new(),
        violated,
    }
}

fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}
