//! What a night brings, on purpose: the real program killed under load, its power cut, its store damaged byte by
//! byte, and after each of them a check of everything that had been acknowledged.

mod campaign;
mod ledger;
mod load;

pub mod flip;
pub mod layer;
pub mod rollout;
pub mod server;
pub mod undo;

pub use campaign::{Campaign, Cut, run};
pub use server::Server;

use serde::Serialize;

/// What a campaign found. `lost`, `duplicated` and `wrong_served` must be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub runs: u64,
    /// Events, outcomes and durable predictions that were acknowledged.
    pub acknowledged: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub wrong_served: u64,
    /// Slowest start until ready, in milliseconds.
    pub recovery_ms_max: u64,
    pub events: u64,
    pub outcomes: u64,
    pub predictions: u64,
    /// Power cuts only: unsynced writes that were taken back.
    pub writes_taken_back: u64,
    /// Damage only: cases that were reported, and cases that changed nothing that is served.
    pub found: u64,
    pub harmless: u64,
    /// Damage only: records served over all cases that opened, and how many there would be without damage.
    pub served: u64,
    pub served_at_most: u64,
    pub seed: u64,
    /// The first few of what was lost, duplicated or wrong.
    pub examples: Vec<String>,
    /// What was counted already: one thing is told by several checks.
    #[serde(skip)]
    seen: std::collections::HashSet<String>,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.wrong_served == 0
    }

    /// Adds one to a count for a thing that was not counted before.
    fn add(&mut self, count: fn(&mut Findings) -> &mut u64, thing: &str, text: impl FnOnce() -> String) {
        if self.seen.insert(thing.to_owned()) {
            *count(self) += 1;
            if self.examples.len() < 20 {
                self.examples.push(text());
            }
        }
    }
    fn lost(&mut self, thing: &str, text: impl FnOnce() -> String) {
        self.add(|f| &mut f.lost, thing, text);
    }
    fn duplicated(&mut self, thing: &str, text: impl FnOnce() -> String) {
        self.add(|f| &mut f.duplicated, thing, text);
    }
    fn wrong(&mut self, thing: &str, text: impl FnOnce() -> String) {
        self.add(|f| &mut f.wrong_served, thing, text);
    }
}

/// Seeded choices: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }
}
