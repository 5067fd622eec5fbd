//! The feeds under watch: event by event type, before any feature is made of it.
//!
//! Each type has columns: its properties, where its entities lie, how late it is learnt, what became of it at the door,
//! and its properties once more for each value of an entity key that has few (one carrier whose unit changes is lost in
//! the sum). A window is compared with the windows before it (`drift`), or with those of its weekday where days differ,
//! and its volume with theirs. A finding holds when two of three windows show it; what holds is an incident, and its
//! windows are no measure for later ones. Constant memory: bounds on types, columns, ids and windows.

mod cells;
mod columns;
mod incident;
mod judge;
mod report;
mod volume;

pub use incident::DataIncident;
pub use report::{FeedReport, FeedState, FeedStatus};

use crate::drift::Level;
use crate::event::LoggedEvent;
use crate::project::DriftSpec;
use crate::time::{Span, Timestamp};
use columns::{Columns, Kept, Learning};
use incident::Incidents;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

#[cfg(test)]
mod tests;

/// Events of a type that are kept until its columns are known.
const LEARN: usize = 500;
/// Event types watched.
const MAX_KINDS: usize = 64;
/// Findings remembered.
const MAX_FINDINGS: usize = 500;

/// Something about a feed that changed at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedFinding {
    /// Event type.
    pub kind: String,
    /// Which column, `dep_delay where carrier=UA`, or `volume`.
    pub column: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Start of the first of the last windows that shows it.
    pub since: Timestamp,
    /// What holds: reached in enough of the last windows.
    pub level: Level,
    /// What this window alone says.
    pub window_level: Level,
    /// PSI less its bias and what is usual; for volumes the share of what is usual.
    pub effect: f64,
    /// One sentence.
    pub explanation: String,
}

impl FeedFinding {
    /// For comparing findings of one window: a feed that fell silent says most.
    fn weight(&self) -> f64 {
        match self.column.starts_with("volume") {
            true => 10.0 * (1.0 - self.effect).abs(),
            false => self.effect,
        }
    }
}

/// Watches all event types.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedWatch {
    spec: DriftSpec,
    kinds: BTreeMap<String, Kind>,
    judged_until: Timestamp,
    seen: Timestamp,
    incidents: Incidents,
    /// The newest findings of level warn and above, oldest first.
    findings: VecDeque<FeedFinding>,
    /// Findings of each level (warn, alert) of any window, and windows judged; they only grow.
    counts: BTreeMap<String, u64>,
}

/// One event type.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kind {
    columns: Columns,
    learning: Learning,
    /// By start of the window.
    windows: BTreeMap<Timestamp, Window>,
    events: u64,
    /// Newest time of an event, and of learning one.
    newest: Timestamp,
    learnt: Timestamp,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Window {
    columns: Vec<Vec<u32>>,
    /// Events by slice; the first is of all.
    volumes: Vec<u32>,
    /// What it showed, by column and then by slice; what is not there showed nothing.
    marks: BTreeMap<u16, Mark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    level: Level,
    /// Part of a finding that held: no measure for later windows.
    held: bool,
}

