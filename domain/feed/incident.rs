//! Incidents of feeds: findings that hold, from the window that showed the first to the window that shows none.

use super::FeedFinding;
use crate::drift::Level;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Windows without a finding that holds before an incident is over.
const QUIET: u32 = 2;
/// Incidents remembered.
const MAX_KEPT: usize = 200;

/// Something is wrong with a feed. While it is open, and for what falls into it, nothing should be learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataIncident {
    /// Event type.
    pub feed: String,
    /// Start of the first window that showed it.
    pub since: Timestamp,
    /// When it was sure.
    pub opened: Timestamp,
    /// End of the last window that showed it; `None` while it is open.
    pub until: Option<Timestamp>,
    /// The column that changed most: `dep_delay where carrier=UA`, or `volume`.
    pub column: String,
    /// One sentence.
    pub reason: String,
    /// Population stability index less its bias and what is usual; for volumes the share of what is usual.
    pub effect: f64,
    /// Findings so far.
    pub findings: u64,
}

impl DataIncident {
    pub fn is_open(&self) -> bool {
        self.until.is_none()
    }

    /// Whether it lies in [from, until), or partly so.
    pub fn overlaps(&self, from: Timestamp, until: Timestamp) -> bool {
        self.since < until && self.until.is_none_or(|end| end > from)
    }
}

/// The incidents of all feeds, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Incidents {
    all: Vec<DataIncident>,
    /// Of open ones: feed, windows without a finding, end of the last window that showed it.
    open: Vec<(String, u32, Timestamp)>,
}

impl Incidents {
    pub fn all(&self) -> &[DataIncident] {
        &self.all
    }

    /// Drops what names something that was erased.
    pub fn forget(&mut self, names: impl Fn(&str) -> bool) {
        for i in self.all.iter_mut().filter(|i| names(&i.column) || names(&i.reason)) {
            (i.column, i.reason) = ("(erased)".into(), "what was found named an entity that is erased".into());
        }
    }

    /// Takes the findings of one feed's window, which ends at `end`.
    pub fn on_window(&mut self, feed: &str, end: Timestamp, window: Span, found: &[FeedFinding]) {
        let held: Vec<&FeedFinding> = found.iter().filter(|f| f.level >= Level::Alert).collect();
        let shown = found.iter().any(|f| f.window_level >= Level::Alert && f.level >= Level::Alert);
        let at = self.open.iter().position(|(name, ..)| name == feed);
        let worst = held.iter().max_by(|a, b| a.weight().total_cmp(&b.weight()));
        match (at, worst) {
            (None, Some(worst)) => {
                let since = held.iter().map(|f| f.since).min().unwrap_or(end - window);
                self.all.push(DataIncident {
                    feed: feed.into(),
                    since,
                    opened: end,
                    until: None,
                    column: worst.column.clone(),
                    reason: worst.explanation.clone(),
                    effect: worst.effect,
                    findings: held.len() as u64,
                });
                self.open.push((feed.into(), 0, end));
                let over = self.all.len().saturating_sub(MAX_KEPT);
                let closed: Vec<usize> =
                    self.all.iter().enumerate().filter(|(_, i)| !i.is_open()).map(|(n, _)| n).take(over).collect();
                closed.into_iter().rev().for_each(|n| drop(self.all.remove(n)));
            }
            (Some(at), worst) => {
                let (_, quiet, last) = &mut self.open[at];
                let Some(incident) = self.all.iter_mut().rev().find(|i| i.feed == feed && i.is_open()) else { return };
                incident.findings += held.len() as u64;
                if shown {
                    (*quiet, *last) = (0, end);
                } else if worst.is_none() {
                    *quiet += 1;
                }
                if *quiet >= QUIET {
                    incident.until = Some(*last);
                    self.open.remove(at);
                }
            }
            (None, None) => {}
        }
    }
}
