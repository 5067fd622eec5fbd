//! The feeds under watch: event by event type, before any feature is made of it.
//!
//! Each type has columns: its properties, where its entities lie, how late it is learnt, what became of it at the door,
//! and its properties once more for each value of an entity key that has few (one carrier whose unit changes is lost in
//! the sum). A window is compared with the windows before it (`drift`), and its volume with theirs. Constant memory.

mod columns;
mod volume;

use crate::drift::recent::{MIN_RECENT, against_recent};
use crate::drift::{Bar, Level, significant};
use crate::event::LoggedEvent;
use crate::project::DriftSpec;
use crate::time::{Span, Timestamp};
use columns::{Columns, Learning};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Events of a type that are kept until its columns are known.
const LEARN: usize = 500;
/// A column with fewer rows in a window is not judged.
const MIN_ROWS: u32 = 20;
/// Event types watched.
const MAX_KINDS: usize = 64;

/// Something about a feed that changed at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedFinding {
    /// Event type.
    pub kind: String,
    /// Which column, `dep_delay where carrier=UA`, or `volume`.
    pub column: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub level: Level,
    /// PSI less its bias and what is usual; for volumes the share of what is usual.
    pub effect: f64,
    /// One sentence.
    pub explanation: String,
}

/// Watches all event types.
#[derive(Clone, Debug)]
pub struct FeedWatch {
    spec: DriftSpec,
    kinds: BTreeMap<String, Kind>,
    judged_until: Timestamp,
    seen: Timestamp,
}

#[derive(Clone, Debug)]
struct Kind {
    columns: Columns,
    learning: Learning,
    /// By start of the window.
    windows: BTreeMap<Timestamp, Window>,
}

#[derive(Clone, Debug, Default)]
struct Window {
    columns: Vec<Vec<u32>>,
    /// Events by slice; the first is of all.
    volumes: Vec<u32>,
}

impl FeedWatch {
    pub fn new(spec: DriftSpec) -> Self {
        FeedWatch { spec, kinds: BTreeMap::new(), judged_until: Timestamp::MIN, seen: Timestamp::MIN }
    }

    /// Counts an accepted event at the time it was learnt; what was found in windows that it shows to be over.
    pub fn on_event(&mut self, e: &LoggedEvent) -> Vec<FeedFinding> {
        let start = e.ingested.floor(self.window());
        if let Some(kind) = self.kind(&e.event.kind) {
            kind.learning.push(start, columns::row(e));
            kind.settle(LEARN);
        }
        self.advance(e.ingested)
    }

    /// Counts an event that was not taken, by code: `duplicate`, `conflict`, or that of the refusal.
    pub fn on_refused(&mut self, kind: &str, code: &str, now: Timestamp) -> Vec<FeedFinding> {
        let start = now.floor(self.window());
        if let Some(kind) = self.kind(kind) {
            kind.learning.push(start, columns::refused(code));
            kind.settle(LEARN);
        }
        self.advance(now)
    }

    fn window(&self) -> Span {
        Span(self.spec.window.0.max(1))
    }

    fn kind(&mut self, name: &str) -> Option<&mut Kind> {
        if !self.kinds.contains_key(name) {
            if self.kinds.len() >= MAX_KINDS {
                return None;
            }
            let kind = Kind { columns: Columns::default(), learning: Learning::default(), windows: BTreeMap::new() };
            self.kinds.insert(name.into(), kind);
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
                found.extend(kind.judge(name, start, window, &self.spec));
            }
            self.judged_until = start + window;
            // After a long silence only as many windows are judged as are kept.
            let oldest = now.floor(window).0 - window.0.saturating_mul(self.spec.keep as i64);
            self.judged_until = self.judged_until.max(Timestamp(oldest));
        }
        found
    }
}

impl Kind {
    /// Counts what was kept, once the columns are known.
    fn settle(&mut self, learn: usize) {
        if !self.columns.known() {
            if self.learning.len() < learn {
                return;
            }
            self.columns = self.learning.columns();
        }
        for (start, row) in self.learning.take() {
            let blank = || Window { columns: self.columns.blank(), volumes: vec![0; self.columns.slices()] };
            let window = self.windows.entry(start).or_insert_with(blank);
            self.columns.count(&row, &mut window.columns, &mut window.volumes);
        }
    }

    fn judge(&mut self, name: &str, start: Timestamp, window: Span, spec: &DriftSpec) -> Vec<FeedFinding> {
        if !self.columns.known() {
            return Vec::new();
        }
        let blank = Window { columns: self.columns.blank(), volumes: vec![0; self.columns.slices()] };
        let current = self.windows.entry(start).or_insert(blank).clone();
        while self.windows.len() > spec.keep.max(2) {
            self.windows.pop_first();
        }
        let before: Vec<&Window> = self.windows.range(..start).rev().map(|(_, w)| w).take(spec.recent).collect();
        if before.len() < MIN_RECENT {
            return Vec::new();
        }
        let mut found = self.distributions(name, start, window, spec, &current, &before);
        let volumes: Vec<&Vec<u32>> = before.iter().map(|w| &w.volumes).collect();
        for (slice, change) in volume::changes(&current.volumes, &volumes) {
            let what = self.columns.slice_name(slice);
            found.push(FeedFinding {
                kind: name.into(),
                column: format!("volume{what}"),
                start,
                end: start + window,
                level: Level::Alert,
                effect: change.of_usual,
                explanation: format!("{name}{what}: {}", change.sentence()),
            });
        }
        found
    }

    fn distributions(
        &self,
        name: &str,
        start: Timestamp,
        window: Span,
        spec: &DriftSpec,
        current: &Window,
        before: &[&Window],
    ) -> Vec<FeedFinding> {
        let compared: Vec<_> = (0..self.columns.len())
            .map(|i| {
                let counts: Vec<&Vec<u32>> = before.iter().map(|w| &w.columns[i]).collect();
                let enough = current.columns[i].iter().sum::<u32>() >= MIN_ROWS;
                enough.then(|| against_recent(self.columns.binning(i), &counts, &current.columns[i])).flatten()
            })
            .collect();
        let p: Vec<Option<f64>> = compared.iter().map(|c| c.as_ref().map(|(c, _)| c.p_value)).collect();
        let sure = significant(&p, spec.fdr);
        let judged = compared.into_iter().zip(sure).enumerate().filter_map(|(i, (c, sure))| Some((i, c?, sure)));
        judged
            .filter_map(|(i, (c, floor), sure)| {
                let excess = c.effect - floor.max(c.noise);
                let level = if sure { Level::of(excess, spec) } else { Level::None };
                (level >= Level::Warn).then(|| FeedFinding {
                    kind: name.into(),
                    column: self.columns.name(i),
                    start,
                    end: start + window,
                    level,
                    effect: excess,
                    explanation: sentence(name, &self.columns.name(i), &c.bars, c.effect, floor),
                })
            })
            .collect()
    }
}

fn sentence(kind: &str, column: &str, bars: &[Bar], effect: f64, floor: f64) -> String {
    let most = bars.iter().max_by(|a, b| (a.window - a.reference).abs().total_cmp(&(b.window - b.reference).abs()));
    let what = most.map_or_else(String::new, |b| {
        format!(
            "{} holds {:.0} % of the events, {:.0} % in the windows before",
            b.label,
            b.window * 100.0,
            b.reference * 100.0
        )
    });
    format!("{kind}.{column}: {what} (PSI {effect:.2}, usual up to {floor:.2})")
}
