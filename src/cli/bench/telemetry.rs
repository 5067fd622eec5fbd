//! `bench telemetry`: two servers over copies of the same data, one that watches its models and sends telemetry and one
//! that does neither, under load in turns. Histograms are recorded by both: their cost is in docs/performance.md, by
//! instructions.

use super::bodies::{self, Fixed};
use super::load::Requests;
use super::sides::Side;
use super::{TURN, floor};
use crate::cli::args::TelemetryBenchArgs;
use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Result};
use crate::cli::features::Scratch;
use crate::cli::output::{json, put};
use crate::cli::target::Context;
use crate::cli::{models, table};
use serde_json::json;
use std::sync::Arc;

pub fn run(ctx: &Context, args: &TelemetryBenchArgs) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("`bench telemetry` starts its own servers: leave --url out"));
    }
    // A collector that takes everything at once: what it costs is the sending.
    let collector = floor::swallow()?;
    let endpoint = format!("http://{}", collector.address);
    let share = args.sample_share.to_string();
    let on = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", share.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ];
    let (data_on, data_off) = (Scratch::new()?, Scratch::new()?);
    let watch = |on: bool| [format!("monitor.enabled={on}")];
    let mut on = Side::start(&ctx.project_dir(), &data_on, &watch(true), &on)?;
    let mut off = Side::start(&ctx.project_dir(), &data_off, &watch(false), &[("OTEL_SDK_DISABLED", "true")])?;
    let client = Client::new(&on.server.url)?;
    let model = match &args.load.model {
        Some(m) => m.clone(),
        None => {
            models::all(&client)?.first().map(models::name).ok_or_else(|| CliError::new("the project has no model"))?
        }
    };
    let bodies = bodies::predictions(ctx, &client, &model)?;
    let path = format!("/v1/models/{}/predict", encode(&model));
    client.post(&path, &bodies[0])?; // says what is wrong, if something is
    let requests: Arc<dyn Requests> = Arc::new(Fixed::new(&path, &bodies));
    let connections = args.load.connections as usize;
    for side in [&mut on, &mut off] {
        side.warm_up(&requests, connections);
    }
    let turns = (u128::from(args.load.seconds) * 1000).div_ceil(TURN.as_millis()).max(2);
    for _ in 0..turns {
        on.turn(&requests, connections, TURN);
        off.turn(&requests, connections, TURN);
    }
    let round = |v: f64| (v * 1e3).round() / 1e3;
    let result = json!({
        "bench": "telemetry", "connections": connections, "seconds": args.load.seconds, "sample_share": args.sample_share,
        "on": {"requests_per_s": on.per_s().round(), "cpu_us_per_request": round(on.cpu_us())},
        "off": {"requests_per_s": off.per_s().round(), "cpu_us_per_request": round(off.cpu_us())},
        "throughput_ratio": round(on.per_s() / off.per_s().max(1e-9)),
        "cpu_ratio": round(on.cpu_us() / off.cpu_us().max(1e-9)),
        "refused": on.slice.refused + off.slice.refused, "failed": on.slice.failed + off.slice.failed,
    });
    if ctx.json {
        json(&result);
    } else {
        put(&table::pairs(&result));
    }
    Ok(())
}
