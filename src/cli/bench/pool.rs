//! `bench pool`: more models than fit in memory, asked by many at once. `bench batch`: a slow model with and without
//! batches, many callers and one.

use super::load::{self, Requests, Slice};
use super::made;
use crate::cli::args::{BatchBenchArgs, PoolBenchArgs};
use crate::cli::client::encode;
use crate::cli::error::{CliError, Result};
use crate::cli::features::Scratch;
use crate::cli::output::{json, put};
use crate::cli::table;
use crate::cli::target::{Context, Server};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest uninterrupted load; between two, the server is asked how it is.
const TURN: Duration = Duration::from_secs(5);
/// A caller waits for a load that waits for another: as long as this.
const PATIENCE: &str = "30s";

/// Requests to models in no order.
struct Mixed {
    models: u64,
}

impl Requests for Mixed {
    fn write(&self, n: u64, into: &mut Vec<u8>) {
        let model = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % self.models;
        let path = format!("/v1/models/{}/predict", encode(&made::name(model as usize)));
        let body = made::body(n).to_string();
        let _ = write!(
            into,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
}

fn start(ctx: &Context, project: &Path, more: &[(&str, String)]) -> Result<Server> {
    let fixed = [
        ("server.port", "0".to_owned()),
        ("server.request_timeout", PATIENCE.to_owned()),
        ("limits.max_wait", PATIENCE.to_owned()),
    ];
    let all = fixed.iter().chain(more).map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    ctx.start(project, all)
}

pub fn pool(ctx: &Context, args: &PoolBenchArgs) -> Result {
    let scratch = Scratch::new()?;
    let bytes = made::project(&scratch.0, args.models as usize, &[args.width as usize; 2])?;
    // Room for exactly so many in both measures.
    let budget = bytes * u64::from(args.slots);
    let slots = [("models.max_loaded", args.slots.to_string()), ("models.max_bytes", budget.to_string())];
    let server = start(ctx, &scratch.0, &slots)?;
    let to = super::address(server.client.url())?;
    let requests: Arc<dyn Requests> = Arc::new(Mixed { models: args.models.into() });
    let (mut all, mut wall, mut number) = (Slice::empty(), 0.0, 0);
    let time = Duration::from_secs(args.seconds.into());
    let mut most_resident = 0;
    while wall < time.as_secs_f64() {
        let left = Duration::from_secs_f64(time.as_secs_f64() - wall).min(TURN).max(Duration::from_millis(50));
        let slice = load::run(to, &requests, args.connections as usize, left, number);
        number += 1 << 32;
        wall += slice.wall.as_secs_f64();
        all.add(&slice);
        most_resident = most_resident.max(crate::system::memory::resident().unwrap_or(0));
    }
    let models = server.client.get("/v1/system")?["models"].clone();
    let count = |key: &str| models[key].as_u64().unwrap_or(u64::MAX);
    let failed = all.refused + all.failed;
    let us = |q: f64| all.latencies.quantile_us(q).map(f64::round);
    let result = json!({
        "bench": "pool", "models": args.models, "slots": args.slots, "connections": args.connections,
        "seconds": wall.round(), "requests": all.latencies.count(), "failed": failed,
        "requests_per_s": (all.latencies.count() as f64 / wall.max(1e-9)).round(),
        "p50_us": us(0.5), "p99_us": us(0.99),
        "misses": count("misses"), "loads": count("loads"), "evictions": count("evictions"),
        "peak_loaded": count("peak_loaded"), "peak_bytes": count("peak_bytes"), "max_bytes": budget,
        "bytes_of_a_model": bytes, "process_bytes": most_resident,
    });
    if ctx.json {
        json(&result)
    } else {
        put(&table::pairs(&result))
    }
    server.finish()?;
    let mut wrong = Vec::new();
    if failed > 0 {
        wrong.push(format!("{failed} requests failed: {}", all.example.chars().take(300).collect::<String>()));
    }
    if count("loads") != count("misses") {
        wrong.push(format!("{} loads for {} misses", count("loads"), count("misses")));
    }
    if count("peak_loaded") > u64::from(args.slots) || count("peak_bytes") > budget {
        wrong.push("more was in memory than the budget allows".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(CliError::new("the pool did not keep what it promises").details(wrong)) }
}

/// One server's turns.
struct Side {
    server: Server,
    many: Slice,
    many_s: f64,
    one: Slice,
    number: u64,
}

impl Side {
    fn start(ctx: &Context, project: &Path, max_batch: u32) -> Result<Side> {
        let more = [("models.max_batch", max_batch.to_string()), ("models.max_bytes", (8u64 << 30).to_string())];
        let server = start(ctx, project, &more)?;
        Ok(Side { server, many: Slice::empty(), many_s: 0.0, one: Slice::empty(), number: 0 })
    }

    fn turn(&mut self, connections: usize, time: Duration) -> Result<Slice> {
        let to = super::address(self.server.client.url())?;
        let requests: Arc<dyn Requests> = Arc::new(Mixed { models: 1 });
        let slice = load::run(to, &requests, connections, time, self.number);
        self.number += 1 << 32;
        Ok(slice)
    }

    fn round(&mut self, connections: usize, time: Duration) -> Result {
        let many = self.turn(connections, time)?;
        self.many_s += many.wall.as_secs_f64();
        self.many.add(&many);
        let one = self.turn(1, time)?;
        self.one.add(&one);
        Ok(())
    }

    fn shown(&self) -> (Value, f64, f64) {
        let per_s = self.many.latencies.count() as f64 / self.many_s.max(1e-9);
        let ms = |s: &Slice, q| s.latencies.quantile_us(q).map_or(f64::NAN, |us| (us / 10.0).round() / 100.0);
        let one = ms(&self.one, 0.5);
        let shown = json!({
            "requests_per_s": (per_s * 10.0).round() / 10.0, "p50_ms": ms(&self.many, 0.5), "p99_ms": ms(&self.many, 0.99),
            "one_caller_p50_ms": one, "one_caller_p99_ms": ms(&self.one, 0.99),
            "failed": self.many.refused + self.many.failed + self.one.refused + self.one.failed,
        });
        (shown, per_s, one)
    }
}

pub fn batch(ctx: &Context, args: &BatchBenchArgs) -> Result {
    let (with, without) = (Scratch::new()?, Scratch::new()?);
    let hidden = [args.width as usize; 3];
    for dir in [&with, &without] {
        made::project(&dir.0, 1, &hidden)?;
    }
    let mut batches = Side::start(ctx, &with.0, 64)?;
    let mut single = Side::start(ctx, &without.0, 1)?;
    let connections = args.connections as usize;
    for side in [&mut batches, &mut single] {
        side.turn(connections, Duration::from_secs(1))?; // unmeasured: the model is loaded
    }
    let rounds = (args.seconds / 4).max(1);
    let time = Duration::from_secs(args.seconds.into()) / (4 * rounds);
    for _ in 0..rounds {
        batches.round(connections, time)?;
        single.round(connections, time)?;
    }
    let ((with, with_s, with_one), (without, without_s, without_one)) = (batches.shown(), single.shown());
    let hundredths = |v: f64| (v * 100.0).round() / 100.0;
    let result = json!({
        "bench": "batch", "connections": args.connections, "seconds": args.seconds, "hidden": hidden,
        "batches": with, "one_by_one": without,
        "throughput_ratio": hundredths(with_s / without_s.max(1e-9)),
        "one_caller_p50_ratio": hundredths(with_one / without_one.max(1e-9)),
    });
    if ctx.json {
        json(&result)
    } else {
        put(&table::pairs(&result))
    }
    batches.server.finish()?;
    single.server.finish()
}
