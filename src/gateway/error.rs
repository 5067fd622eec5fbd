//! The only place of HTTP statuses: every refusal becomes an RFC 9457 problem here.
//!
//! 400: the document or the query does not match the schema. 422: it does, but cannot be done.

use crate::security::Denied;
use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;
use understudy_actors::api::Refusal;
use understudy_domain::prediction::Finding;
use understudy_domain::trace::TraceContext;

/// Why a request was not answered with what it asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub status: StatusCode,
    /// Stable, lower-case with underscores.
    pub code: Cow<'static, str>,
    /// What, where, what was expected.
    pub detail: String,
    pub retry_after_ms: Option<u64>,
    pub findings: Vec<Finding>,
    /// Methods of the resource, for 405.
    pub allow: Option<String>,
}

/// The body of a refused request.
#[derive(Clone, Debug, Serialize)]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: &'a str,
    pub instance: Cow<'a, str>,
    pub code: &'a str,
    pub request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "<[Finding]>::is_empty")]
    pub findings: &'a [Finding],
    /// What clients of the Open Inference Protocol read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}

impl Fault {
    fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.into(), detail.into());
        Fault { status, code, detail, retry_after_ms: None, findings: Vec::new(), allow: None }
    }

    /// 400: the request does not match the schema.
    pub fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 422: well formed, but it cannot be done.
    pub fn unprocessable(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 403: known, and not allowed.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::FORBIDDEN, code, detail)
    }

    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub fn no_route(path: &str) -> Self {
        Fault::not_found("no_such_route", format!("nothing is served at {path}; see /openapi.json"))
    }

    pub fn no_method(method: &str, allow: &str) -> Self {
        let detail = format!("{method} is not possible here; allowed: {allow}");
        Fault {
            allow: Some(allow.to_owned()),
            ..Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        }
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::CONFLICT, code, detail)
    }

    /// 410: too late for it.
    pub fn gone(code: &'static str, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::GONE, code, detail)
    }

    pub fn too_large(code: &'static str, detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, code, detail)
    }

    pub fn media_type(detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    pub fn body_timeout(limit: std::time::Duration) -> Self {
        let detail = format!("the body did not arrive within {limit:?}");
        Fault::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
    }

    pub fn head_too_large(headers: usize, bytes: usize) -> Self {
        let detail = format!("target and headers: at most {headers} headers and {bytes} bytes");
        Fault::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail)
    }

    pub fn internal(detail: impl Into<String>) -> Self {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The problem of this fault, for the thing named by `instance`.
    pub fn problem<'a>(&'a self, request_id: &'a str, instance: Cow<'a, str>, v2: bool) -> Problem<'a> {
        Problem {
            kind: format!("urn:understudy:problem:{}", self.code),
            title: title(&self.code),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            code: &self.code,
            request_id,
            retry_after_ms: self.retry_after_ms,
            findings: &self.findings,
            error: v2.then_some(self.detail.as_str()),
        }
    }

    /// Puts a fault of our own into the log, so that the id a caller quotes finds it.
    pub fn note(&self, request_id: &str, path: &str, trace: Option<TraceContext>) {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            let trace_id = trace.map(|t| format!("{:032x}", t.trace_id)).unwrap_or_default();
            tracing::error!(request_id, trace_id, path, code = &*self.code, detail = self.detail, "request failed");
        }
    }

    /// The whole answer; `path` decides whether it also speaks the Open Inference Protocol.
    pub fn respond(&self, request_id: &str, path: &str) -> HttpResponse {
        let v2 = path == "/v2" || path.starts_with("/v2/");
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        if let Some(ms) = self.retry_after_ms {
            response.insert_header((header::RETRY_AFTER, ms.div_ceil(1000).max(1).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        let problem = self.problem(request_id, Cow::Borrowed(path), v2);
        response.body(serde_json::to_vec(&problem).expect("a problem is plain data"))
    }
}

/// `unknown_event_type` -> `Unknown event type`.
fn title(code: &str) -> String {
    let mut words = code.replace(['_', '.'], " ").replace("json", "JSON").replace("toml", "TOML");
    if let Some(first) = words.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    words
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthorized { code, detail } => Fault::new(StatusCode::UNAUTHORIZED, code, detail),
            Denied::Forbidden { code, detail } => Fault::new(StatusCode::FORBIDDEN, code, detail),
            Denied::TooMany { retry_after } => {
                let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
                let detail = "this key sends more requests per second than it may";
                Fault { retry_after_ms: Some(ms), ..Fault::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail) }
            }
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound { code, detail } => Fault::not_found(code, detail),
            // Not 503: a retry cannot help; the caller resolves it by training a version.
            Refusal::NoVersion { detail } => Fault::conflict("no_version", detail),
            Refusal::Invalid { code, detail } if code.starts_with("malformed") => Fault::bad(code, detail),
            Refusal::Invalid { code, detail } => Fault::unprocessable(code, detail),
            Refusal::Rejected { findings } => {
                let rules: Vec<String> = findings.iter().map(describe).collect();
                let detail = format!("the request breaks rules with policy `reject`: {}", rules.join("; "));
                Fault { findings, ..Fault::unprocessable("validation_rejected", detail) }
            }
            Refusal::Conflict { code, detail } => Fault::conflict(code, detail),
            Refusal::Overloaded { retry_after_ms } => Fault {
                retry_after_ms: Some(retry_after_ms),
                ..Fault::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too much in flight; nothing was done")
            },
            Refusal::Shed { code, detail, retry_after_ms } => Fault {
                retry_after_ms: Some(retry_after_ms),
                ..Fault::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            },
            Refusal::Deadline => Fault::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", "not answered in time"),
            Refusal::Unavailable { code: "disk_full", detail } => {
                Fault::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail)
            }
            Refusal::Unavailable { code, detail } => Fault::new(StatusCode::SERVICE_UNAVAILABLE, code, detail),
            Refusal::Model { fault, detail } => Fault::new(StatusCode::INTERNAL_SERVER_ERROR, fault.code(), detail),
            Refusal::Internal { detail } => Fault::internal(detail),
        }
    }
}

