//! `bench rollout`: what a canary and shadow copies cost a prediction, three servers in turns; then canaries that always
//! fail, under load. A rollout either copies or has a canary, never both, so the larger of the two is what it costs.

use super::bodies::Fixed;
use super::load::Requests;
use super::sides::Side;
use super::{TURN, made, rollback};
use crate::cli::args::RolloutBenchArgs;
use crate::cli::client::Client;
use crate::cli::error::{CliError, Result};
use crate::cli::features::Scratch;
use crate::cli::output::{cell, json, put};
use crate::cli::rollout::path;
use crate::cli::table;
use crate::cli::target::Context;
use crate::runtime::artefact::Artefact;
use crate::runtime::variant;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at a rollout.
pub const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);
/// Where context field `a` is above this, version v3 answers no number.
pub const EDGE: f64 = 0.9;
/// Different requests that are asked in turn.
const BODIES: u64 = 1000;

pub fn run(ctx: &Context, args: &RolloutBenchArgs) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("`bench rollout` starts its own servers: leave --url out"));
    }
    let project = Scratch::new()?;
    made::project(&project.0, 1, &[])?;
    versions(&project.0).map_err(CliError::new)?;
    let data = [Scratch::new()?, Scratch::new()?, Scratch::new()?];
    let mut sides = Vec::new();
    for data in &data {
        sides.push(Side::start(&project.0, data, &[], &[])?);
    }
    let model = made::name(0);
    let target = format!("/v1/models/{model}/predict");
    let bodies: Vec<Value> = (0..BODIES).map(made::body).filter(|b| b["context"]["a"].as_f64() < Some(EDGE)).collect();
    let requests: Arc<dyn Requests> = Arc::new(Fixed::new(&target, &bodies));
    let connections = args.connections as usize;
    for side in &mut sides {
        let champion = json!({"alias": "champion", "version": "v1"});
        Client::new(&side.server.url)?.post(&format!("/v1/models/{model}/aliases"), &champion)?;
        side.warm_up(&requests, connections);
    }
    let stays = json!({"stages": [args.canary_percent, 100], "min_dwell": "30d", "max_duration": "90d", "latency": [],
        "shadow_answers": 0, "shadow_share": args.shadow_percent});
    let mut copies = stays.clone();
    copies["shadow_answers"] = 1_000_000_000_000u64.into();
    begin(&sides[1], &model, &stays, "stage 1")?;
    begin(&sides[2], &model, &copies, "shadow")?;
    let turns = (u128::from(args.seconds) * 1000).div_ceil(TURN.as_millis()).max(2);
    for _ in 0..turns {
        sides.iter_mut().for_each(|side| side.turn(&requests, connections, TURN));
    }
    let copied = Client::new(&sides[2].server.url)?.get(&path(&model, ""))?["shadow"].clone();
    let rollbacks = rollback::run(&sides[0], &model, connections, args.rollbacks)?;
    let round = |v: f64| (v * 1e3).round() / 1e3;
    let of = |side: &Side| {
        let (per_s, cpu) = (side.per_s(), side.cpu_us());
        json!({"requests_per_s": per_s.round(), "cpu_us_per_request": round(cpu),
            "p50_us": side.slice.latencies.quantile_us(0.5), "p99_us": side.slice.latencies.quantile_us(0.99),
            "throughput_ratio": round(per_s / sides[0].per_s().max(1e-9)),
            "cpu_ratio": round(cpu / sides[0].cpu_us().max(1e-9))})
    };
    let result = json!({
        "bench": "rollout", "connections": connections, "seconds": args.seconds,
        "canary_percent": args.canary_percent, "shadow_percent": args.shadow_percent,
        "off": of(&sides[0]), "canary": of(&sides[1]), "shadow": of(&sides[2]),
        "shadow_copies": {"answered": copied["answers"], "dropped": copied["dropped"]},
        "rollback": rollbacks.told(),
        "refused": sides.iter().map(|s| s.slice.refused).sum::<u64>() + rollbacks.refused,
        "failed": sides.iter().map(|s| s.slice.failed).sum::<u64>() + rollbacks.failed,
    });
    if ctx.json {
        json(&result);
    } else {
        put(&table::pairs(&result));
    }
    // A machine that is busy otherwise may have no room for this load: that is no fault of a rollout.
    let busy = |example: &str| example.is_empty() || example.contains("overloaded");
    let broken = result["failed"].as_u64() > Some(0)
        || !busy(&rollbacks.example)
        || sides.iter().any(|s| !busy(&s.slice.example));
    match rollbacks.verdict() {
        _ if broken => Err(CliError::new(format!("requests failed: {}", rollbacks.example))),
        verdict => verdict,
    }
}

/// v2 is v1 again; v3 is v1 behind a gate that overflows.
fn versions(project: &Path) -> std::result::Result<(), String> {
    let dir = project.join("data/models").join(made::name(0));
    let base = || Artefact::read(&dir.join("v1"));
    let write = |mut artefact: Artefact, version: &str| {
        artefact.manifest.version = version.into();
        artefact.write(&dir.join(version)).map(drop)
    };
    write(base()?, "v2")?;
    write(variant::overflowing(base()?, "a", EDGE)?, "v3")
}

fn begin(side: &Side, model: &str, settings: &Value, until: &str) -> Result {
    let client = Client::new(&side.server.url)?;
    client.post(&path(model, ""), &json!({"version": "v2", "settings": settings}))?;
    wait(&client, model, |status| status["standing"] == until).map(drop)
}

/// A question that an overloaded server refuses is asked again.
pub fn patient<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match ask() {
            Err(e) if e.message.contains("overloaded") && started.elapsed() < PATIENCE => std::thread::sleep(POLL),
            told => return told,
        }
    }
}

/// The status of the model's rollout once it is as wished.
pub fn wait(client: &Client, model: &str, wished: impl Fn(&Value) -> bool) -> Result<Value> {
    let started = Instant::now();
    loop {
        let status = patient(|| client.get(&path(model, "")))?;
        if wished(&status) {
            return Ok(status);
        }
        if started.elapsed() > PATIENCE {
            return Err(CliError::new(format!("the rollout of {model} is {} for too long", cell(&status["standing"]))));
        }
        // A status has no event to wait for over HTTP: it is polled.
        std::thread::sleep(POLL);
    }
}
