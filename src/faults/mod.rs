//! The catalogue of data faults: each is put into a week of the recorded stream, which then runs through the code that
//! serves (checks of events, features, row checks, drift, watch over the feeds), without a server.

mod catalogue;
mod pipeline;

pub use catalogue::{FAULTS, Fault};
pub use pipeline::{Alarm, FEATURES, Pipeline};

use crate::tables::Recorded;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_domain::drift::Level;
use understudy_domain::feed::DataIncident;
use understudy_domain::time::{Span, Timestamp};

/// How long a fault lasts, and for how long it may be found.
const LASTS: Span = Span::days(7);
/// Extra hits of a check in the first day that show that the fault was seen at the door: more than chance, and more
/// than twice what the day has anyway.
const HITS: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caught {
    /// A check of the event or the row spoke before or with the answer.
    Before,
    /// A window of the monitor did.
    Window,
    Missed,
}

#[derive(Clone, Debug, Serialize)]
pub struct FaultResult {
    pub name: &'static str,
    pub what: &'static str,
    pub caught: Caught,
    /// What spoke first.
    pub by: String,
    /// From the first faulty event to the word.
    pub delay: Option<Span>,
}

/// An alarm on the clean stream: an incident of a feed, or windows in which features stay drifted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CleanAlarm {
    pub start: Timestamp,
    /// End of the last window that showed it; null while it is open.
    pub end: Option<Timestamp>,
    /// `features`, or the event type.
    pub source: String,
    /// The worst finding of the first window, in a sentence.
    pub reason: String,
    /// Findings in all.
    pub findings: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Campaign {
    pub faults: Vec<FaultResult>,
    pub clean_alarms: Vec<CleanAlarm>,
    /// Days of the clean stream after the training data.
    pub clean_days: i64,
    pub detected: f64,
}

/// Runs the faults named `only`, or all, from `start` on; `trained` ends the training data. `level` is the least that
/// counts as an alarm.
pub fn campaign(
    pipeline: Pipeline,
    events: &[Recorded],
    trained: Timestamp,
    start: Timestamp,
    only: Option<&str>,
    level: Level,
    say: &dyn Fn(&str),
) -> Result<Campaign, String> {
    let mut clean = pipeline;
    let (training, rest) = events.split_at(events.partition_point(|e| e.at < trained));
    training.iter().for_each(|e| clean.push(e));
    clean.learn()?;
    say(&format!("reference of {} rows", clean.reference_rows()));
    let (lead, live) = rest.split_at(rest.partition_point(|e| e.at < start));
    lead.iter().for_each(|e| clean.push(e));
    let week = live.partition_point(|e| e.at < start + LASTS);
    // One more window, so that the last day is judged.
    let after = live.partition_point(|e| e.at < start + LASTS + Span::days(1) + Span::hours(2));
    let none = run(&clean, &live[..after]);
    let mut faults = Vec::new();
    for fault in FAULTS.iter().filter(|f| only.is_none_or(|o| o == f.name)) {
        let mut changed = fault.apply(&live[..week]);
        changed.extend_from_slice(&live[week..after]);
        changed.sort_by_key(|e| e.at);
        let result = judge(fault, start, level, &none, &run(&clean, &changed));
        say(&format!("{}: {:?} {}", result.name, result.caught, result.by));
        faults.push(result);
    }
    let mut clean_alarms = Vec::new();
    let mut clean_days = 0;
    if only.is_none() {
        live.iter().for_each(|e| clean.push(e));
        clean_alarms = alarms(&clean, trained, level);
        clean_days = (clean.now() - trained).0 / Span::days(1).0;
    }
    let caught = faults.iter().filter(|f| f.caught != Caught::Missed).count();
    let detected = caught as f64 / faults.len().max(1) as f64;
    Ok(Campaign { faults, clean_alarms, clean_days, detected })
}

fn run(from: &Pipeline, events: &[Recorded]) -> Pipeline {
    let mut p = from.clone();
    p.forget_findings();
    events.iter().for_each(|e| p.push(e));
    p
}

fn judge(fault: &Fault, start: Timestamp, level: Level, none: &Pipeline, with: &Pipeline) -> FaultResult {
    let day = start.floor(Span::days(1));
    let hits = |p: &Pipeline, check: &str| p.hits.get(&(day, check.to_string())).map_or(0, |(n, _)| *n);
    let mut before: Vec<(Timestamp, u64, &str)> = with
        .hits
        .iter()
        .filter(|((d, _), _)| *d == day)
        .filter(|((_, check), (n, _))| *n >= HITS + 2 * hits(none, check))
        .map(|((_, check), (n, first))| (*first, *n, check.as_str()))
        .collect();
    before.sort();
    let known: BTreeMap<(&str, Timestamp), ()> =
        none.alarms.iter().filter(|a| a.level >= level).map(|a| ((a.name.as_str(), a.start), ())).collect();
    let window = with
        .alarms
        .iter()
        .filter(|a| a.level >= level && a.start >= day && !known.contains_key(&(a.name.as_str(), a.start)))
        .min_by(|a, b| (a.end, std::cmp::Reverse(a.level)).cmp(&(b.end, std::cmp::Reverse(b.level))));
    let (caught, by, at) = match (before.first(), window) {
        (Some((first, n, check)), _) => (Caught::Before, format!("{check} ({n} on the first day)"), Some(*first)),
        (None, Some(alarm)) => (Caught::Window, alarm.explanation.clone(), Some(alarm.end)),
        (None, None) => (Caught::Missed, String::new(), None),
    };
    FaultResult { name: fault.name, what: fault.what, caught, by, delay: at.map(|t| Span((t - start).0.max(0))) }
}

/// What a person would have been called for, in order of time.
fn alarms(clean: &Pipeline, trained: Timestamp, level: Level) -> Vec<CleanAlarm> {
    let of_feed = |i: &DataIncident| CleanAlarm {
        start: i.since,
        end: i.until,
        source: i.feed.clone(),
        reason: i.reason.clone(),
        findings: i.findings as usize,
    };
    let mut all: Vec<CleanAlarm> = clean.incidents().iter().filter(|i| i.opened > trained).map(of_feed).collect();
    all.extend(of_features(&clean.alarms, level));
    all.sort_by(|a, b| (a.start, &a.source).cmp(&(b.start, &b.source)));
    all
}

/// Windows with drifted features that follow each other, or leave out one, are one alarm.
fn of_features(alarms: &[Alarm], level: Level) -> Vec<CleanAlarm> {
    let mut windows: BTreeMap<Timestamp, Vec<&Alarm>> = BTreeMap::new();
    for alarm in alarms.iter().filter(|a| a.level >= level && a.source == FEATURES) {
        windows.entry(alarm.start).or_default().push(alarm);
    }
    let mut out: Vec<CleanAlarm> = Vec::new();
    for (start, group) in windows {
        let (end, length) = (group[0].end, group[0].end - start);
        if let Some(last) = out.last_mut()
            && last.end.is_some_and(|end| start <= end + length)
        {
            last.end = Some(end);
            last.findings += group.len();
            continue;
        }
        let worst = group.iter().max_by(|a, b| a.effect.total_cmp(&b.effect));
        out.push(CleanAlarm {
            start,
            end: Some(end),
            source: FEATURES.into(),
            reason: worst.map(|a| a.explanation.clone()).unwrap_or_default(),
            findings: group.len(),
        });
    }
    out
}
