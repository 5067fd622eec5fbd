//! `rollout`: challengers, from their plan to their report.

mod watch;

use super::args::{RolloutCommand, SettingsArgs, StepArgs};
use super::client::{Client, encode, query};
use super::error::{CliError, Result, at_path};
use super::models::items;
use super::output::{cell, json, line, put};
use super::table;
use super::target::Context;
use serde_json::{Map, Value, json as object};

pub fn run(ctx: &Context, command: &RolloutCommand) -> Result {
    let server = ctx.server()?;
    let client = &server.client;
    let done = match command {
        RolloutCommand::Start(a) => {
            let body = object!({ "version": version(client, &a.model, &a.version)?, "settings": settings(&a.with)? });
            show(ctx, &client.post(&path(&a.model, ""), &body)?)
        }
        RolloutCommand::Plan { model, with } => {
            plan(ctx, &client.post(&path(model, "/plan"), &object!({ "settings": settings(with)? }))?)
        }
        RolloutCommand::Watch { model, every, once } => watch::run(ctx, client, model, *every, *once),
        RolloutCommand::Status { model: Some(model) } => show(ctx, &client.get(&path(model, ""))?),
        RolloutCommand::Status { model: None } => list(ctx, client.get("/v1/rollouts")?),
        RolloutCommand::Promote { at, all } => tell(ctx, client, at, "promote", object!({ "all": all })),
        RolloutCommand::Abort { at, reason } => tell(ctx, client, at, "abort", object!({ "reason": reason })),
        RolloutCommand::Approve { at } => tell(ctx, client, at, "approve", object!({})),
        RolloutCommand::Retry { at } => tell(ctx, client, at, "retry", object!({})),
        RolloutCommand::Verify { id } => verify(ctx, &client.get(&format!("/v1/rollouts/{}/verify", encode(id)))?),
        RolloutCommand::Report { id, html } => report(ctx, client, id, html.as_deref()),
        RolloutCommand::Aa { model, runs, predictions, with } => {
            let body = object!({ "runs": runs, "predictions": predictions, "settings": settings(with)? });
            aa(ctx, &client.post(&path(model, "/aa"), &body)?)
        }
    };
    server.finish()?;
    done
}

pub(in crate::cli) fn path(model: &str, rest: &str) -> String {
    format!("/v1/models/{}/rollout{rest}", encode(model))
}

/// `KEY=JSON`; what is no JSON is text.
fn settings(args: &SettingsArgs) -> Result<Map<String, Value>> {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    Ok(args.set.iter().map(|(k, v)| (k.clone(), value(v))).collect())
}

/// The version that a name leads to.
fn version(client: &Client, model: &str, named: &str) -> Result<String> {
    let status = client.get(&format!("/v1/models/{}", encode(model)))?;
    Ok(status["aliases"][named].as_str().unwrap_or(named).to_owned())
}

fn tell(ctx: &Context, client: &Client, at: &StepArgs, order: &str, body: Value) -> Result {
    let step = match at.expected_step {
        Some(step) => Value::from(step),
        None => client.get(&path(&at.model, ""))?["step"].clone(),
    };
    let mut body = body;
    body["expected_step"] = step;
    show(ctx, &client.post(&path(&at.model, &format!("/{order}")), &body)?)
}

fn show(ctx: &Context, status: &Value) -> Result {
    if ctx.json {
        json(status);
    } else {
        put(&watch::picture(status));
    }
    Ok(())
}

fn list(ctx: &Context, answer: Value) -> Result {
    if ctx.json {
        json(&answer);
        return Ok(());
    }
    let row = |r: &Value| {
        let mut row = ["id", "champion", "challenger", "standing", "share"].map(|k| cell(&r[k])).to_vec();
        row.push(minute(&r["started"]));
        row
    };
    let rows = items(answer, "rollouts").iter().map(row).collect();
    put(&table::table(&["id", "champion", "challenger", "state", "share", "began"], &["share"], rows));
    Ok(())
}

