//! Parsers under seeded bytes: no panic, no hang, no allocation out of proportion to the input.
//!
//! Input `n` of a target follows from `seed + n` and the committed corpus alone, so a finding is replayed by its
//! number. The corpus is in `tests/corpus/`, one folder per target; what was found stays there as a file.

mod corpus;
mod mutate;
mod targets;
#[cfg(test)]
mod tests;

use super::dice::Dice;
use super::meter::{self, Allocated};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// An input takes no longer than this.
const SLOW: Duration = Duration::from_secs(1);
/// After so long it never ends: the process says which input it was, and ends.
const HUNG: Duration = Duration::from_secs(20);

/// What a campaign over one target showed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Campaign {
    pub target: &'static str,
    pub inputs: u64,
    /// Inputs that the parser took as valid.
    pub accepted: u64,
    pub panics: u64,
    pub hangs: u64,
    pub over_allocations: u64,
    pub slowest_us: u64,
    /// Largest amount held at once for one input, in bytes.
    pub peak_bytes: u64,
    /// The first findings.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// `--seed` that makes this input the first.
    pub seed: u64,
    pub what: String,
    /// Its first bytes, escaped.
    pub input: String,
}

pub fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|t| t.name).collect()
}

/// Runs the corpus itself and then `inputs` mutations of it.
pub fn campaign(name: &str, seed: u64, inputs: u64) -> Option<Campaign> {
    let target = TARGETS.iter().find(|t| t.name == name)?;
    let corpus = corpus::of(target.name);
    let mut done = Campaign {
        target: target.name,
        inputs: 0,
        accepted: 0,
        panics: 0,
        hangs: 0,
        over_allocations: 0,
        slowest_us: 0,
        peak_bytes: 0,
        findings: Vec::new(),
    };
    let watch = Watch::default();
    std::thread::scope(|scope| {
        scope.spawn(|| watch.run(target.name));
        // Once before anything counts: what is made once a process is not the input's.
        corpus.iter().for_each(|input| drop(catch_unwind(AssertUnwindSafe(|| (target.parse)(input)))));
        for input in corpus {
            done.one(target, input, seed, &watch);
        }
        for n in 0..inputs {
            let seed = seed.wrapping_add(n);
            let input = mutate::mutate(&mut Dice::new(seed, 9), corpus);
            done.one(target, &input, seed, &watch);
        }
        watch.over.store(true, Relaxed);
    });
    Some(done)
}

impl Campaign {
    fn one(&mut self, target: &Target, input: &[u8], seed: u64, watch: &Watch) {
        watch.seed.store(seed, Relaxed);
        watch.inputs.fetch_add(1, Relaxed);
        let started = Instant::now();
        let (parsed, allocated) = meter::measure(|| catch_unwind(AssertUnwindSafe(|| (target.parse)(input))));
        let mut took = started.elapsed();
        // A machine that was busy with something else is no finding: the shortest of three counts.
        for _ in 0..2 {
            if took > SLOW {
                let again = Instant::now();
                drop(catch_unwind(AssertUnwindSafe(|| (target.parse)(input))));
                took = took.min(again.elapsed());
            }
        }
        let Allocated { peak, .. } = allocated;
        self.inputs += 1;
        self.slowest_us = self.slowest_us.max(took.as_micros() as u64);
        self.peak_bytes = self.peak_bytes.max(peak);
        match parsed {
            Ok(true) => self.accepted += 1,
            Ok(false) => {}
            Err(_) => {
                self.panics += 1;
                self.found(seed, "panic".into(), input);
            }
        }
        if took > SLOW {
            self.hangs += 1;
            self.found(seed, format!("took {} ms", took.as_millis()), input);
        }
        if peak > target.bound.per_byte * input.len() as u64 + target.bound.free {
            self.over_allocations += 1;
            self.found(seed, format!("held {peak} bytes for {} of input", input.len()), input);
        }
    }

    fn found(&mut self, seed: u64, what: String, input: &[u8]) {
        if self.findings.len() < 10 {
            let input = input[..input.len().min(400)].escape_ascii().to_string();
            self.findings.push(Finding { seed, what, input });
        }
    }

    pub fn holds(&self) -> bool {
        self.panics + self.hangs + self.over_allocations == 0
    }
}

/// Sees an input that never ends.
#[derive(Default)]
struct Watch {
    seed: AtomicU64,
    inputs: AtomicU64,
    over: AtomicBool,
}

impl Watch {
    fn run(&self, target: &str) {
        let (mut seen, mut since) = (0, Instant::now());
        while !self.over.load(Relaxed) {
            std::thread::park_timeout(Duration::from_millis(20));
            let now = self.inputs.load(Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > HUNG {
                let seed = self.seed.load(Relaxed);
                eprintln!(
                    "error: {target} hangs: `understudy simulate parsers --target {target} --seed {seed} --inputs 1`"
                );
                std::process::exit(1);
            }
        }
    }
}
