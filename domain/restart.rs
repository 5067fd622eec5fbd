//! How often an actor may fail before the system stops pretending.

use crate::time::{Span, Timestamp};
use std::collections::VecDeque;

/// Restarts allowed within `PERIOD`; one more escalates.
pub const MAX_RESTARTS: usize = 5;
pub const PERIOD: Span = Span::seconds(60);

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    Restart,
    /// Not ready any more: a restart loop hides a fault that needs a person.
    Escalate,
}

/// The restart budget of one actor.
#[derive(Clone, Debug, Default)]
pub struct RestartBudget {
    recent: VecDeque<Timestamp>,
}

impl RestartBudget {
    pub fn on_failure(&mut self, now: Timestamp) -> AfterFailure {
        while self.recent.front().is_some_and(|t| now - *t > PERIOD) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() > MAX_RESTARTS { AfterFailure::Escalate } else { AfterFailure::Restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_failures_in_a_minute_escalate_and_slow_ones_do_not() {
        let mut fast = RestartBudget::default();
        let verdicts: Vec<_> = (0..6).map(|s| fast.on_failure(Timestamp(s * 1_000_000))).collect();
        assert_eq!(verdicts[..5], [AfterFailure::Restart; 5]);
        assert_eq!(verdicts[5], AfterFailure::Escalate);
        let mut slow = RestartBudget::default();
        assert!((0..100).all(|s| slow.on_failure(Timestamp(s * 13_000_000)) == AfterFailure::Restart));
    }
}
