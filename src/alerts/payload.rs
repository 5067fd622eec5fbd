//! Alertmanager's webhook payload, version 4 (prometheus.io/docs/alerting/latest/configuration, webhook_config), so
//! that what receives from an Alertmanager receives from this program.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use understudy_domain::alert::{Alert, Told};

/// Longest body; more alerts of one name go in further bodies.
pub const MAX_BYTES: usize = 16 << 10;
/// Longest text of an annotation, in characters.
const MAX_TEXT: usize = 1024;
/// What Alertmanager writes for an alert that has not ended.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

/// The bodies of a telling, each at most [`MAX_BYTES`] long; an alert that is longer alone is cut to its summary.
pub fn bodies(told: &Told, url: &str) -> Vec<String> {
    split(told, &told.alerts, url)
}

fn split(told: &Told, alerts: &[Alert], url: &str) -> Vec<String> {
    let body = body(told, alerts, url, true);
    if body.len() <= MAX_BYTES {
        return vec![body];
    }
    match alerts.len() {
        0 | 1 => vec![self::body(told, alerts, url, false)],
        n => {
            let (first, rest) = alerts.split_at(n / 2);
            [split(told, first, url), split(told, rest, url)].concat()
        }
    }
}

fn body(told: &Told, alerts: &[Alert], url: &str, details: bool) -> String {
    let all: Vec<Value> = alerts.iter().map(|a| alert(a, url, details)).collect();
    let firing = alerts.iter().any(Alert::is_open);
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname=\"{}\"}}", told.name),
        "truncatedAlerts": 0,
        "status": if firing { "firing" } else { "resolved" },
        "receiver": "understudy",
        "groupLabels": { "alertname": told.name },
        "commonLabels": common(alerts.iter().map(labels)),
        "commonAnnotations": common(alerts.iter().map(|a| annotations(a, details))),
        "externalURL": url,
        "alerts": all,
    })
    .to_string()
}

fn alert(a: &Alert, url: &str, details: bool) -> Value {
    json!({
        "status": if a.is_open() { "firing" } else { "resolved" },
        "labels": labels(a),
        "annotations": annotations(a, details),
        "startsAt": a.signal.since.to_string(),
        "endsAt": a.resolved.map_or_else(|| NOT_ENDED.to_owned(), |t| t.to_string()),
        "generatorURL": format!("{url}/v1/alerts"),
        "fingerprint": a.id,
    })
}

fn labels(a: &Alert) -> BTreeMap<String, String> {
    let mut all = a.labels();
    all.insert("cause".into(), a.signal.cause.clone());
    all.insert("job".into(), "understudy".into());
    all
}

fn annotations(a: &Alert, details: bool) -> BTreeMap<String, String> {
    let short = |text: &str| match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    };
    let mut all = BTreeMap::from([
        ("summary".to_owned(), short(&a.signal.summary)),
        ("runbook_url".to_owned(), a.signal.runbook.clone()),
    ]);
    if details && !(a.signal.details.is_empty() && a.consequences.is_empty()) {
        let lines: Vec<String> = a.signal.details.iter().chain(&a.consequences).map(|d| short(d)).collect();
        all.insert("description".into(), lines.join("\n"));
    }
    all
}

/// What all have, with the same value.
fn common(mut each: impl Iterator<Item = BTreeMap<String, String>>) -> Map<String, Value> {
    let mut shared = each.next().unwrap_or_default();
    for other in each {
        shared.retain(|name, value| other.get(name) == Some(value));
    }
    shared.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::alert::{AlertBook, Event, Now, Severity, Signal};
    use understudy_domain::time::{Span, Timestamp};

    fn told(n: usize, detail: usize) -> Told {
        let mut book = AlertBook::default();
        let now = Now { clock: Timestamp(0) + Span::days(9), wall: Timestamp(0) };
        let mut all = Vec::new();
        for i in 0..n {
            let mut signal = Signal::retraining(&format!("m{i}"), "three jobs failed", Timestamp(0) + Span::days(8));
            signal.details = vec!["x".repeat(detail); 10];
            all.extend(book.on(Event::Raised(signal), now).1.into_iter().flat_map(|t| t.alerts));
        }
        Told { name: "RetrainingNeedsAPerson".into(), alerts: all }
    }

    #[test]
    fn the_body_is_what_alertmanager_sends() {
        let bodies = bodies(&told(2, 3), "http://127.0.0.1:8080");
        assert_eq!(bodies.len(), 1);
        let body: Value = serde_json::from_str(&bodies[0]).unwrap();
        assert_eq!(body["version"], "4");
        assert_eq!((&body["status"], &body["receiver"]), (&"firing".into(), &"understudy".into()));
        assert_eq!(body["groupKey"], "{}:{alertname=\"RetrainingNeedsAPerson\"}");
        assert_eq!(body["groupLabels"], json!({"alertname": "RetrainingNeedsAPerson"}));
        let labels = &body["commonLabels"];
        assert_eq!((&labels["severity"], labels.get("model")), (&Severity::Warning.name().into(), None));
        let first = &body["alerts"][0];
        assert_eq!((&first["status"], &first["labels"]["model"]), (&"firing".into(), &"m0".into()));
        assert_eq!((&first["startsAt"], &first["endsAt"]), (&"1970-01-09T00:00:00Z".into(), &NOT_ENDED.into()));
        assert_eq!(first["generatorURL"], "http://127.0.0.1:8080/v1/alerts");
        assert!(first["annotations"]["summary"].as_str().unwrap().contains("three jobs failed"));
        assert!(first["annotations"]["runbook_url"].as_str().unwrap().starts_with("docs/operations.md#"));
    }

    #[test]
    fn no_body_is_too_long_and_no_alert_is_lost() {
        for (n, detail) in [(40, 800), (1, 5000), (200, 10)] {
            let all = bodies(&told(n, detail), "http://x");
            assert!(all.iter().all(|b| b.len() <= MAX_BYTES), "{:?}", all.iter().map(String::len).collect::<Vec<_>>());
            let alerts = all.iter().map(|b| {
                let body: Value = serde_json::from_str(b).unwrap();
                body["alerts"].as_array().unwrap().len()
            });
            assert_eq!(alerts.sum::<usize>(), n);
        }
    }
}
