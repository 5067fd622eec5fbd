//! `retrain` and `explain retrain`: the loops of the models, their jobs, and why.

use super::args::{CandidateName, RetrainCommand};
use super::client::{Client, encode};
use super::error::{CliError, Result};
use super::output::{cell, json, line, put};
use super::target::Context;
use super::{models, table};
use serde_json::{Value, json};

pub fn run(ctx: &Context, command: &RetrainCommand) -> Result {
    if let RetrainCommand::Explain { job } = command {
        return explain(ctx, job);
    }
    let server = ctx.server()?;
    match command {
        RetrainCommand::Explain { .. } => {}
        RetrainCommand::Start { model, candidates } => {
            let names: Vec<&str> = candidates
                .iter()
                .map(|c| match c {
                    CandidateName::Recalibrate => "recalibrate",
                    CandidateName::Retrain => "retrain",
                })
                .collect();
            let path = format!("/v1/models/{}/retraining", encode(model));
            let job = server.client.post(&path, &json!({ "candidates": names }))?;
            if ctx.json {
                json(&job);
            } else {
                let id = cell(&job["id"]);
                line(&format!(
                    "job {model}/{id} runs; `understudy retrain explain {model}/{id}` tells what comes of it"
                ));
            }
        }
        RetrainCommand::Status { model } => {
            let loops = loops(&server.client, model.as_deref())?;
            if ctx.json { json(&json!({ "retraining": loops })) } else { put(&status(&loops)) }
        }
        RetrainCommand::List { model } => {
            let loops = loops(&server.client, model.as_deref())?;
            if ctx.json { json(&json!({ "jobs": flat(&loops) })) } else { put(&jobs(&flat(&loops))) }
        }
        RetrainCommand::Approve { job } => decide(ctx, &server.client, job, true)?,
        RetrainCommand::Decline { job } => decide(ctx, &server.client, job, false)?,
    }
    server.finish()
}

/// The loops as the server describes them.
pub fn loops(client: &Client, model: Option<&str>) -> Result<Vec<Value>> {
    Ok(match model {
        Some(model) => vec![client.get(&format!("/v1/models/{}/retraining", encode(model)))?],
        None => models::items(client.get("/v1/retraining")?, "retraining"),
    })
}

fn status(loops: &[Value]) -> String {
    let row = |l: &Value| {
        let last = l["evaluations"].as_array().and_then(|e| e.last()).unwrap_or(&Value::Null);
        let mode = if l["evaluated"] == Value::Bool(true) { cell(&l["settings"]["mode"]) } else { "off".into() };
        vec![
            cell(&l["model"]),
            mode,
            cell(&l["champion"]["version"]),
            cell(&l["next"]),
            cell(&last["line"]),
            cell(&l["progress"]),
        ]
    };
    table::table(
        &["model", "mode", "champion", "next", "last evaluation", "running"],
        &[],
        loops.iter().map(row).collect(),
    )
}

/// All jobs, each with its model.
pub fn flat(loops: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for l in loops {
        for job in l["jobs"].as_array().into_iter().flatten() {
            let mut job = job.clone();
            job["model"] = l["model"].clone();
            all.push(job);
        }
    }
    all.sort_by_key(|j| cell(&j["until"]));
    all
}

