//! A rollout's decision report: what happened, and each criterion's evidence over time.

use super::{Plot, Report, Series, Table};
use serde::Serialize;
use std::fmt::Write as _;
use understudy_domain::rollout::{Input, JournalEntry, Reason, RolloutSettings, Standing, State, Verdict};
use understudy_domain::time::Timestamp;

/// Points of a plot; a long rollout is thinned to them.
const POINTS: usize = 240;

/// A rollout as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub id: String,
    pub model: String,
    pub champion: String,
    pub challenger: String,
    pub started: Timestamp,
    pub last: Timestamp,
    pub state: State,
    /// The state in words.
    pub standing: String,
    pub reason: String,
    pub timeline: Vec<Step>,
    /// Each criterion as it stood last, with the 99 % interval of the canary's rate over the baseline's.
    pub criteria: Vec<Criterion>,
    pub settings: RolloutSettings,
}

/// One change of state.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub at: Timestamp,
    pub state: State,
    pub standing: String,
    pub share: String,
    pub verdict: Option<Verdict>,
    pub because: Option<Reason>,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Criterion {
    #[serde(flatten)]
    pub standing: Standing,
    pub low: f64,
    pub high: f64,
}

/// Reads a journal's entries.
pub fn tell(entries: &[&JournalEntry]) -> Told {
    let start = entries.first().and_then(|e| e.start.clone());
    let last = entries.last();
    let decided = entries.iter().rev().find_map(|e| e.decision.as_ref());
    let mut timeline: Vec<Step> = Vec::new();
    let mut before = None;
    for e in entries {
        if before == Some((e.state, e.step)) {
            continue;
        }
        before = Some((e.state, e.step));
        let decision = e.decision.as_ref();
        timeline.push(Step {
            at: e.at,
            state: e.state,
            standing: e.state.to_string(),
            share: e.share.to_string(),
            verdict: decision.map(|d| d.verdict),
            because: decision.map(|d| d.because),
            reason: decision.map_or_else(|| plain(e), |d| d.reason.clone()),
        });
    }
    let criteria = decided.iter().flat_map(|d| &d.criteria).map(|c| {
        let i = c.interval(0.01);
        Criterion { standing: c.clone(), low: i.low, high: i.high }
    });
    Told {
        id: start.as_ref().map(|s| s.id.clone()).unwrap_or_default(),
        model: start.as_ref().map(|s| s.model.clone()).unwrap_or_default(),
        champion: start.as_ref().map(|s| s.champion.clone()).unwrap_or_default(),
        challenger: start.as_ref().map(|s| s.challenger.clone()).unwrap_or_default(),
        started: entries.first().map_or(Timestamp::MIN, |e| e.at),
        last: last.map_or(Timestamp::MIN, |e| e.at),
        state: last.map_or(State::Loading, |e| e.state),
        standing: last.map(|e| e.state.to_string()).unwrap_or_default(),
        reason: decided.map(|d| d.reason.clone()).unwrap_or_default(),
        timeline,
        criteria: criteria.collect(),
        settings: start.map(|s| s.settings).unwrap_or_default(),
    }
}

/// What moved it, where there was no evaluation.
fn plain(e: &JournalEntry) -> String {
    match &e.input {
        None => "begun".into(),
        Some(Input::Loaded { .. }) => "loaded; its golden requests were answered as recorded".into(),
        Some(Input::Warmed { .. }) => "ready to serve".into(),
        Some(Input::Shadow { report, .. }) => {
            format!("{} copies answered, {} with another label", report.answers, report.disagreements)
        }
        Some(Input::Retry { by, .. }) => format!("tried again by {by}"),
        Some(_) => String::new(),
    }
}

