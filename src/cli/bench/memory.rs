//! `bench memory`: predictions and events over many entities, and what the server's memory does meanwhile.
//!
//! The server is a process of its own on a directory of its own; its resident size is read from `/proc`.

use super::load::{self, Requests};
use super::{bodies, process};
use crate::cli::args::MemoryArgs;
use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Result};
use crate::cli::features::Scratch;
use crate::cli::output::{json, put};
use crate::cli::target::Context;
use crate::cli::{models, source, table};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Predictions, and events, of one request.
const BATCH: u64 = 100;
/// Of so many requests one brings events.
const EVENTS_EACH: u64 = 5;
/// Between two readings of the server's size.
const ROUND: Duration = Duration::from_millis(500);
/// Different bodies and events that are made into others by another entity.
const TEMPLATES: usize = 500;
/// Longest wait for a server that reads its log and loads its model.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(ctx: &Context, args: &MemoryArgs) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("the server's memory is read from its process: leave --url out"));
    }
    let project = ctx.project_dir();
    // What is asked here must not end up among the project's own records; its models are asked.
    let data = Scratch::new()?;
    let models_of = project.join(crate::cli::config::load(&project)?.settings.storage.dir).join("models");
    copy(&models_of, &data.0.join("models"))?;
    let mut settings = vec![format!("storage.dir={}", data.0.display()), "clock.source=wall".to_owned()];
    settings.push(format!("limits.memory_cap_bytes={}", args.cap_mib << 20));
    settings.extend(args.set.iter().cloned());
    let server = process::start_with(&project, &settings, &[])?;
    let client = Client::new(&server.url)?;
    let model = match &args.model {
        Some(m) => m.clone(),
        None => {
            models::all(&client)?.first().map(models::name).ok_or_else(|| CliError::new("the project has no model"))?
        }
    };
    let path = format!("/v1/models/{}/predict", encode(&model));
    let bodies = bodies::predictions(ctx, &client, &model)?;
    let begun = Instant::now();
    while let Err(e) = client.post(&path, &bodies[0]) {
        if begun.elapsed() > PATIENCE {
            return Err(e);
        }
    }
    let requests: Arc<dyn Requests> = Arc::new(Varied::new(&project, path, bodies, args.entities)?);
    let to = super::address(&server.url)?;
    let (mut sizes, mut asked, mut refused, mut failed) = (Vec::new(), 0, 0, 0);
    let mut number = 0;
    sizes.push((0, resident_mib(server.pid())?));
    while asked < args.predictions {
        let slice = load::run(to, &requests, args.connections as usize, ROUND, number);
        let answered = slice.latencies.count();
        number += answered + slice.refused + slice.failed + u64::from(args.connections);
        asked += answered * BATCH * (EVENTS_EACH - 1) / EVENTS_EACH;
        refused += slice.refused;
        failed += slice.failed;
        if answered == 0 {
            return Err(CliError::new("nothing is answered any more").details(vec![slice.example]));
        }
        sizes.push((asked, resident_mib(server.pid())?));
    }
    let status = client.get("/v1/system")?;
    let result = report(args, &sizes, begun.elapsed(), refused, failed, &status);
    if ctx.json {
        json(&result);
    } else {
        put(&table::pairs(&result));
    }
    Ok(())
}

fn report(args: &MemoryArgs, sizes: &[(u64, f64)], took: Duration, refused: u64, failed: u64, status: &Value) -> Value {
    let total = sizes.last().map_or(0, |s| s.0);
    let at = |share: f64| sizes.iter().find(|s| s.0 as f64 >= total as f64 * share).map_or(0.0, |s| s.1);
    let most = sizes.iter().map(|s| s.1).fold(0.0, f64::max);
    let round = |v: f64| (v * 10.0).round() / 10.0;
    let curve: Vec<Value> = (0..=10).map(|tenth| json!([total * tenth / 10, round(at(tenth as f64 / 10.0))])).collect();
    json!({
        "bench": "memory", "predictions": total, "entities": args.entities, "seconds": round(took.as_secs_f64()),
        "cap_mib": args.cap_mib, "rss_mib": curve, "rss_start_mib": round(at(0.0)), "rss_fifth_mib": round(at(0.2)),
        "rss_end_mib": round(at(1.0)), "rss_most_mib": round(most),
        "end_over_fifth": (at(1.0) / at(0.2).max(1.0) * 1e3).round() / 1e3,
        "bytes_per_prediction_second_half": slope(sizes, total).map(|mib| (mib * 1_048_576.0).round()),
        "refused": refused, "failed": failed, "memory": status.get("memory"),
    })
}

