//! `log` and `why`: the prediction log.

use super::args::{ExportFormat, LogCommand};
use super::client::{Client, encode, finding, query};
use super::error::{CliError, Result};
use super::features::each_prediction;
use super::output::{self, cell, json, put};
use super::target::Context;
use super::{models, table};
use serde_json::Value;
use std::path::Path;
use understudy_domain::prediction::PredictionId;
use understudy_domain::time::Timestamp;

pub fn run(ctx: &Context, command: &LogCommand) -> Result {
    match command {
        LogCommand::Tail { n, model } => tail(ctx, *n, model.clone()),
        LogCommand::Export { format, model, from, until, without_timing, to } => {
            let range = (time(from.as_deref(), "--from")?, time(until.as_deref(), "--until")?);
            match (format, model.as_deref(), to.as_deref()) {
                (ExportFormat::Parquet, Some(model), Some(to)) => parquet(ctx, model, range, to),
                (ExportFormat::Parquet, ..) => Err(CliError::usage("Parquet needs --model NAME and --to FILE")),
                (.., Some(_)) => Err(CliError::usage("--to is for --format parquet")
                    .hint("the other formats go to stdout: send them to a file with `> FILE`")),
                (_, model, None) => export(ctx, *format, model, range, *without_timing),
            }
        }
    }
}

fn time(text: Option<&str>, flag: &str) -> Result<Option<Timestamp>> {
    text.map(str::parse).transpose().map_err(|e: String| CliError::usage(format!("{flag}: {e}")))
}

fn tail(ctx: &Context, n: u32, model: Option<String>) -> Result {
    let server = ctx.server()?;
    let mut records = Vec::new();
    server.client.lines(
        &format!("/v1/predictions{}", query(&[("model", model), ("limit", Some(n.to_string()))])),
        |l| {
            let v: Value = serde_json::from_str(l).map_err(|e| CliError::new(format!("not a prediction: {e}")))?;
            match v.get("predictions") {
                Some(Value::Array(list)) => records.extend(list.iter().cloned()),
                _ => records.push(v),
            }
            Ok(())
        },
    )?;
    if ctx.json {
        json(&records);
    } else {
        let of = |r: &Value, k: &str| r.get(k).map(cell).unwrap_or_default();
        let row = |r: &Value| {
            let time = of(r, "time").trim_end_matches('Z').replace('T', " ");
            vec![of(r, "id"), time, of(r, "model"), of(r, "score"), of(r, "verdict")]
        };
        let headers = ["id", "time", "model", "score", "verdict"];
        put(&table::table(&headers, &["score"], records.iter().map(row).collect()));
    }
    server.finish()
}

/// From (inclusive) and until (exclusive).
pub type Range = (Option<Timestamp>, Option<Timestamp>);

#[cfg(feature = "parquet")]
fn parquet(ctx: &Context, model: &str, range: Range, to: &Path) -> Result {
    super::parquet::export(ctx, model, range, to)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Context, _: &str, _: Range, _: &Path) -> Result {
    Err(CliError::usage("this program was built without Parquet")
        .hint("build it with `cargo build --release --features parquet`, or use --format ndjson"))
}

/// Visits the logged predictions of a range of event times in order of id, until told to stop (`false`).
pub fn each_in(
    client: &Client,
    model: Option<&str>,
    (from, until): Range,
    mut visit: impl FnMut(&Value) -> Result<bool>,
) -> Result {
    // Ids start with their time: everything before `from` is skipped without being read.
    let after = from.map(|t| PredictionId::new(Timestamp(t.0 - 1000), u128::MAX).to_string());
    let outside = |r: &Value| {
        let t: Option<Timestamp> = r["time"].as_str().and_then(|t| t.parse().ok());
        (t < from && from.is_some(), until.is_some_and(|u| t.is_some_and(|t| t >= u)))
    };
    each_prediction(client, model, after, |record| match outside(record) {
        (false, false) => visit(record),
        (_, past) => Ok(!past),
    })
}

fn export(ctx: &Context, format: ExportFormat, model: Option<&str>, range: Range, bare: bool) -> Result {
    let server = ctx.server()?;
    let mut csv_header = format == ExportFormat::Csv;
    each_in(&server.client, model, range, |record| {
        let mut r = record.clone();
        if bare && let Some(map) = r.as_object_mut() {
            map.shift_remove("timing");
            map.shift_remove("timing_us");
        }
        match format {
            ExportFormat::Ndjson => output::line(&r.to_string()),
            ExportFormat::Csv => {
                if std::mem::take(&mut csv_header) {
                    output::line(&CSV.join(","));
                }
                output::line(&csv_line(&r));
            }
            ExportFormat::Parquet => unreachable!("Parquet goes to a file, not to stdout"),
        }
        Ok(true)
    })?;
    server.finish()
}

