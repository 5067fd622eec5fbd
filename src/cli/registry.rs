//! `model list|show|register|alias|archive`: the registry of versions.

use super::args::ModelCommand;
use super::client::encode;
use super::error::{CliError, Result};
use super::model_check;
use super::models::{all, name};
use super::output::{cell, json, line, put};
use super::table;
use super::target::Context;
use crate::runtime::bundle;
use serde_json::{Value, json};

pub fn run(ctx: &Context, command: &ModelCommand) -> Result {
    // What cannot be sent needs no server.
    let packed = match command {
        ModelCommand::Check(args) => return model_check::run(ctx, args),
        ModelCommand::Register { dir } => Some(bundle::pack(dir).map_err(|e| {
            CliError::new(e)
                .hint("name the folder of a version: manifest.json and the files that it lists, nothing else")
        })?),
        _ => None,
    };
    let server = ctx.server()?;
    let client = &server.client;
    let of = |model: &str| format!("/v1/models/{}", encode(model));
    match command {
        ModelCommand::Check(_) => {} // needs no server, done above
        ModelCommand::List => list(ctx, &all(client)?),
        ModelCommand::Show { model, version: None } => {
            let m = client.get(&of(model))?;
            if ctx.json { json(&m) } else { put(&shown(m)) }
        }
        ModelCommand::Show { model, version: Some(version) } => {
            let v = client.get(&format!("{}/versions/{}", of(model), encode(version)))?;
            if ctx.json { json(&v) } else { put(&table::pairs(&v)) }
        }
        ModelCommand::Register { .. } => {
            let answer = client.post_bytes("/v1/models", "application/x-tar", &packed.unwrap_or_default())?;
            let (model, version) = (cell(&answer["model"]), cell(&answer["version"]));
            let next = match answer["champion"] == Value::Bool(true) {
                true => "it is the first version and answers from now on".to_owned(),
                false => format!("`understudy model alias {model} challenger {version}` gives it a name"),
            };
            said(ctx, &answer, &format!("{model} {version} is registered; {next}"));
        }
        ModelCommand::Alias { model, alias, version, remove: _ } => {
            let answer =
                client.post(&format!("{}/aliases", of(model)), &json!({"alias": alias, "version": version}))?;
            let before = match answer["before"].as_str() {
                Some(before) => format!(" (before: {before})"),
                None => String::new(),
            };
            let now = version.as_deref().unwrap_or("no version");
            said(ctx, &answer, &format!("{alias} of {model} is {now}{before}"));
        }
        ModelCommand::Archive { model, version } => {
            let path = format!("{}/versions/{}/archive", of(model), encode(version));
            let answer = client.post(&path, &json!({}))?;
            said(ctx, &answer, &format!("{model} {version} is archived"));
        }
    }
    server.finish()
}

fn said(ctx: &Context, answer: &Value, text: &str) {
    if ctx.json { json(answer) } else { line(text) }
}

fn list(ctx: &Context, models: &Vec<Value>) {
    if ctx.json {
        return json(models);
    }
    let row = |m: &Value| {
        let features = m["features"].as_array().map_or(0, Vec::len);
        let versions = m["versions"].as_array().map_or(0, Vec::len);
        vec![
            name(m),
            cell(&m["champion"]),
            versions.to_string(),
            aliases(m),
            features.to_string(),
            cell(&m["feature_set"]),
        ]
    };
    let headers = ["model", "champion", "versions", "other names", "features", "feature set"];
    put(&table::table(&headers, &["versions", "features"], models.iter().map(row).collect()));
}

/// `challenger=v3 previous=v1`
fn aliases(model: &Value) -> String {
    let all = model["aliases"].as_object().into_iter().flatten();
    all.filter(|(alias, _)| *alias != "champion").map(|(a, v)| format!("{a}={}", cell(v))).collect::<Vec<_>>().join(" ")
}

/// The model, then a table of its versions.
fn shown(mut model: Value) -> String {
    let versions = model.as_object_mut().and_then(|m| m.shift_remove("registered"));
    let mut text = table::pairs(&model);
    let row = |v: &Value| {
        let names = v["aliases"].as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(" ");
        let memory = if v["in_memory"] == Value::Bool(true) { "in memory" } else { "" };
        let state = v.get("error").map_or_else(|| cell(&v["state"]), |e| format!("unreadable: {}", cell(e)));
        vec![
            cell(&v["version"]),
            state,
            names,
            memory.into(),
            cell(&v["algorithm"]),
            cell(&v["rows"]),
            cell(&v["created"]),
        ]
    };
    let rows: Vec<_> = versions.as_ref().and_then(Value::as_array).into_iter().flatten().map(row).collect();
    if !rows.is_empty() {
        let headers = ["version", "state", "names", "", "algorithm", "rows", "created"];
        text.push_str(&table::table(&headers, &["rows"], rows));
    }
    text
}
