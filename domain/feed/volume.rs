//! How many events came.

/// A slice that usually has fewer is not judged: its counts are noise.
const LEAST: u32 = 20;
/// Share of the least of the usual windows below which a feed is failing.
const LOW: f64 = 0.65;
/// Times the most of the usual windows above which it is doubled.
const HIGH: f64 = 1.4;
/// Most times the least that is still a usual volume.
const STEADY: f64 = 3.0;
/// Standard deviations of a count (its root) that a change must be besides.
const CHANCE: f64 = 4.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub now: u32,
    pub least: u32,
    pub most: u32,
    /// Of the nearer bound.
    pub of_usual: f64,
}

impl Change {
    pub fn sentence(&self, alike: bool) -> String {
        let which = if alike { "the same weekdays" } else { "the windows before" };
        format!("{} events, {} to {} in each of {which}", self.now, self.least, self.most)
    }

    /// Nothing came where there was always something: no second window is needed to be sure.
    pub fn is_silence(&self) -> bool {
        self.now == 0 && self.least >= LEAST
    }
}

/// Whether the number of events lies far outside of what each of the windows before had.
pub(super) fn change(now: u32, before: impl Iterator<Item = u32> + Clone) -> Option<Change> {
    let (least, most) = (before.clone().min()?, before.max()?);
    let (n, low, high) = (f64::from(now), f64::from(least), f64::from(most));
    let fewer = least >= LEAST && n < LOW * low && low - n > CHANCE * low.sqrt();
    // A feed whose volume is anything has no most.
    let steady = high <= STEADY * low;
    let more = steady && most >= LEAST && n > HIGH * high && n - high > CHANCE * high.sqrt();
    (fewer || more).then_some(Change { now, least, most, of_usual: n / if fewer { low } else { high } })
}
