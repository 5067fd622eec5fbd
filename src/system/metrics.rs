//! The metric inventory: every name, unit and meaning in one place, read by `/metrics` from the
//! actors' counts through the OpenTelemetry API, so that the request path never touches an exporter.

use crate::gateway::MetricsText;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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

type Read = fn(&System) -> f64;

/// Gauges: name, unit, meaning, how to read it.
const GAUGES: &[(&str, &str, &str, Read)] = &[
    ("understudy.requests.in_flight", "{request}", "Requests being answered", |s| {
        s.deps.counters.in_flight.load(Relaxed) as f64
    }),
    ("understudy.prediction_log.queued", "{record}", "Predictions waiting for the log", |s| s.log_queue() as f64),
    ("understudy.prediction_log.dropped", "{record}", "Predictions the log could not take", |s| {
        s.deps.counters.log_dropped.load(Relaxed) as f64
    }),
    ("understudy.event_log.last_seq", "{event}", "Durable events", |s| s.deps.events.last_seq() as f64),
    ("understudy.features.entities", "{entity}", "Entities in memory", |s| {
        s.feature_stats().iter().map(|t| t.entities as f64).sum()
    }),
    ("understudy.features.memory", "By", "Estimated memory of feature state", |s| {
        s.feature_stats().iter().map(|t| t.bytes as f64).sum()
    }),
    ("understudy.features.cold_loads", "{entity}", "Entities read back from disk", |s| {
        s.deps.counters.cold_loads.load(Relaxed) as f64
    }),
    ("understudy.actors.not_ready", "{actor}", "Actors that are not ready", |s| {
        s.health().iter().filter(|h| !h.ready).count() as f64
    }),
    ("understudy.actors.restarts", "{restart}", "Actor restarts since the start", |s| {
        s.health().iter().map(|h| h.restarts as f64).sum()
    }),
];

/// Registers the inventory; the function renders it.
pub fn inventory(system: Arc<System>) -> MetricsText {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    let provider = match exporter {
        Ok(exporter) => {
            let resource = Resource::builder().with_service_name("understudy").build();
            SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build()
        }
        Err(e) => {
            tracing::error!(%e, "metrics are not available");
            return Arc::new(String::new);
        }
    };
    let meter = provider.meter("understudy");
    register(&meter, &system);
    Arc::new(move || {
        // The provider must outlive the registry it feeds.
        let _ = &provider;
        let mut text = Vec::new();
        match TextEncoder::new().encode(&registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(e) => format!("# {e}\n"),
        }
    })
}

fn register(meter: &Meter, system: &Arc<System>) {
    for (name, meaning, attributes, pick) in FAMILIES {
        let system = system.clone();
        meter
            .u64_observable_counter(*name)
            .with_description(*meaning)
            .with_callback(move |observer| {
                for (labels, n) in pick(&system.deps.counters).read() {
                    let pairs: Vec<KeyValue> =
                        attributes.iter().zip(labels).map(|(key, value)| KeyValue::new(*key, value)).collect();
                    observer.observe(n, &pairs);
                }
            })
            .build();
    }
    for (name, unit, meaning, read) in GAUGES {
        let system = system.clone();
        meter
            .f64_observable_gauge(*name)
            .with_unit(*unit)
            .with_description(*meaning)
            .with_callback(move |observer| observer.observe(read(&system), &[]))
            .build();
    }
}
