//! What may enter when not everything can: classes of work, the adaptive limit, the rungs of memory
//! pressure, token buckets. Pure: times and readings are arguments.

mod gradient;
mod memory;
mod rate;

pub use gradient::{Gradient, Window};
pub use memory::{MemoryLadder, Rung};
pub use rate::{Rate, take};

use serde::{Deserialize, Serialize};

/// Work in order of importance: under pressure the last goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Predictions: someone waits for them.
    Serve,
    /// Events and outcomes: they can be sent again.
    Ingest,
    /// Questions of people and batch work.
    Read,
    /// Copies of requests whose answers nobody sees.
    Shadow,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::Serve, Class::Ingest, Class::Read, Class::Shadow];

    pub fn name(self) -> &'static str {
        match self {
            Class::Serve => "serve",
            Class::Ingest => "ingest",
            Class::Read => "read",
            Class::Shadow => "shadow",
        }
    }

    /// How much of `limit` may be in use, by all classes together, for one more of this class to enter.
    /// The rest is kept free for more important classes. At least one may always enter an idle system.
    pub fn share(self, limit: u64) -> u64 {
        let share = match self {
            Class::Serve => limit,
            Class::Ingest => limit * 8 / 10,
            Class::Read => limit / 2,
            Class::Shadow => limit / 4,
        };
        share.max(1)
    }
}

/// Of the limit, the part that one model may hold while there are others: a slow model must not take all.
pub fn model_share(limit: u64, models: usize) -> u64 {
    if models > 1 { (limit * 3 / 4).max(1) } else { limit }
}

#[cfg(test)]
mod tests;
