//! What the sources of alerts say, one constructor each: name, severity, labels and runbook are decided here.

use super::{Resolved, Severity, Signal};
use crate::drift::{Level, SCORE, WindowDrift};
use crate::feed::DataIncident;
use crate::time::{Span, Timestamp};
use std::collections::BTreeMap;

/// What comes and goes with every look must be over this long.
const HOLD: Span = Span::seconds(300);
/// What nobody says to be over is over after this.
const LASTS: Span = Span::days(1);

fn labels<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
    of.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn runbook(heading: &str) -> String {
    format!("docs/operations.md#{heading}")
}

impl Signal {
    /// An incident of a feed is open.
    pub fn feed(i: &DataIncident) -> Signal {
        Signal {
            cause: format!("feed/{}", i.feed),
            name: "FeedIncident".into(),
            severity: Severity::Critical,
            labels: labels([("feed", &i.feed)]),
            summary: i.reason.clone(),
            details: vec![format!("{}: {} findings since {}", i.column, i.findings, i.since)],
            since: i.since,
            runbook: runbook("a-feed-is-wrong"),
            hold: Span::ZERO,
            lasts: None,
            upstream: Vec::new(),
        }
    }

    /// What a model sees or says has drifted and holds. `feeds` are the event types that each feature is made of.
    pub fn drift(model: &str, judged: &WindowDrift, feeds: &BTreeMap<String, Vec<String>>) -> Option<Signal> {
        let drifted: Vec<_> = judged.features.iter().filter(|f| f.level >= Level::Alert).collect();
        let worst = drifted.first()?;
        let mut details =
            vec![format!("`understudy explain drift {model}/{}` tells where it comes from", worst.feature)];
        details.extend(drifted.iter().map(|f| f.explanation.clone()));
        // The score is made of all that the features are made of.
        let made_of = |name: &str| drifted.iter().any(|f| f.feature == SCORE || f.feature == name);
        let read = feeds.iter().filter(|(name, _)| made_of(name)).flat_map(|(_, events)| events);
        let mut upstream: Vec<String> = read.map(|event| format!("feed/{event}")).collect();
        upstream.sort_unstable();
        upstream.dedup();
        Some(Signal {
            cause: format!("drift/{model}"),
            name: "ModelDrift".into(),
            severity: Severity::Warning,
            labels: labels([("model", model), ("version", &judged.version)]),
            summary: match drifted.len() {
                1 => format!("{model}: {}", worst.explanation),
                n => format!("{model}: {n} features drifted, most of all {}", worst.explanation),
            },
            details,
            since: judged.start,
            runbook: runbook("a-model-drifts"),
            hold: Span::ZERO,
            lasts: None,
            upstream,
        })
    }

    /// A rollout was stopped: `what` is `incident` or `rolled back`.
    pub fn rollout(model: &str, rollout: &str, what: &str, reason: &str, at: Timestamp) -> Signal {
        Signal {
            cause: format!("rollout/{model}"),
            name: "RolloutStopped".into(),
            severity: if what == "incident" { Severity::Critical } else { Severity::Warning },
            labels: labels([("model", model)]),
            summary: format!("the rollout {rollout} of {model} ended: {what}"),
            details: vec![reason.to_owned()],
            since: at,
            runbook: runbook("a-rollout-stopped"),
            hold: Span::ZERO,
            lasts: Some(LASTS),
            upstream: Vec::new(),
        }
    }

    /// A word of the retraining loop that a person should hear.
    pub fn retraining(model: &str, text: &str, at: Timestamp) -> Signal {
        Signal {
            cause: format!("retraining/{model}"),
            name: "RetrainingNeedsAPerson".into(),
            severity: Severity::Warning,
            labels: labels([("model", model)]),
            summary: format!("retraining of {model}: {text}"),
            details: Vec::new(),
            since: at,
            runbook: runbook("retraining-does-not-help"),
            hold: Span::ZERO,
            lasts: Some(LASTS),
            upstream: Vec::new(),
        }
    }

    /// The logs take no records.
    pub fn storage(why: &str, at: Timestamp) -> Signal {
        Signal {
            cause: "storage".into(),
            name: "LogClosed".into(),
            severity: Severity::Critical,
            labels: BTreeMap::new(),
            summary: format!("the logs take no records: {why}"),
            details: Vec::new(),
            since: at,
            runbook: runbook("when-the-disk-fails"),
            hold: HOLD,
            lasts: None,
            upstream: Vec::new(),
        }
    }

    /// Work is given up for want of memory.
    pub fn memory(level: &str, used: u64, cap: u64, at: Timestamp) -> Signal {
        Signal {
            cause: "memory".into(),
            name: "MemoryShort".into(),
            severity: if level == "refuse_work" { Severity::Critical } else { Severity::Warning },
            labels: labels([("level", level)]),
            summary: format!("memory is short: {level}"),
            details: vec![format!("{} of {} MiB in use", used >> 20, cap >> 20)],
            since: at,
            runbook: runbook("memory"),
            hold: HOLD,
            lasts: None,
            upstream: Vec::new(),
        }
    }

    /// Fired by a person, to see that it arrives.
    pub fn test(by: &str, at: Timestamp) -> Signal {
        Signal {
            cause: "test".into(),
            name: "Test".into(),
            severity: Severity::Info,
            labels: BTreeMap::new(),
            summary: format!("a test, fired by {by}; nothing is wrong"),
            details: Vec::new(),
            since: at,
            runbook: runbook("alerts"),
            hold: Span::ZERO,
            lasts: None,
            upstream: Vec::new(),
        }
    }

    /// More is wrong at once than can be told one by one.
    pub(super) fn overflow(one: &Signal, open: usize) -> Signal {
        Signal {
            cause: "overflow".into(),
            name: "TooManyAlerts".into(),
            severity: Severity::Critical,
            labels: BTreeMap::new(),
            summary: format!("{open} alerts are open, and more: {}", one.summary),
            details: Vec::new(),
            runbook: runbook("alerts"),
            hold: HOLD,
            lasts: Some(LASTS),
            upstream: Vec::new(),
            since: one.since,
        }
    }
}

impl Resolved {
    pub fn feed(feed: &str, at: Option<Timestamp>) -> Resolved {
        Resolved { cause: format!("feed/{feed}"), at }
    }

    pub fn drift(model: &str, at: Timestamp) -> Resolved {
        Resolved { cause: format!("drift/{model}"), at: Some(at) }
    }

    /// A new rollout of the model runs, or one was promoted.
    pub fn rollout(model: &str) -> Resolved {
        Resolved { cause: format!("rollout/{model}"), at: None }
    }

    pub fn retraining(model: &str) -> Resolved {
        Resolved { cause: format!("retraining/{model}"), at: None }
    }

    pub fn storage() -> Resolved {
        Resolved { cause: "storage".into(), at: None }
    }

    pub fn memory() -> Resolved {
        Resolved { cause: "memory".into(), at: None }
    }

    pub fn test() -> Resolved {
        Resolved { cause: "test".into(), at: None }
    }
}
