//! `drift show`: what changed, by window; one feature with both histograms.

use super::args::DriftCommand;
use super::client::{Client, encode, query};
use super::error::{CliError, Result};
use super::output::{count, json, line, put};
use super::target::Context;
use super::{models, table};
use serde_json::Value;
use understudy_domain::drift::{Bar, SCORE, histograms};

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

/// The model and the feature that `MODEL/FEATURE` or a feature's name means.
fn named(client: &Client, text: &str) -> Result<(String, String)> {
    if let Some((model, feature)) = text.split_once('/') {
        return Ok((model.to_owned(), feature.to_owned()));
    }
    let has = |m: &&Value| text == SCORE || items(m, "features").iter().any(|f| f.as_str() == Some(text));
    let all = models::all(client)?;
    let found: Vec<String> = all.iter().filter(has).map(models::name).collect();
    match found.as_slice() {
        [one] => Ok((one.clone(), text.to_owned())),
        [] => {
            Err(CliError::new(format!("no model has a feature `{text}`")).hint("`understudy feature list` shows all"))
        }
        several => Err(CliError::new(format!("`{text}` is a feature of {}", several.join(", ")))
            .hint(format!("name it as {}/{text}", several[0]))),
    }
}

pub fn explain(ctx: &Context, text: &str, until: Option<&str>) -> Result {
    let server = ctx.server()?;
    let (model, feature) = named(&server.client, text)?;
    let q = query(&[("until", until.map(str::to_owned))]);
    let answer = server.client.get(&format!("/v1/models/{}/drift/{}{q}", encode(&model), encode(&feature)))?;
    if ctx.json {
        json(&answer)
    } else {
        put(&explained(&answer))
    }
    server.finish()
}

/// One sentence, both histograms, and the suspects with their evidence.
fn explained(answer: &Value) -> String {
    let drift = &answer["drift"];
    let than = if drift["against"] == "recent" { "the windows before" } else { "training" };
    let mut out = format!(
        "{} of {} {}, since {}\n{} .. {}\n{}\n\n",
        text(answer, "feature"),
        text(answer, "model"),
        text(answer, "version"),
        text(answer, "since"),
        text(answer, "start"),
        text(answer, "end"),
        wrapped(text(drift, "explanation"), "")
    );
    let bars: Vec<Bar> = serde_json::from_value(drift["bars"].clone()).unwrap_or_default();
    out.push_str(&format!("left {than}, right this window ({} rows)\n{}\n", answer["rows"], histograms(&bars)));
    out.push_str(&format!("{}\n", wrapped(text(answer, "verdict"), "")));
    for s in items(answer, "suspects") {
        let cause = text(s, "cause").replace('_', " ");
        out.push_str(&format!("  {:.2} {cause}\n", s["weight"].as_f64().unwrap_or(0.0)));
        for line in items(s, "evidence") {
            out.push_str(&format!("{}\n", wrapped(line.as_str().unwrap_or_default(), "       ")));
        }
    }
    out
}

/// Words in lines of 80 columns.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::from(indent));
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > 80 && line.len() > indent.len() {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_fits_and_ranks_the_suspects() {
        let bar = |label: &str, was: f64, is: f64| json!({"label": label, "reference": was, "window": is});
        let answer = json!({"model": "delay", "feature": "wx_temp", "version": "v2", "start": "2013-07-01T00:00:00Z",
            "end": "2013-07-02T00:00:00Z", "since": "2013-06-29T00:00:00Z", "rows": 900,
            "drift": {"against": "recent", "explanation": "wx_temp: missing holds 97 % ".repeat(6),
                "bars": [bar("missing", 0.0, 0.97), bar("<= 40", 1.0, 0.03)]},
            "verdict": "most likely the feed: an incident of the feed weather since 2013-06-29T00:00:00Z (open): all null",
            "suspects": [{"cause": "feed", "weight": 0.9, "evidence": ["an incident of the feed weather ".repeat(5)]},
                {"cause": "feature_code", "weight": 0.3, "evidence": ["generation 7"]}]});
        let out = explained(&answer);
        assert!(out.lines().all(|l| l.chars().count() <= 80), "{out}");
        for part in ["wx_temp of delay v2", "left the windows before", "97.0 % ####", "0.90 feed", "0.30 feature code"]
        {
            assert!(out.contains(part), "{part} is missing:\n{out}");
        }
    }

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
