//! The book of alerts and silences: from words to alerts, and to what is told.

use super::{Alert, MAX_DETAILS, Now, Resolved, Signal, Silence};
use crate::fixed_hash;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Alerts that are open at once; further causes are one alert together.
const MAX_OPEN: usize = 200;
/// Alerts that are over and remembered.
const MAX_OVER: usize = 200;
const MAX_SILENCES: usize = 200;

/// What happens to the book.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Raised(Signal),
    Cleared(Resolved),
    /// A person says that it is over.
    Ended {
        id: String,
    },
    Silenced(Silence),
    Unsilenced {
        id: String,
    },
    /// Time has passed.
    Tick,
}

/// What must survive a restart, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Opened, or worse than before.
    Alert(Box<Alert>),
    Resolved {
        id: String,
        at: Timestamp,
    },
    Silence(Silence),
    Unsilence {
        id: String,
    },
}

/// Alerts of one name that somebody is to be told of together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub name: String,
    pub alerts: Vec<Alert>,
}

#[derive(Clone, Debug, Default)]
pub struct AlertBook {
    /// Open ones, by cause.
    open: BTreeMap<String, Alert>,
    /// Oldest first.
    over: Vec<Alert>,
    silences: Vec<Silence>,
}

impl AlertBook {
    /// The book as the journal tells it. Silences that are over stay out.
    pub fn read(entries: impl IntoIterator<Item = Entry>, now: Now) -> AlertBook {
        let mut book = AlertBook::default();
        for entry in entries {
            match entry {
                Entry::Alert(alert) => drop(book.open.insert(alert.signal.cause.clone(), *alert)),
                Entry::Resolved { id, at } => drop(book.end(&id, at)),
                Entry::Silence(s) => book.silences.push(s),
                Entry::Unsilence { id } => book.silences.retain(|s| s.id != id),
            }
        }
        book.silences.retain(|s| s.until > now.wall);
        book
    }

    /// Open alerts, those of the highest severity first, then by time.
    pub fn open(&self) -> Vec<&Alert> {
        let mut all: Vec<&Alert> = self.open.values().collect();
        all.sort_by_key(|a| (std::cmp::Reverse(a.signal.severity), a.opened));
        all
    }

    /// Alerts that are over, newest first.
    pub fn over(&self) -> impl Iterator<Item = &Alert> {
        self.over.iter().rev()
    }

    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// The silence that keeps an alert from being told.
    pub fn silenced(&self, alert: &Alert, now: Now) -> Option<&Silence> {
        self.silences.iter().find(|s| s.until > now.wall && s.matches(alert))
    }

    /// What changes, for the journal, and who is told.
    pub fn on(&mut self, event: Event, now: Now) -> (Vec<Entry>, Vec<Told>) {
        let mut entries = Vec::new();
        let mut told = Vec::new();
        match event {
            Event::Raised(signal) => {
                let (over, consequences) = self.fold(&signal, now.clock);
                told.extend(over.iter().filter_map(|a| self.last_word(a, now)));
                entries.extend(over.into_iter().map(|a| Entry::Resolved { id: a.id, at: now.clock }));
                if !self.follows(&signal, now.clock) {
                    let cause = signal.cause.clone();
                    entries.extend(self.raise(signal, now.clock));
                    if let Some(alert) = self.open.get_mut(&cause) {
                        consequences.into_iter().for_each(|c| note(&mut alert.consequences, c));
                    }
                }
            }
            Event::Cleared(r) => {
                if let Some(alert) = self.open.get_mut(&r.cause) {
                    alert.clear_since.get_or_insert(r.at.unwrap_or(now.clock).min(now.clock));
                }
            }
            Event::Ended { id } => {
                if let Some(alert) = self.end(&id, now.clock) {
                    entries.push(Entry::Resolved { id, at: now.clock });
                    told.extend(self.last_word(&alert, now));
                }
            }
            Event::Silenced(s) => {
                self.silences.retain(|known| known.id != s.id && known.until > now.wall);
                if self.silences.len() >= MAX_SILENCES {
                    self.silences.remove(0);
                }
                self.silences.push(s.clone());
                entries.push(Entry::Silence(s));
            }
            Event::Unsilenced { id } => {
                self.silences.retain(|s| s.id != id);
                entries.push(Entry::Unsilence { id });
            }
            Event::Tick => {}
        }
        self.silences.retain(|s| s.until > now.wall);
        for (id, at) in self.due(now.clock) {
            if let Some(alert) = self.end(&id, at) {
                entries.push(Entry::Resolved { id, at });
                told.extend(self.last_word(&alert, now));
            }
        }
        told.extend(self.first_words(now));
        (entries, grouped(told))
    }

