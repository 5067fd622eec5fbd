//! The metric inventory: every name, unit and meaning in one place, read by `/metrics` from the
//! actors' counts through the OpenTelemetry API, so that the request path never touches an exporter.

use crate::gateway::Connections;
use crate::security::Security;
use crate::storage::Store;
use crate::system::memory;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use understudy_actors::admission::ClassLoad;
use understudy_actors::counters::{Counters, Family};
use understudy_actors::system::System;

type Pick = fn(&Counters) -> &Family;

/// Counter families: name, meaning, attributes, where it is counted.
const FAMILIES: &[(&str, &str, &[&str], Pick)] = &[
    ("understudy.predictions", "Predictions answered", &["model", "version", "verdict"], |c| &c.predictions),
    ("understudy.refusals", "Prediction requests refused", &["model", "code"], |c| &c.refusals),
    ("understudy.findings", "Broken validation rules", &["model", "rule"], |c| &c.findings),
    ("understudy.events", "Events ingested, by what became of them", &["status"], |c| &c.events),
    ("understudy.outcomes", "Outcomes, by what became of them", &["model", "status"], |c| &c.outcomes),
];

const SPANS: (&str, &str, &[&str]) =
    ("understudy.telemetry.spans", "Spans: made, exported, failed to be exported", &["result"]);

/// What gauges read.
pub struct Readings {
    pub system: Arc<System>,
    pub connections: Arc<Connections>,
    pub security: Arc<Security>,
    /// Bytes; 0 is none.
    pub memory_cap: u64,
    pub store: Arc<Store>,
}

type Read = fn(&Readings) -> f64;

/// Gauges: name, unit, meaning, how to read it.
const GAUGES: &[(&str, &str, &str, Read)] = &[
    ("understudy.requests.in_flight", "{request}", "Requests in work", |r| r.system.admission.depth().0 as f64),
    ("understudy.requests.waiting", "{request}", "Requests that wait on a worker for their turn", |r| {
        r.system.admission.depth().1 as f64
    }),
    ("understudy.requests.max_wait", "s", "Longest wait before a request is refused", |r| {
        r.system.admission.max_wait().as_secs_f64()
    }),
    ("understudy.prediction_log.queue_limit", "{record}", "Most predictions that may wait for the log", |r| {
        r.system.generation().settings.log_queue as f64
    }),
    ("understudy.features.entities_limit", "{entity}", "Most entities in memory", |r| {
        r.system.generation().settings.max_entities as f64
    }),
    ("understudy.connections.open", "{connection}", "Open connections", |r| r.connections.counts().0 as f64),
    ("understudy.connections.refused", "{connection}", "Connections closed because their address had too many", |r| {
        r.connections.counts().1 as f64
    }),
    ("understudy.connections.swept", "{connection}", "Connections closed because they did nothing", |r| {
        r.connections.counts().2 as f64
    }),
    ("understudy.auth.keys", "{key}", "API keys that are known", |r| r.security.keys() as f64),
    ("understudy.auth.unauthorized", "{request}", "Requests without a good key", |r| r.security.denied()[0] as f64),
    ("understudy.auth.forbidden", "{request}", "Requests whose key is not good for them", |r| {
        r.security.denied()[1] as f64
    }),
    ("understudy.auth.rate_limited", "{request}", "Requests over the rate of their key", |r| {
        r.security.denied()[2] as f64
    }),
    ("understudy.process.memory", "By", "Resident memory", |_| memory::resident().unwrap_or(0) as f64),
    ("understudy.process.memory_limit", "By", "Memory near which work is given up; 0 is none", |r| r.memory_cap as f64),
    (
        "understudy.process.memory_level",
        "1",
        "0 normal, 1 shed_shadow, 2 shed_reads, 3 shrink_caches, 4 refuse_work",
        |r| r.system.admission.rung() as u8 as f64,
    ),
    ("understudy.prediction_log.queued", "{record}", "Predictions waiting for the log", |r| {
        r.system.log_queue() as f64
    }),
    ("understudy.prediction_log.dropped", "{record}", "Predictions the log could not take", |r| {
        r.system.deps.counters.log_dropped.load(Relaxed) as f64
    }),
    ("understudy.storage.free", "By", "Free space on the disk of the data directory", |r| {
        r.store.health().free_bytes as f64
    }),
    ("understudy.storage.closed", "1", "1 while the logs take no records: full or failing disk", |r| {
        f64::from(u8::from(r.store.accepting().is_err()))
    }),
    ("understudy.storage.damaged", "{block}", "Damaged places that reading met and left out", |r| {
        r.store.health().damaged as f64
    }),
    ("understudy.storage.quarantined", "{segment}", "Segments that were set aside since the start", |r| {
        r.store.health().quarantined as f64
    }),
    ("understudy.event_log.last_seq", "{event}", "Durable events", |r| r.system.deps.events.last_seq() as f64),
    ("understudy.features.entities", "{entity}", "Entities in memory", |r| {
        r.system.feature_stats().iter().map(|t| t.entities as f64).sum()
    }),
    ("understudy.features.memory", "By", "Estimated memory of feature state", |r| {
        r.system.feature_stats().iter().map(|t| t.bytes as f64).sum()
    }),
    ("understudy.features.cold_loads", "{entity}", "Entities read back from disk", |r| {
        r.system.deps.counters.cold_loads.load(Relaxed) as f64
    }),
    ("understudy.actors.not_ready", "{actor}", "Actors that are not ready", |r| {
        r.system.health().iter().filter(|h| !h.ready).count() as f64
    }),
    ("understudy.actors.restarts", "{restart}", "Actor restarts since the start", |r| {
        r.system.health().iter().map(|h| h.restarts as f64).sum()
    }),
];

