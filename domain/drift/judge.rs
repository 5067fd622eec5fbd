//! From effects and p-values to levels.

use crate::project::DriftSpec;
use serde::{Deserialize, Serialize};

/// How much a feature drifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    #[default]
    None,
    /// Worth knowing; nobody is called.
    Notice,
    Warn,
    Alert,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Notice => "notice",
            Level::Warn => "warn",
            Level::Alert => "alert",
        }
    }

    /// Level of a significant effect, beyond what the reference differs from itself.
    pub fn of(excess: f64, spec: &DriftSpec) -> Level {
        match excess {
            e if e > spec.alert => Level::Alert,
            e if e > spec.warn => Level::Warn,
            e if e > spec.notice => Level::Notice,
            _ => Level::None,
        }
    }
}

/// Which of `p_values` are discoveries at false discovery rate `q` (Benjamini and Hochberg 1995): all up to the
/// largest rank k with p(k) <= q k / J. A value that is not there counts for J and is none.
pub fn significant(p_values: &[Option<f64>], q: f64) -> Vec<bool> {
    let mut sorted: Vec<f64> = p_values.iter().flatten().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let all = p_values.len() as f64;
    let limit = sorted.iter().enumerate().rev().find(|(i, p)| **p <= q * (*i as f64 + 1.0) / all).map(|(_, p)| *p);
    p_values.iter().map(|p| matches!((p, limit), (Some(p), Some(l)) if *p <= l)).collect()
}

/// The highest level that `needed` of `levels` reach.
pub fn persistent(levels: &[Level], needed: usize) -> Level {
    let reached = |l: Level| levels.iter().filter(|x| **x >= l).count() >= needed.max(1);
    [Level::Alert, Level::Warn, Level::Notice].into_iter().find(|l| reached(*l)).unwrap_or_default()
}