impl FeedWatch {
    pub fn new(spec: DriftSpec) -> Self {
        FeedWatch {
            spec,
            kinds: BTreeMap::new(),
            judged_until: Timestamp::MIN,
            seen: Timestamp::MIN,
            incidents: Incidents::default(),
            findings: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Takes over changed settings; windows of another length are begun anew.
    pub fn follow(&mut self, spec: DriftSpec) {
        if spec.window != self.spec.window {
            *self = FeedWatch { incidents: std::mem::take(&mut self.incidents), ..FeedWatch::new(spec) };
        } else {
            self.spec = spec;
        }
    }

    /// Counts an accepted event at the time it was learnt; what was found in windows that it shows to be over.
    pub fn on_event(&mut self, e: &LoggedEvent) -> Vec<FeedFinding> {
        let start = e.ingested.floor(self.window());
        if let Some(kind) = self.kind(&e.event.kind) {
            kind.events += 1;
            kind.newest = kind.newest.max(e.event.time);
            kind.learnt = kind.learnt.max(e.ingested);
            match kind.columns.known() {
                true => kind.count(start, e),
                false => {
                    kind.learning.push(start, Kept::Taken(Box::new(e.clone())));
                    kind.settle();
                }
            }
        }
        self.advance(e.ingested)
    }

    /// Counts an event that was not taken, by code: `duplicate`, `conflict`, or that of the refusal.
    pub fn on_refused(&mut self, kind: &str, code: &str, now: Timestamp) -> Vec<FeedFinding> {
        let start = now.floor(self.window());
        // What was never taken may be any text: it is no feed of ours.
        if let Some(kind) = self.kinds.get_mut(kind) {
            match kind.columns.known() {
                true => kind.count_refused(start, code),
                false if kind.learning.len() < 2 * LEARN => kind.learning.push(start, Kept::Refused(code.into())),
                false => {}
            }
        }
        self.advance(now)
    }

    pub fn spec(&self) -> &DriftSpec {
        &self.spec
    }

    fn window(&self) -> Span {
        Span(self.spec.window.0.max(1))
    }

    fn kind(&mut self, name: &str) -> Option<&mut Kind> {
        if !self.kinds.contains_key(name) {
            if self.kinds.len() >= MAX_KINDS {
                return None;
            }
            let fresh = Kind { newest: Timestamp::MIN, learnt: Timestamp::MIN, ..Kind::default() };
            self.kinds.insert(name.into(), fresh);
        }
        self.kinds.get_mut(name)
    }

    /// Judges the windows that are over at `now`, those without any event too: silence is a finding.
    pub fn advance(&mut self, now: Timestamp) -> Vec<FeedFinding> {
        let window = self.window();
        if self.seen == Timestamp::MIN {
            self.judged_until = now.floor(window);
        }
        self.seen = self.seen.max(now);
        let mut found = Vec::new();
        while self.judged_until + window <= now {
            let start = self.judged_until;
            for (name, kind) in &mut self.kinds {
                let of_kind = kind.judge(name, start, window, &self.spec);
                *self.counts.entry("windows".into()).or_default() += 1;
                for f in &of_kind {
                    *self.counts.entry(f.level.name().into()).or_default() += 1;
                }
                self.incidents.on_window(name, start + window, window, &of_kind);
                found.extend(of_kind);
            }
            self.judged_until = start + window;
            // After a long silence only as many windows are judged as are kept.
            let oldest = now.floor(window).0 - window.0.saturating_mul(self.spec.keep as i64);
            self.judged_until = self.judged_until.max(Timestamp(oldest));
        }
        self.findings.extend(found.iter().cloned());
        while self.findings.len() > MAX_FINDINGS {
            self.findings.pop_front();
        }
        found
    }

    /// What holds or held, oldest first.
    pub fn incidents(&self) -> &[DataIncident] {
        self.incidents.all()
    }

    /// Takes the ids of an erased entity out of all that is kept; `ids` are in the order of `keys`.
    pub fn forget(&mut self, keys: &[String], ids: &[String]) {
        for kind in self.kinds.values_mut() {
            kind.learning.forget(keys, ids);
            kind.columns.forget(keys, ids);
        }
        let names = |text: &str| ids.iter().any(|id| text.contains(id.as_str()));
        self.findings.retain(|f| !names(&f.column) && !names(&f.explanation));
        self.incidents.forget(names);
    }
}

impl Kind {
    /// Counts what was kept, once the columns are known.
    fn settle(&mut self) {
        if self.learning.len() < LEARN {
            return;
        }
        self.columns = self.learning.columns();
        for (start, kept) in self.learning.take() {
            match kept {
                Kept::Taken(e) => self.count(start, &e),
                Kept::Refused(code) => self.count_refused(start, &code),
            }
        }
    }

    fn blank(&self) -> Window {
        let volumes = vec![0; self.columns.slices()];
        Window { columns: self.columns.blank(), volumes, marks: BTreeMap::new() }
    }

    fn count(&mut self, start: Timestamp, e: &LoggedEvent) {
        if !self.windows.contains_key(&start) {
            self.windows.insert(start, self.blank());
        }
        if let Some(w) = self.windows.get_mut(&start) {
            self.columns.count(e, &mut w.columns, &mut w.volumes);
        }
    }

    fn count_refused(&mut self, start: Timestamp, code: &str) {
        if !self.windows.contains_key(&start) {
            self.windows.insert(start, self.blank());
        }
        if let Some(w) = self.windows.get_mut(&start) {
            self.columns.count_refused(code, &mut w.columns);
        }
    }
}
