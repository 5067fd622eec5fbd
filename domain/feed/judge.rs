//! One window of one feed against those before it.

use super::{FeedFinding, Kind, Mark, Window, volume};
use crate::drift::recent::{MIN_RECENT, against};
use crate::drift::{Bar, Comparison, Level, persistent, significant};
use crate::project::DriftSpec;
use crate::time::{DAY, Span, Timestamp};

/// A column with fewer rows in a window is not judged; and one of which it matters what share a value has.
const MIN_ROWS: u32 = 20;
const MIN_SHARED: u32 = 50;
/// After this long everything repeats itself.
const WEEK: i64 = 7 * DAY;
/// Fewer windows of the same weekday are no measure.
const MIN_ALIKE: usize = 4;
/// Where even the window in the middle differs this much from the others, each is compared with those of its weekday,
/// if they are alike.
const ROUGH: f64 = 1.0;
/// A column that is always the same is watched more closely: a change this many times what is usual, and this large at
/// least, counts as one of the level alert.
const TIMES: f64 = 10.0;
const LEAST: f64 = 0.15;
/// Numbers change with the world (storms, seasons): a change of theirs has to be this many times as large as the level
/// says, and this many times what is usual, and be there in each of the last windows.
const WORLD: f64 = 2.0;
const UNUSUAL: f64 = 1.75;
/// After so many windows that a finding held in, what it found is what is usual.
const ACCEPTED: usize = 14;

/// A column or a slice's volume in one window.
struct Judged {
    index: u16,
    column: String,
    level: Level,
    effect: f64,
    explanation: String,
    needs: Needs,
}

/// How many windows must show a finding before it holds.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    One,
    /// `persist` of `of`.
    Some,
    All,
}

/// A column against the windows before.
struct Compared {
    comparison: Comparison,
    /// What is usual.
    floor: f64,
    alike: bool,
}

impl Compared {
    fn usual(&self) -> f64 {
        self.floor.max(self.comparison.noise)
    }

    fn excess(&self) -> f64 {
        self.comparison.effect - self.usual()
    }
}

impl Kind {
    pub(super) fn judge(&mut self, name: &str, start: Timestamp, window: Span, spec: &DriftSpec) -> Vec<FeedFinding> {
        if !self.columns.known() {
            return Vec::new();
        }
        if !self.windows.contains_key(&start) {
            self.windows.insert(start, self.blank());
        }
        while self.windows.len() > spec.keep.max(2) {
            self.windows.pop_first();
        }
        let mut judged = self.distributions(name, start, window, spec);
        judged.extend(self.volumes(name, start, window, spec));
        judged.into_iter().filter_map(|j| self.hold(name, j, start, window, spec)).collect()
    }

    /// Windows that a column of the window at `start` may be compared with, newest first: not those in which it was
    /// found to be wrong, and not the last ones if it may be.
    fn usable(&self, index: u16, start: Timestamp, window: Span, spec: &DriftSpec) -> Vec<(Timestamp, &Window)> {
        let young = start - Span(window.0.saturating_mul(spec.of.max(1) as i64 - 1));
        let fit = |at: Timestamp, w: &Window| match w.marks.get(&index) {
            Some(mark) => !mark.held && (at < young || mark.level < Level::Alert),
            None => true,
        };
        self.windows.range(..start).rev().filter(|(at, w)| fit(**at, w)).map(|(at, w)| (*at, w)).collect()
    }

    fn distributions(&self, name: &str, start: Timestamp, window: Span, spec: &DriftSpec) -> Vec<Judged> {
        let current = &self.windows[&start];
        let compared: Vec<Option<Compared>> = (0..self.columns.all().len())
            .map(|i| {
                let counts = &current.columns[i];
                let enough =
                    counts.iter().sum::<u32>() >= if self.columns.is_measure(i) { MIN_ROWS } else { MIN_SHARED };
                let before = if enough { self.usable(i as u16, start, window, spec) } else { Vec::new() };
                self.compare(i, counts, &before, start, window, spec)
            })
            .collect();
        let p: Vec<Option<f64>> = compared.iter().map(|c| c.as_ref().map(|c| c.comparison.p_value)).collect();
        let sure = significant(&p, spec.fdr);
        let excess: Vec<f64> = compared.iter().map(|c| c.as_ref().map_or(0.0, Compared::excess)).collect();
        let judged = |(i, (c, sure)): (usize, (Option<Compared>, bool))| {
            let (c, measure) = (c?, self.columns.is_measure(i));
            // What a slice has in common with all events is said of all, if it is enough to be said.
            let whole = self.columns.whole(i).map_or(0.0, |whole| excess[whole]);
            let own = if whole > spec.alert * WORLD { excess[i] - whole } else { excess[i] };
            let level = match (sure, measure) {
                (false, _) => Level::None,
                (true, true) if own < (UNUSUAL - 1.0) * c.usual() => Level::None,
                (true, true) => Level::of(own / WORLD, spec),
                (true, false) if own > LEAST && own > (TIMES - 1.0) * c.usual() => Level::Alert,
                (true, false) => Level::of(own, spec),
            };
            let column = self.columns.name(i);
            (level >= Level::Warn).then(|| Judged {
                index: i as u16,
                explanation: sentence(name, &column, &c),
                column,
                level,
                effect: own,
                needs: if measure { Needs::All } else { Needs::Some },
            })
        };
        compared.into_iter().zip(sure).enumerate().filter_map(judged).collect()
    }

