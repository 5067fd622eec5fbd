//! `bench reload`: a real server process under load while its project is changed again and again, in right and in
//! wrong ways. Every answer is held against what the generation that it names must give.

mod check;
mod edits;

use super::super::args::ReloadArgs;
use super::super::client::Client;
use super::super::error::{CliError, Result};
use super::super::features::Scratch;
use super::super::output::{json, put};
use super::super::target::Context;
use super::super::{init, models, table};
use super::histogram::Histogram;
use check::Answer;
use edits::{Edit, Project};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Orders that the model is trained on, and customers who place them.
const ORDERS: usize = 800;
const CUSTOMERS: usize = 40;
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for the start and for the training job.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server process; killed when dropped.
struct Process {
    child: Child,
    client: Client,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the clients saw in one phase.
#[derive(Default)]
struct Seen {
    answers: Vec<Answer>,
    failed: Vec<String>,
    latency: Option<Histogram>,
}

pub fn run(ctx: &Context, args: &ReloadArgs) -> Result {
    let scratch = Scratch::new()?;
    let dir = scratch.0.join("project");
    init::write(&dir, |_| ())?;
    let mut project = Project::new(&dir)?;
    let server = serve(&dir)?;
    train(&server.client)?;
    let quiet = phase(&server, args, |_| Ok(()))?;
    let mut tally = Tally::default();
    let ingest = Arc::new(Ingest::default());
    let busy = phase(&server, args, |until| {
        let writer = ingest.clone().start(server.client.clone());
        let result = reloads(&server.client, &mut project, args.reloads, until, &mut tally);
        ingest.stop.store(true, Relaxed);
        writer.join().map_err(|_| CliError::new("the client that ingests failed"))?;
        result
    })?;
    let history = models::items(server.client.get("/v1/config/history")?, "changes");
    let report = check::report(&history, &busy.answers)?;
    let reads = ingest.reads.load(Relaxed);
    let wrong = ingest.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let us = |seen: &Seen, q| seen.latency.as_ref().and_then(|l| l.quantile_us(q));
    let result = json!({
        "reloads": tally.applied + tally.refused,
        "applied": tally.applied,
        "refused": tally.refused,
        "requests": busy.answers.len() + busy.failed.len(),
        "failed": busy.failed.len() + quiet.failed.len(),
        "generations": report.generations,
        "generations_that_answered": report.answered,
        "answers_per_generation": {"least": report.least, "median": report.median, "most": report.most},
        "mixed_generations": report.mixed.len(),
        "features_read": reads,
        "features_wrong": wrong.len(),
        "reload_ms": {"p50": tally.ms(0.5), "max": tally.ms(1.0)},
        "p50_us": {"without": us(&quiet, 0.5), "with": us(&busy, 0.5)},
        "p99_us": {"without": us(&quiet, 0.99), "with": us(&busy, 0.99)},
        "connections": args.connections,
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    if ctx.json {
        json(&result)
    } else {
        put(&table::pairs(&result))
    }
    let mut wrongs: Vec<String> = quiet.failed.into_iter().chain(busy.failed).collect();
    wrongs.extend(report.mixed);
    wrongs.extend(wrong);
    wrongs.extend(tally.surprises);
    if wrongs.is_empty() {
        return Ok(());
    }
    let n = wrongs.len();
    wrongs.truncate(10);
    Err(CliError::new(format!("{n} things that must not happen under a reload")).details(wrongs))
}

/// This program as a server of its own process, on a free port.
fn serve(dir: &Path) -> Result<Process> {
    let program = std::env::current_exe().map_err(|e| CliError::new(format!("this program cannot be found: {e}")))?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("UNDERSTUDY")) {
        command.env_remove(name);
    }
    command.args(["serve", "--set", "server.port=0", "--project"]).arg(dir);
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| CliError::new(format!("the server did not start: {e}")))?;
    let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines().map_while(|l| l.ok());
    let mut said = Vec::new();
    let url = lines.by_ref().find_map(|line| match line.strip_prefix("serving on ") {
        Some(rest) => rest.split_whitespace().next().map(str::to_owned),
        None => {
            said.push(line);
            None
        }
    });
    // Read on: the server must never wait for a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    match url {
        Some(url) => Ok(Process { child, client: Client::new(&url)? }),
        None => {
            let _ = child.wait();
            Err(CliError::new("the server ended at its start").details(said))
        }
    }
}

