//! What the benchmark sends: real requests again, real events under new ids.

use super::load::Requests;
use crate::cli::client::{Client, query};
use crate::cli::error::{CliError, Result};
use crate::cli::models::items;
use crate::cli::source;
use crate::cli::target::Context;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Different predictions that are asked in turn.
const PREDICTIONS: usize = 1000;
/// Different events that are sent in turn.
const EVENTS: usize = 2000;

/// Requests of a model: logged ones, else those of the recording.
pub fn predictions(ctx: &Context, client: &Client, model: &str) -> Result<Vec<Value>> {
    let q = query(&[("model", Some(model.to_string())), ("limit", Some(PREDICTIONS.to_string()))]);
    let logged = items(client.get(&format!("/v1/predictions{q}"))?, "predictions");
    let mut bodies: Vec<Value> =
        logged.iter().map(|p| json!({"entities": p["entities"], "context": p["context"]})).collect();
    if bodies.is_empty() {
        bodies = recorded(&ctx.project_dir(), model)?;
    }
    if bodies.is_empty() {
        return Err(CliError::new(format!("there is no request of {model} to send"))
            .hint("predict something first, or add a recording to the project"));
    }
    Ok(bodies)
}

fn recorded(project: &Path, model: &str) -> Result<Vec<Value>> {
    let spec = crate::cli::config::load(project)?.models.into_iter().find(|s| s.name == model);
    let Some(kind) = spec.and_then(|s| s.request).map(|r| r.event) else { return Ok(Vec::new()) };
    let mut bodies = Vec::new();
    for line in source::recording(project)? {
        let e: Value = serde_json::from_str(&line?.json).unwrap_or_default();
        if e["type"] == kind.as_str() {
            bodies.push(json!({"entities": e["entities"], "context": e["properties"]}));
        }
        if bodies.len() == PREDICTIONS {
            break;
        }
    }
    Ok(bodies)
}

/// The header of the key in `UNDERSTUDY_KEY`; nothing without one.
pub fn key_header() -> String {
    std::env::var("UNDERSTUDY_KEY").map(|k| format!("authorization: Bearer {k}\r\n")).unwrap_or_default()
}

fn head(path: &str, content_type: &str, length: usize, into: &mut Vec<u8>) {
    let key = key_header();
    let _ = write!(
        into,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n{key}content-length: {length}\r\n\r\n"
    );
}

/// The same requests in turn, ready to send.
pub struct Fixed(Vec<Vec<u8>>);

impl Fixed {
    pub fn new(path: &str, bodies: &[Value]) -> Self {
        let whole = |b: &Value| {
            let body = b.to_string();
            let mut out = Vec::new();
            head(path, "application/json", body.len(), &mut out);
            out.extend_from_slice(body.as_bytes());
            out
        };
        Fixed(bodies.iter().map(whole).collect())
    }
}

impl Requests for Fixed {
    fn write(&self, n: u64, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0[(n % self.0.len() as u64) as usize]);
    }
}

/// Recorded events with new ids, as of now.
pub struct Fresh {
    /// Each event's JSON from behind its id on.
    rest: Vec<String>,
    run: String,
    batch: usize,
}

impl Fresh {
    pub fn from_recording(project: &Path, batch: usize) -> Result<Self> {
        let now = jiff::Timestamp::now().to_string();
        let mut rest = Vec::new();
        for line in source::recording(project)?.take(EVENTS) {
            let mut e: Value = serde_json::from_str(&line?.json).unwrap_or_default();
            if let Some(map) = e.as_object_mut() {
                map.shift_remove("id");
                map.shift_remove("at");
                map.insert("time".into(), now.as_str().into());
            }
            rest.push(format!(",{}", e.to_string().trim_start_matches('{')));
        }
        if rest.is_empty() {
            return Err(CliError::new("the recording is empty"));
        }
        Ok(Fresh { rest, run: ulid::Ulid::generate().to_string(), batch })
    }

    pub fn body(&self, n: u64, into: &mut Vec<u8>) {
        for i in 0..self.batch {
            let which = n.wrapping_mul(self.batch as u64).wrapping_add(i as u64) % self.rest.len() as u64;
            let _ = writeln!(into, "{{\"id\":\"{}-{n}-{i}\"{}", self.run, self.rest[which as usize]);
        }
    }
}

impl Requests for Fresh {
    fn write(&self, n: u64, into: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(self.batch * 256);
        self.body(n, &mut body);
        head("/v1/events", "application/x-ndjson", body.len(), into);
        into.extend_from_slice(&body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_event_has_an_id_of_its_own_and_is_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let line = r#"{"id":"a","type":"t","time":"2013-01-01T00:00:00Z","entities":{"k":"v"},"properties":{"x":1}}"#;
        std::fs::write(dir.path().join("events.ndjson"), format!("{line}\n{line}\n")).unwrap();
        let fresh = Fresh::from_recording(dir.path(), 100).unwrap();
        let mut ids = HashSet::new();
        for n in [0, 1, 1 << 32] {
            let mut body = Vec::new();
            fresh.body(n, &mut body);
            for l in body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let e: understudy_domain::event::Event = serde_json::from_slice(l).unwrap();
                assert!(ids.insert(e.id));
            }
        }
        assert_eq!(ids.len(), 3 * 100);
    }

    #[test]
    fn fixed_requests_announce_their_length() {
        let f = Fixed::new("/p", &[json!({"a": "é"})]);
        let mut out = Vec::new();
        f.write(7, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("content-length: 10\r\n") && text.ends_with("{\"a\":\"é\"}"), "{text}");
    }
}
