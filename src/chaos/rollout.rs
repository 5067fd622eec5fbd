//! A rollout in a recorded stream: whatever the batch size, and however often the program is killed in the middle of
//! it, the journal of decisions is the same, byte for byte. Every other pass has a shadow phase, and its deaths there.

use super::Random;
use super::load::{self, MODEL};
use super::server::{Client, Server};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use understudy_domain::time::Timestamp;

const HOUR: i64 = 3_600_000_000;
/// Lines of the stream before the rollout begins, and after.
const BEFORE: usize = 1_500;
/// Shadow answers before the first share, where there is shadow.
const COPIES: u64 = 100;
/// Of the batches of a stream with shadow, the part in which copies are made, about.
const SHADOW_PART: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct RolloutCampaign {
    pub kills: u64,
    /// Kills of one pass over the stream.
    pub per_pass: u64,
    pub seed: u64,
    pub program: PathBuf,
}

/// `different` must be 0.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RolloutFindings {
    pub kills: u64,
    pub passes: u64,
    /// Entries of the journal of the pass without deaths.
    pub entries: u64,
    pub end: String,
    /// Passes whose journal differs; the first is the same stream in other batches.
    pub different: u64,
    pub recovery_ms_max: u64,
    pub seed: u64,
    pub examples: Vec<String>,
}

/// Runs the campaign in `work`, an empty directory.
pub fn run(
    c: &RolloutCampaign,
    work: &Path,
    progress: &mut dyn FnMut(&RolloutFindings),
) -> Result<RolloutFindings, String> {
    let lines = stream();
    let base = work.join("base");
    prepare(c, &base, &lines[..BEFORE])?;
    let mut random = Random::new(c.seed);
    let mut found = RolloutFindings { seed: c.seed, ..RolloutFindings::default() };
    let pass = |name: &str, batch: usize, (kills, copies): (u64, u64), random: &mut Random| {
        let project = work.join(name);
        copy(&base, &project)?;
        let told = replay(c, &project, &lines[BEFORE..], batch, (kills, copies), random)?;
        std::fs::remove_dir_all(&project).map_err(|e| e.to_string())?;
        Ok::<_, String>(told)
    };
    let mut compare = |told: Told, usual: &Told, found: &mut RolloutFindings| {
        found.passes += 1;
        found.kills += told.kills;
        found.recovery_ms_max = found.recovery_ms_max.max(told.recovery_ms);
        if told.journal != usual.journal {
            found.different += 1;
            let at = told.journal.iter().zip(&usual.journal).position(|(a, b)| a != b);
            found.examples.push(format!(
                "pass {}: {} entries and {} instead of {} and {}, first other byte at {at:?}",
                found.passes, told.entries, told.end, usual.entries, usual.end
            ));
        }
        progress(found);
    };
    let shadowed = pass("shadowed", 500, (0, COPIES), &mut random)?;
    compare(pass("batches", 37, (0, COPIES), &mut random)?, &shadowed, &mut found);
    let usual = pass("usual", 500, (0, 0), &mut random)?;
    (found.entries, found.end) = (usual.entries, usual.end.clone());
    while found.kills < c.kills {
        let kills = c.per_pass.min(c.kills - found.kills);
        let copies = if found.passes % 2 == 1 { COPIES } else { 0 };
        let told = pass("killed", 100 + random.below(400) as usize, (kills, copies), &mut random)?;
        if told.kills == 0 {
            return Err("no kill came before its batch was over; the machine is too quick for these batches".into());
        }
        compare(told, if copies > 0 { &shadowed } else { &usual }, &mut found);
    }
    Ok(found)
}

struct Told {
    journal: Vec<u8>,
    entries: u64,
    end: String,
    kills: u64,
    recovery_ms: u64,
}

/// Orders every twenty minutes, and a day later what came of them; dear ones mostly come back.
fn stream() -> Vec<String> {
    let start = 1_735_689_600_000_000; // 2025-01-01
    let mut events: Vec<(i64, String)> = Vec::new();
    for n in 0..2_300i64 {
        let (time, amount) = (start + n * HOUR / 3, (n * 37 % 200) as f64);
        let customer = format!("c{}", n * 7 % 50);
        events.push((time, load::order(&format!("h{n}"), &customer, Timestamp(time), amount)));
        let back = time + 24 * HOUR + 60_000_000;
        let returned = (amount > 100.0) != (n % 11 == 0);
        let event = json!({"id": format!("hr{n}"), "type": "order_returned", "time": Timestamp(back),
            "entities": {"customer": customer}, "properties": {"order": format!("h{n}"), "returned": returned}});
        events.push((back, event.to_string()));
    }
    events.sort();
    events.into_iter().map(|(_, line)| line).collect()
}

const SET: [&str; 2] = ["clock.source=stream", "features.lateness=3650d"];

