//! Spans: a request is one, each message that it causes another below it. A span is made when its work is done,
//! and only for traces that are kept, so that a request that is not traced costs nothing.
//!
//! Kept are: what the sampler keeps; requests that failed; requests that a canary answered. The last two
//! are known only at the end and are bounded by [`KEPT_PER_S`].

use super::otlp::Export;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor};
use std::cell::Cell;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use understudy_actors::ports::MessageSpan;
use understudy_domain::prediction::{Timing, Verdict};
use understudy_domain::trace::{Sampler, TraceContext};

/// Most traces a second that are kept although the sampler did not: a storm of errors must not become one of spans.
const KEPT_PER_S: u64 = 50;
/// Most predictions of one request whose steps are shown.
const MAX_STEPS: usize = 16;

/// A request while it is answered.
#[derive(Debug)]
pub struct RequestSpan {
    pub context: TraceContext,
    parent: Option<u64>,
    state: TraceState,
}

/// One prediction of a request.
#[derive(Clone, Debug)]
pub struct Step {
    /// From the start of the request to the start of this prediction.
    pub after: Duration,
    pub timing: Timing,
    pub model: String,
    pub version: String,
    /// `baseline`, `canary`, or another arm of a rollout.
    pub arm: &'static str,
    pub verdict: Verdict,
}