fn plan(ctx: &Context, report: &Value) -> Result {
    if ctx.json {
        json(report);
        return Ok(());
    }
    let plan = &report["plan"];
    let mut rows = Vec::new();
    for stage in plan["stages"].as_array().into_iter().flatten() {
        for (i, need) in stage["needs"].as_array().into_iter().flatten().enumerate() {
            let required = if need["required"] == true { "yes" } else { "" };
            rows.push(vec![
                if i == 0 { cell(&stage["share"]) } else { String::new() },
                cell(&need["name"]),
                required.into(),
                cell(&need["entities"]),
                length(&need["median"]),
                length(&need["p90"]),
            ]);
        }
    }
    put(&table::table(&["stage", "criterion", "needed", "canary units", "median", "9 of 10"], &["canary units"], rows));
    let can = match (plan["can_promote"].as_bool(), plan["likely"].as_bool()) {
        (Some(true), Some(true)) => "an equally good challenger is promoted in time in nine cases of ten",
        (Some(true), _) => "an equally good challenger is promoted in time in half of the cases",
        _ => "this plan cannot end in promotion within max_duration",
    };
    put(&wrapped("", &format!("{can}; median {}, nine of ten {}", length(&plan["median"]), length(&plan["p90"]))));
    for hint in plan["hints"].as_array().into_iter().flatten() {
        put(&wrapped("hint: ", &cell(hint)));
    }
    Ok(())
}

fn verify(ctx: &Context, v: &Value) -> Result {
    if ctx.json {
        json(v);
    } else {
        let told = format!(
            "{}: {} entries, {} verdicts recomputed, {} evaluations counted again from {} answers in the logs",
            cell(&v["id"]),
            v["entries"],
            v["verdicts"],
            v["recounted"],
            v["answers"]
        );
        put(&wrapped("", &told));
    }
    if v["same"] == true {
        if !ctx.json {
            line("everything is as it was recorded");
        }
        return Ok(());
    }
    let differences: Vec<String> = v["differences"].as_array().into_iter().flatten().map(cell).collect();
    Err(CliError::new(format!("the journal is not what its inputs give:\n{}", differences.join("\n"))))
}

fn report(ctx: &Context, client: &Client, id: &str, html: Option<&std::path::Path>) -> Result {
    let at = format!("/v1/rollouts/{}/report", encode(id));
    if let Some(file) = html {
        let page = client.text(&format!("{at}{}", query(&[("format", Some("html".to_owned()))])))?;
        std::fs::write(file, page).map_err(at_path(file, "write"))?;
        ctx.note(&format!("report: {}", file.display()));
    }
    let told = client.get(&at)?;
    if ctx.json {
        json(&told);
        return Ok(());
    }
    put(&timeline(&told));
    Ok(())
}

/// A report's timeline, for people.
pub fn timeline(told: &Value) -> String {
    let mut text = format!(
        "{}: {} against {}, {}\n",
        cell(&told["id"]),
        cell(&told["challenger"]),
        cell(&told["champion"]),
        cell(&told["standing"])
    );
    for step in told["timeline"].as_array().into_iter().flatten() {
        let at = minute(&step["at"]);
        let head = format!("  {at}  {:<12} {:>5}  ", cell(&step["standing"]), cell(&step["share"]));
        text.push_str(&wrapped(&head, &cell(&step["reason"])));
    }
    text
}

/// `2013-03-01 06:00` of a time.
fn minute(time: &Value) -> String {
    let text = cell(time);
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

/// A length of time for people, by its two largest units: `4d 14h`.
fn length(span: &Value) -> String {
    let text = cell(span);
    let Ok(span) = text.parse::<understudy_domain::time::Span>() else { return text };
    let s = span.as_secs_f64() as u64;
    match s {
        ..60 => text,
        60..3600 => format!("{}m", s / 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `head`, then the words of `text` beside it in as many lines of 80 columns as they need.
pub fn wrapped(head: &str, text: &str) -> String {
    const WIDTH: usize = 80;
    let indent = head.chars().count();
    let (mut out, mut at) = (head.to_owned(), indent);
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if at > indent && at + 1 + long > WIDTH {
            out.truncate(out.trim_end().len());
            out.push_str(&format!("\n{:indent$}", ""));
            at = indent;
        } else if at > indent {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += long;
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn aa(ctx: &Context, report: &Value) -> Result {
    if ctx.json {
        json(report);
        return Ok(());
    }
    let percent = |key: &str| format!("{:.2} %", 100.0 * report[key].as_f64().unwrap_or(0.0));
    let told = format!(
        "{} runs over {} predictions of {}: rolled back {}, incident {}, promoted {}, undecided {}",
        report["runs"],
        report["predictions"],
        length(&report["over"]),
        percent("rolled_back"),
        percent("incident"),
        percent("promoted"),
        percent("undecided"),
    );
    put(&wrapped("", &told));
    put(&wrapped("", &cell(&report["reading"])));
    Ok(())
}