/// What came of a job, in a line.
pub fn outcome(job: &Value) -> String {
    let state = cell(&job["state"]);
    let tried: Vec<String> = job["attempts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| format!("{}: {}", cell(&a["candidate"]), cell(&a["line"])))
        .collect();
    let version = match job["version"].as_str() {
        Some(v) => format!("{state} {v}"),
        None => state,
    };
    let why = cell(&job["why"]);
    let why = if why.is_empty() || why == "-" { String::new() } else { format!(" ({why})") };
    format!("{version}{why}{}{}", if tried.is_empty() { "" } else { "; " }, tried.join("; "))
}

fn jobs(all: &[Value]) -> String {
    let row = |j: &Value| {
        vec![format!("{}/{}", cell(&j["model"]), cell(&j["id"])), cell(&j["until"]), cell(&j["reason"]), outcome(j)]
    };
    table::table(&["job", "data until", "reason", "outcome"], &[], all.iter().map(row).collect())
}

/// The loop and the job that `MODEL/NUMBER` or a number names.
fn find(client: &Client, text: &str) -> Result<(Value, Value)> {
    let (model, id) = match text.rsplit_once('/') {
        Some((model, id)) => (Some(model), id),
        None => (None, text),
    };
    let number: u64 = id.parse().map_err(|_| {
        CliError::usage(format!("`{text}` names no job"))
            .hint("jobs are named MODEL/NUMBER: see `understudy retrain list`")
    })?;
    let mut found: Vec<(Value, Value)> = Vec::new();
    for l in loops(client, model)? {
        let job = l["jobs"].as_array().into_iter().flatten().find(|j| j["id"].as_u64() == Some(number)).cloned();
        found.extend(job.map(|j| (l, j)));
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(CliError::new(format!("there is no job {text}")).hint("`understudy retrain list` shows all")),
        _ => Err(CliError::new(format!("several models have a job {number}")).hint("name it as MODEL/NUMBER")),
    }
}

fn decide(ctx: &Context, client: &Client, text: &str, approve: bool) -> Result {
    let (l, job) = find(client, text)?;
    let path = format!("/v1/models/{}/retraining/{}", encode(&cell(&l["model"])), cell(&job["id"]));
    let job = client.post(&path, &json!({ "approve": approve }))?;
    if ctx.json {
        json(&job)
    } else {
        line(&outcome(&job))
    }
    Ok(())
}

pub fn explain(ctx: &Context, text: &str) -> Result {
    let server = ctx.server()?;
    let (l, job) = find(&server.client, text)?;
    // The evaluation that started it is of the job's own date.
    let evaluation = l["evaluations"].as_array().into_iter().flatten().find(|e| e["at"] == job["until"]).cloned();
    if ctx.json {
        let mut whole = job.clone();
        whole["model"] = l["model"].clone();
        whole["evaluation"] = evaluation.unwrap_or(Value::Null);
        json(&whole);
    } else {
        put(&told(&cell(&l["model"]), &job, evaluation.as_ref()));
    }
    server.finish()
}

fn told(model: &str, job: &Value, evaluation: Option<&Value>) -> String {
    let mut text = format!("{model}/{}: {}\n", cell(&job["id"]), outcome(job));
    text.push_str(&format!(
        "started {} for {}, to {}; the version to beat was {}\n",
        cell(&job["until"]),
        cell(&job["reason"]),
        cell(&job["kind"]),
        cell(&job["champion"])
    ));
    if let Some(e) = evaluation {
        text.push_str(&format!("\n{}\n", cell(&e["line"])));
        for t in e["score"]["terms"].as_array().into_iter().flatten() {
            let number = |v: &Value| v.as_f64().unwrap_or_default();
            text.push_str(&format!(
                "  {:12} {:.2} x {:.2}  {}\n",
                cell(&t["name"]),
                number(&t["weight"]),
                number(&t["value"]),
                cell(&t["line"])
            ));
        }
        for g in e["guards"].as_array().into_iter().flatten() {
            let mark = if g["holds"] == Value::Bool(true) { "ok" } else { "no" };
            text.push_str(&format!("  {mark:2} {:12} {}\n", cell(&g["name"]), cell(&g["line"])));
        }
    }
    for a in job["attempts"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\n{} on {} rows until {}\n",
            cell(&a["candidate"]),
            cell(&a["rows"]),
            cell(&a["until"])
        ));
        match a["verdict"]["checks"].as_array() {
            None => text.push_str(&format!("  {}\n", cell(&a["line"]))),
            Some(checks) => {
                for c in checks {
                    let mark = if c["passed"] == Value::Bool(true) { "ok" } else { "no" };
                    text.push_str(&format!("  {mark:2} {:12} {}\n", cell(&c["name"]), cell(&c["line"])));
                }
            }
        }
    }
    let data = cell(&job["data"]);
    if !data.is_empty() && data != "-" {
        text.push_str(&format!("\ndata sha256 {data}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_with_its_score_its_guards_and_every_gate() {
        let job = json!({"id": 3, "reason": "score", "kind": "improve", "state": "refused", "champion": "v2",
            "until": "2013-06-04T00:00:00Z", "data": "ab12", "why": "no candidate passed", "version": null,
            "attempts": [
                {"candidate": "recalibrate", "rows": 900, "until": "2013-05-20T00:00:00Z", "line": "could not be made: x", "verdict": null},
                {"candidate": "retrain", "rows": 99000, "until": "2013-05-20T00:00:00Z", "line": "refused: y",
                 "verdict": {"checks": [{"name": "loss", "passed": false, "line": "y"}]}}]});
        let evaluation = json!({"line": "score 0.61 against 0.50; a job starts",
            "score": {"terms": [{"name": "performance", "value": 0.61, "weight": 1.0, "line": "loss 0.5 on 9000 answers"}]},
            "guards": [{"name": "rows", "holds": true, "line": "9000 rows"}]});
        let text = told("delay", &job, Some(&evaluation));
        for part in [
            "delay/3: refused (no candidate passed); recalibrate: could not be made: x; retrain: refused: y",
            "performance  1.00 x 0.61  loss 0.5 on 9000 answers",
            "ok rows         9000 rows",
            "no loss         y",
            "data sha256 ab12",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        let all =
            flat(&[json!({"model": "b", "jobs": [{"until": "2"}]}), json!({"model": "a", "jobs": [{"until": "1"}]})]);
        assert_eq!(all[0]["model"], "a");
    }
}
