//! `bench predict --rate`: an ordinary day's load, open loop, on a server in a process of its own.

use super::load::Requests;
use super::open_loop::Load;
use super::{cpu, process};
use crate::cli::args::PredictBenchArgs;
use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Result};
use crate::cli::output::{json, put};
use crate::cli::target::Context;
use crate::cli::{models, table};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Unmeasured load before the measured one: entities come into memory, versions are loaded.
const WARM_UP: Duration = Duration::from_secs(2);
/// No answer of interest takes longer.
const DEADLINE: Duration = Duration::from_secs(5);

pub fn run(ctx: &Context, args: &PredictBenchArgs, rate: u32) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("--rate measures the CPU time of a server of its own: leave --url out"));
    }
    let server = process::start(&ctx.project_dir())?;
    let client = Client::new(&server.url)?;
    let model = match &args.load.model {
        Some(m) => m.clone(),
        None => {
            models::all(&client)?.first().map(models::name).ok_or_else(|| CliError::new("the project has no model"))?
        }
    };
    let bodies = super::bodies::predictions(ctx, &client, &model)?;
    let path = format!("/v1/models/{}/predict", encode(&model));
    client.post(&path, &bodies[0])?; // says what is wrong, if something is
    let requests: Arc<dyn Requests> = Arc::new(super::bodies::Fixed::new(&path, &bodies));
    let to = super::address(&server.url)?;
    let load =
        || Load { to, requests: requests.clone(), connections: args.load.connections as usize, deadline: DEADLINE };
    load().run(rate.into(), WARM_UP, &mut |_| false);
    let before = cpu::of_process_s(server.pid());
    let seen = load().run(rate.into(), Duration::from_secs(args.load.seconds.into()), &mut |_| false);
    let cpu_s = cpu::of_process_s(server.pid()) - before;
    let round = |v: f64| (v * 1e3).round() / 1e3;
    let ms = |q: f64| seen.accepted.quantile_us(q).map(|us| round(us / 1e3));
    let answered = seen.accepted.count();
    let result = json!({
        "bench": "predict", "rate": rate, "seconds": args.load.seconds, "connections": args.load.connections,
        "due": seen.due, "answered": answered,
        "not_answered": seen.refused.count() + seen.late + seen.failed + seen.unsent,
        "p50_ms": ms(0.5), "p99_ms": ms(0.99), "p999_ms": ms(0.999),
        "cpu_us_per_request": round(cpu_s * 1e6 / answered.max(1) as f64),
        "share_of_one_core": round(cpu_s / seen.wall.as_secs_f64().max(1e-9)),
    });
    if ctx.json {
        json(&result);
    } else {
        put(&table::pairs(&result));
    }
    match answered == seen.due {
        true => Ok(()),
        false => Err(CliError::new("not every request was answered").hint("the figures count those that were")),
    }
}
