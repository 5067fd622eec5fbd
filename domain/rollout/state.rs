//! Where a rollout stands.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The challenger is being loaded.
    Loading,
    /// It answers its golden requests.
    Warming,
    /// It answers copies of requests.
    Shadow,
    /// It serves the share of this stage; the first is 0.
    Stage(u32),
    /// It serves everything; the champion stands by.
    Holding,
    Promoted,
    RolledBack,
    /// Time is over without a verdict.
    Inconclusive,
    Incident,
}

impl State {
    /// Nothing more happens without a person.
    pub fn ended(self) -> bool {
        matches!(self, State::Promoted | State::RolledBack | State::Inconclusive | State::Incident)
    }

    /// The challenger answers requests.
    pub fn serving(self) -> bool {
        matches!(self, State::Stage(_) | State::Holding)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Loading => f.write_str("loading"),
            State::Warming => f.write_str("warming"),
            State::Shadow => f.write_str("shadow"),
            State::Stage(i) => write!(f, "stage {}", i + 1),
            State::Holding => f.write_str("holding"),
            State::Promoted => f.write_str("promoted"),
            State::RolledBack => f.write_str("rolled back"),
            State::Inconclusive => f.write_str("inconclusive"),
            State::Incident => f.write_str("incident"),
        }
    }
}
