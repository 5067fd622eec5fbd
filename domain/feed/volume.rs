//! How many events came.

/// A slice that usually has fewer is not judged: its counts are noise.
const LEAST: u32 = 20;
/// Share of the least of the usual windows below which a feed is failing.
const LOW: f64 = 0.5;
/// Times the most of the usual windows above which it is doubled.
const HIGH: f64 = 1.5;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub now: u32,
    pub least: u32,
    pub most: u32,
    /// Of the nearer bound.
    pub of_usual: f64,
}

impl Change {
    pub fn sentence(&self) -> String {
        format!("{} events, {} to {} in each of the windows before", self.now, self.least, self.most)
    }
}

/// Slices whose number of events lies far outside of what each of the windows before had.
pub(super) fn changes(now: &[u32], before: &[&Vec<u32>]) -> Vec<(usize, Change)> {
    now.iter()
        .enumerate()
        .filter_map(|(slice, now)| {
            let counts = || before.iter().filter_map(|w| w.get(slice).copied());
            let (least, most) = (counts().min()?, counts().max()?);
            let low = least >= LEAST && f64::from(*now) < LOW * f64::from(least);
            let high = most >= LEAST && f64::from(*now) > HIGH * f64::from(most);
            let of_usual = f64::from(*now) / f64::from(if low { least } else { most }.max(1));
            (low || high).then_some((slice, Change { now: *now, least, most, of_usual }))
        })
        .collect()
}
