//! The checkers: what was promised against what is on the disk, and against definitions computed anew.

use super::disk::Disk;
use super::ledger::Ledger;
use super::naive;
use super::project::MODEL;
use std::collections::BTreeMap;
use understudy_actors::api::Answer;
use understudy_actors::system::System;
use understudy_domain::event::LoggedEvent;
use understudy_domain::monitor::MonitorReport;
use understudy_domain::prediction::{OutcomeRecord, OutcomeTarget, PredictionId, PredictionRecord, Timing};
use understudy_domain::time::{HOUR, Timestamp};

type Checked = Result<(), String>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

/// Numbers without a gap, no id twice, and everything acknowledged under the number that was told.
pub fn events(log: &[LoggedEvent], ledger: &Ledger) -> Checked {
    let mut by_id: BTreeMap<&str, &LoggedEvent> = BTreeMap::new();
    for (i, e) in log.iter().enumerate() {
        ensure(e.seq == i as u64 + 1, || format!("event {} of the log has number {}", i + 1, e.seq))?;
        let twice = by_id.insert(&e.event.id, e).is_some();
        ensure(!twice, || format!("event {} is counted twice", e.event.id))?;
    }
    for (id, (seq, body)) in &ledger.events {
        let found = by_id.get(id.as_str());
        ensure(found.is_some_and(|e| e.seq == *seq && e.event == *body), || {
            format!("event {id} was acknowledged as {seq} and the log has {found:?}")
        })?;
    }
    Ok(())
}

fn untimed(r: &PredictionRecord) -> PredictionRecord {
    PredictionRecord { timing: Timing::default(), ..r.clone() }
}

/// Every answer that said it is logged is in the log as it was given; of the others at most `lost` are not.
pub fn predictions(disk: &Disk, ledger: &Ledger, lost: u64) -> Checked {
    let log = disk.durable_predictions();
    let mut missing = Vec::new();
    for (id, answered) in &ledger.answered {
        match log.get(id) {
            Some(logged) => ensure(untimed(logged) == untimed(answered), || {
                format!("prediction {id} was answered as {answered:?} and logged as {logged:?}")
            })?,
            None if ledger.excused.contains(id) => {}
            None => missing.push(id.to_string()),
        }
    }
    ensure(missing.len() as u64 <= lost, || {
        format!("{} answered predictions are not in the log, {lost} were reported lost: {missing:?}", missing.len())
    })
}

/// Every outcome acknowledged as kept is in the log, and no more often than the clock's jumps explain.
pub fn outcomes(disk: &Disk, ledger: &Ledger, jumps: u64) -> Checked {
    let (log, predictions) = (disk.durable_outcomes(), disk.durable_predictions());
    for kept in &ledger.outcomes {
        let n = log.iter().filter(|o| *o == kept).count() as u64;
        ensure(n >= 1, || format!("outcome {kept:?} was acknowledged and is not in the log"))?;
        // Given up as orphaned after a day and taken again; or of a request that was answered again much later.
        let about = |p: &&PredictionRecord| match &kept.target {
            OutcomeTarget::RequestId(request) => p.request_id.as_ref() == Some(request),
            OutcomeTarget::PredictionId(id) => p.id == *id,
        };
        let answered = predictions.values().filter(about).count() as u64;
        let strict = ledger.sync;
        ensure(!strict || n <= 1 + jumps + answered.saturating_sub(1), || {
            format!("outcome {kept:?} is in the log {n} times")
        })?;
    }
    Ok(())
}

/// Nothing is in flight, waiting or queued when nobody asks.
pub fn at_rest(system: &System) -> Checked {
    let (in_flight, waiting) = system.admission.depth();
    ensure(in_flight + waiting == 0, || format!("{in_flight} requests in flight, {waiting} waiting, and nobody asks"))?;
    let queued = system.log_queue();
    ensure(queued == 0, || format!("{queued} predictions queued for the log and nothing is under way"))
}

/// While requests are under way.
pub fn bounds(system: &System) -> Checked {
    let generation = system.generation();
    let settings = &generation.settings;
    let (in_flight, _) = system.admission.depth();
    ensure(in_flight <= settings.admission.max_in_flight, || format!("{in_flight} requests in flight"))?;
    let queued = system.log_queue();
    ensure(queued <= settings.log_queue, || format!("{queued} predictions queued for the log"))
}

/// The vector of an answer against the definition of each feature over the durable events.
pub fn features(answer: &Answer, log: &[LoggedEvent]) -> Checked {
    let r = &answer.record;
    let id = |key: &str| r.entities.get(key).and_then(Option::as_deref);
    let expected = naive::vector(log, id("user"), id("shop"), r.time);
    let served = &r.vector[..expected.len()];
    ensure(served == expected, || {
        format!("features of {:?} at {}: served {served:?}, by definition {expected:?}", r.entities, r.time)
    })
}

