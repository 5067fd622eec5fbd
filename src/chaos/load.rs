//! Load that remembers: every connection writes down what it sent and what was acknowledged.

use super::Random;
use super::server::Client;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use understudy_domain::time::Timestamp;

pub const MODEL: &str = "returns";

/// An event as it was sent; sent again it must be the same bytes.
pub struct Event {
    pub id: String,
    pub line: String,
    /// Its number, once acknowledged.
    pub seq: Option<u64>,
}

pub struct Prediction {
    pub request: String,
    /// Id and score, once answered.
    pub answer: Option<(String, f64)>,
}

pub struct Outcome {
    pub body: Value,
    pub acknowledged: bool,
}

/// What one connection did in one run. All its events belong to the customer of this name.
#[derive(Default)]
pub struct Diary {
    pub customer: String,
    pub events: Vec<Event>,
    pub predictions: Vec<Prediction>,
    pub outcomes: Vec<Outcome>,
    /// Answers other than the expected ones, while the server lived.
    pub refused: Vec<String>,
}

impl Diary {
    pub fn acknowledged(&self) -> (u64, u64, u64) {
        (
            self.events.iter().filter(|e| e.seq.is_some()).count() as u64,
            self.outcomes.iter().filter(|o| o.acknowledged).count() as u64,
            self.predictions.iter().filter(|p| p.answer.is_some()).count() as u64,
        )
    }
}

pub fn now() -> Timestamp {
    use understudy_actors::ports::Clock;
    crate::system::WallClock.now()
}

/// Sends until told to stop or until the server is gone.
pub fn drive(client: &Client, name: String, mut random: Random, stop: &AtomicBool) -> Diary {
    let mut diary = Diary { customer: name, ..Diary::default() };
    while !stop.load(Relaxed) {
        let alive = match random.below(10) {
            0..5 => events(client, &mut diary, random.between(1, 20)),
            5..8 => predict(client, &mut diary),
            _ => outcome(client, &mut diary),
        };
        if !alive {
            break;
        }
    }
    diary
}

/// A line for an order of this customer.
pub fn order(id: &str, customer: &str, time: Timestamp, amount: f64) -> String {
    json!({"id": id, "type": "order_placed", "time": time, "entities": {"customer": customer},
        "properties": {"amount": amount, "items": 1}})
    .to_string()
}

fn events(client: &Client, diary: &mut Diary, n: u64) -> bool {
    let first = diary.events.len();
    for i in 0..n as usize {
        let id = format!("{}-e{}", diary.customer, first + i);
        let line = order(&id, &diary.customer, now(), (first + i) as f64 % 200.0);
        diary.events.push(Event { id, line, seq: None });
    }
    let body: String = diary.events[first..].iter().flat_map(|e| [e.line.as_str(), "\n"]).collect();
    let Ok((status, answer)) = client.lines("/v1/events", &body) else { return false };
    if status != 202 {
        diary.refused.push(format!("events: {status} {answer}"));
        return true;
    }
    let results = answer["results"].as_array().cloned().unwrap_or_default();
    for (event, result) in diary.events[first..].iter_mut().zip(results) {
        event.seq = result["seq"].as_u64();
    }
    true
}

fn predict(client: &Client, diary: &mut Diary) -> bool {
    let n = diary.predictions.len();
    let request = format!("{}-p{n}", diary.customer);
    let body = json!({"request_id": request, "entities": {"customer": diary.customer},
        "context": {"amount": n as f64 % 200.0}});
    diary.predictions.push(Prediction { request, answer: None });
    let Ok((status, answer)) = client.json(&format!("/v1/models/{MODEL}/predict"), &body) else { return false };
    match (status, answer["id"].as_str(), answer["score"].as_f64()) {
        (200, Some(id), Some(score)) => diary.predictions[n].answer = Some((id.to_owned(), score)),
        _ => diary.refused.push(format!("predict: {status} {answer}")),
    }
    true
}

/// The outcome of the oldest answered prediction that has none yet.
fn outcome(client: &Client, diary: &mut Diary) -> bool {
    let known = diary.outcomes.len();
    let Some(p) = diary.predictions.iter().filter(|p| p.answer.is_some()).nth(known) else { return true };
    let body = json!({"model": MODEL, "request_id": p.request, "label": known.is_multiple_of(3), "time": now()});
    diary.outcomes.push(Outcome { body: body.clone(), acknowledged: false });
    let Ok((status, answer)) = client.json("/v1/outcomes", &body) else { return false };
    diary.outcomes[known].acknowledged = matches!(status, 200 | 202);
    if !diary.outcomes[known].acknowledged {
        diary.refused.push(format!("outcome: {status} {answer}"));
    }
    true
}
