//! The client of a running server: JSON in, JSON out, and errors in words.

use super::error::{CliError, Result};
use rustls::crypto::ring;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Longest wait for an ordinary answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for one replayed batch: it may hold thousands of events and predictions.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(300);
/// A server on the same machine or network answers the connect at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body we read; exports go through `lines`, which has no limit.
const MAX_BODY_BYTES: u64 = 256 << 20;

/// Environment variable with the API key.
const KEY_VARIABLE: &str = "UNDERSTUDY_KEY";
/// Environment variable with the file of trusted certificates.
const CA_VARIABLE: &str = "UNDERSTUDY_CA";

#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    /// `Authorization`, when there is a key.
    authorization: Option<String>,
}

impl Client {
    /// `url` is the server's root, such as `http://127.0.0.1:8080`.
    pub fn new(url: &str) -> Result<Self> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CliError::usage(format!("`{url}` is not an address of a server"))
                .hint("write it as http://HOST:PORT or https://HOST:PORT"));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls(url)?)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build()
            .new_agent();
        let key = std::env::var(KEY_VARIABLE).ok().filter(|k| !k.is_empty());
        Ok(Client { agent, base: url.trim_end_matches('/').to_string(), authorization: key.map(bearer) })
    }

    /// The same, with this key whatever the environment says.
    pub fn with_key(self, key: Option<String>) -> Self {
        Client { authorization: key.map(bearer).or(self.authorization), ..self }
    }

    /// Adds the key to a request.
    fn keyed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    pub fn url(&self) -> &str {
        &self.base
    }

    /// True when a server answers at all.
    pub fn alive(&self) -> bool {
        let asked = self.agent.get(format!("{}/livez", self.base)).config();
        asked.timeout_global(Some(Duration::from_secs(1))).build().call().is_ok_and(|r| r.status().is_success())
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        let sent = self.keyed(self.agent.get(format!("{}{path}", self.base))).call();
        self.answer(path, sent)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.post_bytes(path, "application/json", &serde_json::to_vec(body).expect("JSON serialises"))
    }

    pub fn post_bytes(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Value> {
        let sent = self.keyed(self.agent.post(format!("{}{path}", self.base))).content_type(content_type);
        let sent = sent.config().timeout_global(Some(REPLAY_TIMEOUT)).build().send(body);
        self.answer(path, sent)
    }

    /// Calls `each` with every line of a streamed NDJSON answer.
    pub fn lines(&self, path: &str, mut each: impl FnMut(&str) -> Result) -> Result {
        use std::io::BufRead;
        let asked = self.keyed(self.agent.get(format!("{}{path}", self.base)));
        let asked = asked.header("accept", "application/x-ndjson").config();
        let mut got = match asked.timeout_global(None).build().call() {
            Ok(r) if r.status().is_success() => r,
            other => return self.answer(path, other).map(|_| ()),
        };
        let body = got.body_mut().with_config().limit(u64::MAX).reader();
        for l in std::io::BufReader::new(body).lines() {
            let l = l.map_err(|e| CliError::new(format!("the answer to {path} broke off: {e}")))?;
            if !l.is_empty() {
                each(&l)?;
            }
        }
        Ok(())
    }

    /// An answer that is no JSON.
    pub fn text(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        self.lines(path, |l| {
            text.push_str(l);
            text.push('\n');
            Ok(())
        })?;
        Ok(text)
    }

    fn answer(
        &self,
        path: &str,
        sent: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value> {
        let mut got = sent.map_err(|e| self.unreachable(path, &e))?;
        let status = got.status().as_u16();
        let text = got
            .body_mut()
            .with_config()
            .limit(MAX_BODY_BYTES)
            .read_to_string()
            .map_err(|e| self.unreachable(path, &e))?;
        // Many results travel with a status that is no success only when none succeeded.
        match serde_json::from_str::<Value>(&text) {
            Ok(v) if (200..300).contains(&status) || v.get("results").is_some() => Ok(v),
            Ok(problem) => Err(from_problem(status, &problem)),
            Err(_) if (200..300).contains(&status) && text.is_empty() => Ok(Value::Null),
            Err(_) => Err(CliError::new(format!("{} answered {path} with {status}, not with JSON", self.base))
                .details(text.lines().take(3).map(str::to_string).collect())
                .hint("is this an Understudy server?")),
        }
    }

    fn unreachable(&self, path: &str, e: &ureq::Error) -> CliError {
        let refused = matches!(e, ureq::Error::ConnectionFailed | ureq::Error::HostNotFound)
            || matches!(e, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused {
            return CliError::new(format!("no server answers at {}", self.base)).hint(
                "start it with `understudy serve --project DIR`, or leave --url out to start one for this command",
            );
        }
        match e {
            ureq::Error::Timeout(_) => CliError::new(format!("{} did not answer {path} in time", self.base))
                .hint("see its log; /readyz?verbose tells which part is not ready"),
            other => CliError::new(format!("{}{path}: {other}", self.base)),
        }
    }
}

fn bearer(key: String) -> String {
    format!("Bearer {key}")
}

/// TLS trusts exactly the certificates of the file that [`CA_VARIABLE`] names.
fn tls(url: &str) -> Result<TlsConfig> {
    if !url.starts_with("https://") {
        return Ok(untrusting());
    }
    let hint = format!("set {CA_VARIABLE} to the PEM file of the certificate that the server's must come from");
    let file = std::env::var(CA_VARIABLE)
        .map_err(|_| CliError::usage(format!("{url} speaks TLS, and no certificate is trusted")).hint(&hint))?;
    trusting(&file).map_err(|e| CliError::usage(format!("{file}: {e}")).hint(&hint))
}

/// Trusts no certificate: for plain HTTP.
pub(crate) fn untrusting() -> TlsConfig {
    tls_builder().build()
}

/// Trusts the certificates of a PEM file.
pub(crate) fn trusting(file: &str) -> std::result::Result<TlsConfig, String> {
    let pem = std::fs::read(file).map_err(|e| e.to_string())?;
    let trusted: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if trusted.is_empty() {
        return Err("no certificate in it".into());
    }
    Ok(tls_builder().root_certs(RootCerts::Specific(Arc::new(trusted))).build())
}

fn tls_builder() -> ureq::tls::TlsConfigBuilder {
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
}

/// An RFC 9457 problem in words: what, where, and what to do.
pub fn from_problem(status: u16, p: &Value) -> CliError {
    let word = |key: &str| p.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut message = match (word("title"), word("detail")) {
        ("", "") => format!("the server answered {status}"),
        ("", d) => d.to_string(),
        (t, "") => t.to_string(),
        (t, d) => format!("{t}: {d}"),
    };
    let code = word("code");
    if !code.is_empty() {
        message.push_str(&format!(" ({code}, {status})"));
    }
    let findings = p.get("findings").and_then(Value::as_array);
    let details = findings.map_or_else(Vec::new, |f| f.iter().map(finding).collect());
    CliError::new(message).details(details).hint(word("hint"))
}

/// One broken rule on one line.
pub fn finding(f: &Value) -> String {
    let of = |key: &str| f.get(key).map(super::output::cell).filter(|c| c != "-");
    let mut line = of("rule").unwrap_or_else(|| f.to_string());
    if let Some(feature) = of("feature") {
        line.push_str(&format!(" at {feature}"));
    }
    if let Some(expected) = of("expected").or_else(|| of("message")) {
        line.push_str(&format!(": expected {expected}, got {}", f.get("value").unwrap_or(&Value::Null)));
    }
    if let Some(policy) = of("policy") {
        line.push_str(&format!(" [{policy}]"));
    }
    line
}

/// Text as one part of a path or query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => out.push(char::from(b)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// `?a=b&c=d` of the parameters that are there.
pub fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<_> =
        parameters.iter().filter_map(|(k, v)| v.as_ref().map(|v| format!("{k}={}", encode(v)))).collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_keeps_title_detail_code_findings_and_hint() {
        let p = json!({"type": "about:blank", "title": "Request rejected", "status": 422, "code": "rejected",
            "detail": "1 rule with policy reject was broken", "hint": "send `distance` in miles",
            "findings": [{"rule": "schema.range", "feature": "distance", "value": -3, "expected": "between 0 and 5000", "policy": "reject"}]});
        let text = from_problem(422, &p).render();
        assert_eq!(
            text,
            "error: Request rejected: 1 rule with policy reject was broken (rejected, 422)\n  \
             schema.range at distance: expected between 0 and 5000, got -3 [reject]\nhint: send `distance` in miles\n"
        );
    }

    #[test]
    fn a_bare_problem_still_says_something() {
        assert_eq!(from_problem(500, &json!({})).render(), "error: the server answered 500\n");
    }

    #[test]
    fn a_refused_connection_says_how_to_start_a_server() {
        // A port that was free a moment ago: nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
        assert!(!client.alive());
        let e = client.get("/v1/models").unwrap_err();
        assert!(e.message.contains("no server answers"), "{e:?}");
        assert!(e.hint.contains("understudy serve"), "{e:?}");
    }

    #[test]
    fn an_address_without_scheme_is_a_usage_error() {
        assert_eq!(Client::new("localhost:8080").err().unwrap().exit, super::super::error::USAGE);
    }

    #[test]
    fn queries_are_encoded_and_absent_parameters_left_out() {
        let q = query(&[("from", None), ("entity", Some("route:JFK,A B".into())), ("n", Some("1".into()))]);
        assert_eq!(q, "?entity=route:JFK%2CA%20B&n=1");
        assert_eq!(query(&[("a", None)]), "");
    }
}
