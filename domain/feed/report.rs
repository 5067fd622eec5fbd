//! What is told about the feeds: plain data.

use super::{DataIncident, FeedFinding, FeedWatch};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the watch over a feed stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedState {
    /// Too few events to know its columns, or too few windows to know what is usual.
    Learning,
    Quiet,
    Incident,
}

impl FeedState {
    pub fn name(self) -> &'static str {
        match self {
            FeedState::Learning => "learning",
            FeedState::Quiet => "quiet",
            FeedState::Incident => "incident",
        }
    }
}

/// One feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// Event type.
    pub feed: String,
    pub state: FeedState,
    /// Events taken since it is watched.
    pub events: u64,
    /// Newest time of one of its events, and when the last one was learnt.
    pub newest: Option<Timestamp>,
    pub learnt: Option<Timestamp>,
    pub columns: usize,
    pub windows: usize,
}

/// All feeds, with the newest findings and all incidents that are remembered, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedReport {
    /// Length of a window.
    pub window: Span,
    pub feeds: Vec<FeedStatus>,
    pub incidents: Vec<DataIncident>,
    pub findings: Vec<FeedFinding>,
}

impl FeedWatch {
    /// The feeds now; findings of windows that begin in [from, until), `None` is no bound.
    pub fn report(&self, from: Option<Timestamp>, until: Option<Timestamp>) -> FeedReport {
        let within = |f: &&FeedFinding| from.is_none_or(|t| f.start >= t) && until.is_none_or(|t| f.start < t);
        let shown =
            |i: &&DataIncident| from.is_none_or(|t| i.until.is_none_or(|u| u > t)) && until.is_none_or(|t| i.since < t);
        FeedReport {
            window: self.window(),
            feeds: self.statuses(),
            incidents: self.incidents().iter().filter(shown).cloned().collect(),
            findings: self.findings.iter().filter(within).cloned().collect(),
        }
    }

    pub fn statuses(&self) -> Vec<FeedStatus> {
        let open = |feed: &str| self.incidents().iter().any(|i| i.is_open() && i.feed == feed);
        let known = |t: Timestamp| (t != Timestamp::MIN).then_some(t);
        let status = |(feed, kind): (&String, &super::Kind)| FeedStatus {
            feed: feed.clone(),
            state: match open(feed) {
                true => FeedState::Incident,
                false if kind.columns.known() && kind.windows.len() > crate::drift::recent::MIN_RECENT => {
                    FeedState::Quiet
                }
                false => FeedState::Learning,
            },
            events: kind.events,
            newest: known(kind.newest),
            learnt: known(kind.learnt),
            columns: kind.columns.all().len(),
            windows: kind.windows.len(),
        };
        self.kinds.iter().map(status).collect()
    }

    /// Windows judged (`windows`), and findings by the level that holds; they only grow.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}