fn train(client: &Client) -> Result {
    let mut lines = String::new();
    for i in 0..ORDERS {
        // Within the last hour, oldest first: late events are not folded.
        let time = chrono_ago((ORDERS - i) as u64 * 3);
        let (customer, amount) = (i % CUSTOMERS, 10 + (i * 37) % 200);
        lines.push_str(&format!(
            "{{\"id\":\"o{i}\",\"type\":\"order_placed\",\"time\":\"{time}\",\"entities\":{{\"customer\":\"c{customer}\"}},\
             \"properties\":{{\"amount\":{amount}.0,\"items\":1}}}}\n"
        ));
        lines.push_str(&format!(
            "{{\"id\":\"r{i}\",\"type\":\"order_returned\",\"time\":\"{time}\",\"entities\":{{\"customer\":\"c{customer}\"}},\
             \"properties\":{{\"order\":\"o{i}\",\"returned\":{}}}}}\n",
            (amount + i * 7 % 50) > 120
        ));
    }
    client.post_bytes("/v1/events", "application/x-ndjson", lines.as_bytes())?;
    let job = client.post("/v1/models/returns/train", &json!({}))?;
    let path = format!("/v1/jobs/{}", job["job"]);
    let begun = Instant::now();
    loop {
        let job = client.get(&path)?;
        match job["state"].as_str() {
            Some("registered") => return Ok(()),
            Some("failed") => return Err(CliError::new(format!("training failed: {}", job["message"]))),
            _ if begun.elapsed() > PATIENCE => return Err(CliError::new("training did not end")),
            _ => std::thread::sleep(POLL), // the server works; it says nothing before
        }
    }
}

/// RFC 3339, `seconds` ago.
fn chrono_ago(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(Duration::from_secs(seconds));
    understudy_domain::time::Timestamp(i64::try_from(then.as_micros()).unwrap_or(0)).to_string()
}

