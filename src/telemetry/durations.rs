//! Histograms of how long things take. Each set of attributes is bound once; a record is then a few additions.

use super::inventory::{HTTP_DURATION, Metric, PREDICTION_DURATION, STEP_DURATION};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram, Meter};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use understudy_domain::prediction::{PredictionRecord, Timing};

/// The advised bounds of HTTP durations, and finer ones below: most of our answers take less than 5 ms.
const BOUNDS_S: [f64; 17] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Versions that are told apart in one life of the process; further ones are `other`.
const MAX_VERSIONS: usize = 200;

fn histogram(meter: &Meter, m: &Metric) -> Histogram<f64> {
    let builder = meter.f64_histogram(m.name).with_unit(m.unit).with_description(m.meaning);
    builder.with_boundaries(BOUNDS_S.to_vec()).build()
}

type Answered = (&'static str, &'static str, u16);

/// `http.server.request.duration`.
pub struct Durations {
    histogram: Histogram<f64>,
    bound: RwLock<HashMap<Answered, BoundHistogram<f64>>>,
}

impl Durations {
    pub fn http(meter: &Meter) -> Durations {
        Durations { histogram: histogram(meter, &HTTP_DURATION), bound: RwLock::default() }
    }

    pub fn record(&self, method: &'static str, route: &'static str, status: u16, took: Duration) {
        let key = (method, route, status);
        if let Some(bound) = self.bound.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return bound.record(took.as_secs_f64());
        }
        let bound = self.histogram.bind(&[
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ]);
        bound.record(took.as_secs_f64());
        self.bound.write().unwrap_or_else(PoisonError::into_inner).insert(key, bound);
    }
}

/// Reads one step, in microseconds.
type StepTime = fn(&Timing) -> u32;

/// The steps of a prediction, in order.
const STEPS: [(&str, StepTime); 5] = [
    ("parse", |t| t.parse_us),
    ("route", |t| t.route_us),
    ("features", |t| t.features_us),
    ("validate", |t| t.validate_us),
    ("model", |t| t.model_us),
];

struct Version {
    total: BoundHistogram<f64>,
    steps: Arc<[BoundHistogram<f64>; STEPS.len()]>,
}

/// `understudy.prediction.duration` and its steps.
pub struct Predictions {
    total: Histogram<f64>,
    step: Histogram<f64>,
    versions: RwLock<HashMap<String, HashMap<String, Arc<Version>>>>,
}

impl Predictions {
    pub fn new(meter: &Meter) -> Predictions {
        Predictions {
            total: histogram(meter, &PREDICTION_DURATION),
            step: histogram(meter, &STEP_DURATION),
            versions: RwLock::default(),
        }
    }

    /// Off the request path: the log's thread brings whole groups.
    pub fn record(&self, group: &[Arc<PredictionRecord>]) {
        let mut last: Option<(&PredictionRecord, Arc<Version>)> = None;
        for record in group {
            let version = match &last {
                Some((r, version)) if r.version == record.version && r.model == record.model => version.clone(),
                _ => self.version(&record.model, &record.version),
            };
            version.total.record(f64::from(record.timing.total_us) * 1e-6);
            for (bound, (_, read)) in version.steps.iter().zip(STEPS) {
                bound.record(f64::from(read(&record.timing)) * 1e-6);
            }
            last = Some((record, version));
        }
    }

    fn version(&self, model: &str, version: &str) -> Arc<Version> {
        let known = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(model).and_then(|v| v.get(version)) {
            return found.clone();
        }
        drop(known);
        let mut known = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        let full = known.values().map(HashMap::len).sum::<usize>() >= MAX_VERSIONS;
        let (model, version) = if full { ("other", "other") } else { (model, version) };
        let of = KeyValue::new("model", model.to_owned());
        let versions = known.entry(model.to_owned()).or_default();
        let steps = versions.values().next().map(|v| v.steps.clone());
        let made = versions.entry(version.to_owned()).or_insert_with(|| {
            let step = |(name, _)| self.step.bind(&[of.clone(), KeyValue::new("step", name)]);
            Arc::new(Version {
                total: self.total.bind(&[of.clone(), KeyValue::new("version", version.to_owned())]),
                steps: steps.unwrap_or_else(|| Arc::new(STEPS.map(step))),
            })
        });
        made.clone()
    }
}