    /// Against all windows before; or, where those differ much among themselves, against those of the same weekday.
    fn compare(
        &self,
        i: usize,
        counts: &[u32],
        before: &[(Timestamp, &Window)],
        start: Timestamp,
        window: Span,
        spec: &DriftSpec,
    ) -> Option<Compared> {
        if self.columns.is_length(i) && !recurs(i - 1, before) {
            return None;
        }
        let binning = &self.columns.all()[i].binning;
        let recent: Vec<&Vec<u32>> = before.iter().take(spec.recent).map(|(_, w)| &w.columns[i]).collect();
        if recent.len() < MIN_RECENT {
            return None;
        }
        let (comparison, usual) = against(binning, &recent, counts)?;
        if usual.median >= ROUGH && WEEK % window.0 == 0 && window.0 < WEEK {
            let same: Vec<&Vec<u32>> =
                before.iter().filter(|(at, _)| alike(*at, start)).map(|(_, w)| &w.columns[i]).collect();
            if same.len() >= MIN_ALIKE
                && let Some((comparison, same)) = against(binning, &same, counts)
                && same.floor < usual.median / 4.0
            {
                return Some(Compared { comparison, floor: same.floor, alike: true });
            }
        }
        Some(Compared { comparison, floor: usual.floor, alike: false })
    }

    fn volumes(&self, name: &str, start: Timestamp, window: Span, spec: &DriftSpec) -> Vec<Judged> {
        let current = &self.windows[&start];
        let columns = self.columns.all().len();
        (0..self.columns.slices())
            .filter_map(|slice| {
                let index = (columns + slice) as u16;
                let before = self.usable(index, start, window, spec);
                if before.len() < MIN_RECENT {
                    return None;
                }
                let same: Vec<u32> = before
                    .iter()
                    .filter(|(at, _)| WEEK % window.0 == 0 && window.0 < WEEK && alike(*at, start))
                    .map(|(_, w)| w.volumes[slice])
                    .collect();
                let weekly = same.len() >= MIN_ALIKE;
                let recent = || before.iter().take(spec.recent).map(|(_, w)| w.volumes[slice]);
                let change = match weekly {
                    true => volume::change(current.volumes[slice], same.iter().copied())?,
                    false => volume::change(current.volumes[slice], recent())?,
                };
                let what = self.columns.slice_name(slice);
                Some(Judged {
                    index,
                    column: format!("volume{what}"),
                    level: Level::Alert,
                    effect: change.of_usual,
                    explanation: format!("{name}{what}: {}", change.sentence(weekly)),
                    needs: if slice == 0 && change.is_silence() { Needs::One } else { Needs::Some },
                })
            })
            .collect()
    }

    /// What holds of it with the windows before, and the marks that follow.
    fn hold(&mut self, name: &str, j: Judged, start: Timestamp, window: Span, spec: &DriftSpec) -> Option<FeedFinding> {
        let reach = Span(window.0.saturating_mul(spec.of.max(1) as i64 - 1));
        let earlier: Vec<(Timestamp, Level)> = self
            .windows
            .range(start - reach..start)
            .filter_map(|(at, w)| Some((*at, w.marks.get(&j.index)?.level)))
            .collect();
        let mut levels: Vec<Level> = earlier.iter().map(|(_, level)| *level).collect();
        levels.push(j.level);
        let held = match j.needs {
            Needs::One => j.level,
            Needs::Some => persistent(&levels, spec.persist),
            Needs::All => persistent(&levels, spec.of),
        };
        let first = earlier.iter().find(|(_, level)| *level >= held).map_or(start, |(at, _)| *at);
        let since = if held > Level::None { first.min(start) } else { start };
        self.windows.get_mut(&start)?.marks.insert(j.index, Mark { level: j.level, held: false });
        if held >= Level::Alert {
            for (_, w) in self.windows.range_mut(since..=start) {
                w.marks.entry(j.index).and_modify(|m| m.held = m.level >= Level::Alert);
            }
            self.accept(j.index, start);
        }
        Some(FeedFinding {
            kind: name.into(),
            column: j.column,
            start,
            end: start + window,
            since,
            level: held,
            window_level: j.level,
            effect: j.effect,
            explanation: j.explanation,
        })
    }

    /// What has held for long is what is usual from here on.
    fn accept(&mut self, index: u16, start: Timestamp) {
        let held = |w: &Window| w.marks.get(&index).is_some_and(|m| m.held);
        if self.windows.range(..=start).rev().take(ACCEPTED).filter(|(_, w)| held(w)).count() == ACCEPTED {
            for (_, w) in self.windows.range_mut(..=start).rev().take(ACCEPTED) {
                w.marks.remove(&index);
            }
        }
    }
}

/// Whether most ids of this column were seen before. Numbers that count up grow longer, and that is no fault.
fn recurs(new: usize, before: &[(Timestamp, &Window)]) -> bool {
    let (mut known, mut all) = (0, 0);
    for (_, w) in before {
        known += w.columns[new].get(1).copied().unwrap_or(0);
        all += w.columns[new].iter().sum::<u32>();
    }
    2 * known > all
}

fn alike(a: Timestamp, b: Timestamp) -> bool {
    (b - a).0 % WEEK == 0
}

fn sentence(kind: &str, column: &str, c: &Compared) -> String {
    let change = |b: &&Bar| (b.window - b.reference).abs();
    let most = c.comparison.bars.iter().max_by(|a, b| change(a).total_cmp(&change(b)));
    let which = if c.alike { "the same weekdays before" } else { "the windows before" };
    let what = most.map_or_else(String::new, |b| {
        let (now, then) = (b.window * 100.0, b.reference * 100.0);
        format!("{} holds {now:.0} % of the events, {then:.0} % in {which}", b.label)
    });
    format!("{kind}.{column}: {what} (PSI {:.2}, usual up to {:.2})", c.comparison.effect, c.floor)
}
