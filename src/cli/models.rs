//! `train`, `predict`, `outcome`: what is asked of models.

use super::args::{OutcomeArgs, PredictArgs};
use super::client::{Client, encode, finding};
use super::error::{CliError, Result, at_path};
use super::output::{cell, count, json, line, put};
use super::target::Context;
use super::{replay, table};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Between two looks at a job's state.
const POLL: Duration = Duration::from_millis(200);

/// All models as the server describes them.
pub fn all(client: &Client) -> Result<Vec<Value>> {
    Ok(items(client.get("/v1/models")?, "models"))
}

pub fn name(model: &Value) -> String {
    cell(model.get("model").or_else(|| model.get("name")).unwrap_or(&Value::Null))
}

/// The list in an answer: the answer itself, or its field `key`.
pub fn items(answer: Value, key: &str) -> Vec<Value> {
    match answer {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove(key) {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

pub fn train(ctx: &Context, model: &str, no_wait: bool) -> Result {
    let server = ctx.server()?;
    let job = if no_wait {
        start_training(&server.client, model)?
    } else {
        wait_for_training(&server.client, model, ctx.quiet)?
    };
    if ctx.json {
        json(&job);
    } else if no_wait {
        line(&format!("job {} is training {model}; see GET /v1/jobs/{}", cell(&job["job"]), cell(&job["job"])));
    } else {
        let rows = count(job["rows"].as_u64().unwrap_or(0));
        line(&format!("{model} {} is registered, trained on {rows} rows", cell(&job["version"])));
    }
    server.finish()
}

fn start_training(client: &Client, model: &str) -> Result<Value> {
    client.post(&format!("/v1/models/{}/train", encode(model)), &json!({}))
}

/// Trains and waits; the finished job, or its message as the error.
pub fn wait_for_training(client: &Client, model: &str, quiet: bool) -> Result<Value> {
    let job = start_training(client, model)?;
    let id = job["job"].as_u64().or_else(|| job.as_u64());
    let id =
        id.ok_or_else(|| CliError::new(format!("the server gave the training of {model} no job number: {job}")))?;
    let bar = replay::progress(quiet);
    bar.set_style(indicatif::ProgressStyle::with_template("{spinner} {msg}").expect("a constant template"));
    loop {
        let job = client.get(&format!("/v1/jobs/{id}"))?;
        let state = job["state"].as_str().unwrap_or_default();
        let percent = job["progress"].as_f64().unwrap_or(0.0) * 100.0;
        bar.set_message(format!("{model}: {state} {percent:.0} % {}", job["message"].as_str().unwrap_or_default()));
        bar.tick();
        match state {
            "registered" => {
                bar.finish_and_clear();
                return Ok(job);
            }
            "failed" => {
                bar.finish_and_clear();
                return Err(CliError::new(format!("training {model} failed: {}", cell(&job["message"])))
                    .hint("the version that served before still serves"));
            }
            // A job has no event to wait for over HTTP: its status is polled.
            _ => std::thread::sleep(POLL),
        }
    }
}

pub fn predict(ctx: &Context, args: &PredictArgs) -> Result {
    let body = match &args.json {
        Some(path) => read_json(path)?,
        None => request(&args.entities, &args.context),
    };
    let server = ctx.server()?;
    let explain = if args.explain { "?explain=true" } else { "" };
    let answer = server.client.post(&format!("/v1/models/{}/predict{explain}", encode(&args.model)), &body)?;
    if ctx.json || answer.get("predictions").is_some() {
        json(&answer);
    } else {
        put(&explain_answer(&answer));
    }
    let failed = answer["failed"].as_u64().unwrap_or(0);
    server.finish()?;
    if failed > 0 { Err(CliError::new(format!("{failed} predictions failed"))) } else { Ok(()) }
}

fn request(entities: &[(String, String)], context: &[(String, String)]) -> Value {
    let ids: Map<String, Value> = entities.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
    let fields: Map<String, Value> = context.iter().map(|(k, v)| (k.clone(), scalar(v))).collect();
    json!({"entities": ids, "context": fields})
}

/// `12`, `0.5`, `true` and `null` as what they look like; everything else is text.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(v @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => v,
        _ => Value::from(text),
    }
}

fn explain_answer(a: &Value) -> String {
    let mut plain = a.clone();
    let mut text = String::new();
    if let Some(map) = plain.as_object_mut() {
        let features = map.shift_remove("features");
        let findings = map.shift_remove("findings");
        text.push_str(&table::pairs(&plain));
        for f in findings.as_ref().and_then(Value::as_array).into_iter().flatten() {
            text.push_str(&format!("finding: {}\n", finding(f)));
        }
        if let Some(Value::Object(features)) = features {
            text.push_str(&feature_table(&features));
        }
    }
    text
}

/// name -> {value, age_s, stale} as a table.
pub fn feature_table(features: &Map<String, Value>) -> String {
    let row = |(name, f): (&String, &Value)| {
        let stale = if f["stale"] == Value::Bool(true) { "stale" } else { "" };
        vec![
            name.clone(),
            cell(f.get("value").unwrap_or(f)),
            cell(f.get("age_s").unwrap_or(&Value::Null)),
            stale.into(),
        ]
    };
    table::table(&["feature", "value", "age s", ""], &["value", "age s"], features.iter().map(row).collect())
}

pub fn read_json(path: &Path) -> Result<Value> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(at_path(path, "read"))?;
    } else {
        text = std::fs::read_to_string(path).map_err(at_path(path, "read"))?;
    }
    serde_json::from_str(&text).map_err(|e| CliError::new(format!("{}: not JSON: {e}", path.display())))
}

pub fn outcome(ctx: &Context, a: &OutcomeArgs) -> Result {
    let mut body = json!({"model": a.model, "label": a.label, "revision": a.revision});
    for (key, value) in [("request_id", &a.request), ("prediction_id", &a.prediction), ("time", &a.time)] {
        if let Some(v) = value {
            body[key] = v.as_str().into();
        }
    }
    let server = ctx.server()?;
    let answer = server.client.post("/v1/outcomes", &body)?;
    if ctx.json {
        json(&answer)
    } else {
        line(&cell(answer.get("status").unwrap_or(&answer)))
    }
    server.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_fields_are_what_they_look_like() {
        assert_eq!(scalar("2402"), json!(2402));
        assert_eq!(scalar("0.5"), json!(0.5));
        assert_eq!(scalar("true"), json!(true));
        assert_eq!(scalar("null"), Value::Null);
        assert_eq!(scalar("UA"), json!("UA"));
        assert_eq!(scalar("[1]"), json!("[1]"));
    }

    #[test]
    fn entity_ids_stay_text() {
        let r = request(&[("flight".into(), "1545".into())], &[("hour".into(), "7".into())]);
        assert_eq!(r, json!({"entities": {"flight": "1545"}, "context": {"hour": 7}}));
    }
}