/// An answered request. No attribute is of unbounded kind: neither ids nor paths as they came.
#[derive(Debug)]
pub struct Finished<'a> {
    pub method: &'static str,
    pub route: &'static str,
    pub status: u16,
    pub started: Instant,
    pub steps: &'a [Step],
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct Counts {
    made: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// Spans by result. What was made and is neither exported nor failed waits, or found the queue full.
    pub fn read(&self) -> [(&'static str, u64); 3] {
        [("made", &self.made), ("exported", &self.exported), ("failed", &self.failed)]
            .map(|(n, c)| (n, c.load(Relaxed)))
    }
}

#[derive(Debug)]
struct Counting {
    exporter: Otlp,
    counts: Arc<Counts>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        let count = if result.is_ok() { &self.counts.exported } else { &self.counts.failed };
        count.fetch_add(n, Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

pub struct Traces {
    sampler: Sampler,
    /// The SDK's queue and thread: bounded, and what does not fit is dropped.
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    counts: Arc<Counts>,
    began: Instant,
    /// Second since `began`, and traces kept in it, in one word.
    kept: AtomicU64,
}

impl Traces {
    pub fn start(export: &Export, resource: &Resource) -> Result<Option<Traces>, String> {
        let Some(exporter) = export.traces()? else { return Ok(None) };
        let counts = Arc::<Counts>::default();
        let mut processor = BatchSpanProcessor::builder(Counting { exporter, counts: counts.clone() }).build();
        processor.set_resource(resource);
        let scope = InstrumentationScope::builder("understudy").with_version(env!("CARGO_PKG_VERSION")).build();
        let (began, kept) = (Instant::now(), AtomicU64::new(0));
        Ok(Some(Traces { sampler: export.sampler, processor, scope, counts, began, kept }))
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn begin(&self, traceparent: Option<&str>, tracestate: Option<&str>) -> RequestSpan {
        let parent = traceparent.and_then(TraceContext::parse);
        let trace_id = parent.map_or_else(|| u128::from(random()) << 64 | u128::from(random()), |p| p.trace_id);
        let sampled = self.sampler.keeps(parent, trace_id);
        let state = parent.and(tracestate).and_then(|s| TraceState::from_str(s).ok()).unwrap_or_default();
        let context = TraceContext { trace_id, span_id: random(), sampled };
        RequestSpan { context, parent: parent.map(|p| p.span_id), state }
    }

    pub fn end(&self, span: RequestSpan, request: &Finished<'_>) {
        let failed = request.status >= 500;
        let canary = request.steps.iter().any(|s| s.arm == "canary");
        if !span.context.sampled && !((failed || canary) && self.may_keep()) {
            return;
        }
        let started = SystemTime::now() - request.started.elapsed();
        for step in request.steps.iter().take(MAX_STEPS) {
            self.prediction(span.context, started + step.after, step);
        }
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method),
            KeyValue::new("http.route", request.route),
            KeyValue::new("http.response.status_code", i64::from(request.status)),
        ];
        if failed {
            attributes.push(KeyValue::new("error.type", request.status.to_string()));
        }
        let name = format!("{} {}", request.method, request.route);
        let data =
            self.span(span.context, span.context.span_id, span.parent, name.into(), (started, SystemTime::now()));
        self.send(SpanData {
            span_kind: SpanKind::Server,
            parent_span_is_remote: span.parent.is_some(),
            status: if failed { Status::error("") } else { Status::Unset },
            attributes,
            span_context: SpanContext::new(
                TraceId::from_bytes(span.context.trace_id.to_be_bytes()),
                SpanId::from_bytes(span.context.span_id.to_be_bytes()),
                TraceFlags::SAMPLED,
                false,
                span.state,
            ),
            ..data
        });
    }

    /// The messages of one prediction, one after the other.
    fn prediction(&self, request: TraceContext, started: SystemTime, step: &Step) {
        let own = random();
        let t = &step.timing;
        let messages = [
            ("router", "RoutePrediction", t.route_us),
            ("feature_shard", "GetFeatures", t.features_us),
            ("cell", "Validate", t.validate_us),
            ("model_instance", "Predict", t.model_us),
        ];
        let mut at = started;
        for (actor, message, us) in messages {
            let until = at + Duration::from_micros(us.into());
            self.send(SpanData {
                attributes: vec![KeyValue::new("understudy.actor", actor)],
                ..self.span(request, random(), Some(own), message.into(), (at, until))
            });
            at = until;
        }
        self.send(SpanData {
            attributes: vec![
                KeyValue::new("understudy.model", step.model.clone()),
                KeyValue::new("understudy.version", step.version.clone()),
                KeyValue::new("understudy.verdict", understudy_actors::cell::verdict_name(step.verdict)),
                KeyValue::new("feature_flag.result.variant", step.arm),
            ],
            ..self.span(request, own, Some(request.span_id), "predict".into(), (started, at))
        });
    }

    /// Work that another actor did for a request.
    pub fn message(&self, span: &MessageSpan) {
        let until = SystemTime::now() - span.started.elapsed().saturating_sub(span.took);
        let times = (until - span.took, until);
        self.send(SpanData {
            attributes: vec![KeyValue::new("understudy.actor", span.actor)],
            ..self.span(span.parent, random(), Some(span.parent.span_id), span.message.into(), times)
        });
    }

    fn span(
        &self,
        trace: TraceContext,
        id: u64,
        parent: Option<u64>,
        name: std::borrow::Cow<'static, str>,
        (start_time, end_time): (SystemTime, SystemTime),
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(trace.trace_id.to_be_bytes()),
                SpanId::from_bytes(id.to_be_bytes()),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: parent.map_or(SpanId::INVALID, |p| SpanId::from_bytes(p.to_be_bytes())),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name,
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn send(&self, span: SpanData) {
        self.counts.made.fetch_add(1, Relaxed);
        self.processor.on_end(span);
    }

    fn may_keep(&self) -> bool {
        let second = self.began.elapsed().as_secs() << 16;
        let count = |kept: u64| if kept & !0xffff == second { kept + 1 } else { second + 1 };
        let kept = self.kept.fetch_update(Relaxed, Relaxed, |kept| Some(count(kept))).map_or(0, count);
        kept & 0xffff <= KEPT_PER_S
    }

    pub fn stop(&self, within: Duration) {
        let _ = self.processor.shutdown_with_timeout(within);
    }
}

/// Never 0. Ids need to be distinct, not secret: SplitMix64 from a seed of the thread's own.
fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(ulid::Ulid::generate().0 as u64));
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let z = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    })
}
