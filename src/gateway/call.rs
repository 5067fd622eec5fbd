//! One HTTP request as the handlers see it: body read, id known, query checked.

use super::GatewayLimits;
use super::error::Fault;
use crate::security::audit::Record;
use crate::security::{Caller, Security};
use crate::system::WallClock;
use crate::telemetry::Step;
use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, http::StatusCode};
use serde::Serialize;
use serde_json::Value as Json;
use std::cell::RefCell;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_actors::api::Refusal;
use understudy_actors::cell::Cell;
use understudy_actors::generation::Generation;
use understudy_actors::ports::Clock;
use understudy_domain::prediction::{PredictionRecord, ServedArm};
use understudy_domain::time::Timestamp;
use understudy_domain::trace::TraceContext;

/// Most headers of a request, and bytes of its target and headers together.
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 << 10;
/// A body up to this length is read even if its request is refused.
const SHORT_BODY_BYTES: usize = 64 << 10;
/// Longest path parameter we look up.
const MAX_NAME_BYTES: usize = 256;

pub struct Call {
    pub http: HttpRequest,
    pub body: Bytes,
    pub request_id: String,
    pub started: Instant,
    /// The configuration that answers this request, whatever changes meanwhile.
    pub generation: Option<Arc<Generation>>,
    pub caller: Caller,
    /// The trace of this request, if somebody takes traces.
    pub trace: Option<TraceContext>,
    /// The predictions made so far, for its trace.
    pub steps: RefCell<Vec<Step>>,
}

/// The caller's `X-Request-Id` if it is a plain word, else a new one.
pub fn request_id(http: &HttpRequest) -> String {
    let given = http.headers().get("x-request-id").and_then(|v| v.to_str().ok());
    match given {
        Some(id) if (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) => id.to_owned(),
        _ => ulid::Ulid::generate().to_string(),
    }
}

/// Whether the body says that it is at most [`SHORT_BODY_BYTES`] long.
pub fn is_short(http: &HttpRequest) -> bool {
    let announced = http.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    announced.is_some_and(|n| n <= SHORT_BODY_BYTES)
}

/// Reads a body within the limits; refuses one that announces to be too long before reading it.
pub async fn read_body(http: &HttpRequest, payload: web::Payload, limits: GatewayLimits) -> Result<Bytes, Fault> {
    let max_bytes = limits.max_body_bytes;
    let too_large = || Fault::too_large("body_too_large", format!("the body has more than {max_bytes} bytes"));
    if let Some(encoding) = http.headers().get(header::CONTENT_ENCODING).filter(|v| *v != "identity") {
        let detail = format!("Content-Encoding {encoding:?} is not accepted; send the body as it is");
        return Err(Fault::media_type(detail));
    }
    let announced = http.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > max_bytes as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.body_timeout, payload.to_bytes_limited(max_bytes)).await {
        Err(_) => Err(Fault::body_timeout(limits.body_timeout)),
        Ok(Err(_)) => Err(too_large()),
        Ok(Ok(Err(e))) => Err(Fault::bad("malformed_body", format!("the body could not be read: {e}"))),
        Ok(Ok(Ok(bytes))) => Ok(bytes),
    }
}

impl Call {
    pub fn generation(&self) -> Result<&Generation, Fault> {
        self.generation.as_deref().ok_or_else(|| Fault::internal("no cell on this worker"))
    }

    /// This worker's cell.
    pub fn cell(&self) -> Result<&Cell, Fault> {
        let cell = self.http.app_data::<web::Data<Cell>>().ok_or_else(|| Fault::internal("no cell on this worker"))?;
        Ok(cell.get_ref())
    }

