//! Kill and power-cut campaigns: load, kill -9 at a random moment, restart on the same directory, check, again.

use super::ledger;
use super::load::{self, Diary, MODEL};
use super::server::{Client, Server};
use super::undo;
use super::{Findings, Random, layer::Layer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use understudy_domain::prediction::PredictionId;
use understudy_domain::time::Timestamp;

/// What ends each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// `kill -9`: what the program handed to the system survives.
    Kill,
    /// Loss of power: what was not synced is gone.
    Power,
}

#[derive(Clone, Debug)]
pub struct Campaign {
    pub runs: u64,
    pub seed: u64,
    pub cut: Cut,
    pub connections: u64,
    /// Shortest and longest load before the end, in milliseconds.
    pub load_ms: (u64, u64),
    /// Further settings of the server, for example `storage.durability=process`.
    pub set: Vec<String>,
    /// The real program.
    pub program: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the campaign in `work`, an empty directory.
pub fn run(campaign: &Campaign, work: &Path, progress: &mut dyn FnMut(u64, &Findings)) -> Result<Findings, String> {
    let project = work.join("project");
    prepare(campaign, &project)?;
    let data = project.join("data");
    let layer = match campaign.cut {
        Cut::Kill => None,
        Cut::Power => Some(Layer::build(&work.join("layer"), &data, true)?),
    };
    let environment = layer.as_ref().map(Layer::environment).unwrap_or_default();
    let mut set: Vec<&str> =
        vec!["prediction_log.mode=sync", "features.lateness=3650d", "storage.segment_bytes=8388608"];
    set.extend(campaign.set.iter().map(String::as_str));
    let mut random = Random::new(campaign.seed);
    let mut found = Findings { seed: campaign.seed, ..Findings::default() };
    let mut all: Vec<Diary> = Vec::new();
    let mut last: (Vec<Diary>, String) = (Vec::new(), first_id(Timestamp(0)));
    for run in 0..=campaign.runs {
        let mut server = Server::start(&campaign.program, &project, &set, &environment)?;
        if run > 0 {
            found.recovery_ms_max = found.recovery_ms_max.max(server.ready_after.as_millis() as u64);
            ledger::check(&Client::new(&server.url), &last.0, &last.1, &mut found)?;
            all.append(&mut last.0);
            found.runs = run;
            progress(run, &found);
        }
        if run == campaign.runs {
            break;
        }
        let since = first_id(load::now());
        let diaries = under_load(campaign, run, &mut server, &mut random)?;
        if let Some(layer) = &layer {
            // Every second cut loses all that was not synced; the others a random part of it.
            let cut: undo::Cut = layer.cut_power((run % 2 == 1).then_some(&mut random))?;
            found.writes_taken_back += cut.writes;
        }
        for d in &diaries {
            let (events, outcomes, predictions) = d.acknowledged();
            found.events += events;
            found.outcomes += outcomes;
            found.predictions += predictions;
            found.acknowledged += events + outcomes + predictions;
            if let Some(answer) = d.refused.first() {
                return Err(format!("run {run}: a healthy server refused: {answer}"));
            }
        }
        last = (diaries, since);
    }
    ledger::check_records(&data, &all, &mut found)?;
    Ok(found)
}

/// Below every prediction made from now on; ids carry milliseconds.
fn first_id(now: Timestamp) -> String {
    PredictionId::new(Timestamp((now.0 - 1000).max(0)), 0).to_string()
}

/// Load on all connections until the server is killed at a random moment.
fn under_load(campaign: &Campaign, run: u64, server: &mut Server, random: &mut Random) -> Result<Vec<Diary>, String> {
    let stop = AtomicBool::new(false);
    let (low, high) = campaign.load_ms;
    let moment = Duration::from_millis(random.between(low, high));
    let url = server.url.clone();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..campaign.connections)
            .map(|c| {
                let (name, seed) = (format!("k{run}-{c}"), random.below(u64::MAX));
                let (stop, url) = (&stop, &url);
                scope.spawn(move || load::drive(&Client::new(url), name, Random::new(seed), stop))
            })
            .collect();
        let started = Instant::now();
        while started.elapsed() < moment {
            std::thread::park_timeout(moment - started.elapsed());
        }
        server.kill();
        stop.store(true, SeqCst);
        threads.into_iter().map(|t| t.join().map_err(|_| "a load thread panicked".to_owned())).collect()
    })
}

/// A project with a trained model, its server stopped again.
fn prepare(campaign: &Campaign, project: &Path) -> Result<(), String> {
    crate::cli::example_project(project)?;
    let model = project.join("models/returns.toml");
    let text = std::fs::read_to_string(&model).map_err(|e| format!("{}: {e}", model.display()))?;
    std::fs::write(&model, text.replace("matures_after = \"14d\"", "matures_after = \"1d\""))
        .map_err(|e| format!("{}: {e}", model.display()))?;
    let set = ["features.lateness=3650d", "storage.durability=process"];
    let mut server = Server::start(&campaign.program, project, &set, &[])?;
    let client = Client::new(&server.url);
    let history: String = history(load::now()).iter().flat_map(|l| [l.as_str(), "\n"]).collect();
    let (status, answer) = client.lines("/v1/events", &history)?;
    if status != 202 {
        return Err(format!("the history was not taken: {status} {answer}"));
    }
    let (status, job) = client.json(&format!("/v1/models/{MODEL}/train"), &json!({}))?;
    let path = format!("/v1/jobs/{}", job["job"]);
    let started = Instant::now();
    loop {
        let (_, job) = client.get(&path)?;
        match job["state"].as_str() {
            Some("registered") => break,
            Some("queued" | "backfilling" | "training") if started.elapsed() < PATIENCE => {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            _ => return Err(format!("no model was trained: {status} {job}")),
        }
    }
    server.kill();
    Ok(())
}

/// Sixty days of orders up to two days ago; dear ones mostly come back a day later.
fn history(now: Timestamp) -> Vec<String> {
    const HOUR: i64 = 3_600_000_000;
    let start = now.0 - 62 * 24 * HOUR;
    let mut events: Vec<(i64, String)> = Vec::new();
    for n in 0..60 * 12 {
        let (time, amount) = (start + n * 2 * HOUR, (n * 37 % 200) as f64);
        let customer = format!("c{}", n * 7 % 20);
        events.push((time, load::order(&format!("h{n}"), &customer, Timestamp(time), amount)));
        let returned = (amount > 100.0) != (n % 11 == 0);
        let back: Value = json!({"id": format!("hr{n}"), "type": "order_returned", "time": Timestamp(time + 24 * HOUR),
            "entities": {"customer": customer}, "properties": {"order": format!("h{n}"), "returned": returned}});
        events.push((time + 24 * HOUR, back.to_string()));
    }
    events.sort();
    events.into_iter().map(|(_, line)| line).collect()
}
