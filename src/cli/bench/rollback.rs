//! Canaries that always fail, under load: how many answers they get to give, and how long after the decision the last
//! one is. Counted from the journal (answers of the canary are there, since each failed) and the prediction log.

use super::bodies::Fixed;
use super::load::{self, Requests};
use super::made;
use super::rollout::{EDGE, patient, wait};
use super::sides::Side;
use crate::cli::client::{Client, query};
use crate::cli::error::{CliError, Result};
use crate::cli::models::items;
use crate::cli::output::cell;
use crate::cli::rollout::path;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use understudy_domain::prediction::PredictionId;
use understudy_domain::time::Timestamp;

/// Load of each rollback.
const LOAD: Duration = Duration::from_millis(1500);
/// Load before the canary comes in.
const BEFORE: Duration = Duration::from_millis(300);
/// What must hold.
const MOST_ANSWERS: u64 = 10;
const MOST_MS: f64 = 1000.0;

#[derive(Default)]
pub struct Rollbacks {
    runs: u64,
    requests: u64,
    /// Of one run, at most.
    canary_answers: u64,
    /// Decision record to the last answer that the canary was asked for, and to the last request that the route table
    /// still gave to it, whoever answered; of all runs the longest.
    answer_ms: f64,
    route_ms: f64,
    /// Answers that the champion gave in the canary's place.
    instead: u64,
    wrong: Vec<String>,
    pub refused: u64,
    pub failed: u64,
    pub example: String,
}

impl Rollbacks {
    pub fn told(&self) -> Value {
        json!({"runs": self.runs, "requests": self.requests, "canary_answers_max": self.canary_answers,
            "last_canary_answer_ms_max": self.answer_ms, "last_routed_ms_max": self.route_ms,
            "answered_by_champion_instead": self.instead, "wrong": self.wrong})
    }

    pub fn verdict(&self) -> Result {
        if self.wrong.is_empty() {
            return Ok(());
        }
        Err(CliError::new("a canary that always fails was not gone in time").details(self.wrong.clone()))
    }
}

pub fn run(side: &Side, model: &str, connections: usize, runs: u32) -> Result<Rollbacks> {
    let client = Client::new(&side.server.url)?;
    let bodies: Vec<Value> = (0..1000)
        .map(|n| {
            let mut body = made::body(n);
            body["context"]["a"] = (EDGE + 0.05).into();
            body
        })
        .collect();
    let requests: Arc<dyn Requests> = Arc::new(Fixed::new(&format!("/v1/models/{model}/predict"), &bodies));
    let mut all = Rollbacks::default();
    for _ in 0..runs {
        let slice = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(side.address, &requests, connections, LOAD, 0));
            std::thread::sleep(BEFORE); // load that the canary comes into
            let settings = json!({"stages": [50, 100], "latency": [], "shadow_answers": 0});
            let body = json!({"version": "v3", "settings": settings});
            let ended = patient(|| client.post(&path(model, ""), &body))
                .and_then(|_| wait(&client, model, |status| status["ended"] == true));
            let slice = load.join().map_err(|_| CliError::new("the load panicked"))?;
            ended.map(|status| (slice, status))
        });
        let (slice, status) = slice?;
        all.runs += 1;
        all.requests += slice.latencies.count();
        (all.refused, all.failed) = (all.refused + slice.refused, all.failed + slice.failed);
        if all.example.is_empty() {
            all.example = slice.example;
        }
        all.look(&client, model, &status)?;
    }
    Ok(all)
}

impl Rollbacks {
    fn look(&mut self, client: &Client, model: &str, status: &Value) -> Result {
        let id = status["id"].as_str().unwrap_or_default();
        let (mut decided, mut failed) = (None, Vec::new());
        client.lines(&format!("/v1/rollouts/{id}/journal"), |line| {
            let line: Value = serde_json::from_str(line).map_err(|e| CliError::new(e.to_string()))?;
            let (entry, answer) = (&line["entry"], &line["failed"]);
            if answer["arm"] == "canary" {
                failed.extend(time(&answer["at"]));
            }
            if entry["state"] == "incident" && decided.is_none() {
                decided = time(&entry["at"]);
            }
            Ok(())
        })?;
        let Some(decided) = decided else {
            self.wrong.push(format!("{id} ended as {}", status["standing"]));
            return Ok(());
        };
        let began = time(&status["started"]).unwrap_or(decided);
        let (mut routed, mut served) = (decided, 0);
        records(client, model, began, |record| {
            if record["placement"]["arm"] != "canary" {
                return;
            }
            routed = routed.max(time(&record["time"]).unwrap_or(routed));
            match record["placement"]["instead"] == true {
                true => self.instead += 1,
                false => served += 1,
            }
        })?;
        let ms = |t: Timestamp| ((t - decided).as_secs_f64() * 1e3).max(0.0);
        let last = failed.iter().copied().max().unwrap_or(decided);
        let answers = failed.len() as u64 + served;
        self.canary_answers = self.canary_answers.max(answers);
        (self.answer_ms, self.route_ms) = (self.answer_ms.max(ms(last)), self.route_ms.max(ms(routed)));
        if answers > MOST_ANSWERS || ms(routed) > MOST_MS {
            let text =
                format!("{id}: {answers} canary answers, the last request routed to it {:.0} ms late", ms(routed));
            self.wrong.push(text);
        }
        Ok(())
    }
}

/// Every logged prediction from a time on, a page at a time.
fn records(client: &Client, model: &str, from: Timestamp, mut each: impl FnMut(&Value)) -> Result {
    const PAGE: usize = 1000;
    let mut after = PredictionId::new(from, 0).to_string();
    loop {
        let q = query(&[("model", Some(model.to_owned())), ("limit", Some(PAGE.to_string())), ("after", Some(after))]);
        let page = items(client.get(&format!("/v1/predictions{q}"))?, "predictions");
        page.iter().for_each(&mut each);
        match page.last().filter(|_| page.len() == PAGE) {
            Some(last) => after = cell(&last["id"]),
            None => return Ok(()),
        }
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