/// Columns of the CSV export; nested fields are JSON in one cell.
const CSV: [&str; 15] = [
    "id",
    "model",
    "version",
    "feature_set",
    "epoch",
    "request_id",
    "time",
    "score",
    "label",
    "confidence",
    "verdict",
    "entities",
    "context",
    "vector",
    "findings",
];

fn csv_line(r: &Value) -> String {
    let cells = CSV.map(|k| match r.get(k) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    });
    let quoted =
        cells.map(|c| if c.contains([',', '"', '\n', '\r']) { format!("\"{}\"", c.replace('"', "\"\"")) } else { c });
    quoted.join(",")
}

pub fn why(ctx: &Context, id: &str) -> Result {
    id.parse::<PredictionId>().map_err(|e| CliError::usage(e).hint("`understudy log tail` lists the newest ids"))?;
    let server = ctx.server()?;
    let answer = server.client.get(&format!("/v1/predictions/{}", encode(id)))?;
    if ctx.json {
        json(&answer)
    } else {
        put(&story(&answer))
    }
    server.finish()
}

/// What was asked, seen, said, and what came of it.
fn story(answer: &Value) -> String {
    let mut head = answer.clone();
    let mut text = String::new();
    let Some(map) = head.as_object_mut() else { return table::pairs(answer) };
    let features = map.shift_remove("features");
    let findings = map.shift_remove("findings");
    let outcomes = map.shift_remove("outcomes");
    let behind = map.shift_remove("behind");
    if matches!(features, Some(Value::Object(_))) {
        map.shift_remove("vector");
        map.shift_remove("ages");
    }
    text.push_str(&table::pairs(&head));
    for f in findings.as_ref().and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("finding: {}\n", finding(f)));
    }
    match outcomes.as_ref().and_then(Value::as_array) {
        Some(list) if !list.is_empty() => {
            for o in list {
                let label = if o["label"].is_null() { "void".into() } else { cell(&o["label"]) };
                text.push_str(&format!(
                    "outcome: {label} at {} (revision {})\n",
                    cell(&o["time"]),
                    cell(&o["revision"])
                ));
            }
        }
        Some(_) => text.push_str("outcome: none yet\n"),
        None => {}
    }
    match features {
        Some(Value::Object(features)) => text.push_str(&models::feature_table(&features)),
        Some(Value::Array(list)) => {
            let named = list.iter().filter_map(|f| Some((f["name"].as_str()?.to_string(), f.clone()))).collect();
            text.push_str(&models::feature_table(&named));
        }
        _ => {}
    }
    if let Some(Value::Array(behind)) = behind.filter(|b| b.as_array().is_some_and(|b| !b.is_empty())) {
        text.push_str(&events_behind(&behind));
    }
    text
}

/// The newest event of each entity and age, and how many features stand on it.
fn events_behind(behind: &[Value]) -> String {
    let row = |b: &Value| {
        let ids: Vec<String> = b["id"].as_array().into_iter().flatten().map(cell).collect();
        let event = &b["event"]["event"];
        vec![
            format!("{}={}", cell(&b["entity"]), ids.join("/")),
            if event.is_null() {
                "not found".into()
            } else {
                format!("{} {}", cell(&event["type"]), cell(&event["id"]))
            },
            cell(&b["event"]["seq"]),
            cell(&b["age_s"]),
            b["features"].as_array().map_or(0, Vec::len).to_string(),
        ]
    };
    let headers = ["entity", "newest event", "seq", "age s", "features"];
    table::table(&headers, &["seq", "age s", "features"], behind.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn csv_cells_are_quoted_and_null_is_empty() {
        let r = json!({"id": "01", "request_id": null, "label": "a,\"b\"", "vector": [1, "x"], "score": 0.5});
        let l = csv_line(&r);
        assert!(l.starts_with("01,,,,,,,0.5,\"a,\"\"b\"\"\",,"), "{l}");
        assert!(l.contains(r#""[1,""x""]""#), "{l}");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(l.as_bytes());
        assert_eq!(reader.records().next().unwrap().unwrap().len(), CSV.len());
    }

    #[test]
    fn why_shows_findings_and_features_inside_80_columns() {
        let a = json!({"id": "01HQ", "score": 0.31, "vector": [1], "outcomes": [{"label": true, "time": "t", "revision": 0}],
            "findings": [{"rule": "schema.range", "feature": "f", "value": 9, "expected": "at most 3", "policy": "flag"}],
            "features": {"f": {"value": 9, "age_s": 12, "stale": true}}});
        let text = story(&a);
        assert!(
            text.contains("outcome: true at t (revision 0)")
                && text.contains("expected at most 3, got 9")
                && text.contains("stale"),
            "{text}"
        );
        assert!(!text.contains("vector"), "the vector is shown by name:\n{text}");
    }
}
