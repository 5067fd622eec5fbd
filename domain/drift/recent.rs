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
    let base = sum(before.iter().copied(), binning.bins());
    let own: Vec<f64> = before
        .iter()
        .filter_map(|w| {
            let rest: Vec<u32> = base.iter().zip(*w).map(|(a, b)| a - b).collect();
            compare(binning, &rest, w).map(|c| c.effect - c.noise)
        })
        .collect();
    let most = own.iter().copied().fold(0.0, f64::max);
    let floor = most.max(MARGIN * upper_decile(own));
    compare(binning, &base, window).map(|c| (c, floor))
}
