//! Which rows a challenger learns from and which judge it: train | gap of one maturity | the newest whole days.

use super::spec::RetrainingSpec;
use crate::time::{Span, Timestamp};
use std::ops::Range;

/// Ranges of rows in order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Range<usize>,
    /// Empty where nothing is judged.
    pub holdout: Range<usize>,
}

/// Splits rows with these times, oldest first. The holdout is the newest `holdout` of them and at least `holdout_rows`,
/// from the start of a day; what it judges was learnt from rows that had matured before it began.
pub fn split(spec: &RetrainingSpec, gate: bool, matures_after: Span, times: &[Timestamp]) -> Split {
    let n = times.len();
    let Some(newest) = times.last().filter(|_| gate) else {
        return Split { train: 0..n, holdout: n..n };
    };
    let by_rows = times[n.saturating_sub(spec.holdout_rows.max(1))];
    let from = (*newest - spec.holdout).min(by_rows).floor(super::ledger::DAY);
    let start = times.partition_point(|t| *t < from);
    let end = times.partition_point(|t| *t + matures_after <= from);
    Split { train: 0..end.min(start), holdout: start..n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(days: i64, rows: usize) -> RetrainingSpec {
        RetrainingSpec { holdout: Span::days(days), holdout_rows: rows, ..RetrainingSpec::default() }
    }

    #[test]
    fn whole_days_judge_and_a_gap_keeps_them_apart() {
        let times: Vec<Timestamp> = (0..20 * 24).map(|h| Timestamp(0) + Span::hours(h)).collect();
        let s = split(&spec(7, 10), true, Span::hours(30), &times);
        assert_eq!(s.holdout, 12 * 24..20 * 24);
        assert_eq!(s.train, 0..12 * 24 - 29);
        assert_eq!(split(&spec(7, 12 * 24), true, Span::hours(30), &times).holdout, 8 * 24..20 * 24);
        assert_eq!(split(&spec(7, 10), false, Span::hours(30), &times).train, 0..20 * 24);
        // One row, no day, no gap.
        let s = split(&spec(0, 0), true, Span::ZERO, &times[..1]);
        assert!(s.holdout.end == 1 && s.train.end <= s.holdout.start, "{s:?}");
    }

    proptest! {
        #[test]
        fn nothing_that_judges_was_known_while_learning(
            mut hours in prop::collection::vec(0i64..2000, 0..200), days in 0i64..30, rows in 0usize..300, gap in 0i64..100,
        ) {
            hours.sort_unstable();
            let times: Vec<Timestamp> = hours.iter().map(|h| Timestamp(0) + Span::hours(*h)).collect();
            let s = split(&spec(days, rows), true, Span::hours(gap), &times);
            prop_assert_eq!(s.holdout.end, times.len());
            prop_assert!(s.train.end <= s.holdout.start);
            if let (Some(first), false) = (times.get(s.holdout.start), s.train.is_empty()) {
                prop_assert!(times[s.train.end - 1] + Span::hours(gap) <= *first);
                prop_assert!(s.holdout.len() >= rows.min(times.len()));
            }
        }
    }
}
