//! `monitor show`: the windows of a model, one line each.

use super::args::MonitorCommand;
use super::client::{encode, query};
use super::error::Result;
use super::output::{count, json, put};
use super::target::Context;
use super::{models, table};
use serde_json::Value;

pub fn run(ctx: &Context, command: &MonitorCommand) -> Result {
    let MonitorCommand::Show { model, from, until } = command;
    let server = ctx.server()?;
    let q = query(&[("from", from.clone()), ("until", until.clone())]);
    let answer = server.client.get(&format!("/v1/models/{}/monitor{q}", encode(model)))?;
    if ctx.json {
        json(&answer);
    } else {
        put(&windows(&models::items(answer, "windows")));
    }
    server.finish()
}

/// Windows as a table of 80 columns; `*` marks windows whose outcomes are still coming.
fn windows(all: &[Value]) -> String {
    let row = |w: &Value| {
        let (q, t) = (&w["quality"], &w["timing"]["total"]);
        let start = w["start"].as_str().unwrap_or_default();
        let mark = if w["mature"] == Value::Bool(false) { "*" } else { "" };
        vec![
            format!("{}{mark}", start.strip_suffix("T00:00:00Z").unwrap_or(start)),
            count(w["requests"].as_u64().unwrap_or(0)),
            fixed(&q["rate"], 3),
            fixed(&q["auc"], 4),
            fixed(&q["log_loss"], 4),
            fixed(&q["ece"], 4),
            fixed(&t["p50_us"], 0),
            fixed(&t["p99_us"], 0),
        ]
    };
    // `share` is that of the positive label among the outcomes.
    let headers = ["from", "requests", "share", "AUC", "log loss", "ECE", "p50 us", "p99 us"];
    let mut text = table::table(&headers, &headers[1..], all.iter().map(row).collect());
    if all.iter().any(|w| w["mature"] == Value::Bool(false)) {
        text.push_str("* outcomes are still coming\n");
    }
    text
}

/// A number with fixed decimals, `-` when there is none.
pub fn fixed(v: &Value, decimals: usize) -> String {
    v.as_f64().map_or_else(|| "-".into(), |f| format!("{f:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_fit_and_immature_ones_are_marked() {
        let w = json!({"start": "2013-12-30T00:00:00Z", "mature": false, "requests": 1234567,
            "quality": {"rate": 0.241, "auc": 0.7461, "log_loss": 0.4851, "ece": null},
            "timing": {"total": {"p50_us": 123.4, "p99_us": 123456.0}}});
        let text = windows(&[w]);
        assert!(text.contains("2013-12-30*") && text.contains("1,234,567") && text.contains("still coming"), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }
}
