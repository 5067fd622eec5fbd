//! How good probabilities are: AUC, log loss, Brier score and expected calibration error.

mod quality;
pub use quality::{Fixed, Quality, QualitySummary, ReliabilityBin};

/// Probabilities are kept this far from 0 and 1 before a logarithm is taken.
pub const CLIP: f64 = 1e-15;

/// Area under the ROC curve, exact: the Mann-Whitney statistic with average ranks for ties
/// (Hanley and McNeil 1982), which is P(score of a positive > score of a negative) + P(equal) / 2.
/// `None` unless both labels occur. `scores` and `labels` must be equally long.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    let positives = labels.iter().filter(|l| **l).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    // Twice the rank sum of the positives is a whole number, so nothing is rounded before the end.
    let mut twice_ranks: u128 = 0;
    for tie in order.chunk_by(|a, b| scores[*a] == scores[*b]).scan(0usize, |seen, tie| {
        let first = *seen;
        *seen += tie.len();
        Some((first, tie))
    }) {
        let (first, tie) = tie;
        let tied = tie.iter().filter(|i| labels[**i]).count() as u128;
        // Ranks first+1 ..= first+len, whose average is first + (len + 1) / 2.
        twice_ranks += tied * (2 * first + tie.len() + 1) as u128;
    }
    let (p, n) = (positives as u128, negatives as u128);
    Some((twice_ranks - p * (p + 1)) as f64 / (2.0 * p as f64 * n as f64))
}

/// Mean of -ln(probability given to what happened), with scores clipped to [1e-15, 1 - 1e-15]
/// (cross entropy; Good 1952). 0 for no scores.
pub fn log_loss(scores: &[f64], labels: &[bool]) -> f64 {
    mean(scores, labels, log_loss_of)
}

/// Mean squared difference between score and outcome (Brier 1950). 0 for no scores.
pub fn brier(scores: &[f64], labels: &[bool]) -> f64 {
    mean(scores, labels, brier_of)
}

/// Expected calibration error (Naeini et al. 2015): over `bins` equal-width bins of the score, the
/// share of the scores in the bin times |mean score - rate of positives|. 0 for no scores.
pub fn ece(scores: &[f64], labels: &[bool], bins: usize) -> f64 {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    let mut sums = vec![(0.0, 0u64); bins.max(1)];
    for (s, l) in scores.iter().zip(labels) {
        let bin = &mut sums[bin_of(*s, bins.max(1))];
        bin.0 += *s;
        bin.1 += u64::from(*l);
    }
    if scores.is_empty() {
        return 0.0;
    }
    // n_b / n * |sum / n_b - positives / n_b| is |sum - positives| / n.
    sums.iter().map(|(sum, positives)| (sum - *positives as f64).abs()).sum::<f64>() / scores.len() as f64
}

pub(crate) fn log_loss_of(score: f64, label: bool) -> f64 {
    let p = score.clamp(CLIP, 1.0 - CLIP);
    if label { -p.ln() } else { -(1.0 - p).ln() }
}

pub(crate) fn brier_of(score: f64, label: bool) -> f64 {
    let d = score - f64::from(u8::from(label));
    d * d
}

/// Bin of a score in [0, 1]; 1 falls in the last bin.
pub(crate) fn bin_of(score: f64, bins: usize) -> usize {
    ((score * bins as f64) as usize).min(bins - 1)
}

fn mean(scores: &[f64], labels: &[bool], f: impl Fn(f64, bool) -> f64) -> f64 {
    assert_eq!(scores.len(), labels.len(), "one label per score");
    if scores.is_empty() {
        return 0.0;
    }
    scores.iter().zip(labels).map(|(s, l)| f(*s, *l)).sum::<f64>() / scores.len() as f64
}

#[cfg(test)]
mod tests;