/// Registers everything that is read when a reader asks.
pub fn register(meter: &Meter, readings: &Arc<Readings>) {
    for (name, meaning, attributes, pick) in FAMILIES {
        let readings = readings.clone();
        meter
            .u64_observable_counter(*name)
            .with_description(*meaning)
            .with_callback(move |observer| {
                for (labels, n) in pick(&readings.system.deps.counters).read() {
                    let pairs: Vec<KeyValue> =
                        attributes.iter().zip(labels).map(|(key, value)| KeyValue::new(*key, value)).collect();
                    observer.observe(n, &pairs);
                }
            })
            .build();
    }
    for (name, unit, meaning, read) in GAUGES {
        let readings = readings.clone();
        meter
            .f64_observable_gauge(*name)
            .with_unit(*unit)
            .with_description(*meaning)
            .with_callback(move |observer| observer.observe(read(&readings), &[]))
            .build();
    }
    by_class(meter, readings);
}

/// A reading of admission with its attributes.
type Labelled = fn(&System) -> Vec<(Vec<KeyValue>, u64)>;

/// Admission by class, reason and model: every bound beside its depth.
const ADMISSION: &[(&str, &str, &str, Labelled)] = &[
    ("understudy.admission.in_flight", "{request}", "Requests in work, by class", |s| {
        s.admission.loads().iter().map(|l| (vec![KeyValue::new("class", l.class)], l.in_flight)).collect()
    }),
    ("understudy.admission.limit", "{request}", "Most in work, of all classes, for one more of this class", |s| {
        s.admission.loads().iter().map(|l| (vec![KeyValue::new("class", l.class)], l.limit)).collect()
    }),
    ("understudy.admission.admitted", "{request}", "Requests let in since the start, by class", |s| {
        s.admission.loads().iter().map(|l| (vec![KeyValue::new("class", l.class)], l.admitted)).collect()
    }),
    ("understudy.admission.refused", "{request}", "Requests not let in since the start, by class and reason", |s| {
        let of = |l: ClassLoad| {
            l.shed
                .into_iter()
                .map(move |(why, n)| (vec![KeyValue::new("class", l.class), KeyValue::new("reason", why)], n))
        };
        s.admission.loads().into_iter().flat_map(of).collect()
    }),
    ("understudy.admission.model_in_flight", "{request}", "Requests in work, by model", |s| {
        s.admission
            .model_loads()
            .into_iter()
            .map(|(m, n, _)| (vec![KeyValue::new("model", m.to_string())], n))
            .collect()
    }),
    ("understudy.admission.model_limit", "{request}", "Most in work for one model", |s| {
        s.admission
            .model_loads()
            .into_iter()
            .map(|(m, _, n)| (vec![KeyValue::new("model", m.to_string())], n))
            .collect()
    }),
];

fn by_class(meter: &Meter, readings: &Arc<Readings>) {
    for (name, unit, meaning, read) in ADMISSION {
        let readings = readings.clone();
        meter
            .f64_observable_gauge(*name)
            .with_unit(*unit)
            .with_description(*meaning)
            .with_callback(move |observer| {
                for (attributes, n) in read(&readings.system) {
                    observer.observe(n as f64, &attributes);
                }
            })
            .build();
    }
}

/// Spans by what became of them.
pub fn register_spans(meter: &Meter, read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static) {
    let (name, meaning, attributes) = SPANS;
    meter
        .u64_observable_counter(name)
        .with_description(meaning)
        .with_callback(move |observer| {
            for (result, n) in read() {
                observer.observe(n, &[KeyValue::new(attributes[0], result)]);
            }
        })
        .build();
}
