//! `drift show`: what changed, by window; one feature with both histograms.

use super::args::DriftCommand;
use super::client::{encode, query};
use super::error::Result;
use super::output::{count, json, line, put};
use super::table;
use super::target::Context;
use serde_json::Value;
use understudy_domain::drift::{Bar, histograms};

pub fn run(ctx: &Context, command: &DriftCommand) -> Result {
    let server = ctx.server()?;
    let (model, feature, from, until) = match command {
        DriftCommand::Show { model, feature, from, until } => (model, feature, from, until),
        DriftCommand::Feeds { from, until } => {
            let q = query(&[("from", from.clone()), ("until", until.clone())]);
            let answer = server.client.get(&format!("/v1/feeds{q}"))?;
            if ctx.json {
                json(&answer)
            } else {
                put(&feeds(&answer))
            }
            return server.finish();
        }
    };
    let q = query(&[("from", from.clone()), ("until", until.clone()), ("feature", feature.clone())]);
    let answer = server.client.get(&format!("/v1/models/{}/drift{q}", encode(model)))?;
    if ctx.json {
        json(&answer);
    } else if feature.is_some() {
        one(&answer);
    } else {
        put(&windows(&answer));
    }
    server.finish()
}

fn items<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_default()
}

/// The feeds, and what is or was wrong with them, newest first.
fn feeds(answer: &Value) -> String {
    let row = |f: &Value| {
        vec![
            text(f, "feed").to_string(),
            text(f, "state").to_string(),
            count(f["events"].as_u64().unwrap_or(0)),
            f["newest"].as_str().unwrap_or("-").to_string(),
            count(f["windows"].as_u64().unwrap_or(0)),
        ]
    };
    let headers = ["feed", "state", "events", "newest event", "windows"];
    let mut out = table::table(&headers, &["events", "windows"], items(answer, "feeds").iter().map(row).collect());
    for i in items(answer, "incidents").iter().rev() {
        let end = i["until"].as_str().map_or_else(|| "open".to_owned(), |t| format!("until {t}"));
        out.push_str(&format!("{} since {}, {end}\n  {}\n", text(i, "feed"), text(i, "since"), text(i, "reason")));
    }
    out
}

/// Windows as a table: what holds, and the worst features of either comparison.
fn windows(answer: &Value) -> String {
    let worst = |w: &Value, against: &str| {
        let found = items(w, "features").iter().filter(|f| f["against"] == against && f["level"] != "none");
        let named: Vec<String> =
            found.take(2).map(|f| format!("{} {:.2}", text(f, "feature"), f["psi"].as_f64().unwrap_or(0.0))).collect();
        if named.is_empty() { "-".to_string() } else { named.join(", ") }
    };
    let row = |w: &Value| {
        let start = text(w, "start");
        let state = if w["state"] == "judged" { text(w, "level") } else { text(w, "state") };
        vec![
            start.strip_suffix("T00:00:00Z").unwrap_or(start).to_string(),
            text(w, "version").to_string(),
            count(w["rows"].as_u64().unwrap_or(0)),
            state.to_string(),
            worst(w, "reference"),
            worst(w, "recent"),
        ]
    };
    let headers = ["from", "version", "rows", "level", "against training (PSI)", "against recent (PSI)"];
    let mut out = table::table(&headers, &["rows"], items(answer, "windows").iter().map(row).collect());
    for version in items(answer, "without_reference") {
        out.push_str(&format!(
            "{} brings no reference: its drift is not known\n",
            version.as_str().unwrap_or_default()
        ));
    }
    out
}

/// The last window in which the feature was judged, in a sentence and two histograms for each comparison.
fn one(answer: &Value) {
    let Some(window) = items(answer, "windows").iter().rev().find(|w| !items(w, "features").is_empty()) else {
        line("no window of this feature has been judged yet");
        return;
    };
    line(&format!("{} .. {}  {} rows", text(window, "start"), text(window, "end"), window["rows"]));
    for f in items(window, "features") {
        line(text(f, "explanation"));
        let bars: Vec<Bar> = serde_json::from_value(f["bars"].clone()).unwrap_or_default();
        put(&histograms(&bars));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_fit_and_name_the_worst() {
        let drifted = json!({"feature": "wx_temp_last_3h", "against": "reference", "level": "alert", "psi": 3.456});
        let w = json!({"start": "2013-07-01T00:00:00Z", "version": "v1", "rows": 912, "state": "judged",
            "level": "alert", "features": [drifted]});
        let young = json!({"start": "2013-07-02T00:00:00Z", "version": "v1", "rows": 3, "state": "not_enough_data",
            "level": "none", "features": []});
        let out = windows(&json!({"windows": [w, young], "without_reference": ["v0"]}));
        assert!(out.contains("3.46") && out.contains("2013-07-01") && out.contains("not_enough"), "{out}");
        assert!(out.contains("v0 brings no reference") && out.lines().all(|l| l.chars().count() <= 80), "{out}");
    }
}
