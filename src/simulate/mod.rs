//! Deterministic simulation: the real actors on one thread, with a paused clock, a disk that fails and callers that
//! misbehave, all out of one seed. The same seed is the same run, to the last line of its trace.

mod check;
mod clock;
#[cfg(test)]
mod cost_tests;
mod dice;
mod disk;
pub mod drift;
mod faults;
mod ledger;
#[cfg(test)]
mod matrix;
pub mod meter;
mod naive;
pub mod parsers;
#[cfg(test)]
mod pool_tests;
mod project;
pub mod rollout;
mod run;
#[cfg(test)]
mod tests;
mod trace;
mod traffic;
pub mod watching;

pub use run::{Failure, Run};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use understudy_actors::fault::POINTS;

/// Runs one seed on a thread of its own, so that nothing of a run before it is left.
pub fn seed(seed: u64) -> Run {
    let thread = std::thread::Builder::new().name(format!("seed-{seed}"));
    let running = thread.spawn(move || run::run(seed)).expect("a thread");
    running.join().unwrap_or_else(|panic| Run {
        seed,
        steps: 0,
        hash: 0,
        failure: Some(Failure {
            step: 0,
            reason: format!("the run itself panicked: {:?}", panic.downcast_ref::<String>()),
            trace: Vec::new(),
        }),
        fired: BTreeMap::new(),
        calls: BTreeMap::new(),
    })
}

/// Runs `n` seeds from `first` on, on as many threads as there are cores; `done` is told of each.
pub fn seeds(first: u64, n: u64, done: &(dyn Fn(&Run) + Sync)) -> Vec<Run> {
    let (next, runs) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    if i >= n {
                        return;
                    }
                    let run = seed(first + i);
                    done(&run);
                    runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                }
            });
        }
    });
    let mut runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
    runs.sort_by_key(|r| r.seed);
    runs
}

/// Every fault that a run may meet, by name. Threads of models are real ones and have tests of their own.
pub fn inventory() -> Vec<&'static str> {
    let mut all = [POINTS, disk::FAULTS, run::OTHER_FAULTS].concat();
    all.retain(|name| !name.starts_with("model_thread."));
    all
}
