//! What watching holds in memory: a monitor and the watch over a feed are fed years of made-up traffic, and their size
//! is taken again and again. It must not depend on how much came.

use super::dice::Dice;
use super::project;
use crate::storage::codec;
use crate::system::memory;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use understudy_actors::monitor::{Counts, Input};
use understudy_domain::drift::{Reference, Sampled};
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::feed::FeedWatch;
use understudy_domain::join::{Change, Joined};
use understudy_domain::prediction::{PredictionId, PredictionRecord, Verdict};
use understudy_domain::time::{Span, Timestamp};
use understudy_domain::value::{Value, ValueType};

/// Days of the traffic: longer than any window is kept, so that from the middle on all of them are full.
const DAYS: u64 = 2400;
const SAMPLES: u64 = 10;
/// A new version comes after so many days; more come than are watched.
const VERSION_DAYS: u64 = 60;
/// Rows of a version's reference.
const REFERENCE: u64 = 2000;
/// Growth over the second half that is no growth: versions and windows differ in what fell into them.
const SLACK: f64 = 1.05;

#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub predictions: u64,
    /// Bytes of the counts as they are saved, of the monitor and of the feed.
    pub monitor_bytes: usize,
    pub feed_bytes: usize,
    pub resident_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct WatchingReport {
    pub predictions: u64,
    pub samples: Vec<Sample>,
    /// Largest size in the second half over that in the middle.
    pub growth: f64,
    pub constant: bool,
    /// Nanoseconds of counting and judging, for each.
    pub ns_per_prediction: u64,
    pub ns_per_event: u64,
}

/// Feeds `predictions`, each with an outcome, and as many events; `say` is told of each sample.
pub fn watching(predictions: u64, seed: u64, say: &dyn Fn(&Sample)) -> Result<WatchingReport, String> {
    let catalog = project::catalog();
    let plan = catalog.models.values().next().ok_or("the simulated project has a model")?.clone();
    let mut counts = Counts::new(&plan);
    let mut feed = FeedWatch::new(catalog.feed_settings());
    let mut dice = Dice::new(seed, 1);
    let kinds: Vec<ValueType> = plan.signature.features.iter().map(|f| f.kind).collect();
    let row = |dice: &mut Dice| -> Vec<Value> {
        let value = |kind: &ValueType| match kind {
            ValueType::Category => Value::text(["a", "b", "c", "d"][dice.below(4) as usize]),
            ValueType::Bool => Value::Bool(dice.percent(50)),
            ValueType::Int => Value::Int(dice.below(50) as i64),
            ValueType::Float => Value::Float(dice.normal()),
        };
        kinds.iter().map(value).collect()
    };
    let day = Span::days(1);
    let (mut samples, mut version) = (Vec::new(), String::new());
    let (mut in_predictions, mut in_events) = (0u128, 0u128);
    for n in 0..predictions {
        let at = Timestamp((u128::from(n) * u128::from(DAYS) * day.0 as u128 / u128::from(predictions)) as i64);
        let now = format!("v{}", 1 + at.0 / (day.0 * VERSION_DAYS as i64));
        if now != version {
            version = now;
            let rows: Vec<Vec<Value>> = (0..REFERENCE).map(|_| row(&mut dice)).collect();
            let sampled = rows.iter().enumerate().map(|(i, vector)| Sampled {
                time: Timestamp(i as i64 * day.0 / 100),
                vector,
                score: Some(0.3),
            });
            let reference = Reference::build(&plan.signature, sampled, plan.spec.drift.window, plan.spec.drift.period);
            counts.drift.follow(&version, Some(Arc::new(reference)));
        }
        let record = Arc::new(record(&plan.spec.name, &version, at, n, row(&mut dice), dice.unit()));
        let joined = Joined {
            model: Arc::from(plan.spec.name.as_str()),
            version: Arc::from(version.as_str()),
            id: record.id,
            time: at,
            score: record.score,
            change: Change::Matured { label: dice.unit() < record.score },
        };
        let event = event(n, at, &mut dice);
        let started = Instant::now();
        counts.apply(&Input::Served(vec![record]));
        counts.apply(&Input::Outcome(joined));
        let served = started.elapsed();
        feed.on_event(&event);
        in_events += (started.elapsed() - served).as_nanos();
        in_predictions += served.as_nanos();
        if (n + 1) % predictions.div_ceil(SAMPLES) == 0 || n + 1 == predictions {
            let size = |bytes: Result<Vec<u8>, codec::CodecError>| bytes.map(|b| b.len()).map_err(|e| e.to_string());
            let sample = Sample {
                predictions: n + 1,
                monitor_bytes: size(codec::encode_whole(&counts))?,
                feed_bytes: size(codec::encode_whole(&feed))?,
                resident_bytes: memory::resident().unwrap_or(0),
            };
            say(&sample);
            samples.push(sample);
        }
    }
    let whole = |s: &Sample| (s.monitor_bytes + s.feed_bytes) as f64;
    let middle = samples.get(samples.len() / 2).map_or(1.0, whole);
    let most = samples.iter().skip(samples.len() / 2).map(whole).fold(0.0, f64::max);
    let each = |ns: u128| (ns / u128::from(predictions.max(1))) as u64;
    Ok(WatchingReport {
        predictions,
        samples,
        growth: most / middle,
        constant: most <= middle * SLACK,
        ns_per_prediction: each(in_predictions),
        ns_per_event: each(in_events),
    })
}

fn record(model: &str, version: &str, time: Timestamp, n: u64, vector: Vec<Value>, score: f64) -> PredictionRecord {
    let positive = score >= 0.5;
    PredictionRecord {
        id: PredictionId::new(time, u128::from(n)),
        model: model.into(),
        version: version.into(),
        feature_set: String::new(),
        epoch: 1,
        placement: Default::default(),
        request_id: None,
        time,
        entities: BTreeMap::from([("user".to_string(), Some(format!("u{n}")))]),
        context: BTreeMap::new(),
        ages: vector.iter().map(|_| Some((n.wrapping_mul(2_654_435_761) % 100_000) as u32)).collect(),
        vector,
        score,
        label: if positive { "bad" } else { "good" }.into(),
        confidence: score.max(1.0 - score),
        verdict: Verdict::Valid,
        findings: Vec::new(),
        timing: Default::default(),
    }
}

/// Every user is a new one: ids that never end.
fn event(n: u64, time: Timestamp, dice: &mut Dice) -> LoggedEvent {
    let properties = [
        ("amount".to_string(), Value::Float(dice.unit() * 100.0)),
        ("kind".to_string(), Value::text(["book", "food", "toy"][dice.below(3) as usize])),
    ];
    let entities =
        [("user".to_string(), Some(format!("u{n}"))), ("shop".to_string(), Some(format!("s{}", dice.below(3))))];
    let event = Event {
        id: format!("e{n}"),
        kind: "order".into(),
        time,
        entities: entities.into_iter().collect(),
        properties: properties.into_iter().collect(),
    };
    LoggedEvent { seq: n + 1, ingested: time, late: false, event }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_of_traffic_take_no_more_memory_than_what_is_kept() {
        let report = watching(120_000, 1, &|_| ()).expect("it runs");
        assert!(report.constant && report.samples.len() as u64 == SAMPLES, "{report:?}");
        // What was held before anything was full is less: the size is that of what came, up to a bound.
        let held = |s: &Sample| s.monitor_bytes + s.feed_bytes;
        assert!(2 * held(&report.samples[0]) < held(&report.samples[9]), "{report:?}");
    }
}