    /// Ends open alerts that are consequences of this one, or this one if it is a consequence: one cause is one alert.
    fn fold(&mut self, signal: &Signal, now: Timestamp) -> (Vec<Alert>, Vec<String>) {
        let follows = |a: &&Alert| a.signal.upstream.contains(&signal.cause);
        let mut over: Vec<(String, String)> =
            self.open.values().filter(follows).map(|a| (a.id.clone(), a.signal.summary.clone())).collect();
        let consequences: Vec<String> = over.iter().map(|(_, summary)| summary.clone()).collect();
        if signal.upstream.iter().any(|cause| self.open.contains_key(cause)) {
            over.extend(self.open.get(&signal.cause).map(|a| (a.id.clone(), String::new())));
        }
        let ended = over.into_iter().filter_map(|(id, _)| self.end(&id, now)).collect();
        (ended, consequences)
    }

    /// Notes it with the open alert that it is a consequence of, if there is one.
    fn follows(&mut self, signal: &Signal, now: Timestamp) -> bool {
        let Some(cause) = signal.upstream.iter().find(|cause| self.open.contains_key(*cause)) else { return false };
        if let Some(alert) = self.open.get_mut(cause) {
            alert.updated = now;
            note(&mut alert.consequences, signal.summary.clone());
        }
        true
    }

    fn raise(&mut self, mut signal: Signal, now: Timestamp) -> Option<Entry> {
        if !self.open.contains_key(&signal.cause) && self.open.len() >= MAX_OPEN {
            signal = Signal::overflow(&signal, MAX_OPEN);
        }
        signal.details.truncate(MAX_DETAILS);
        if let Some(alert) = self.open.get_mut(&signal.cause) {
            alert.count += 1;
            (alert.updated, alert.clear_since) = (now, None);
            let worse = signal.severity > alert.signal.severity;
            let since = alert.signal.since.min(signal.since);
            // An alert does not get less severe while it is open: it would be told as something new.
            let severity = alert.signal.severity.max(signal.severity);
            alert.signal = Signal { since, severity, ..signal };
            return worse.then(|| Entry::Alert(Box::new(alert.clone())));
        }
        let hash = fixed_hash::of_parts([signal.cause.as_bytes(), &now.0.to_le_bytes()]);
        let alert = Alert {
            id: format!("{:016x}", hash as u64),
            signal,
            opened: now,
            updated: now,
            count: 1,
            resolved: None,
            clear_since: None,
            consequences: Vec::new(),
            told: None,
        };
        self.open.insert(alert.signal.cause.clone(), alert.clone());
        Some(Entry::Alert(Box::new(alert)))
    }

    fn end(&mut self, id: &str, at: Timestamp) -> Option<Alert> {
        let cause = self.open.iter().find(|(_, a)| a.id == id).map(|(cause, _)| cause.clone())?;
        let mut alert = self.open.remove(&cause)?;
        alert.resolved = Some(at);
        self.over.push(alert.clone());
        if self.over.len() > MAX_OVER {
            self.over.remove(0);
        }
        Some(alert)
    }

    /// Alerts whose time is over, and when it was.
    fn due(&self, now: Timestamp) -> Vec<(String, Timestamp)> {
        let over = |a: &Alert| {
            let cleared = a.clear_since.filter(|t| *t + a.signal.hold <= now);
            let expired = a.signal.lasts.map(|lasts| a.updated + lasts).filter(|t| *t <= now);
            cleared.or(expired).map(|at| (a.id.clone(), at.max(a.opened)))
        };
        self.open.values().filter_map(over).collect()
    }

    /// That it is over is told to whom it was told that it began.
    fn last_word(&self, alert: &Alert, now: Now) -> Option<Alert> {
        (alert.told.is_some() && self.silenced(alert, now).is_none()).then(|| alert.clone())
    }

    /// Alerts that nobody was told of yet, or that are worse than what was told; not the silenced ones.
    fn first_words(&mut self, now: Now) -> Vec<Alert> {
        let untold: Vec<String> = self
            .open
            .values()
            .filter(|a| a.told.is_none_or(|told| told < a.signal.severity) && self.silenced(a, now).is_none())
            .map(|a| a.signal.cause.clone())
            .collect();
        let mark = |cause: String| {
            let alert = self.open.get_mut(&cause)?;
            alert.told = Some(alert.signal.severity);
            Some(alert.clone())
        };
        untold.into_iter().filter_map(mark).collect()
    }

    /// Open alerts that were told longer ago than `every`, to be told again; the caller knows when they were.
    pub fn reminders(&self, due: impl Fn(&Alert) -> bool, now: Now) -> Vec<Told> {
        let again = |a: &&Alert| a.told.is_some() && due(a) && self.silenced(a, now).is_none();
        grouped(self.open.values().filter(again).cloned().collect())
    }

    /// How long a silence may last.
    pub const LONGEST_SILENCE: Span = Span::days(90);
}

/// The newest lines, each once.
fn note(lines: &mut Vec<String>, line: String) {
    lines.retain(|known| *known != line);
    lines.push(line);
    if lines.len() > MAX_DETAILS {
        lines.remove(0);
    }
}

/// One telling for each name.
fn grouped(alerts: Vec<Alert>) -> Vec<Told> {
    let mut groups: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
    for alert in alerts {
        groups.entry(alert.signal.name.clone()).or_default().push(alert);
    }
    groups.into_iter().map(|(name, alerts)| Told { name, alerts }).collect()
}