/// A project with two versions, the first the champion, that has answered for a while.
fn prepare(c: &RolloutCampaign, project: &Path, lines: &[String]) -> Result<(), String> {
    crate::cli::example_project(project)?;
    let model = project.join("models/returns.toml");
    let io = |e: std::io::Error| format!("{}: {e}", model.display());
    let text =
        std::fs::read_to_string(&model).map_err(io)?.replace("matures_after = \"14d\"", "matures_after = \"2d\"");
    std::fs::write(&model, text).map_err(io)?;
    let mut server = Server::start(&c.program, project, &SET, &[])?;
    let client = Client::new(&server.url);
    let (history, warm) = lines.split_at(lines.len() / 2);
    send(&client, history)?;
    for version in 1..=2 {
        let (status, job) = client.json(&format!("/v1/models/{MODEL}/train"), &json!({}))?;
        let (path, started) = (format!("/v1/jobs/{}", job["job"]), Instant::now());
        loop {
            let (_, job) = client.get(&path)?;
            match job["state"].as_str() {
                Some("registered") => break,
                Some("failed") | None => return Err(format!("version {version} was not trained: {status} {job}")),
                _ if started.elapsed() > PATIENCE => return Err(format!("version {version} takes too long: {job}")),
                _ => std::thread::park_timeout(Duration::from_millis(10)),
            }
        }
        if version == 1 {
            send(&client, &warm[..warm.len() / 2])?;
        }
    }
    let (status, answer) =
        client.json(&format!("/v1/models/{MODEL}/aliases"), &json!({"alias": "champion", "version": "v1"}))?;
    if status != 200 {
        return Err(format!("v1 is not the champion: {status} {answer}"));
    }
    send(&client, &warm[warm.len() / 2..])?;
    server.kill();
    Ok(())
}

fn send(client: &Client, lines: &[String]) -> Result<(), String> {
    let body: String = lines.iter().flat_map(|l| [l.as_str(), "\n"]).collect();
    match client.lines("/v1/replay", &body)? {
        (200, _) => Ok(()),
        (status, answer) => Err(format!("a batch was not taken: {status} {answer}")),
    }
}

fn begin(client: &Client, copies: u64) -> Result<(), String> {
    let settings = json!({
        "unit": "request", "stages": [10, 50, 100], "min_dwell": "6h", "tick": "1h", "hold": "6h", "max_duration": "60d",
        "shadow_answers": copies, "shadow_share": 50, "min_entities": 10, "error_limit": 0.1,
        "latency": [{"quantile": 0.95, "margin": 1.5}],
        "outcomes": [{"name": "wrong", "counts": "wrong", "better": "lower", "margin": 3.0}],
    });
    let body = json!({"version": "v2", "settings": settings});
    match client.json(&format!("/v1/models/{MODEL}/rollout"), &body)? {
        (201, _) => Ok(()),
        (status, answer) => Err(format!("the rollout did not begin: {status} {answer}")),
    }
}

/// Replays `lines` with `kills` deaths, each while a batch is under way.
fn replay(
    c: &RolloutCampaign,
    project: &Path,
    lines: &[String],
    batch: usize,
    (kills, copies): (u64, u64),
    random: &mut Random,
) -> Result<Told, String> {
    let mut server = Server::start(&c.program, project, &SET, &[])?;
    begin(&Client::new(&server.url), copies)?;
    let (mut killed, mut recovery_ms) = (0, 0);
    let all = lines.chunks(batch).len() as u64;
    let batches = if copies > 0 { all.div_ceil(SHADOW_PART) } else { all };
    let mut usual = Duration::from_millis(50);
    for (i, chunk) in lines.chunks(batch).enumerate() {
        let left = batches.saturating_sub(i as u64);
        let mut dies = left > 0 && random.below(left) < kills.saturating_sub(killed);
        loop {
            if !dies {
                let began = Instant::now();
                send(&Client::new(&server.url), chunk)?;
                usual = began.elapsed();
                break;
            }
            let moment = Duration::from_micros(random.below(usual.as_micros() as u64 + 1));
            let url = server.url.clone();
            let taken = std::thread::scope(|scope| {
                let sender = scope.spawn(move || send(&Client::new(&url), chunk));
                let started = Instant::now();
                while started.elapsed() < moment {
                    std::thread::park_timeout(moment - started.elapsed());
                }
                server.kill();
                sender.join().map_err(|_| "the sender panicked".to_owned())
            })?;
            killed += 1;
            server = Server::start(&c.program, project, &SET, &[])?;
            recovery_ms = recovery_ms.max(server.ready_after.as_millis() as u64);
            if taken.is_ok() {
                break;
            }
            // The batch is sent again, and this time sometimes killed again.
            dies = killed < kills && random.below(3) == 0;
        }
    }
    let (_, status) = Client::new(&server.url).get(&format!("/v1/models/{MODEL}/rollout"))?;
    let (_, journal) = Client::new(&server.url).get(&format!("/v1/rollouts/{MODEL}-1/journal"))?;
    let (_, again) = Client::new(&server.url).get(&format!("/v1/rollouts/{MODEL}-1/verify"))?;
    server.kill();
    if again["same"] != Value::Bool(true) {
        return Err(format!("the journal cannot be recomputed: {again}"));
    }
    let path = project.join(format!("data/rollouts/{MODEL}-1.journal"));
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let entries = journal.as_str().map_or(0, |text| text.lines().count() as u64);
    let end = status["standing"].as_str().unwrap_or_default().to_owned();
    Ok(Told { journal: bytes, entries, end, kills: killed, recovery_ms })
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let io = |e: std::io::Error| format!("copying {}: {e}", from.display());
    std::fs::create_dir_all(to).map_err(io)?;
    for entry in std::fs::read_dir(from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(io)?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target).map_err(io)?;
        }
    }
    Ok(())
}
