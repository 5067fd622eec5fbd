//! `config status|reload|history|diff|revert`: the configuration of a running server.

use super::args::ConfigCommand;
use super::client::Client;
use super::error::{CliError, Result};
use super::models::items;
use super::output::{self, cell};
use super::table;
use super::target::Context;
use serde_json::{Value, json};
use std::time::Duration;

/// Between two looks at features that are being built.
const POLL: Duration = Duration::from_millis(200);

pub fn run(ctx: &Context, command: &ConfigCommand) -> Result {
    let client = running(ctx)?;
    match command {
        ConfigCommand::Reload => changed(ctx, &client, client.post("/v1/config/reload", &json!({}))?),
        ConfigCommand::Revert { generation } => {
            changed(ctx, &client, client.post(&format!("/v1/config/revert?to={generation}"), &json!({}))?)
        }
        ConfigCommand::History => {
            let all = items(client.get("/v1/config/history")?, "changes");
            if ctx.json {
                output::json(&all);
                return Ok(());
            }
            let row = |c: &Value| {
                let what = match (c["problems"].as_array(), c["changes"].as_array()) {
                    (Some(p), _) if !p.is_empty() => p.iter().map(cell).collect::<Vec<_>>().join("; "),
                    (_, Some(keys)) => keys.iter().map(|k| cell(&k["key"])).collect::<Vec<_>>().join(", "),
                    _ => String::new(),
                };
                vec![cell(&c["generation"]), cell(&c["time"]), cell(&c["by"]), cell(&c["verdict"]), first(&what, 100)]
            };
            let headers = ["generation", "time", "by", "result", "what"];
            output::put(&table::table(&headers, &["generation"], all.iter().map(row).collect()));
            Ok(())
        }
        ConfigCommand::Diff { from, to } => {
            let changes = items(client.get(&format!("/v1/config/diff?from={from}&to={to}"))?, "changes");
            if ctx.json {
                output::json(&changes)
            } else {
                keys(&changes)
            }
            Ok(())
        }
        _ => {
            let status = client.get("/v1/config")?;
            if ctx.json {
                output::json(&status)
            } else {
                output::put(&table::pairs(&status))
            }
            Ok(())
        }
    }
}

/// The server that is there: one of our own would have nothing to reload.
fn running(ctx: &Context) -> Result<Client> {
    if let Some(url) = &ctx.url {
        return Client::new(url);
    }
    let project = ctx.project_dir();
    super::target::known_project(&project)?;
    ctx.configured(&project).ok_or_else(|| {
        CliError::new(format!("no server is running for {}", project.display()))
            .hint("start it with `understudy serve`, or name another one with --url; `config check` needs none")
    })
}

/// What became of a change, once it is known.
fn changed(ctx: &Context, client: &Client, mut answer: Value) -> Result {
    while answer.get("verdict").is_none() {
        let building = &answer["building"];
        if building.is_null() {
            let newest = items(client.get("/v1/config/history")?, "changes").into_iter().next();
            answer = newest.ok_or_else(|| CliError::new("the server has no history of its configuration"))?;
            break;
        }
        ctx.note(&format!("building features: event {} of {}", cell(&building["read"]), cell(&building["of"])));
        std::thread::sleep(POLL); // the server works meanwhile; it has nothing to say before
        answer = client.get("/v1/config")?;
    }
    if answer["verdict"] == "refused" {
        let problems = items(answer, "problems").iter().map(cell).collect();
        return Err(CliError::new("the change was refused; the configuration in force stays").details(problems));
    }
    if ctx.json {
        output::json(&answer);
        return Ok(());
    }
    let generation = cell(&answer["generation"]);
    output::line(&match answer["verdict"].as_str() {
        Some("applied") => format!("generation {generation} is in force"),
        Some("unchanged") => format!("nothing changed; generation {generation} is in force"),
        _ => format!("{}; generation {generation} is in force", cell(&answer["verdict"])),
    });
    keys(answer["changes"].as_array().map_or(&[], Vec::as_slice));
    let waits = answer["at_next_start"].as_array().map_or(&[][..], Vec::as_slice);
    if !waits.is_empty() {
        let names = waits.iter().map(cell).collect::<Vec<_>>().join(", ");
        output::line(&format!("takes effect at the next start: {names}"));
    }
    Ok(())
}

fn keys(changes: &[Value]) {
    if changes.is_empty() {
        return;
    }
    let row =
        |c: &Value| vec![cell(&c["key"]), first(&cell(&c["from"]), 40), first(&cell(&c["to"]), 40), cell(&c["effect"])];
    output::put(&table::table(&["key", "from", "to", "effect"], &[], changes.iter().map(row).collect()));
}

fn first(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