/// Each prediction of a replayed stream against the definitions over the lines before it, and each request of the
/// stream answered in the log.
pub fn replayed(log: &[LoggedEvent], disk: &Disk, ledger: &Ledger) -> Checked {
    let predictions = disk.durable_predictions();
    for (i, e) in log.iter().enumerate().filter(|(_, e)| ledger.replayed.contains(&e.event.id)) {
        let id = PredictionId::of_request(e.event.time, MODEL, &e.event.id);
        let Some(r) = predictions.get(&id) else {
            return Err(format!("the request {} was replayed and its prediction is not in the log", e.event.id));
        };
        let of = |key: &str| r.entities.get(key).and_then(Option::as_deref);
        let expected = naive::vector(&log[..i], of("user"), of("shop"), r.time);
        ensure(r.vector[..expected.len()] == expected, || {
            format!("replayed {}: saw {:?}, by the lines before it {expected:?}", e.event.id, r.vector)
        })?;
    }
    Ok(())
}

/// The version that answered is registered, and the epoch is one that was published: one for each version and for each
/// change of a name.
pub fn route(answer: &Answer, versions: &[String], changes: u64) -> Checked {
    let r = &answer.record;
    ensure(versions.contains(&r.version) && r.epoch <= versions.len() as u64 + changes, || {
        format!("{} was answered by version {} in epoch {}, registered: {versions:?}", r.id, r.version, r.epoch)
    })
}

/// After a restart the monitor has what both logs say, each prediction and each outcome once.
pub fn monitor(report: &MonitorReport, disk: &Disk) -> Checked {
    let (predictions, outcomes) = (disk.durable_predictions(), disk.durable_outcomes());
    let served: u64 = report.total.verdicts.values().sum();
    ensure(served == predictions.len() as u64, || {
        format!("the monitor has {served} predictions, the log {}", predictions.len())
    })?;
    let matured = labelled(predictions.values(), &outcomes);
    let total = &report.total.outcomes;
    ensure(total.matured == matured, || format!("the monitor has {total:?}, the logs give {matured} labels"))
}

/// Predictions with a label, by a walk over both logs in order of time.
fn labelled<'a>(predictions: impl Iterator<Item = &'a PredictionRecord>, outcomes: &'a [OutcomeRecord]) -> u64 {
    const EXPIRES: i64 = 12 * HOUR;
    const PARKED: i64 = 24 * HOUR;
    #[derive(Clone, Copy)]
    enum Line<'a> {
        Prediction(Option<&'a str>),
        Outcome(&'a str, Option<bool>, u32),
    }
    type Word = Option<(Option<bool>, u32)>;
    fn merge(known: &mut Word, label: Option<bool>, revision: u32) {
        match known {
            Some((old, r)) if *old == label => *r = revision.max(*r),
            Some((_, r)) if revision <= *r => {}
            _ => *known = Some((label, revision)),
        }
    }
    // Predictions by id, which is by time; outcomes as they arrived; of both the older one first.
    let mut asked = predictions.map(|p| (p.time, Line::Prediction(p.request_id.as_deref()))).peekable();
    let mut told = outcomes
        .iter()
        .filter(|o| o.model == MODEL)
        .filter_map(|o| match &o.target {
            OutcomeTarget::RequestId(request) => Some((o.time, Line::Outcome(request, o.label, o.revision))),
            OutcomeTarget::PredictionId(_) => None,
        })
        .peekable();
    let mut lines: Vec<(Timestamp, Line<'a>)> = Vec::new();
    let mut now = Timestamp::MIN;
    loop {
        let next = match (asked.peek(), told.peek()) {
            (Some((t, _)), Some((o, _))) if t <= o => asked.next(),
            (_, Some(_)) => told.next(),
            (Some(_), None) => asked.next(),
            (None, None) => break,
        };
        let Some((time, line)) = next else { break };
        now = now.max(time);
        lines.push((if matches!(line, Line::Prediction(_)) { time } else { now }, line));
    }
    let (mut newest, mut parked) =
        (BTreeMap::<&str, (Timestamp, Word)>::new(), BTreeMap::<&str, (Timestamp, Word)>::new());
    let mut done = 0;
    for (now, line) in lines {
        // Forgotten: what comes for it waits as if it had never been.
        newest.retain(|_, (time, word)| {
            let keep = now.0 - time.0 < 2 * EXPIRES;
            done += u64::from(!keep && word.is_some_and(|(label, _)| label.is_some()));
            keep
        });
        match line {
            Line::Prediction(None) => {}
            Line::Prediction(Some(request)) => {
                let waiting = parked.remove(request).filter(|(since, _)| now.0 - since.0 < PARKED);
                let word = waiting.and_then(|(_, word)| word);
                if let Some((_, old)) = newest.insert(request, (now, word)) {
                    done += u64::from(old.is_some_and(|(label, _)| label.is_some()));
                }
            }
            Line::Outcome(request, label, revision) => match newest.get_mut(request) {
                Some((time, word)) if now.0 - time.0 < EXPIRES => merge(word, label, revision),
                Some(_) => {}
                None => {
                    let (since, word) = parked.entry(request).or_insert((now, None));
                    if now.0 - since.0 >= PARKED {
                        (*since, *word) = (now, None);
                    }
                    merge(word, label, revision);
                }
            },
        }
    }
    done + newest.values().filter(|(_, w)| w.is_some_and(|(label, _)| label.is_some())).count() as u64
}