    /// `X-Understudy-Arm`: the side of a rollout, or the version, that a caller with leave to chooses.
    #[allow(clippy::type_complexity)]
    pub fn side(&self, model: &str) -> Result<Option<(Option<ServedArm>, Option<String>)>, Fault> {
        let Some(value) = self.http.headers().get("x-understudy-arm") else { return Ok(None) };
        let may =
            self.generation()?.served(model).is_some_and(|s| s.plan.spec.rollout.may_override(self.caller.name()));
        if !may {
            return Err(Fault::forbidden(
                "override_not_allowed",
                format!("X-Understudy-Arm is for keys named in override_keys of the [rollout] table of `{model}`"),
            ));
        }
        match value.to_str().unwrap_or_default() {
            "baseline" => Ok(Some((Some(ServedArm::Baseline), None))),
            "canary" => Ok(Some((Some(ServedArm::Canary), None))),
            "" => Err(Fault::bad("invalid_arm", "X-Understudy-Arm: baseline, canary, or a version")),
            version => Ok(Some((None, Some(version.to_owned())))),
        }
    }

    /// The context that actors hang their spans below; only for requests whose trace is kept.
    pub fn traced(&self) -> Option<TraceContext> {
        self.trace.filter(|t| t.sampled)
    }

    /// Notes a prediction of this request that began `after` its start.
    pub fn note(&self, after: Duration, record: &PredictionRecord) {
        if self.trace.is_some() {
            self.steps.borrow_mut().push(Step {
                after,
                timing: record.timing,
                model: record.model.clone(),
                version: record.version.clone(),
                arm: record.placement.arm.name(),
                verdict: record.verdict,
            });
        }
    }

    /// Who asks, as the audit log names them.
    pub fn who(&self) -> String {
        self.caller.name().to_owned()
    }

    /// Puts a change into the audit log, off this thread.
    pub async fn audit(&self, action: &str, target: &str, before: Json, after: Json) {
        let Some(security) = self.http.app_data::<web::Data<Security>>().cloned() else { return };
        let record = Record {
            seq: 0,
            time: WallClock.now(),
            who: self.caller.name().to_owned(),
            from: self.http.peer_addr().map_or_else(|| "unknown".to_owned(), |a| a.ip().to_string()),
            action: action.to_owned(),
            target: target.to_owned(),
            before,
            after,
        };
        let _ = web::block(move || security.record(record)).await;
    }

    pub fn limits(&self) -> GatewayLimits {
        limits(&self.http, self.generation.as_deref())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.http.headers().get(name)?.to_str().ok()
    }

    /// Media type without parameters, lower case; empty if none was sent.
    pub fn content_type(&self) -> String {
        self.http.content_type().to_ascii_lowercase()
    }

    /// JSON comes under many names and without one; what is plainly something else is refused.
    pub fn require_json(&self) -> Result<(), Fault> {
        const TAKEN: [&str; 8] = [
            "",
            "application/json",
            "application/octet-stream",
            "application/x-ndjson",
            "application/jsonl",
            "application/toml",
            "application/x-www-form-urlencoded", // what curl -d says
            "text/plain",
        ];
        let kind = self.content_type();
        if TAKEN.contains(&&*kind) || kind.ends_with("+json") {
            return Ok(());
        }
        Err(Fault::media_type(format!("`{kind}` is not accepted; send application/json")))
    }

    /// A path parameter, decoded. Names that nothing can have are not found.
    pub fn name(&self, parameter: &str) -> Result<String, Fault> {
        let unknown = || Fault::not_found("not_found", format!("no such {parameter}"));
        let raw = self.http.match_info().get(parameter).ok_or_else(unknown)?;
        let name = percent_decoded(raw.as_bytes()).ok_or_else(unknown)?;
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(unknown());
        }
        Ok(name)
    }

    /// The query, of which only `known` may be there.
    pub fn query(&self, known: &[&str]) -> Result<Query, Fault> {
        let Ok(pairs) = web::Query::<Vec<(String, String)>>::from_query(self.http.query_string()) else {
            return Err(Fault::bad("invalid_query", "the query is not of the form name=value&..."));
        };
        let pairs = pairs.into_inner();
        if let Some((name, _)) = pairs.iter().find(|(n, _)| !known.contains(&&**n)) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Fault::bad("invalid_query", format!("unknown query parameter `{name}`; known: {known}")));
        }
        Ok(Query(pairs))
    }

    /// How long this request may take from its start: `X-Deadline-Ms`, at most the server's own limit.
    pub fn deadline(&self) -> Result<Duration, Fault> {
        deadline(&self.http, self.limits().request_timeout)
    }

    /// Awaits an answer of the system no longer than the deadline.
    pub async fn within<T>(&self, answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Fault> {
        let left = self.deadline()?.saturating_sub(self.started.elapsed());
        match tokio::time::timeout(left, answer).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Refusal::Deadline.into()),
        }
    }
}