fn describe(f: &Finding) -> String {
    let of = f.feature.as_deref().map(|n| format!(" of `{n}`")).unwrap_or_default();
    format!("{}{of}: got {}, expected {}", f.rule, f.value, f.expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_actors::api::ModelFault;
    use understudy_domain::prediction::Policy;
    use understudy_domain::value::Value;

    #[test]
    fn statuses_of_refusals() {
        let d = || "d".to_owned();
        let table = [
            (Refusal::NotFound { code: "unknown_model", detail: d() }, 404, "unknown_model"),
            (Refusal::NoVersion { detail: d() }, 409, "no_version"),
            (Refusal::Invalid { code: "unknown_context_field", detail: d() }, 422, "unknown_context_field"),
            (Refusal::Invalid { code: "malformed_time", detail: d() }, 400, "malformed_time"),
            (Refusal::Conflict { code: "x", detail: d() }, 409, "x"),
            (Refusal::Overloaded { retry_after_ms: 20 }, 503, "overloaded"),
            (Refusal::Shed { code: "model_overloaded", detail: d(), retry_after_ms: 1 }, 503, "model_overloaded"),
            (Refusal::Deadline, 504, "deadline_exceeded"),
            (Refusal::Unavailable { code: "disk_full", detail: d() }, 507, "disk_full"),
            (Refusal::Unavailable { code: "storage_unavailable", detail: d() }, 503, "storage_unavailable"),
            (Refusal::Model { fault: ModelFault::Shape, detail: d() }, 500, "model_contract"),
            (Refusal::Model { fault: ModelFault::NotFinite, detail: d() }, 500, "model_contract"),
            (Refusal::Model { fault: ModelFault::Panic, detail: d() }, 500, "model_error"),
            (Refusal::Internal { detail: d() }, 500, "internal"),
        ];
        for (refusal, status, code) in table {
            let fault = Fault::from(refusal);
            assert_eq!((fault.status.as_u16(), &*fault.code), (status, code));
        }
    }

    #[test]
    fn a_problem_says_what_broke() {
        let finding = Finding {
            rule: "schema.range".into(),
            feature: Some("distance".into()),
            value: Value::Int(-1),
            expected: "between 0 and 5000".into(),
            policy: Policy::Reject,
        };
        let fault = Fault::from(Refusal::Rejected { findings: vec![finding] });
        let json = serde_json::to_value(fault.problem("r1", "/v1/models/m/predict".into(), false)).unwrap();
        assert_eq!(json["type"], "urn:understudy:problem:validation_rejected");
        assert_eq!(json["title"], "Validation rejected");
        assert_eq!(json["status"], 422);
        assert_eq!(json["findings"][0]["feature"], "distance");
        assert!(
            json["detail"]
                .as_str()
                .unwrap()
                .contains("schema.range of `distance`: got -1, expected between 0 and 5000")
        );
        assert!(json.get("error").is_none() && json.get("retry_after_ms").is_none());
    }

    #[test]
    fn headers_and_the_v2_member() {
        let overloaded = Fault::from(Refusal::Overloaded { retry_after_ms: 1500 }).respond("r", "/v1/events");
        assert_eq!(overloaded.headers().get("retry-after").unwrap(), "2");
        assert_eq!(overloaded.headers().get("content-type").unwrap(), "application/problem+json");
        let fault = Fault::no_method("PUT", "GET, POST");
        assert_eq!(fault.respond("r", "/v2").headers().get("allow").unwrap(), "GET, POST");
        let v2 = serde_json::to_value(fault.problem("r", "/v2".into(), true)).unwrap();
        assert_eq!(v2["error"], v2["detail"]);
    }
}
