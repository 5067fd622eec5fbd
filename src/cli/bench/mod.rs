//! `bench`: the real server under closed-loop load, in turns with a bare handler on the same
//! machine, so that the ratio means something wherever it is run.

mod bodies;
mod cpu;
mod floor;
mod fold;
mod histogram;
mod load;
mod made;
mod memory;
mod model;
mod open_loop;
mod overload;
mod pool;
mod process;
mod rate;
mod reload;
mod rollback;
mod rollout;
mod sides;
mod telemetry;

use super::args::{BenchArgs, BenchCommand};
use super::client::encode;
use super::error::{CliError, Result};
use super::features::Scratch;
use super::output::{count, json, put};
use super::target::{Context, Server};
use super::{models, table};
use bodies::{Fixed, Fresh};
use load::{Requests, Slice};
use serde_json::{Map, Value, json};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Longest turn of one server: what else runs on the machine hits both alike.
const TURN: Duration = Duration::from_millis(500);
/// Unmeasured load on each before the first turn.
const WARM_UP: Duration = Duration::from_millis(500);
/// Requests asked with their timing.
const SAMPLES: usize = 300;

pub fn run(ctx: &Context, command: &BenchCommand) -> Result {
    match command {
        BenchCommand::Model(args) => model::run(ctx, args),
        BenchCommand::Pool(args) => pool::pool(ctx, args),
        BenchCommand::Batch(args) => pool::batch(ctx, args),
        BenchCommand::Overload(args) => overload::run(ctx, args),
        BenchCommand::Reload(args) => reload::run(ctx, args),
        BenchCommand::Rollout(args) => rollout::run(ctx, args),
        BenchCommand::Telemetry(args) => telemetry::run(ctx, args),
        BenchCommand::Memory(args) => memory::run(ctx, args),
        BenchCommand::Predict(args) => {
            if let Some(rate) = args.rate {
                return rate::run(ctx, args, rate);
            }
            let args = &args.load;
            let server = ctx.server()?;
            let model = match &args.model {
                Some(m) => m.clone(),
                None => models::all(&server.client)?
                    .first()
                    .map(models::name)
                    .ok_or_else(|| CliError::new("the project has no model"))?,
            };
            let bodies = bodies::predictions(ctx, &server.client, &model)?;
            let path = format!("/v1/models/{}/predict", encode(&model));
            let answer = server.client.post(&path, &bodies[0])?.to_string();
            let split = split(&server, &path, &bodies)?;
            let fixed = Fixed::new(&path, &bodies);
            let more = Map::from_iter([("split_us".to_owned(), Value::from(split))]);
            measure(ctx, args, server, "predict", Arc::new(fixed), answer, more)
        }
        BenchCommand::Ingest(args) => {
            // Its events must not end up among the project's own.
            let data = Scratch::new()?;
            let server = match &ctx.url {
                Some(_) => ctx.server()?,
                None => {
                    let overrides = [("server.port", "0".to_string()), ("storage.dir", data.0.display().to_string())];
                    ctx.start(&ctx.project_dir(), overrides.map(|(k, v)| (k.to_string(), v)).to_vec())?
                }
            };
            let fresh = Fresh::from_recording(&ctx.project_dir(), args.batch as usize)?;
            let mut first = Vec::new();
            fresh.body(u64::MAX >> 1, &mut first);
            let answer = server.client.post_bytes("/v1/events", "application/x-ndjson", &first)?.to_string();
            let mut more = Map::new();
            more.insert("batch".into(), args.batch.into());
            more.insert("folded_per_s_per_core".into(), fold::per_core(&ctx.project_dir())?.map(f64::round).into());
            measure(ctx, &args.load, server, "ingest", Arc::new(fresh), answer, more)
        }
    }
}

fn measure(
    ctx: &Context,
    args: &BenchArgs,
    server: Server,
    what: &str,
    requests: Arc<dyn Requests>,
    answer: String,
    more: Map<String, Value>,
) -> Result {
    let target = address(server.client.url())?;
    let floor = floor::start(answer)?;
    let connections = args.connections as usize;
    let mut number = 0;
    let mut turn = |to: SocketAddr, time: Duration| {
        let slice = load::run(to, &requests, connections, time, number);
        // Far beyond what a turn can send: numbers are never used twice.
        number += 1 << 32;
        slice
    };
    turn(target, WARM_UP);
    turn(floor.address, WARM_UP);
    let time = Duration::from_secs(args.seconds.into());
    let turns = time.as_millis().div_ceil(TURN.as_millis()).max(1) as u32;
    let (mut ours, mut bare) = (Side::new(), Side::new());
    for _ in 0..turns {
        ours.add(|| turn(target, time / turns));
        bare.add(|| turn(floor.address, time / turns));
    }
    drop(floor);
    let in_process = server.is_own();
    let result = report(what, args, &ours, &bare, in_process, more);
    if ctx.json {
        json(&result);
    } else {
        put(&table::pairs(&result));
        ctx.note("cpu_us_per_request: process time less the client threads' own, while this server had its turns");
    }
    server.finish()?;
    ours.verdict()
}

