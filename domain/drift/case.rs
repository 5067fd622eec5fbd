//! One feature's drift, with what the windows themselves tell of where it comes from.

use super::judge::Level;
use super::report::{FeatureDrift, State};
use super::watch::Watch;
use crate::blame::{Changed, MixEffect};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// The newest window in which a feature was judged, the comparison that shows most, and since when it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftCase {
    pub version: String,
    /// With both histograms.
    pub drift: FeatureDrift,
    /// Start of the first of the windows without a gap that show it; of the window itself if nothing is shown.
    pub since: Timestamp,
    /// The window.
    pub start: Timestamp,
    pub end: Timestamp,
    pub window: Span,
    pub rows: u64,
    pub mix: Option<MixEffect>,
    /// When other versions began to answer.
    pub versions: Vec<Changed>,
}

impl Watch {
    /// Of the last window that starts before `until` and in which the feature was judged.
    pub fn case(&self, feature: &str, until: Option<Timestamp>) -> Option<DriftCase> {
        let report = self.report(None, until, Some(feature));
        let judged = |w: &&super::report::WindowDrift| w.state == State::Judged && !w.features.is_empty();
        let window = report.windows.iter().rev().find(judged)?;
        let worst = |a: &&FeatureDrift, b: &&FeatureDrift| {
            let excess = |f: &FeatureDrift| f.psi - f.floor;
            (a.level, a.window_level).cmp(&(b.level, b.window_level)).then(excess(a).total_cmp(&excess(b)))
        };
        let drift = window.features.iter().max_by(worst)?.clone();
        let shows = |f: &FeatureDrift| f.against == drift.against && f.window_level >= Level::Warn;
        let earlier = report.windows.iter().rev().filter(|w| w.version == window.version && w.start <= window.start);
        let since = earlier.take_while(|w| w.features.iter().any(shows)).last().map_or(window.start, |w| w.start);
        Some(DriftCase {
            version: window.version.clone(),
            since,
            start: window.start,
            end: window.end,
            window: window.end - window.start,
            rows: window.rows,
            mix: self.mix_effect(&window.version, feature, window.start),
            versions: self.first_windows(),
            drift,
        })
    }

    /// When each version was first seen, but for the first of all.
    fn first_windows(&self) -> Vec<Changed> {
        let mut all: Vec<(Timestamp, &str)> = self.firsts().collect();
        all.sort_unstable();
        let pairs = all.windows(2);
        pairs.map(|p| Changed { at: p[1].0, what: format!("{} -> {}", p[0].1, p[1].1), direct: true }).collect()
    }
}
