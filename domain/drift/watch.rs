//! The drift windows of one model, by version, in constant memory.

use super::compare::{Comparison, compare};
use super::explain::sentence;
use super::judge::{Level, persistent, significant};
use super::mix::{Mix, binned};
use super::recent::{MIN_RECENT, against_recent, sum};
use super::reference::Reference;
use super::report::{Against, DriftReport, FeatureDrift, State, WindowDrift};
use crate::blame::MixEffect;
use crate::prediction::{PredictionRecord, Verdict};
use crate::project::DriftSpec;
use crate::time::{Span, Timestamp};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions watched at once; one that has not served for longest makes room.
const MAX_VERSIONS: usize = 8;

/// Counts of one window, by column of the reference.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counted {
    rows: u32,
    columns: Vec<Vec<u32>>,
    judged: Option<WindowDrift>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tracked {
    /// `None`: the version brings none.
    reference: Option<Arc<Reference>>,
    windows: BTreeMap<Timestamp, Counted>,
    mix: Mix,
    /// When its first row was asked for, and its last.
    first: Option<Timestamp>,
    last: Timestamp,
}

/// Watches what the versions of one model see and say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    model: String,
    spec: DriftSpec,
    versions: BTreeMap<String, Tracked>,
    /// Latest time seen; windows that end an hour of a day before it are judged.
    seen: Timestamp,
}

impl Watch {
    pub fn new(model: &str, spec: DriftSpec) -> Self {
        Watch { model: model.into(), spec, versions: BTreeMap::new(), seen: Timestamp::MIN }
    }

    /// Whether the reference of this version has been brought, or known to be missing.
    pub fn knows(&self, version: &str) -> bool {
        self.versions.contains_key(version)
    }

    /// The reference that windows of this version are compared with.
    pub fn follow(&mut self, version: &str, reference: Option<Arc<Reference>>) {
        if self.versions.len() >= MAX_VERSIONS
            && !self.versions.contains_key(version)
            && let Some(oldest) = self.versions.iter().min_by_key(|(_, t)| t.last).map(|(v, _)| v.clone())
        {
            self.versions.remove(&oldest);
        }
        let tracked =
            Tracked { reference, windows: BTreeMap::new(), mix: Mix::default(), first: None, last: self.seen };
        self.versions.insert(version.into(), tracked);
    }

    /// Counts an answered request, and judges the windows that it shows to be over.
    pub fn on_served(&mut self, r: &PredictionRecord) -> Vec<WindowDrift> {
        let score = (r.verdict != Verdict::Rejected && r.score.is_finite()).then_some(r.score);
        self.count(&r.version, r.time, &r.vector, score);
        self.advance(r.time)
    }

    /// Counts a row of a version.
    pub fn count(&mut self, version: &str, time: Timestamp, vector: &[Value], score: Option<f64>) {
        let Some(tracked) = self.versions.get_mut(version) else { return };
        tracked.last = tracked.last.max(time);
        tracked.first.get_or_insert(time);
        let Some(reference) = tracked.reference.clone() else { return };
        let start = time.floor(Span(self.spec.window.0.max(1)));
        if !tracked.windows.contains_key(&start) && tracked.windows.len() >= self.spec.keep.max(1) {
            if tracked.windows.first_key_value().is_some_and(|(oldest, _)| start < *oldest) {
                return;
            }
            tracked.windows.pop_first();
        }
        let window = tracked.windows.entry(start).or_insert_with(|| Counted {
            rows: 0,
            columns: reference.blank(),
            judged: None,
        });
        window.rows += 1;
        let bins = binned(&reference, vector, score);
        for (counts, bin) in window.columns.iter_mut().zip(&bins) {
            if let Some(bin) = bin {
                counts[*bin] += 1;
            }
        }
        tracked.mix.count(&reference, start, &bins);
    }

