//! What is given up, step by step, as memory fills.

use serde::{Deserialize, Serialize};

/// A rung of the ladder; each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    #[default]
    Normal,
    /// No shadow copies.
    ShedShadow,
    /// No questions and no batch work.
    ShedReads,
    /// Fewer entities and no idle models in memory.
    ShrinkCaches,
    /// No new work at all.
    RefuseWork,
}

impl Rung {
    pub const ALL: [Rung; 5] = [Rung::Normal, Rung::ShedShadow, Rung::ShedReads, Rung::ShrinkCaches, Rung::RefuseWork];

    pub fn name(self) -> &'static str {
        match self {
            Rung::Normal => "normal",
            Rung::ShedShadow => "shed_shadow",
            Rung::ShedReads => "shed_reads",
            Rung::ShrinkCaches => "shrink_caches",
            Rung::RefuseWork => "refuse_work",
        }
    }

    /// Share of the cap, in percent, at which the rung is taken.
    pub fn percent(self) -> u64 {
        match self {
            Rung::Normal => 0,
            Rung::ShedShadow => 80,
            Rung::ShedReads => 85,
            Rung::ShrinkCaches => 90,
            Rung::RefuseWork => 97,
        }
    }

    /// Whether work of this class is refused on this rung.
    pub fn refuses(self, class: super::Class) -> bool {
        use super::Class::*;
        match class {
            Shadow => self >= Rung::ShedShadow,
            Read => self >= Rung::ShedReads,
            Ingest | Serve => self >= Rung::RefuseWork,
        }
    }

    pub fn from_index(i: u8) -> Rung {
        Rung::ALL.get(usize::from(i)).copied().unwrap_or(Rung::RefuseWork)
    }
}

/// A rung is left only this many percent of the cap below the point at which it was taken.
const HYSTERESIS: u64 = 3;

/// Up at once, down with hysteresis, so that the level does not flap.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryLadder {
    rung: Rung,
}

impl MemoryLadder {
    /// The rung for `used` of `cap` bytes; a cap of 0 is none.
    pub fn on_reading(&mut self, used: u64, cap: u64) -> Rung {
        let percent = (u128::from(used) * 100).checked_div(u128::from(cap)).unwrap_or(0);
        let percent = u64::try_from(percent).unwrap_or(u64::MAX);
        let taken = |less: u64| {
            let reached = |r: &&Rung| percent >= r.percent().saturating_sub(less);
            Rung::ALL.iter().rev().find(reached).copied().unwrap_or_default()
        };
        self.rung = if cap == 0 { Rung::Normal } else { taken(0).max(self.rung.min(taken(HYSTERESIS))) };
        self.rung
    }

    pub fn rung(&self) -> Rung {
        self.rung
    }
}
