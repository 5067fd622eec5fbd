//! The inventory as instruments of a meter.

use super::inventory::{Kind, METRICS, Metric, Read, Readings, SPANS};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use std::sync::Arc;

/// Registers everything that is read when a reader asks.
pub fn register(meter: &Meter, readings: &Arc<Readings>) {
    for metric in METRICS {
        let readings = readings.clone();
        match metric.read {
            Read::Elsewhere => {}
            Read::One(read) => observed(meter, metric, move |observer| observer.observe(read(&readings), &[])),
            Read::Many(read) => observed(meter, metric, move |observer| {
                for (values, n) in read(&readings) {
                    let pairs = metric.attributes.iter().zip(values);
                    observer.observe(n, &pairs.map(|(key, value)| KeyValue::new(*key, value)).collect::<Vec<_>>());
                }
            }),
        }
    }
}

/// Spans by what became of them.
pub fn register_spans(meter: &Meter, read: impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static) {
    observed(meter, &SPANS, move |observer| {
        for (result, n) in read() {
            observer.observe(n as f64, &[KeyValue::new(SPANS.attributes[0], result)]);
        }
    });
}

fn observed(meter: &Meter, m: &Metric, callback: impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static) {
    match m.kind {
        Kind::Counter => {
            let builder = meter.f64_observable_counter(m.name).with_unit(m.unit).with_description(m.meaning);
            builder.with_callback(callback).build();
        }
        Kind::Gauge => {
            let builder = meter.f64_observable_gauge(m.name).with_unit(m.unit).with_description(m.meaning);
            builder.with_callback(callback).build();
        }
        Kind::Histogram => unreachable!("histograms are recorded where it happens"),
    }
}