/// Load from all connections while `work` runs, for at least the time that was asked for.
fn phase(server: &Process, args: &ReloadArgs, work: impl FnOnce(Instant) -> Result) -> Result<Seen> {
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..args.connections)
        .map(|n| {
            let (stop, client) = (stop.clone(), server.client.clone());
            std::thread::spawn(move || load(&client, n as usize, &stop))
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(args.seconds.into());
    let result = work(until);
    std::thread::sleep(until.saturating_duration_since(Instant::now())); // the load is to last that long
    stop.store(true, Relaxed);
    let mut all = Seen { latency: Some(Histogram::new()), ..Seen::default() };
    for client in clients {
        let seen = client.join().map_err(|_| CliError::new("a client failed"))?;
        all.answers.extend(seen.answers);
        all.failed.extend(seen.failed);
        if let (Some(sum), Some(one)) = (&mut all.latency, &seen.latency) {
            sum.merge(one);
        }
    }
    result.map(|()| all)
}

fn load(client: &Client, n: usize, stop: &AtomicBool) -> Seen {
    let mut seen = Seen { latency: Some(Histogram::new()), ..Seen::default() };
    let body = json!({"entities": {"customer": format!("c{}", n % CUSTOMERS)}, "context": {"amount": 50.0 + n as f64}});
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        let answer = client.post("/v1/models/returns/predict", &body);
        if let Some(latency) = &mut seen.latency {
            latency.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        match answer.map_err(|e| e.message).and_then(|a| Answer::read(&a)) {
            Ok(answer) => seen.answers.push(answer),
            Err(e) => seen.failed.push(e),
        }
    }
    seen
}

#[derive(Default)]
struct Tally {
    applied: u64,
    refused: u64,
    took: Vec<Duration>,
    surprises: Vec<String>,
}

impl Tally {
    fn ms(&self, q: f64) -> Option<f64> {
        let mut all = self.took.clone();
        all.sort_unstable();
        let at = ((all.len() as f64 * q) as usize).min(all.len().checked_sub(1)?);
        Some(all[at].as_secs_f64() * 1e3)
    }
}

fn reloads(client: &Client, project: &mut Project, n: u32, until: Instant, tally: &mut Tally) -> Result {
    let pause = until.saturating_duration_since(Instant::now()) / (n + 1);
    for i in 0..n {
        let edit = Edit::of(i);
        let before = client.get("/v1/config")?["generation"].as_u64();
        project.apply(edit, i)?;
        let begun = Instant::now();
        let result = settle(client);
        tally.took.push(begun.elapsed());
        let after = client.get("/v1/config")?["generation"].as_u64();
        match (edit.is_right(), result) {
            (true, Ok(())) => {
                tally.applied += 1;
                if after <= before {
                    tally.surprises.push(format!("reload {i} ({edit:?}) made no generation"));
                }
            }
            (false, Err(_)) => {
                tally.refused += 1;
                if after != before {
                    tally.surprises.push(format!("reload {i} ({edit:?}) was refused and changed the generation"));
                }
            }
            (true, Err(e)) => tally.surprises.push(format!("reload {i} ({edit:?}) was refused: {}", e.message)),
            (false, Ok(())) => tally.surprises.push(format!("reload {i} ({edit:?}) was applied")),
        }
        if !edit.is_right() {
            project.restore()?;
        }
        std::thread::sleep(pause.saturating_sub(begun.elapsed())); // spread over the time that was asked for
    }
    Ok(())
}

/// Asks for a reload and waits until it is applied or refused.
fn settle(client: &Client) -> Result {
    let begun = Instant::now();
    loop {
        let answer = client.post("/v1/config/reload", &json!({}))?;
        match answer["verdict"].as_str() {
            Some("applied" | "unchanged") => return Ok(()),
            Some(_) => return Err(CliError::new(answer.to_string())),
            None if begun.elapsed() > PATIENCE => return Err(CliError::new("features were not built in time")),
            None => std::thread::sleep(POLL), // features are being built
        }
    }
}

/// A client that reads what it wrote: after every acknowledged event the count of its customer is one more, whatever
/// generation answers and however its features were built.
#[derive(Default)]
struct Ingest {
    stop: AtomicBool,
    reads: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Ingest {
    fn start(self: Arc<Self>, client: Client) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let mut n = 0_u64;
            while !self.stop.load(Relaxed) {
                n += 1;
                if let Err(wrong) = write_and_read(&client, n) {
                    self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                }
                self.reads.fetch_add(1, Relaxed);
            }
        })
    }
}

fn write_and_read(client: &Client, n: u64) -> std::result::Result<(), String> {
    let event = json!({
        "id": format!("w{n}"), "type": "order_placed", "time": chrono_ago(0), "entities": {"customer": "writer"},
        "properties": {"amount": 1.0, "items": 1},
    });
    // Refused for load: nothing was done, and it is sent again, as a producer does.
    let mut tries = 0;
    while let Err(e) = client.post("/v1/events", &event) {
        tries += 1;
        if tries == 50 {
            return Err(e.message);
        }
        std::thread::sleep(POLL); // what Retry-After would say
    }
    let asked = json!({"entities": {"customer": "writer"}, "context": {"amount": 1.0}});
    let answer = client.post("/v1/models/returns/predict?explain=true", &asked).map_err(|e| e.message)?;
    let count: &Value = &answer["features"]["orders_30d"]["value"];
    if count.as_u64() == Some(n) {
        return Ok(());
    }
    Err(format!("generation {}: {n} events were acknowledged, the feature counts {count}", answer["generation"]))
}
