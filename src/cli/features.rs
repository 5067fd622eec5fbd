//! `feature`: definitions, the value behind an answer, and the check against expected values.

use super::args::{FeatureCommand, Pace, Speed};
use super::client::{Client, encode, query};
use super::error::{CliError, Result, at_path};
use super::output::{cell, count, json, line, put};
use super::target::{Context, known_project};
use super::{models, replay, source, table};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// Largest difference of two floats that count as equal, absolute and relative.
const TOLERANCE: f64 = 1e-9;
/// Differences that are printed.
const EXAMPLES: usize = 10;
/// Predictions of one page of the log.
const PAGE: usize = 1000;

pub fn run(ctx: &Context, command: &FeatureCommand) -> Result {
    match command {
        FeatureCommand::List => list(ctx),
        FeatureCommand::Explain { name, entities, time } => explain(ctx, name, entities, time.clone()),
        FeatureCommand::Verify { expected, events, model } => {
            verify(ctx, expected, events.as_deref(), model.as_deref())
        }
    }
}

fn list(ctx: &Context) -> Result {
    let server = ctx.server()?;
    let features = models::items(server.client.get("/v1/features")?, "features");
    if ctx.json {
        json(&features);
    } else {
        let of = |f: &Value, key: &str| f.get(key).map(cell).unwrap_or_default();
        let row = |f: &Value| ["name", "type", "entity", "aggregate", "property", "window"].map(|k| of(f, k)).to_vec();
        let headers = ["feature", "type", "entity", "aggregate", "property", "window"];
        put(&table::table(&headers, &[], features.iter().map(row).collect()));
    }
    server.finish()
}

fn explain(ctx: &Context, name: &str, entities: &[(String, String)], time: Option<String>) -> Result {
    let server = ctx.server()?;
    let mut parameters: Vec<_> = entities.iter().map(|(k, v)| ("entity", Some(format!("{k}:{v}")))).collect();
    parameters.push(("time", time));
    let e = server.client.get(&format!("/v1/features/{}/explain{}", encode(name), query(&parameters)))?;
    if ctx.json {
        json(&e)
    } else {
        put(&table::pairs(&e))
    }
    server.finish()
}

type Expected = HashMap<String, Map<String, Value>>;

/// Replays a recording into a fresh server and compares the vectors it logged with a file.
fn verify(ctx: &Context, path: &Path, events: Option<&Path>, model: Option<&str>) -> Result {
    let mut expected = read_expected(path)?;
    let wanted = expected.len();
    let project = ctx.project_dir();
    known_project(&project)?;
    let data = Scratch::new()?;
    let server = match &ctx.url {
        Some(_) => ctx.server()?,
        None => ctx.start(&project, stream_overrides(&data.0))?,
    };
    if ctx.url.is_none() || events.is_some() {
        let lines = events.map_or_else(|| source::recording(&project), source::file)?;
        let pace = Pace { batch: 1000, speed: Speed::Max };
        let mut sender = replay::Sender::new(&server.client, "/v1/replay", &pace);
        let bar = replay::progress(ctx.quiet);
        for l in lines {
            if sender.push(&l?)? {
                bar.set_position(sender.tally.lines);
            }
        }
        sender.flush()?;
        bar.finish_and_clear();
    }
    let model = match model {
        Some(m) => m.to_string(),
        None => models::all(&server.client)?
            .first()
            .map(models::name)
            .ok_or_else(|| CliError::new("the project has no model"))?,
    };
    let signature = signature(&server.client, &model)?;
    let mut report = Comparison::default();
    each_prediction(&server.client, Some(&model), None, |record| {
        let id = record["request_id"].as_str().unwrap_or_default();
        if let Some(want) = expected.remove(id) {
            report.compare(id, &want, &signature, record);
        }
        Ok(!expected.is_empty())
    })?;
    server.finish()?;
    report.missing = expected.len();
    conclude(ctx, &report, wanted)
}

fn conclude(ctx: &Context, report: &Comparison, wanted: usize) -> Result {
    if ctx.json {
        json(&serde_json::json!({"requests": wanted, "missing": report.missing, "values": report.values,
            "different": report.different, "examples": report.examples}));
    } else {
        line(&format!(
            "{} values of {} requests compared, {} different, {} requests missing",
            count(report.values),
            wanted - report.missing,
            report.different,
            report.missing
        ));
    }
    if report.different == 0 && report.missing == 0 {
        return Ok(());
    }
    Err(CliError::new("served features differ from the expected ones").details(report.examples.clone()).hint(
        if report.missing > 0 { "missing requests were refused or never replayed: was the model trained?" } else { "" },
    ))
}