/// One server's turns together.
struct Side {
    slice: Slice,
    wall_s: f64,
    server_cpu_s: f64,
}

impl Side {
    fn new() -> Self {
        Side { slice: Slice::empty(), wall_s: 0.0, server_cpu_s: 0.0 }
    }

    fn add(&mut self, turn: impl FnOnce() -> Slice) {
        let before = cpu::process_s();
        let slice = turn();
        self.server_cpu_s += (cpu::process_s() - before - slice.client_cpu_s).max(0.0);
        self.wall_s += slice.wall.as_secs_f64();
        self.slice.add(&slice);
    }

    fn per_s(&self) -> f64 {
        self.slice.latencies.count() as f64 / self.wall_s.max(1e-9)
    }

    fn verdict(&self) -> Result {
        let s = &self.slice;
        if s.refused + s.failed == 0 && s.latencies.count() > 0 {
            return Ok(());
        }
        let message = format!("{} requests were refused, {} connections failed", count(s.refused), count(s.failed));
        let example: Vec<String> =
            Some(s.example.chars().take(300).collect()).filter(|e: &String| !e.is_empty()).into_iter().collect();
        Err(CliError::new(message).details(example).hint("refused requests are no part of the figures"))
    }
}

fn report(what: &str, args: &BenchArgs, ours: &Side, bare: &Side, in_process: bool, more: Map<String, Value>) -> Value {
    let round = |v: f64, digits: i32| (v * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let n = ours.slice.latencies.count();
    let us = |q: f64| ours.slice.latencies.quantile_us(q).map(|v| round(v, 1));
    let cpu = (in_process && n > 0).then(|| round(ours.server_cpu_s * 1e6 / n as f64, 1));
    let mut v = json!({
        "bench": what, "connections": args.connections, "seconds": args.seconds, "requests": n,
        "requests_per_s": round(ours.per_s(), 0), "p50_us": us(0.5), "p99_us": us(0.99), "cpu_us_per_request": cpu,
        "floor_requests_per_s": round(bare.per_s(), 0), "ratio_to_floor": round(ours.per_s() / bare.per_s().max(1e-9), 3),
    });
    if let Some(batch) = more.get("batch").and_then(Value::as_f64) {
        v["events_per_s"] = round(ours.per_s() * batch, 0).into();
    }
    v.as_object_mut().expect("made as an object").extend(more);
    v
}

/// Median microseconds of each step, from requests that ask for their timing one at a time.
fn split(server: &Server, path: &str, bodies: &[Value]) -> Result<Map<String, Value>> {
    let mut steps: Map<String, Value> = Map::new();
    for i in 0..SAMPLES {
        let answer = server.client.post(&format!("{path}?explain=true"), &bodies[i % bodies.len()])?;
        let timing = answer.get("timing_us").or_else(|| answer.get("timing")).and_then(Value::as_object);
        for (step, us) in timing.into_iter().flatten() {
            let list = steps.entry(step.trim_end_matches("_us").to_string()).or_insert_with(|| json!([]));
            list.as_array_mut().expect("made as a list").push(us.clone());
        }
    }
    for list in steps.values_mut() {
        let mut all: Vec<f64> = list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        all.sort_by(f64::total_cmp);
        *list = all.get(all.len() / 2).copied().into();
    }
    Ok(steps)
}

fn address(url: &str) -> Result<SocketAddr> {
    let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let host = if host.contains(':') { host.to_string() } else { format!("{host}:80") };
    let found = host.to_socket_addrs().ok().and_then(|mut a| a.next());
    found.ok_or_else(|| CliError::new(format!("cannot find the address of {url}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Same;
    impl Requests for Same {
        fn write(&self, _: u64, into: &mut Vec<u8>) {
            into.extend_from_slice(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\n{\"a\":1}");
        }
    }

    #[test]
    fn the_floor_answers_the_load() {
        let floor = floor::start("{\"score\":0.5}".into()).unwrap();
        let requests: Arc<dyn Requests> = Arc::new(Same);
        let slice = load::run(floor.address, &requests, 5, Duration::from_millis(60), 0);
        assert!(slice.latencies.count() > 5, "{} answers", slice.latencies.count());
        assert_eq!((slice.refused, slice.failed), (0, 0));
        assert!(slice.latencies.quantile_us(0.5) > Some(0.0));
    }

    #[test]
    fn a_server_that_is_gone_is_a_failure() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let requests: Arc<dyn Requests> = Arc::new(Same);
        let mut side = Side::new();
        side.add(|| load::run(nobody, &requests, 2, Duration::from_millis(20), 0));
        assert_eq!(side.slice.failed, 2);
        assert!(side.verdict().is_err());
    }
}