    /// What part of a feature's change is one of who asks.
    pub(super) fn mix_effect(&self, version: &str, feature: &str, start: Timestamp) -> Option<MixEffect> {
        let tracked = self.versions.get(version)?;
        let reference = tracked.reference.as_ref()?;
        let column = reference.columns.iter().position(|c| c.name == feature)?;
        tracked.mix.effect(reference, column, start)
    }

    /// The first time of each version.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (Timestamp, &str)> {
        self.versions.iter().filter_map(|(v, t)| Some((t.first?, v.as_str())))
    }

    /// Judges the windows that are over at `now`, oldest first; each once. A window is over a while after its end, so
    /// that requests answered side by side all count.
    pub fn advance(&mut self, now: Timestamp) -> Vec<WindowDrift> {
        if now <= self.seen {
            return Vec::new();
        }
        self.seen = now;
        let over = Span(self.spec.window.0 + self.spec.window.0 / 24);
        let mut out = Vec::new();
        for (version, tracked) in &mut self.versions {
            let Some(reference) = tracked.reference.clone() else { continue };
            let due: Vec<Timestamp> = tracked
                .windows
                .iter()
                .rev()
                .take_while(|(_, w)| w.judged.is_none())
                .filter(|(start, _)| **start + over <= now)
                .map(|(start, _)| *start)
                .collect();
            for start in due.into_iter().rev() {
                let judged = judge(&self.spec, &reference, version, &tracked.windows, start);
                out.push(judged.clone());
                if let Some(w) = tracked.windows.get_mut(&start) {
                    w.judged = Some(judged);
                }
            }
        }
        out
    }

    /// Windows that start in [from, until), of all versions. With `feature`, that feature alone, drifted or not, with
    /// both histograms.
    pub fn report(&self, from: Option<Timestamp>, until: Option<Timestamp>, feature: Option<&str>) -> DriftReport {
        let mut windows = Vec::new();
        for (version, tracked) in &self.versions {
            let Some(reference) = &tracked.reference else { continue };
            for (start, w) in &tracked.windows {
                if from.is_some_and(|f| *start < f) || until.is_some_and(|u| *start >= u) {
                    continue;
                }
                let mut shown = match &w.judged {
                    Some(judged) => judged.clone(),
                    None => blank(&self.spec, version, *start, w.rows, State::Open),
                };
                match feature {
                    Some(name) => {
                        shown.features.retain(|f| f.feature == name);
                        for f in &mut shown.features {
                            f.bars = bars(&self.spec, reference, &tracked.windows, *start, f);
                            f.explanation = sentence(f);
                        }
                    }
                    None => shown.features.retain(|f| f.window_level > Level::None || f.level > Level::None),
                }
                windows.push(shown);
            }
        }
        windows.sort_by(|a, b| (a.start, &a.version).cmp(&(b.start, &b.version)));
        let without = self.versions.iter().filter(|(_, t)| t.reference.is_none()).map(|(v, _)| v.clone()).collect();
        DriftReport { model: self.model.clone(), windows, without_reference: without }
    }
}

fn blank(spec: &DriftSpec, version: &str, start: Timestamp, rows: u32, state: State) -> WindowDrift {
    WindowDrift {
        version: version.into(),
        start,
        end: start + spec.window,
        rows: rows.into(),
        state,
        level: Level::None,
        features: Vec::new(),
    }
}

/// The windows that `start` is compared with besides the reference: those before it with enough rows, of its phase.
fn recent<'a>(
    spec: &DriftSpec,
    reference: &Reference,
    windows: &'a BTreeMap<Timestamp, Counted>,
    start: Timestamp,
) -> Vec<&'a Counted> {
    windows
        .range(..start)
        .rev()
        .filter(|(s, w)| u64::from(w.rows) >= spec.min_rows && reference.phase(**s) == reference.phase(start))
        .take(spec.recent)
        .map(|(_, w)| w)
        .collect()
}