/// The same as one page.
pub fn page(told: &Told, entries: &[&JournalEntry]) -> Report {
    let fact = |k: &str, v: String| (k.to_owned(), v);
    let ticks: Vec<&&JournalEntry> =
        entries.iter().filter(|e| e.decision.as_ref().is_some_and(|d| !d.criteria.is_empty())).collect();
    let every = ticks.len().div_ceil(POINTS).max(1);
    // The last one is always shown: it is the one that decided.
    let shown: Vec<&&JournalEntry> =
        ticks.iter().enumerate().filter(|(i, _)| i % every == 0 || i + 1 == ticks.len()).map(|(_, e)| *e).collect();
    let names: Vec<String> = told.criteria.iter().map(|c| c.standing.name.clone()).collect();
    let of = |name: &str, value: fn(&Standing) -> f64| -> Vec<Option<f64>> {
        let find = |e: &&&JournalEntry| {
            let found = e.decision.as_ref()?.criteria.iter().find(|c| c.name == name)?;
            Some(value(found)).filter(|v| v.is_finite())
        };
        shown.iter().map(find).collect()
    };
    let mut plots = vec![Plot {
        title: "Share of the canary".into(),
        unit: "percent".into(),
        series: vec![Series {
            name: "share".into(),
            values: shown.iter().map(|e| e.decision.as_ref().map(|d| d.share.fraction() * 100.0)).collect(),
        }],
    }];
    for name in &names {
        let line = |label: &str, values| Series { name: label.into(), values };
        plots.push(Plot {
            title: name.clone(),
            unit: "log e-value".into(),
            series: vec![
                line("worse", of(name, |c| c.log_e_worse)),
                line("rolls back at", of(name, |c| c.rollback_at)),
                line("not worse", of(name, |c| c.log_e_better_max)),
                line("certified at", of(name, |c| c.certify_at)),
            ],
        });
    }
    Report {
        title: format!("{}: {}", told.id, told.standing),
        subtitle: format!(
            "{} against {} of {}. Evidence is the logarithm of an e-value: it may be looked at at any time, and a threshold \
             that it ever reaches holds. Recompute everything with: understudy rollout verify {}",
            told.challenger, told.champion, told.model, told.id
        ),
        facts: vec![
            fact("state", told.standing.clone()),
            fact("reason", told.reason.clone()),
            fact("began", told.started.to_string()),
            fact("last entry", told.last.to_string()),
            fact("entries", entries.len().to_string()),
            fact("version", env!("CARGO_PKG_VERSION").into()),
        ],
        tables: vec![timeline(told), criteria(told), settings(told)],
        x: shown.iter().map(|e| short(e.at)).collect(),
        plots,
    }
}

/// `03-01 06:00` of `2013-03-01T06:00:00Z`.
fn short(t: Timestamp) -> String {
    let text = t.to_string();
    text.get(5..16).map_or(text.clone(), |s| s.replace('T', " "))
}

fn timeline(told: &Told) -> Table {
    let row = |s: &Step| {
        vec![
            s.at.to_string(),
            s.standing.clone(),
            s.share.clone(),
            s.verdict.map(|v| v.to_string()).unwrap_or_default(),
            s.reason.clone(),
        ]
    };
    Table {
        title: "Timeline".into(),
        note: "Each change of state with its reason.".into(),
        headers: ["time", "state", "share", "verdict", "reason"].map(str::to_owned).to_vec(),
        rows: told.timeline.iter().map(row).collect(),
    }
}

fn criteria(told: &Told) -> Table {
    let row = |c: &Criterion| {
        let s = &c.standing;
        vec![
            s.name.clone(),
            format!("{} of {}", s.canary, s.canary_of),
            format!("{} of {}", s.baseline, s.baseline_of),
            format!("{:.2}", s.margin),
            format!("{:.3} .. {:.3}", c.low, c.high),
            format!("{:.2} of {:.2}", s.log_e_worse, s.rollback_at),
            format!("{:.2} of {:.2}", s.log_e_better_max, s.certify_at),
        ]
    };
    Table {
        title: "Criteria at the end".into(),
        note:
            "Counted per unit. The interval is of the canary's rate over the baseline's, at 99 %, valid at every look."
                .into(),
        headers: ["criterion", "canary", "baseline", "margin", "ratio", "worse", "not worse"]
            .map(str::to_owned)
            .to_vec(),
        rows: told.criteria.iter().map(row).collect(),
    }
}

fn settings(told: &Told) -> Table {
    let value = serde_json::to_value(&told.settings).unwrap_or_default();
    let rows = value.as_object().map(|all| all.iter().map(|(k, v)| vec![k.clone(), v.to_string()]).collect());
    Table {
        title: "Settings".into(),
        note: "Fixed at the start.".into(),
        headers: ["key", "value"].map(str::to_owned).to_vec(),
        rows: rows.unwrap_or_default(),
    }
}

/// The timeline for a terminal.
pub fn text(told: &Told) -> String {
    let mut out = format!("{}  {} against {}: {}\n", told.id, told.challenger, told.champion, told.standing);
    for s in &told.timeline {
        let _ = writeln!(out, "  {}  {:<12} {:>5}  {}", short(s.at), s.standing, s.share, s.reason);
    }
    out
}