/// `X-Deadline-Ms`, at most `limit`; `limit` if it is not there.
pub fn deadline(http: &HttpRequest, limit: Duration) -> Result<Duration, Fault> {
    let Some(value) = http.headers().get("x-deadline-ms") else { return Ok(limit) };
    match value.to_str().ok().and_then(|v| v.parse::<u64>().ok()) {
        Some(ms @ 1..=600_000) => Ok(limit.min(Duration::from_millis(ms))),
        _ => Err(Fault::bad("invalid_deadline", "X-Deadline-Ms: expected whole milliseconds from 1 to 600000")),
    }
}

/// Refuses heads that no honest client sends. (The parser takes 96 headers and 128 KiB.)
pub fn check_head(http: &HttpRequest) -> Result<(), Fault> {
    let headers = http.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let bytes = bytes + http.uri().path_and_query().map_or(0, |p| p.as_str().len());
    if headers.len() > MAX_HEADERS || bytes > MAX_HEAD_BYTES {
        return Err(Fault::head_too_large(MAX_HEADERS, MAX_HEAD_BYTES));
    }
    Ok(())
}

/// The limits of this start, with the live ones of the generation.
pub fn limits(http: &HttpRequest, generation: Option<&Generation>) -> GatewayLimits {
    let fixed = http.app_data::<web::Data<GatewayLimits>>().map(|l| *l.get_ref()).unwrap_or_default();
    let Some(live) = generation.map(|g| &g.settings) else { return fixed };
    GatewayLimits {
        max_body_bytes: live.max_body_bytes,
        max_upload_bytes: live.max_upload_bytes,
        max_instances: live.max_instances,
        max_events: live.max_events,
        request_timeout: live.request_timeout,
        ..fixed
    }
}

/// Percent-encoded UTF-8, as in paths and in header values of CloudEvents; `None` if it is not UTF-8.
pub fn percent_decoded(value: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|h| byte == b'%' && h.iter().all(u8::is_ascii_hexdigit));
        match hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Checked query parameters.
#[derive(Debug)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    pub fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut found = self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Fault::bad("invalid_query", format!("`{name}` is given more than once"))),
            (one, None) => Ok(one),
        }
    }

    /// `true`, `false`, or the bare name for true.
    pub fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(v) => Err(Fault::bad("invalid_query", format!("{name}={v}: expected true or false"))),
        }
    }

    pub fn parsed<T: FromStr<Err = String>>(&self, name: &str) -> Result<Option<T>, Fault> {
        let parse = |v: &str| v.parse().map_err(|e| Fault::bad("invalid_query", format!("{name}: {e}")));
        self.text(name)?.map(parse).transpose()
    }

    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Fault> {
        self.parsed(name)
    }

    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Fault> {
        match self.text(name)?.map(|v| (v, v.parse::<usize>())) {
            None => Ok(default.min(max)),
            Some((v, Ok(n))) if (1..=max).contains(&n) && v.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            Some((v, _)) => {
                Err(Fault::bad("invalid_query", format!("{name}={v}: expected a whole number from 1 to {max}")))
            }
        }
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => HttpResponse::build(status).content_type("application/json").body(bytes),
        Err(e) => Fault::internal(format!("the answer could not be written: {e}")).respond("", ""),
    }
}

pub fn ok(body: &impl Serialize) -> HttpResponse {
    json(StatusCode::OK, body)
}

/// Lines of JSON.
pub fn ndjson<T: Serialize>(lines: impl IntoIterator<Item = T>) -> Result<HttpResponse, Fault> {
    let mut out = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut out, &line).map_err(|e| Fault::internal(e.to_string()))?;
        out.push(b'\n');
    }
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(out))
}
