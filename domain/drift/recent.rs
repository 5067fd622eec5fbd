//! A window against the windows before it: what changed at once stands out of what they differ among themselves.

use super::bins::Binning;
use super::compare::{Comparison, compare};
use super::reference::upper_decile;

/// Fewer windows than this are no "recent" to compare with.
pub(crate) const MIN_RECENT: usize = 7;
/// A change has to be this many times what a tenth of the recent windows differ from the rest of them.
const MARGIN: f64 = 1.5;

/// Adds counts of one binning up.
pub(crate) fn sum<'a>(columns: impl Iterator<Item = &'a Vec<u32>>, bins: usize) -> Vec<u32> {
    let mut out = vec![0; bins];
    columns.for_each(|c| out.iter_mut().zip(c).for_each(|(a, b)| *a += b));
    out
}

/// How `window` differs from all of `before`, and the most that one of those differs from the others, beyond chance.
pub(crate) fn against_recent(binning: &Binning, before: &[&Vec<u32>], window: &[u32]) -> Option<(Comparison, f64)> {
    against(binning, before, window).map(|(c, usual)| (c, usual.floor))
}

/// What windows differ among themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    /// The most of one from the others, beyond chance.
    pub floor: f64,
    /// Of the window in the middle.
    pub median: f64,
}

/// The same with more of what is usual.
pub(crate) fn against(binning: &Binning, before: &[&Vec<u32>], window: &[u32]) -> Option<(Comparison, Usual)> {
    let base = sum(before.iter().copied(), binning.bins());
    let mut own: Vec<f64> = before
        .iter()
        .filter_map(|w| {
            let rest: Vec<u32> = base.iter().zip(*w).map(|(a, b)| a - b).collect();
            compare(binning, &rest, w).map(|c| c.effect - c.noise)
        })
        .collect();
    own.sort_unstable_by(f64::total_cmp);
    let median = own.get(own.len() / 2).copied().unwrap_or(0.0);
    let most = own.last().copied().unwrap_or(0.0).max(0.0);
    let floor = most.max(MARGIN * upper_decile(own));
    compare(binning, &base, window).map(|c| (c, Usual { floor, median }))
}
