//! How many rows a slow model is given at once: what waits, if a row in a batch costs less than a row alone; and when
//! a model is too slow to run where requests are answered.

use std::time::Duration;

/// Share of a new measurement in the mean.
const NEW: f64 = 0.2;
/// A batch must save at least a tenth of a row's time, or it only makes the first caller wait for the last.
const WORTH: f64 = 0.9;
/// Calls between two looks whether batches pay by now.
const LOOK_EVERY: u32 = 256;
/// Calls in a row that were too slow before a model moves: one alone may have been the machine's doing.
const SLOW_IN_A_ROW: u32 = 8;

/// What one version's calls cost.
#[derive(Clone, Debug, Default)]
pub struct BatchCost {
    alone_s: Option<f64>,
    together_s: Option<f64>,
    calls: u32,
}

impl BatchCost {
    /// Rows of the next call when `waiting` rows wait; at least one, at most `most`.
    pub fn size(&self, waiting: usize, most: usize) -> usize {
        let all = waiting.min(most).max(1);
        let pays = match (self.alone_s, self.together_s) {
            (Some(alone), Some(together)) => together <= alone * WORTH,
            _ => true,
        };
        if pays || self.calls.is_multiple_of(LOOK_EVERY) { all } else { 1 }
    }

    pub fn on_call(&mut self, rows: usize, took: Duration) {
        self.calls = self.calls.wrapping_add(1);
        let per_row = took.as_secs_f64() / rows.max(1) as f64;
        let mean = if rows <= 1 { &mut self.alone_s } else { &mut self.together_s };
        *mean = Some(mean.map_or(per_row, |m| m + NEW * (per_row - m)));
    }
}

/// Whether a model may go on running where requests are answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    slow: u32,
}

impl Pace {
    /// True when it has to move.
    pub fn on_call(&mut self, rows: usize, took: Duration, bound: Duration) -> bool {
        let within = took <= bound * u32::try_from(rows.max(1)).unwrap_or(u32::MAX);
        self.slow = if within { 0 } else { self.slow + 1 };
        self.slow >= SLOW_IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn batches_are_made_where_they_pay() {
        let mut paying = BatchCost::default();
        assert_eq!(paying.size(0, 64), 1);
        assert_eq!(paying.size(500, 64), 64, "nothing is known yet: try");
        paying.on_call(1, 5 * MS);
        paying.on_call(64, 20 * MS);
        assert_eq!(paying.size(40, 64), 40);
        let mut linear = BatchCost::default();
        linear.on_call(1, 5 * MS);
        linear.on_call(10, 50 * MS);
        assert_eq!(linear.size(40, 64), 1);
        // Now and then it is tried again.
        let tried = (0..2 * LOOK_EVERY).filter(|_| {
            let size = linear.size(40, 64);
            linear.on_call(size, 5 * MS * size as u32);
            size == 40
        });
        assert_eq!(tried.count(), 2);
    }

    #[test]
    fn one_slow_call_is_the_machines_doing_eight_are_the_models() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!((0..7).all(|_| !pace.on_call(1, 2 * MS, MS)));
            assert!(!pace.on_call(4, 3 * MS, MS), "a call within the bound for its rows");
        }
        assert!((0..7).all(|_| !pace.on_call(1, 2 * MS, MS)) && pace.on_call(1, 2 * MS, MS));
        assert!(!Pace::default().on_call(1, Duration::MAX, Duration::MAX));
    }
}
