//! What leaves for a collector, as a collector reads it; and that nobody notices when there is none.

use crate::project::{DAY, MODEL, at, make, stream};
use crate::support::{Server, until};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// An OTLP/HTTP receiver: takes what the standard says and keeps it.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<BTreeSet<String>>>,
}

impl Collector {
    /// Its address, and what it has got.
    fn listen() -> (String, Collector) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let collector = Collector::default();
        let kept = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let collector = kept.clone();
                std::thread::spawn(move || while collector.take(&stream).is_some() {});
            }
        });
        (address, collector)
    }

    /// One request of a connection; `None` when there are no more.
    fn take(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (mut target, mut length) = (String::new(), 0);
        reader.read_line(&mut target).ok().filter(|n| *n > 0)?;
        for line in reader.by_ref().lines() {
            let line = line.ok()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if target.starts_with("POST /v1/traces ") {
            let sent = ExportTraceServiceRequest::decode(&body[..]).expect("the protocol's message");
            let spans = sent.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
            self.spans.lock().expect("spans").extend(spans);
        } else if target.starts_with("POST /v1/metrics ") {
            let sent = ExportMetricsServiceRequest::decode(&body[..]).expect("the protocol's message");
            let all = sent.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics);
            self.metrics.lock().expect("metrics").extend(all.map(|m| m.name));
        } else {
            panic!("a collector has no {target}");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
    }

    fn of(&self, trace: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("spans");
        spans.iter().filter(|s| hex(&s.trace_id) == trace).cloned().collect()
    }

    fn named(&self, name: &str) -> usize {
        self.spans.lock().expect("spans").iter().filter(|s| s.name == name).count()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(s) => Some(s.clone()),
        any_value::Value::IntValue(i) => Some(i.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// A server with a trained model; exporters that do not dawdle.
fn server(project: &Path, environment: &[(&str, &str)]) -> Server {
    make(project);
    let mut all = vec![("OTEL_BSP_SCHEDULE_DELAY", "20"), ("OTEL_METRIC_EXPORT_INTERVAL", "50")];
    all.extend(environment);
    let server = Server::start_with(project, &["clock.source=stream", "storage.durability=process"], &all);
    let (status, sum) = server.lines("/v1/replay", &stream(30).concat()).expect("an answer");
    assert_eq!(status, 200, "{sum}");
    server.train(MODEL);
    server
}

fn asked(n: usize) -> Value {
    let time = at(40 * DAY + i64::try_from(n).expect("small"));
    json!({"request_id": format!("q{n}"), "entities": {"customer": "c1"}, "context": {"amount": 150.0}, "time": time})
}

fn path() -> String {
    format!("/v1/models/{MODEL}/predict")
}

fn reading(server: &Server, line: &str) -> Option<f64> {
    let text = server.text("/metrics", "text/plain");
    text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
}

#[test]
fn a_trace_goes_from_the_caller_through_the_actors() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (address, collector) = Collector::listen();
    // The sampler keeps no trace of its own accord: what is kept, the caller or the answer decides.
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    let server = server(dir.path(), &environment);
    let (status, answer) = server.post_with(&path(), "traceparent", &format!("00-{TRACE}-{PARENT}-01"), &asked(0));
    assert_eq!(status, 200, "{answer}");
    let not_sampled = "00-11111111111111111111111111111111-b7ad6b7169203331-00";
    assert_eq!(server.post_with(&path(), "traceparent", not_sampled, &asked(1)).0, 200);
    assert_eq!(server.post(&path(), &asked(2)).0, 200);

    let wanted = ["predict", "RoutePrediction", "GetFeatures", "Validate", "Predict", "LogPrediction"];
    let spans = until("the spans of a prediction", || {
        let spans = collector.of(TRACE);
        (spans.len() > wanted.len()).then_some(spans)
    });
    let span =
        |name: &str| spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no span {name}: {spans:?}"));
    let request = span("POST /v1/models/{model}/predict");
    assert_eq!(hex(&request.parent_span_id), PARENT, "it hangs below the caller's span");
    assert_eq!(attribute(&request.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(span("predict").parent_span_id, request.span_id);
    assert_eq!(span("LogPrediction").parent_span_id, request.span_id);
    assert_eq!(attribute(&span("predict").attributes, "understudy.model").as_deref(), Some(MODEL));
    for name in &wanted[1..5] {
        let message = span(name);
        assert_eq!(message.parent_span_id, span("predict").span_id, "{name}");
        assert!(message.start_time_unix_nano >= request.start_time_unix_nano, "{name}");
        assert!(message.end_time_unix_nano <= request.end_time_unix_nano, "{name}");
    }
    let ids: BTreeSet<&[u8]> = spans.iter().map(|s| &s.span_id[..]).collect();
    assert_eq!(ids.len(), spans.len(), "ids are distinct");
    for s in &spans {
        for a in &s.attributes {
            let value = attribute(&s.attributes, &a.key).unwrap_or_default();
            assert!(!value.contains("c1") && !value.contains("q0"), "{} tells of an entity: {value}", a.key);
        }
    }

    until("every metric", || {
        let metrics = collector.metrics.lock().expect("metrics");
        let wanted = ["understudy.predictions", "http.server.request.duration", "understudy.prediction.step.duration"];
        wanted.iter().all(|m| metrics.contains(*m)).then_some(())
    });
    assert_eq!(collector.named("POST /v1/models/{model}/predict"), 1, "the sampler keeps nothing by itself");
}

#[test]
fn failed_requests_are_kept_whatever_the_sampler_says() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (address, collector) = Collector::listen();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("UNDERSTUDY_FAULT", "model_instance.predict:panic:1"),
    ];
    let server = server(dir.path(), &environment);
    let (status, problem) = server.post(&path(), &asked(0));
    assert_eq!(status, 500, "{problem}");
    assert_eq!(server.post(&path(), &asked(1)).0, 200);
    let spans = until("the failed request", || {
        let spans = collector.spans.lock().expect("spans").clone();
        (!spans.is_empty()).then_some(spans)
    });
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(attribute(&spans[0].attributes, "error.type").as_deref(), Some("500"));
}

#[test]
fn without_a_collector_nobody_notices() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let address = format!("http://{nobody}");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()), ("OTEL_TRACES_SAMPLER", "always_on")];
    let server = server(dir.path(), &environment);
    let answers: Vec<(u16, Value)> = (0..50).map(|n| server.post(&path(), &asked(n))).collect();
    assert!(answers.iter().all(|(status, a)| *status == 200 && a["logged"] == json!(true)), "{answers:?}");
    until("spans that were lost and counted", || {
        reading(&server, "understudy_telemetry_spans_total{result=\"failed\"}").filter(|n| *n > 0.0)
    });
}
