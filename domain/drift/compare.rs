//! One feature, two samples: how far apart, and whether that could be chance.

use super::bins::{Binning, MISSING};
use super::special::chi_square_tail;
use serde::{Deserialize, Serialize};

/// Bins that are compared.
const BINS: f64 = 10.0;
/// Added to every count, so that an empty bin has a logarithm.
const SMOOTHING: f64 = 0.5;
/// Bins with fewer expected rows in the window are tested together: the chi-square approximation needs some.
const EXPECTED: f64 = 5.0;

/// A bin of both histograms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Its values in words.
    pub label: String,
    /// Shares of the rows, 0..1.
    pub reference: f64,
    pub window: f64,
}

/// How a window differs from what it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Population stability index: sum over bins of (p - q) ln(p / q).
    pub psi: f64,
    /// `psi` less its expectation without any drift, (B - 1)(1/n + 1/m); may be below 0.
    pub effect: f64,
    /// Three standard deviations of `psi` without any drift: it is (1/n + 1/m) times a chi-square.
    pub noise: f64,
    /// Two-sample chi-square test on the same bins.
    pub p_value: f64,
    pub bars: Vec<Bar>,
}

/// Compares counts of one binning. The bins compared are ten groups of fine bins with about equal shares of
/// `reference` (a value as frequent as that has its own), each of the top categories, all others, and missing.
/// `None` if either is empty.
pub fn compare(binning: &Binning, reference: &[u32], window: &[u32]) -> Option<Comparison> {
    let groups = groups(binning, reference);
    let (mut bars, mut counts) = (Vec::new(), Vec::new());
    let (m, n) = (total(reference), total(window));
    if m == 0.0 || n == 0.0 {
        return None;
    }
    for (first, last) in groups {
        let sum = |counts: &[u32]| counts[first..=last].iter().map(|c| f64::from(*c)).sum::<f64>();
        let (r, w) = (sum(reference), sum(window));
        if r + w > 0.0 {
            bars.push(Bar { label: binning.label(first, last), reference: r / m, window: w / n });
            counts.push((r, w));
        }
    }
    let b = counts.len() as f64;
    let psi: f64 = counts
        .iter()
        .map(|(r, w)| {
            let q = (r + SMOOTHING) / (m + SMOOTHING * b);
            let p = (w + SMOOTHING) / (n + SMOOTHING * b);
            (p - q) * (p / q).ln()
        })
        .sum();
    let scale = 1.0 / n + 1.0 / m;
    Some(Comparison {
        psi,
        effect: psi - (b - 1.0) * scale,
        noise: 3.0 * (2.0 * (b - 1.0)).sqrt() * scale,
        p_value: chi_square(&counts, m, n),
        bars,
    })
}

fn total(counts: &[u32]) -> f64 {
    counts.iter().map(|c| f64::from(*c)).sum()
}

/// Runs of fine bins, first and last, in order; missing is one.
fn groups(binning: &Binning, reference: &[u32]) -> Vec<(usize, usize)> {
    let mut out = vec![(MISSING, MISSING)];
    if matches!(binning, Binning::Category { .. }) {
        out.extend((1..reference.len()).map(|i| (i, i)));
        return out;
    }
    let present = total(&reference[1..]).max(1.0);
    let (mut before, mut current) = (0.0, None);
    for (i, count) in reference.iter().enumerate().skip(1) {
        let count = f64::from(*count);
        let group = (((before + count / 2.0) / present * BINS) as usize).min(BINS as usize - 1);
        match out.last_mut() {
            Some((_, last)) if current == Some(group) => *last = i,
            _ => out.push((i, i)),
        }
        current = Some(group);
        before += count;
    }
    out
}

/// p-value of sum (sqrt(m/n) w - sqrt(n/m) r)^2 / (r + w), chi-square with B - 1 degrees (Press et al. 14.3).
fn chi_square(counts: &[(f64, f64)], m: f64, n: f64) -> f64 {
    let expected = |(r, w): (f64, f64)| (r + w) * n / (n + m);
    let (mut cells, mut rare, mut pooled) = (Vec::new(), (0.0, 0.0), None);
    for (r, w) in counts {
        if expected((*r, *w)) >= EXPECTED {
            cells.push((*r, *w));
            continue;
        }
        // As many rare bins together as are enough: all of them as one would hide what moves among them.
        rare = (rare.0 + r, rare.1 + w);
        if expected(rare) >= EXPECTED {
            pooled = Some(cells.len());
            cells.push(std::mem::take(&mut rare));
        }
    }
    match pooled {
        Some(last) => cells[last] = (cells[last].0 + rare.0, cells[last].1 + rare.1),
        None if rare.0 + rare.1 > 0.0 => cells.push(rare),
        None => {}
    }
    let statistic: f64 = cells.iter().map(|(r, w)| ((m / n).sqrt() * w - (n / m).sqrt() * r).powi(2) / (r + w)).sum();
    chi_square_tail(statistic, cells.len() as f64 - 1.0)
}