#[derive(Default)]
struct Comparison {
    values: u64,
    different: u64,
    missing: usize,
    examples: Vec<String>,
}

impl Comparison {
    fn compare(&mut self, id: &str, want: &Map<String, Value>, signature: &[String], record: &Value) {
        let vector = record["vector"].as_array().map_or(&[][..], Vec::as_slice);
        for (name, value) in signature.iter().zip(vector) {
            let Some(w) = want.get(name) else { continue };
            self.values += 1;
            if !same(w, value) {
                self.different += 1;
                if self.examples.len() < EXAMPLES {
                    self.examples.push(format!("{id} {name}: expected {w}, served {value}"));
                }
            }
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => (x - y).abs() <= TOLERANCE * x.abs().max(1.0),
        _ => a == b,
    }
}

fn read_expected(path: &Path) -> Result<Expected> {
    let text = std::fs::read_to_string(path).map_err(at_path(path, "read"))?;
    let mut all = Expected::new();
    for (i, l) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let v: Value = serde_json::from_str(l).unwrap_or_default();
        match (v["id"].as_str(), v["features"].as_object()) {
            (Some(id), Some(features)) => all.insert(id.to_string(), features.clone()),
            _ => {
                return Err(CliError::new(format!("{}:{}: not {{\"id\", \"features\"}}", path.display(), i + 1)));
            }
        };
    }
    Ok(all)
}

/// Names of a model's inputs in order.
pub fn signature(client: &Client, model: &str) -> Result<Vec<String>> {
    let m = client.get(&format!("/v1/models/{}", encode(model)))?;
    let list = [&m["signature"]["features"], &m["features"]].into_iter().find_map(Value::as_array);
    let name = |f: &Value| f.as_str().or_else(|| f["name"].as_str()).unwrap_or_default().to_string();
    Ok(list.map_or_else(Vec::new, |l| l.iter().map(name).collect()))
}

/// Visits logged predictions in order of id until told to stop (`false`), page by page.
pub fn each_prediction(
    client: &Client,
    model: Option<&str>,
    after: Option<String>,
    mut visit: impl FnMut(&Value) -> Result<bool>,
) -> Result {
    let mut after = after.unwrap_or_else(|| "00000000000000000000000000".into());
    loop {
        let q = query(&[
            ("model", model.map(str::to_string)),
            ("limit", Some(PAGE.to_string())),
            ("after", Some(after.clone())),
        ]);
        let (mut seen, mut go) = (0, true);
        client.lines(&format!("/v1/predictions{q}"), |l| {
            let record: Value = serde_json::from_str(l)
                .map_err(|e| CliError::new(format!("the server sent a prediction that is not JSON: {e}")))?;
            let pages = match record.get("predictions").and_then(Value::as_array) {
                Some(list) => list.as_slice(),
                None => std::slice::from_ref(&record),
            };
            for r in pages {
                seen += 1;
                after = r["id"].as_str().unwrap_or_default().to_string();
                go = go && visit(r)?;
            }
            Ok(())
        })?;
        if !go || seen < PAGE {
            return Ok(());
        }
    }
}

/// Settings of a server that replays a recording into an empty directory.
pub fn stream_overrides(data: &Path) -> super::host::Overrides {
    vec![
        ("server.port".into(), "0".into()),
        ("clock.source".into(), "stream".into()),
        ("storage.dir".into(), data.display().to_string()),
    ]
}

/// A temporary directory that goes when the command ends.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub fn new() -> Result<Self> {
        let unique = ulid::Ulid::generate().to_string().to_lowercase();
        let dir = std::env::temp_dir().join(format!("understudy-{unique}"));
        std::fs::create_dir_all(&dir).map_err(at_path(&dir, "make"))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_real_differences_count() {
        assert!(same(&json!(1), &json!(1.0)));
        assert!(same(&json!(1e6), &json!(1e6 + 1e-4)));
        assert!(!same(&json!(1.0), &json!(1.0 + 1e-8)));
        assert!(!same(&json!(null), &json!(0)));
        assert!(same(&json!(null), &json!(null)));
        assert!(!same(&json!("EWR"), &json!("JFK")));
        let mut c = Comparison::default();
        let want = json!({"a": 1, "b": null, "other": 3});
        let record = json!({"vector": [2, null, 5]});
        c.compare("x", want.as_object().unwrap(), &["a".into(), "b".into(), "c".into()], &record);
        assert_eq!((c.values, c.different), (2, 1));
        assert_eq!(c.examples, ["x a: expected 1, served 2"]);
    }
}
