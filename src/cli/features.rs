//! `feature`: definitions, the value behind an answer, and the check against expected values.

use super::args::FeatureCommand;
use super::client::{Client, encode, query};
use super::error::{CliError, Result, at_path};
use super::output::{cell, json, put};
use super::target::Context;
use super::{models, table};
use serde_json::Value;
use std::path::Path;

/// Predictions of one page of the log.
const PAGE: usize = 1000;

pub fn run(ctx: &Context, command: &FeatureCommand) -> Result {
    match command {
        FeatureCommand::List => list(ctx),
        FeatureCommand::Explain { name, entities, time } => explain(ctx, name, entities, time.clone()),
        FeatureCommand::Verify { expected, events, model } => {
            super::verify::run(ctx, expected, events.as_deref(), model.as_deref())
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
        let row = |f: &Value| ["name", "type", "source", "entity", "view", "ttl"].map(|k| of(f, k)).to_vec();
        let headers = ["feature", "type", "source", "entity", "view", "ttl"];
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

/// Names of a model's inputs in order.
pub fn signature(client: &Client, model: &str) -> Result<Vec<String>> {
    let m = client.get(&format!("/v1/models/{}", encode(model)))?;
    let list = [&m["signature"]["features"], &m["features"]].into_iter().find_map(Value::as_array);
    let name = |f: &Value| f.as_str().or_else(|| f["name"].as_str()).unwrap_or_default().to_string();
    Ok(list.map_or_else(Vec::new, |l| l.iter().map(name).collect()))
}

/// Visits logged predictions in order of id until told to stop (`false`), page by page. Pages hold all models
/// and are filtered here: a page of one model alone could mean a scan of the rest of the log in one request.
pub fn each_prediction(
    client: &Client,
    model: Option<&str>,
    after: Option<String>,
    mut visit: impl FnMut(&Value) -> Result<bool>,
) -> Result {
    if let Some(model) = model {
        client.get(&format!("/v1/models/{}", encode(model)))?;
    }
    let mut after = after.unwrap_or_else(|| "00000000000000000000000000".into());
    loop {
        let q = query(&[("limit", Some(PAGE.to_string())), ("after", Some(after.clone()))]);
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
                if model.is_none_or(|m| r["model"] == m) {
                    go = go && visit(r)?;
                }
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
