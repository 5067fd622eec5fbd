//! `alerts`: what is open, silences, and a test of who is told.

use super::args::AlertsCommand;
use super::client::encode;
use super::error::{CliError, Result};
use super::output::{cell, json, line, put};
use super::table;
use super::target::Context;
use serde_json::{Value, json};

pub fn run(ctx: &Context, command: &AlertsCommand) -> Result {
    let server = ctx.server()?;
    let client = &server.client;
    let answer = match command {
        AlertsCommand::List { .. } => client.get("/v1/alerts")?,
        AlertsCommand::Silence { matches, lasting, comment } => {
            let wanted: serde_json::Map<String, Value> =
                matches.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            let body = json!({ "matches": wanted, "for": lasting, "comment": comment });
            client.post("/v1/alerts/silences", &body)?
        }
        AlertsCommand::Unsilence { id } => {
            client.post(&format!("/v1/alerts/silences/{}/end", encode(id)), &json!({}))?
        }
        AlertsCommand::Resolve { id } => client.post(&format!("/v1/alerts/{}/resolve", encode(id)), &json!({}))?,
        AlertsCommand::Test => {
            let fired = client.post("/v1/alerts/test", &json!({}))?;
            arrived(client, &fired)?
        }
    };
    if ctx.json {
        json(&answer);
    } else {
        match command {
            AlertsCommand::List { all } => put(&listed(&answer, *all)),
            AlertsCommand::Silence { .. } => {
                line(&format!("silence {} until {}", cell(&answer["id"]), cell(&answer["until"])))
            }
            AlertsCommand::Unsilence { .. } => line(&format!("silence {} ended", cell(&answer["id"]))),
            AlertsCommand::Resolve { .. } => line(&format!("{} is over", cell(&answer["cause"]))),
            AlertsCommand::Test => put(&sinks(&answer)),
        }
    }
    server.finish()
}

/// The test and how the sinks did with it; an error if one did not get it.
fn arrived(client: &super::client::Client, fired: &Value) -> Result<Value> {
    // As long as a receiver may take for its first two attempts.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(6);
    loop {
        let all = client.get("/v1/alerts")?;
        let sinks = all["sinks"].as_array().cloned().unwrap_or_default();
        let waits = sinks.iter().any(|s| s["queued"].as_u64() != Some(0));
        if !waits || std::time::Instant::now() >= until {
            let failed = sinks.iter().find(|s| waits && s["queued"] != json!(0) || s["last_error"] != json!(""));
            if let Some(sink) = failed {
                let what = format!("the test did not arrive at {}: {}", cell(&sink["name"]), cell(&sink["last_error"]));
                return Err(CliError::new(what).hint("docs/operations.md, Alerts, says what a receiver needs"));
            }
            return Ok(json!({ "alert": fired, "sinks": sinks }));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn array<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().map_or(&[], Vec::as_slice)
}

fn listed(answer: &Value, all: bool) -> String {
    let mut out = String::new();
    let open = array(answer, "alerts");
    if open.is_empty() {
        out.push_str("no alert is open\n");
    }
    for a in open {
        let silent = if a["silenced_by"].is_null() { "" } else { ", silenced" };
        out.push_str(&format!(
            "{} {} since {} ({} times{silent})\n  {}\n",
            cell(&a["severity"]),
            cell(&a["cause"]),
            cell(&a["since"]),
            cell(&a["count"]),
            cell(&a["summary"])
        ));
        for detail in array(a, "details").iter().chain(array(a, "consequences")) {
            out.push_str(&format!("    {}\n", cell(detail)));
        }
        out.push_str(&format!("  id {}, {}\n", cell(&a["id"]), cell(&a["runbook"])));
    }
    for s in array(answer, "silences") {
        let what = s["matches"].as_object().into_iter().flatten();
        let what: Vec<String> = what.map(|(name, value)| format!("{name}={}", cell(value))).collect();
        out.push_str(&format!(
            "silence {}: {} until {} by {} {}\n",
            cell(&s["id"]),
            what.join(" "),
            cell(&s["until"]),
            cell(&s["by"]),
            cell(&s["comment"])
        ));
    }
    if all {
        let row = |a: &Value| vec![cell(&a["since"]), cell(&a["resolved"]), cell(&a["cause"]), cell(&a["summary"])];
        let over = array(answer, "resolved");
        out.push_str(&table::table(&["since", "resolved", "cause", "what"], &[], over.iter().map(row).collect()));
        out.push_str(&sinks(answer));
    }
    out
}

fn sinks(answer: &Value) -> String {
    let row = |s: &Value| {
        ["name", "delivered", "failed", "dropped", "queued", "last_error"].map(|key| cell(&s[key])).to_vec()
    };
    let headers = ["told", "delivered", "failed", "dropped", "queued", "last error"];
    table::table(&headers, &headers[1..5], array(answer, "sinks").iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_says_what_since_when_and_what_to_do() {
        let alert = json!({"id": "00ab", "severity": "critical", "cause": "feed/weather", "since": "2013-05-15T00:00:00Z",
            "count": 3, "summary": "weather.temp: missing holds 100 %", "details": ["temp: 4 findings"],
            "runbook": "docs/operations.md#a-feed-is-wrong", "silenced_by": "s1"});
        let silence = json!({"id": "s1", "matches": {"feed": "weather"}, "until": "2026-01-01T00:00:00Z", "by": "local",
            "comment": "known"});
        let out = listed(&json!({"alerts": [alert], "silences": [silence], "resolved": [], "sinks": []}), false);
        for part in [
            "critical feed/weather since 2013-05-15T00:00:00Z (3 times, silenced)",
            "weather.temp: missing holds 100 %",
            "id 00ab, docs/operations.md#a-feed-is-wrong",
            "silence s1: feed=weather until 2026-01-01T00:00:00Z by local known",
        ] {
            assert!(out.contains(part), "{part} is missing:\n{out}");
        }
        assert!(listed(&json!({}), true).starts_with("no alert is open"));
    }
}
