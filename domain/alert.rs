//! Alerts: one for each cause, from the first word of it until it is over, told once and not a hundred times.
//!
//! Sources say that something is wrong (`Signal`) or over (`Resolved`); the book makes alerts of it and says who is to
//! be told. Times of causes are of the system's clock (event time while a recorded stream is the clock); silences
//! are promises to people and run by the wall clock.

mod book;
mod signals;

pub use book::{AlertBook, Entry, Event, Told};

use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Lines of detail that an alert keeps: the newest.
const MAX_DETAILS: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// For the next working day.
    #[default]
    Warning,
    /// A person is to look now.
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// A source's word that something is wrong. The same cause again is no new alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What it is about: `feed/weather_observed`, `drift/flight-delay`. One alert each.
    pub cause: String,
    /// Kind of alert, the same for all causes of one kind: `FeedIncident`.
    pub name: String,
    pub severity: Severity,
    /// What it can be silenced by, besides name and severity: feed, model.
    pub labels: BTreeMap<String, String>,
    /// What changed, in one sentence.
    pub summary: String,
    /// More of it, a line each.
    pub details: Vec<String>,
    /// Since when, by the clock of the cause.
    pub since: Timestamp,
    /// Page and heading that say what to do.
    pub runbook: String,
    /// How long it must be over before it counts as over.
    pub hold: Span,
    /// Over by itself if not said again within this; `None` waits for a word.
    pub lasts: Option<Span>,
    /// Causes of which this is a consequence: while one of them is open, it is told there.
    #[serde(default)]
    pub upstream: Vec<String>,
}

/// A source's word that something is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub cause: String,
    /// When, if the source knows better than the clock.
    pub at: Option<Timestamp>,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Stable from its first word to its end.
    pub id: String,
    #[serde(flatten)]
    pub signal: Signal,
    pub opened: Timestamp,
    /// The last word of it.
    pub updated: Timestamp,
    /// Words of it.
    pub count: u64,
    pub resolved: Option<Timestamp>,
    /// Over, if it stays so for as long as `hold`.
    #[serde(default)]
    pub clear_since: Option<Timestamp>,
    /// What follows from it and would be an alert of its own otherwise.
    #[serde(default)]
    pub consequences: Vec<String>,
    /// Told to somebody, as what.
    #[serde(default)]
    pub told: Option<Severity>,
}

impl Alert {
    pub fn is_open(&self) -> bool {
        self.resolved.is_none()
    }

    /// All that a silence may match.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut all = self.signal.labels.clone();
        all.insert("alertname".into(), self.signal.name.clone());
        all.insert("severity".into(), self.signal.severity.name().into());
        all
    }
}

/// Nobody is told of alerts that match, until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    /// Label and value, all of which must match; a value that ends with `*` matches what begins like it.
    pub matches: BTreeMap<String, String>,
    /// By the wall clock.
    pub created: Timestamp,
    pub until: Timestamp,
    /// Who, and why.
    pub by: String,
    pub comment: String,
}

impl Silence {
    pub fn matches(&self, alert: &Alert) -> bool {
        let labels = alert.labels();
        let fits = |(name, wanted): (&String, &String)| {
            labels.get(name).is_some_and(|value| match wanted.strip_suffix('*') {
                Some(start) => value.starts_with(start),
                None => value == wanted,
            })
        };
        !self.matches.is_empty() && self.matches.iter().all(fits)
    }
}

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The system's.
    pub clock: Timestamp,
    pub wall: Timestamp,
}
