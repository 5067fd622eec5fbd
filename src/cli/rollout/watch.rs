//! The live view of a rollout.

use super::{length, path, wrapped};
use crate::cli::client::Client;
use crate::cli::error::Result;
use crate::cli::output::{cell, count, json, put};
use crate::cli::target::Context;
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;

/// Looks until the rollout has ended. Into a pipe or as JSON: one object, or picture, per look that shows something new.
/// With `once` there is one look.
pub fn run(ctx: &Context, client: &Client, model: &str, every: u64, once: bool) -> Result {
    let live = std::io::stdout().is_terminal() && !ctx.json;
    let mut before = Value::Null;
    loop {
        let status = client.get(&path(model, ""))?;
        if status != before {
            match (ctx.json, live) {
                (true, _) => json(&status),
                (_, true) => put(&format!("\x1b[2J\x1b[H{}", picture(&status))),
                (_, false) => put(&format!("{}\n", picture(&status))),
            }
        }
        if once || status["ended"] == true {
            return Ok(());
        }
        before = status;
        // A status has no event to wait for over HTTP: it is polled.
        std::thread::sleep(Duration::from_secs(every));
    }
}

/// `[##...]`
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * 5.0).round() as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(5 - full))
}

/// One line of the table; a long name takes a line of its own.
fn row(name: &str, [canary, baseline, ratio, fine, worse]: [&str; 5]) -> String {
    let mut text = format!("{name:<21}");
    if name.chars().count() > 21 {
        text.push_str(&format!("\n{:21}", ""));
    }
    text.push_str(&format!(" {canary:>13} {baseline:>15} {ratio:>11} {fine:<7} {worse}"));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// A rollout's status in 80 columns.
pub fn picture(s: &Value) -> String {
    let decision = &s["decision"];
    let mut text = wrapped(
        "",
        &format!(
            "{}  {} against {}, {} at {}, step {}, mode {}",
            cell(&s["id"]),
            cell(&s["challenger"]),
            cell(&s["champion"]),
            cell(&s["standing"]),
            cell(&s["share"]),
            s["step"],
            cell(&s["mode"])
        ),
    );
    if decision.is_object() {
        text.push_str(&wrapped("", &format!("{}: {}", cell(&decision["verdict"]), cell(&decision["reason"]))));
        text.push_str(&format!(
            "in this state {}, since the first share {}\n\n",
            length(&decision["in_stage"]),
            length(&decision["elapsed"])
        ));
        text.push_str(&row("criterion (* needed)", ["canary", "baseline", "ratio", "fine", "worse"]));
    }
    for c in decision["criteria"].as_array().into_iter().flatten() {
        let of =
            |a: &str, b: &str| format!("{}/{}", count(c[a].as_u64().unwrap_or(0)), count(c[b].as_u64().unwrap_or(0)));
        let part = |a: &str, b: &str| c[a].as_f64().unwrap_or(0.0) / c[b].as_f64().unwrap_or(1.0);
        let interval = &s["intervals"][cell(&c["name"])];
        let end = |i: usize| match interval[i].as_f64() {
            Some(x) if x > 99.0 => "inf".to_owned(),
            Some(x) => format!("{x:.2}"),
            None => "-".into(),
        };
        let certified = if c["certified"] == true { "yes".into() } else { bar(part("log_e_better_max", "certify_at")) };
        let name = format!("{}{}", cell(&c["name"]), if c["required"] == true { " *" } else { "" });
        let (canary, baseline) = (of("canary", "canary_of"), of("baseline", "baseline_of"));
        let (ratio, worse) = (format!("{}..{}", end(0), end(1)), bar(part("log_e_worse", "rollback_at")));
        text.push_str(&row(&name, [&canary, &baseline, &ratio, &certified, &worse]));
    }
    let missing: Vec<String> = decision["missing"].as_array().into_iter().flatten().map(cell).collect();
    if !missing.is_empty() {
        text.push_str(&format!("\n{}", wrapped("still missing: ", &missing.join("; "))));
    }
    let shadow = &s["shadow"];
    if shadow.is_object() {
        let told = format!(
            "{} copies, {} other labels, {} errors, {} dropped; score distance {:.4}; squared error {:+.5} (se {:.5}) \
             over {} pairs",
            shadow["answers"],
            shadow["disagreements"],
            shadow["errors"],
            shadow["dropped"],
            shadow["mean_score_distance"].as_f64().unwrap_or(0.0),
            shadow["loss_difference"].as_f64().unwrap_or(0.0),
            shadow["loss_difference_se"].as_f64().unwrap_or(0.0),
            shadow["pairs"]
        );
        text.push_str(&format!("\n{}", wrapped("shadow: ", &told)));
    }
    for a in s["alerts"].as_array().into_iter().flatten() {
        text.push_str(&wrapped(&format!("alert {}: ", cell(&a["at"])), &cell(&a["text"])));
    }
    if s["waits_for_approval"] == true {
        text.push_str(&format!("a person is to approve: understudy rollout approve {}\n", cell(&s["model"])));
    }
    text
}
