//! Fitting a calibration to joined outcomes.

use super::{Calibration, logit, sigmoid};

const MAX_STEPS: usize = 100;

/// Fits `sigmoid(a * logit(p) + b)` by Newton's method on the cross entropy with smoothed targets
/// (n+ + 1) / (n+ + 2) and 1 / (n- + 2) (Platt 1999; the damped Newton of Lin, Lin and Weng 2007).
///
/// The slope is never negative: where high scores go with negative labels the scores carry no order
/// worth keeping, and the fit is the base rate. No rows give [`Calibration::None`].
pub fn fit_platt(scores: &[f64], labels: &[bool]) -> Calibration {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    if scores.is_empty() {
        return Calibration::None;
    }
    let x: Vec<f64> = scores.iter().map(|p| logit(*p)).collect();
    let positives = labels.iter().filter(|l| **l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let high = (positives + 1.0) / (positives + 2.0);
    let low = 1.0 / (negatives + 2.0);
    let t: Vec<f64> = labels.iter().map(|l| if *l { high } else { low }).collect();
    let base = logit(t.iter().sum::<f64>() / t.len() as f64);
    let (a, b) = newton(&x, &t, base);
    if a > 0.0 { Calibration::Platt { a, b } } else { Calibration::Platt { a: 0.0, b: base } }
}

fn newton(x: &[f64], t: &[f64], base: f64) -> (f64, f64) {
    let (mut a, mut b) = (0.0, base);
    let mut loss = cross_entropy(x, t, a, b);
    for _ in 0..MAX_STEPS {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-12, 0.0, 1e-12);
        for (x, t) in x.iter().zip(t) {
            let p = sigmoid(a * x + b);
            let w = p * (1.0 - p);
            ga += (p - t) * x;
            gb += p - t;
            haa += w * x * x;
            hab += w * x;
            hbb += w;
        }
        if ga.abs().max(gb.abs()) < 1e-9 * x.len() as f64 {
            break;
        }
        let det = haa * hbb - hab * hab;
        // All scores equal: the slope says nothing, so only the intercept moves.
        let (da, db) = if det > 1e-12 * haa * hbb {
            ((hab * gb - hbb * ga) / det, (hab * ga - haa * gb) / det)
        } else {
            (0.0, -gb / hbb)
        };
        let slope = ga * da + gb * db;
        let mut step = 1.0;
        let next = loop {
            let l = cross_entropy(x, t, a + step * da, b + step * db);
            if l <= loss + 1e-4 * step * slope {
                break Some(l);
            }
            step /= 2.0;
            if step < 1e-10 {
                break None;
            }
        };
        let Some(l) = next else { break };
        (a, b, loss) = (a + step * da, b + step * db, l);
    }
    (a, b)
}

/// Sum of -t ln p - (1 - t) ln(1 - p) at p = sigmoid(z), which is ln(1 + e^z) - t z.
fn cross_entropy(x: &[f64], t: &[f64], a: f64, b: f64) -> f64 {
    x.iter()
        .zip(t)
        .map(|(x, t)| {
            let z = a * x + b;
            z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z
        })
        .sum()
}

struct Block {
    first: f64,
    last: f64,
    n: f64,
    positives: f64,
}

impl Block {
    fn rate(&self) -> f64 {
        self.positives / self.n
    }
}

/// Fits a non-decreasing curve by pooling adjacent violators (Ayer et al. 1955; Zadrozny and Elkan
/// 2002): the curve has each block's rate between the block's first and last score and is linear
/// between blocks.
///
/// An end block of n rows that is purely one label gets 1/(2n) or 1 - 1/(2n), or its neighbour's
/// rate if that is nearer, so that log loss stays finite. No rows give [`Calibration::None`].
pub fn fit_isotonic(scores: &[f64], labels: &[bool]) -> Calibration {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    let mut rows: Vec<(f64, bool)> = scores.iter().map(|s| s.clamp(0.0, 1.0)).zip(labels.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut blocks: Vec<Block> = Vec::new();
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let positives = tie.iter().filter(|(_, l)| *l).count() as f64;
        blocks.push(Block { first: tie[0].0, last: tie[0].0, n: tie.len() as f64, positives });
        while let [.., a, b] = blocks.as_mut_slice()
            && a.positives * b.n >= b.positives * a.n
        {
            a.last = b.last;
            a.n += b.n;
            a.positives += b.positives;
            blocks.pop();
        }
    }
    let (Some(low), Some(high)) = (blocks.first(), blocks.last()) else { return Calibration::None };
    let second = blocks.get(1).map_or(1.0, Block::rate);
    let second_last = if blocks.len() > 1 { blocks[blocks.len() - 2].rate() } else { 0.0 };
    let floor = (0.5 / low.n).min(second);
    let ceiling = (1.0 - 0.5 / high.n).max(second_last);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for block in &blocks {
        let rate = block.rate().clamp(floor, ceiling);
        x.push(block.first);
        y.push(rate);
        if block.last > block.first {
            x.push(block.last);
            y.push(rate);
        }
    }
    Calibration::Isotonic { x, y }
}