fn judge(
    spec: &DriftSpec,
    reference: &Reference,
    version: &str,
    windows: &BTreeMap<Timestamp, Counted>,
    start: Timestamp,
) -> WindowDrift {
    let window = &windows[&start];
    if u64::from(window.rows) < spec.min_rows {
        return blank(spec, version, start, window.rows, State::NotEnoughData);
    }
    let before = recent(spec, reference, windows, start);
    let phase = reference.phase(start);
    let mut features = Vec::new();
    let slow = reference.columns.iter().zip(&window.columns);
    let slow = slow.map(|(c, w)| compare(&c.binning, c.counts(phase), w).map(|x| (x, c.floor))).collect();
    features.extend(levels(spec, reference, Against::Reference, slow));
    if before.len() >= MIN_RECENT {
        let sudden = (0..reference.columns.len())
            .map(|i| {
                let binning = &reference.columns[i].binning;
                let counts: Vec<&Vec<u32>> = before.iter().map(|w| &w.columns[i]).collect();
                against_recent(binning, &counts, &window.columns[i])
            })
            .collect();
        features.extend(levels(spec, reference, Against::Recent, sudden));
    }
    let earlier: Vec<&WindowDrift> = windows
        .range(..start)
        .rev()
        .filter_map(|(_, w)| w.judged.as_ref())
        .filter(|j| j.state == State::Judged)
        .take(spec.of.max(1) - 1)
        .collect();
    for f in &mut features {
        let mut seen = vec![f.window_level];
        let same = |j: &&WindowDrift| {
            j.features.iter().find(|e| e.feature == f.feature && e.against == f.against).map(|e| e.window_level)
        };
        seen.extend(earlier.iter().filter_map(same));
        // What changed overnight may be over tomorrow, as storms are: all of the last windows must show it.
        f.level = persistent(&seen, if f.against == Against::Recent { spec.of } else { spec.persist });
        if f.level.max(f.window_level) > Level::None {
            f.explanation = sentence(f);
        }
        f.bars = Vec::new();
    }
    features.sort_by(|a, b| (b.level, b.window_level).cmp(&(a.level, a.window_level)).then(b.psi.total_cmp(&a.psi)));
    let level = features.iter().map(|f| f.level).max().unwrap_or_default();
    WindowDrift { level, features, ..blank(spec, version, start, window.rows, State::Judged) }
}

fn levels(
    spec: &DriftSpec,
    reference: &Reference,
    against: Against,
    compared: Vec<Option<(Comparison, f64)>>,
) -> Vec<FeatureDrift> {
    let p: Vec<Option<f64>> = compared.iter().map(|c| c.as_ref().map(|(c, _)| c.p_value)).collect();
    let significant = significant(&p, spec.fdr);
    reference
        .columns
        .iter()
        .zip(compared)
        .zip(significant)
        .filter_map(|((column, compared), significant)| {
            let (c, floor) = compared?;
            let missing = c.bars.first().filter(|b| b.label == "missing");
            Some(FeatureDrift {
                feature: column.name.clone(),
                against,
                level: Level::None,
                window_level: if significant { Level::of(c.effect - floor, spec) } else { Level::None },
                psi: c.effect,
                floor,
                p_value: c.p_value,
                significant,
                missing_reference: missing.map_or(0.0, |b| b.reference),
                missing: missing.map_or(0.0, |b| b.window),
                explanation: String::new(),
                bars: c.bars,
            })
        })
        .collect()
}

fn bars(
    spec: &DriftSpec,
    reference: &Reference,
    windows: &BTreeMap<Timestamp, Counted>,
    start: Timestamp,
    f: &FeatureDrift,
) -> Vec<super::compare::Bar> {
    let Some(i) = reference.columns.iter().position(|c| c.name == f.feature) else { return Vec::new() };
    let column = &reference.columns[i];
    let base = match f.against {
        Against::Reference => column.counts(reference.phase(start)).to_vec(),
        Against::Recent => {
            sum(recent(spec, reference, windows, start).iter().map(|w| &w.columns[i]), column.binning.bins())
        }
    };
    compare(&column.binning, &base, &windows[&start].columns[i]).map_or_else(Vec::new, |c| c.bars)
}
