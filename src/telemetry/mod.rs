//! What the program tells the outside: metrics to `/metrics` and OTLP, traces to OTLP. It only reports: nothing
//! decides by it, nothing waits for it, and what a collector does not take is counted and forgotten.

mod client;
pub mod dashboards;
mod durations;
pub mod inventory;
mod otlp;
pub mod page;
mod register;
pub mod rules;
mod traces;

pub use inventory::Readings;
pub use otlp::{Export, resolve};
pub use traces::{Finished, RequestSpan, Step};

use crate::gateway::MetricsText;
use durations::{Durations, Predictions};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};
use std::sync::Arc;
use std::time::{Duration, Instant};
use traces::{Counts, Traces};
use understudy_actors::ports::{self, MessageSpan};
use understudy_domain::prediction::PredictionRecord;

/// The last spans and metrics get this long to go out at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

pub struct Telemetry {
    provider: SdkMeterProvider,
    registry: Registry,
    http: Durations,
    predictions: Predictions,
    /// `None`: nobody takes traces.
    traces: Option<Traces>,
}

impl Telemetry {
    /// Starts the exporters; `export` says to whom, if to anybody.
    pub fn start(export: Option<&Export>) -> Result<Arc<Telemetry>, String> {
        let resource = resource();
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|e| format!("metrics: {e}"))?;
        let mut provider = SdkMeterProvider::builder().with_reader(prometheus).with_resource(resource.clone());
        if let Some(exporter) = export.map(Export::metrics).transpose()?.flatten() {
            provider = provider.with_reader(PeriodicReader::builder(exporter).build());
        }
        let provider = provider.build();
        let meter = provider.meter("understudy");
        let traces = export.map(|e| Traces::start(e, &resource)).transpose()?.flatten();
        let (http, predictions) = (Durations::http(&meter), Predictions::new(&meter));
        Ok(Arc::new(Telemetry { provider, registry, http, predictions, traces }))
    }

    /// Registers all that is read from the running system.
    pub fn observe(self: &Arc<Self>, readings: Readings) {
        let meter = self.provider.meter("understudy");
        register::register(&meter, &Arc::new(readings));
        let telemetry = self.clone();
        register::register_spans(&meter, move || {
            telemetry.traces.as_ref().map_or_else(|| Counts::default().read(), |t| t.counts().read())
        });
    }

    /// The text of `/metrics`.
    pub fn text(self: &Arc<Self>) -> MetricsText {
        let telemetry = self.clone();
        Arc::new(move || {
            let mut text = Vec::new();
            match TextEncoder::new().encode(&telemetry.registry.gather(), &mut text) {
                Ok(()) => String::from_utf8(text).unwrap_or_default(),
                Err(e) => format!("# {e}\n"),
            }
        })
    }

    /// The span of a request that came with these headers; `None` while nobody takes traces.
    pub fn begin(&self, traceparent: Option<&str>, tracestate: Option<&str>) -> Option<RequestSpan> {
        self.traces.as_ref().map(|t| t.begin(traceparent, tracestate))
    }

    /// A request was answered.
    pub fn end(&self, span: Option<RequestSpan>, request: &Finished<'_>) {
        self.http.record(request.method, request.route, request.status, request.started.elapsed());
        if let (Some(traces), Some(span)) = (&self.traces, span) {
            traces.end(span, request);
        }
    }

    /// Sends what is left, for at most [`FLUSH_WITHIN`].
    pub fn stop(&self) {
        let until = Instant::now() + FLUSH_WITHIN;
        if let Some(traces) = &self.traces {
            traces.stop(FLUSH_WITHIN);
        }
        let _ = self.provider.shutdown_with_timeout(until.saturating_duration_since(Instant::now()));
    }
}

impl ports::Telemetry for Telemetry {
    fn predictions(&self, group: &[Arc<PredictionRecord>]) {
        self.predictions.record(group);
    }

    fn message(&self, span: MessageSpan) {
        if let Some(traces) = &self.traces {
            traces.message(&span);
        }
    }
}

/// Who we are; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
fn resource() -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    match std::env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => resource.build(),
        None => resource.with_service_name("understudy").build(),
    }
}