/// Least squares over the second half: what one more prediction takes, in MiB.
fn slope(sizes: &[(u64, f64)], total: u64) -> Option<f64> {
    let half: Vec<(f64, f64)> = sizes.iter().filter(|s| s.0 * 2 >= total).map(|s| (s.0 as f64, s.1)).collect();
    let n = half.len() as f64;
    let (mx, my) = (half.iter().map(|p| p.0).sum::<f64>() / n, half.iter().map(|p| p.1).sum::<f64>() / n);
    let (xx, xy) =
        half.iter().fold((0.0, 0.0), |(xx, xy), (x, y)| (xx + (x - mx) * (x - mx), xy + (x - mx) * (y - my)));
    (half.len() > 2 && xx > 0.0).then(|| xy / xx)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let read = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let kib = read.ok().and_then(|text| {
        text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok())
    });
    kib.map(|kib| kib / 1024.0)
        .ok_or_else(|| CliError::new("the server's size cannot be read").hint("it has ended, or this is not Linux"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: std::io::Error| CliError::new(format!("cannot copy the models of {}: {e}", from.display()));
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(failed)?;
        }
    }
    Ok(())
}

/// Recorded requests and events in which the entity of the most diverse key is one of many.
struct Varied {
    path: String,
    key: String,
    bodies: Vec<Value>,
    events: Vec<Value>,
    entities: u64,
    run: String,
}

impl Varied {
    fn new(project: &Path, path: String, mut bodies: Vec<Value>, entities: u64) -> Result<Varied> {
        bodies.truncate(TEMPLATES);
        let key = diverse(&bodies).ok_or_else(|| CliError::new("the requests of this model name no entity"))?;
        let now = jiff::Timestamp::now().to_string();
        let mut events = Vec::new();
        for line in source::recording(project)?.take(TEMPLATES * 4) {
            let mut e: Value = serde_json::from_str(&line?.json).unwrap_or_default();
            if e["entities"].get(&key).is_some_and(|id| !id.is_null()) {
                e["time"] = now.as_str().into();
                e.as_object_mut().map(|map| map.shift_remove("at"));
                events.push(e);
            }
        }
        if events.is_empty() {
            return Err(CliError::new(format!("no recorded event has the entity key `{key}`")));
        }
        let run = ulid::Ulid::generate().to_string();
        Ok(Varied { path, key, bodies, events, entities, run })
    }

    /// Every entity in turn.
    fn entity(&self, n: u64, i: u64) -> Value {
        format!("e{}", (n * BATCH + i) % self.entities).into()
    }
}

/// The key with the most different ids.
fn diverse(bodies: &[Value]) -> Option<String> {
    let mut ids: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (key, id) in bodies.iter().filter_map(|b| b["entities"].as_object()).flatten().filter(|(_, id)| !id.is_null()) {
        ids.entry(key).or_default().insert(id.to_string());
    }
    ids.into_iter().max_by_key(|(_, ids)| ids.len()).map(|(key, _)| key.to_owned())
}

impl Requests for Varied {
    fn write(&self, n: u64, into: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(BATCH as usize * 300);
        let template = |all: &[Value], i: u64| {
            let mut one = all[((n * BATCH + i) % all.len() as u64) as usize].clone();
            one["entities"][&self.key] = self.entity(n, i);
            one
        };
        let (path, kind) = if n.is_multiple_of(EVENTS_EACH) {
            for i in 0..BATCH {
                let mut event = template(&self.events, i);
                event["id"] = format!("{}-{n}-{i}", self.run).into();
                let _ = writeln!(body, "{event}");
            }
            ("/v1/events", "application/x-ndjson")
        } else {
            let rows: Vec<Value> = (0..BATCH).map(|i| template(&self.bodies, i)).collect();
            let _ = write!(body, "{}", json!({ "instances": rows }));
            (&*self.path, "application/json")
        };
        let length = body.len();
        let _ = write!(
            into,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        into.extend_from_slice(&body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_second_half() {
        let sizes: Vec<(u64, f64)> =
            (0..=100).map(|i| (i * 10, if i < 50 { i as f64 } else { 50.0 + 0.5 * (i - 50) as f64 })).collect();
        assert!((slope(&sizes, 1000).unwrap() - 0.05).abs() < 1e-9);
        assert_eq!(slope(&sizes[..1], 0), None);
    }

    #[test]
    fn the_key_of_the_most_entities_is_varied() {
        let body = |a: &str, b: &str| json!({"entities": {"a": a, "b": b, "c": null}, "context": {}});
        assert_eq!(diverse(&[body("x", "1"), body("x", "2"), body("y", "3")]).as_deref(), Some("b"));
        assert_eq!(diverse(&[json!({"entities": {}})]), None);
    }
}
