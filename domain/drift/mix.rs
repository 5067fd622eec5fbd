//! Who asks: whether a change is one of the features themselves, or of the shares of the traffic's segments.
//!
//! Values are counted by segment too: the segments are the values of categories that are few. A change that is gone when
//! the windows before get the present shares (direct standardisation) is one of the mix. Counts are kept for the last
//! windows only: a little of what the marginal counts take.

use super::bins::Binning;
use super::compare::compare;
use super::reference::Reference;
use crate::blame::MixEffect;
use crate::time::Timestamp;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Categories whose values are segments: the first of the signature with few values.
const MAX_BY: usize = 2;
const MAX_SEGMENTS: usize = 24;
/// Windows kept: the present one and those before it.
const KEEP: usize = 9;
/// Segments with fewer rows before say nothing of how they were.
const LEAST: u32 = 30;

/// Counts of one window: by category, segment and column, each by bin; empty where nothing fell.
type Joint = Vec<Vec<Vec<Vec<u32>>>>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mix {
    windows: BTreeMap<Timestamp, Joint>,
}

/// Columns whose values cut the traffic.
fn cuts(reference: &Reference) -> impl Iterator<Item = usize> {
    let few = |(i, c): (usize, &super::reference::Column)| match &c.binning {
        Binning::Category { names } if names.len() > 1 && names.len() + 2 <= MAX_SEGMENTS => Some(i),
        _ => None,
    };
    reference.columns.iter().enumerate().filter_map(few).take(MAX_BY)
}

impl Mix {
    /// Counts a row, whose bins are given by column.
    pub fn count(&mut self, reference: &Reference, start: Timestamp, bins: &[Option<usize>]) {
        if !self.windows.contains_key(&start) {
            if self.windows.len() >= KEEP {
                if self.windows.first_key_value().is_some_and(|(oldest, _)| start < *oldest) {
                    return;
                }
                self.windows.pop_first();
            }
            let blank = cuts(reference).map(|by| {
                let segments = reference.columns[by].binning.bins();
                vec![vec![Vec::new(); reference.columns.len()]; segments]
            });
            self.windows.insert(start, blank.collect());
        }
        let Some(joint) = self.windows.get_mut(&start) else { return };
        for (by, segments) in cuts(reference).zip(joint) {
            let Some(columns) = bins.get(by).copied().flatten().and_then(|segment| segments.get_mut(segment)) else {
                continue;
            };
            for ((column, counts), bin) in reference.columns.iter().zip(columns).zip(bins) {
                let Some(bin) = bin else { continue };
                if counts.is_empty() {
                    *counts = vec![0; column.binning.bins()];
                }
                counts[*bin] += 1;
            }
        }
    }

    /// How much of a column's change in the window at `start`, against those before it, is one of the shares of
    /// segments: for the category that explains most. `None` without windows to compare.
    pub fn effect(&self, reference: &Reference, column: usize, start: Timestamp) -> Option<MixEffect> {
        let now = self.windows.get(&start)?;
        let before: Vec<&Joint> = self.windows.range(..start).map(|(_, joint)| joint).collect();
        let bins = reference.columns.get(column)?.binning.bins();
        let of = |at: usize, by: usize| {
            // A category is no explanation of itself.
            (by != column).then(|| effect(&reference.columns[column].binning, &now[at], &before, at, column, bins))
        };
        let all = cuts(reference).enumerate().filter_map(|(at, by)| {
            let (was, is) = of(at, by)??;
            Some(MixEffect { by: reference.columns[by].name.clone(), before: was, after: is })
        });
        all.min_by(|a, b| a.after.total_cmp(&b.after))
    }
}

/// The index against the windows before as they were, and with the present shares of the segments.
fn effect(
    binning: &Binning,
    now: &[Vec<Vec<u32>>],
    before: &[&Joint],
    at: usize,
    column: usize,
    bins: usize,
) -> Option<(f64, f64)> {
    let add = |sum: &mut Vec<u32>, counts: &[u32]| sum.iter_mut().zip(counts).for_each(|(a, b)| *a += b);
    let (mut window, mut was, mut reweighted) = (vec![0; bins], vec![0; bins], vec![0.0; bins]);
    for (segment, columns) in now.iter().enumerate() {
        let mut then = vec![0; bins];
        before.iter().for_each(|joint| add(&mut then, &joint[at][segment][column]));
        let rows: u32 = columns[column].iter().sum();
        let had: u32 = then.iter().sum();
        add(&mut window, &columns[column]);
        add(&mut was, &then);
        if had >= LEAST {
            let scale = f64::from(rows) / f64::from(had);
            reweighted.iter_mut().zip(&then).for_each(|(r, n)| *r += f64::from(*n) * scale);
        } else {
            // Who was not there before is counted as he is: nothing is known of how he was.
            reweighted.iter_mut().zip(&columns[column]).for_each(|(r, n)| *r += f64::from(*n));
        }
    }
    let total: u32 = was.iter().sum();
    let rows: f64 = reweighted.iter().sum();
    // As many rows as there were, so that both comparisons have the same noise.
    let standardised: Vec<u32> =
        reweighted.iter().map(|r| (r * f64::from(total) / rows.max(1e-9)).round() as u32).collect();
    let before = compare(binning, &was, &window)?.effect;
    let after = compare(binning, &standardised, &window)?.effect;
    Some((before, after.max(0.0)))
}

/// Bins of a row by column; a column without a value in the row has none.
pub(super) fn binned(reference: &Reference, vector: &[Value], score: Option<f64>) -> Vec<Option<usize>> {
    let bin = |(i, column): (usize, &super::reference::Column)| match vector.get(i) {
        Some(v) => Some(column.binning.of(v)),
        None if column.name == super::reference::SCORE => score.map(|s| column.binning.of_number(s)),
        None => None,
    };
    reference.columns.iter().enumerate().map(bin).collect()
}
