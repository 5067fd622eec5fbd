//! Which loaded versions make room for another: the budget, who may go, in which order; and how long a load that
//! failed is not tried again.
//!
//! The order is least recently used, weighed by cost: of two versions that rest equally long, the one goes that holds
//! more bytes for each second its load took (after GreedyDual-Size, Cao and Irani 1997).

use std::time::Duration;

/// What may be loaded at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Versions.
    pub versions: usize,
    pub bytes: u64,
}

/// What is loaded, or will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub versions: usize,
    pub bytes: u64,
}

impl Load {
    pub fn plus(self, bytes: u64) -> Load {
        Load { versions: self.versions + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    pub fn fits(self, budget: Budget) -> bool {
        self.versions <= budget.versions && self.bytes <= budget.bytes
    }
}

/// Who needs a version, from nobody to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No route and no name leads to it.
    Idle,
    /// The only version that its model's route leads to, or one that a name leads to. Goes when nothing idle is left:
    /// where more models are asked than fit, they take turns.
    Routed,
    /// A rollout needs it: baseline, canary, and what a rollback returns to. Never goes.
    Held,
}

/// One loaded version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resident {
    pub standing: Standing,
    /// Since it was last asked.
    pub idle: Duration,
    pub bytes: u64,
    /// How long its load took.
    pub cost: Duration,
}

/// A load is never counted as cheaper than this.
const LEAST_COST: Duration = Duration::from_millis(1);
/// Of those that fail again and again: the longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Which of them goes first; `None` if none may.
pub fn victim(residents: &[Resident]) -> Option<usize> {
    let weight =
        |r: &Resident| (r.idle.as_secs_f64() + 1e-6) * r.bytes.max(1) as f64 / r.cost.max(LEAST_COST).as_secs_f64();
    let may_go = residents.iter().enumerate().filter(|(_, r)| r.standing < Standing::Held);
    may_go.min_by(|(_, a), (_, b)| a.standing.cmp(&b.standing).then(weight(b).total_cmp(&weight(a)))).map(|(i, _)| i)
}

/// How long a version is not read again after so many failed loads in a row. The first may be an accident of the
/// disk, and is tried again at once; a broken version must not be read at every request.
pub fn pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => (FIRST_PAUSE * 2u32.saturating_pow((n - 2).min(16))).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resident(standing: Standing, idle_s: u64, bytes: u64, cost_ms: u64) -> Resident {
        Resident { standing, idle: Duration::from_secs(idle_s), bytes, cost: Duration::from_millis(cost_ms) }
    }

    #[test]
    fn who_goes_first() {
        use Standing::*;
        let table: &[(&[Resident], Option<usize>)] = &[
            (&[], None),
            (&[resident(Held, 1000, 1000, 1)], None),
            (&[resident(Idle, 1, 10, 5), resident(Idle, 9, 10, 5)], Some(1)),
            (&[resident(Idle, 5, 10, 5), resident(Idle, 5, 90, 5)], Some(1)),
            (&[resident(Idle, 5, 10, 5), resident(Idle, 5, 10, 500)], Some(0)),
            (&[resident(Routed, 1000, 1000, 1), resident(Idle, 0, 1, 5000)], Some(1)),
            (&[resident(Held, 1000, 1000, 1), resident(Routed, 0, 1, 5000)], Some(1)),
        ];
        for (residents, expected) in table {
            assert_eq!(victim(residents), *expected, "{residents:?}");
        }
    }

    #[test]
    fn a_load_that_fails_again_waits_longer_each_time() {
        let pauses: Vec<u128> = (0..13).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    proptest! {
        #[test]
        fn what_is_held_never_goes(kinds in prop::collection::vec((0u8..3, 0u64..100, 1u64..100, 0u64..100), 0..12)) {
            let of = |k: u8| [Standing::Idle, Standing::Routed, Standing::Held][usize::from(k)];
            let all: Vec<_> = kinds.iter().map(|(k, i, b, c)| resident(of(*k), *i, *b, *c)).collect();
            match victim(&all) {
                Some(i) => {
                    prop_assert!(all[i].standing < Standing::Held);
                    prop_assert!(all.iter().all(|r| all[i].standing <= r.standing), "the least needed goes first");
                }
                None => prop_assert!(all.iter().all(|r| r.standing == Standing::Held)),
            }
        }

        #[test]
        fn a_budget_is_met_in_both_measures(versions in 0usize..9, bytes in 0u64..99, more in 0u64..99) {
            let budget = Budget { versions: 5, bytes: 50 };
            let next = Load { versions, bytes }.plus(more);
            prop_assert_eq!(next.fits(budget), versions < 5 && bytes + more <= 50);
        }
    }
}
