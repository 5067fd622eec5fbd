//! What a model did, window by window of event time, in constant memory.
//!
//! Windows are those of the request's event time, for outcomes too: a window is a cohort, and it is
//! mature once its outcomes had time to come. Counts do not depend on the order of the inputs.

mod latency;
mod report;
mod window;

pub use latency::{Latency, LatencySummary};
pub use report::{
    FeatureAge, FeatureNulls, Gap, MonitorReport, OutcomeCounts, Scores, TimingReport, Unseen, WindowReport,
};

use crate::join::Joined;
use crate::prediction::PredictionRecord;
use crate::project::MonitorSpec;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use window::Window;

/// The monitor of one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Monitor {
    model: String,
    window: Span,
    keep: usize,
    matures_after: Span,
    features: Vec<String>,
    windows: BTreeMap<Timestamp, Window>,
    /// Inputs older than the oldest window kept.
    too_old: u64,
}

impl Monitor {
    /// `features` are the names of the vector's values in signature order. `matures_after` is that of
    /// the model's `OutcomeSpec`; `None` for a model without outcomes, whose windows mature as they end.
    pub fn new(model: &str, spec: MonitorSpec, features: Vec<String>, matures_after: Option<Span>) -> Self {
        Monitor {
            model: model.into(),
            window: Span(spec.window.0.max(1)),
            keep: spec.keep.max(1),
            matures_after: matures_after.unwrap_or(Span::ZERO),
            features,
            windows: BTreeMap::new(),
            too_old: 0,
        }
    }

    /// Counts an answered request.
    pub fn on_served(&mut self, r: &PredictionRecord) {
        let features = self.features.len();
        if let Some(w) = self.at(r.time) {
            w.served(r, features);
        }
    }

    /// Counts a request that got an error; `code` is the stable code of the answer.
    pub fn on_error(&mut self, time: Timestamp, code: &str) {
        if let Some(w) = self.at(time) {
            w.error(code);
        }
    }

    /// Counts an outcome in the window of its request.
    pub fn on_joined(&mut self, j: &Joined) {
        if let Some(w) = self.at(j.time) {
            w.joined(&j.version, j.score, j.change);
        }
    }

    /// Counts a prediction whose outcome never came; `time` is the request's.
    pub fn on_expired(&mut self, time: Timestamp) {
        if let Some(w) = self.at(time) {
            w.outcomes.expired += 1;
        }
    }

    /// Windows that start in [from, until), oldest first, and their total; `None` is no bound. `now`
    /// decides which are mature; the total is mature if all of its windows are.
    pub fn report(&self, from: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> MonitorReport {
        let mature = |start: Timestamp| start + self.window + self.matures_after <= now;
        let (mut windows, mut total, mut span) = (Vec::new(), Window::default(), Span::ZERO);
        for (start, w) in &self.windows {
            if from.is_some_and(|f| *start < f) || until.is_some_and(|u| *start >= u) {
                continue;
            }
            windows.push(w.report(*start, *start + self.window, self.window, mature(*start), &self.features));
            total.merge(w);
            span = Span(span.0.saturating_add(self.window.0));
        }
        let first = windows.first().map_or(from.unwrap_or_default(), |w| w.start);
        let last = windows.last().map_or(first, |w| w.end);
        let all_mature = windows.iter().all(|w| w.mature);
        let total = total.report(first, last, span, all_mature, &self.features);
        MonitorReport { model: self.model.clone(), windows, total, too_old: self.too_old, gaps: Vec::new() }
    }

    /// The window of an instant; `None` if it is older than what is kept.
    fn at(&mut self, time: Timestamp) -> Option<&mut Window> {
        let start = time.floor(self.window);
        if !self.windows.contains_key(&start) && self.windows.len() >= self.keep {
            if self.windows.first_key_value().is_some_and(|(oldest, _)| start < *oldest) {
                self.too_old += 1;
                return None;
            }
            self.windows.pop_first();
        }
        Some(self.windows.entry(start).or_default())
    }
}

#[cfg(test)]
mod tests;
