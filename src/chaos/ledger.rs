//! After a restart: is everything there that was acknowledged, once, with the value that was told?

use super::Findings;
use super::load::{Diary, MODEL};
use super::server::Client;
use crate::storage::{Store, StoreOptions};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::ControlFlow::Continue;
use std::path::Path;
use understudy_domain::prediction::OutcomeTarget;

/// Lines of one request while checking.
const BATCH: usize = 500;
const PAGE: usize = 10_000;

/// Checks over HTTP. Whatever was sent is sent again: what was acknowledged must be a duplicate, and then every
/// event that was ever sent is counted exactly once by the features.
pub fn check(client: &Client, diaries: &[Diary], since: &str, found: &mut Findings) -> Result<(), String> {
    for diary in diaries {
        events(client, diary, found)?;
        features(client, diary, found)?;
        outcomes(client, diary, found)?;
    }
    predictions(client, diaries, since, found)
}

fn events(client: &Client, diary: &Diary, found: &mut Findings) -> Result<(), String> {
    for part in diary.events.chunks(BATCH) {
        let body: String = part.iter().flat_map(|e| [e.line.as_str(), "\n"]).collect();
        let (status, answer) = client.lines("/v1/events", &body)?;
        let results = answer["results"].as_array().ok_or_else(|| format!("events: {status} {answer}"))?;
        for (event, result) in part.iter().zip(results) {
            let seq = result["seq"].as_u64();
            match (event.seq, result["status"].as_str()) {
                (Some(told), Some("duplicate")) if seq == Some(told) => {}
                (None, Some("duplicate" | "accepted")) => {}
                (Some(told), Some("duplicate")) => {
                    found.wrong(&event.id, || format!("event {} was acknowledged as {told} and is {result}", event.id));
                }
                (Some(told), Some("accepted")) => {
                    found.lost(&event.id, || format!("event {} was acknowledged as {told} and is not there", event.id));
                }
                _ => found.wrong(&event.id, || format!("event {}: {result}", event.id)),
            }
        }
    }
    Ok(())
}

fn features(client: &Client, diary: &Diary, found: &mut Findings) -> Result<(), String> {
    if diary.events.is_empty() {
        return Ok(());
    }
    let path = format!("/v1/features/orders_30d/explain?entity=customer:{}", diary.customer);
    let (status, answer) = client.get(&path)?;
    let counted = answer["value"].as_u64().ok_or_else(|| format!("{path}: {status} {answer}"))?;
    let sent = diary.events.len() as u64;
    let text = || format!("customer {}: {sent} orders, the feature counts {counted}", diary.customer);
    match counted {
        n if n > sent => found.duplicated(&diary.customer, text),
        n if n < sent => found.lost(&diary.customer, text),
        _ => {}
    }
    Ok(())
}

fn outcomes(client: &Client, diary: &Diary, found: &mut Findings) -> Result<(), String> {
    let told: Vec<&Value> = diary.outcomes.iter().filter(|o| o.acknowledged).map(|o| &o.body).collect();
    for part in told.chunks(BATCH) {
        let (status, answer) = client.json("/v1/outcomes", &json!({ "outcomes": part }))?;
        let results = answer["results"].as_array().ok_or_else(|| format!("outcomes: {status} {answer}"))?;
        for (body, result) in part.iter().zip(results) {
            let of = body["request_id"].as_str().unwrap_or_default();
            let thing = &format!("outcome {of}");
            match result["status"].as_str() {
                Some("duplicate") => {}
                Some("matured" | "parked") => {
                    found.lost(thing, || format!("outcome {body} was acknowledged and is not there"))
                }
                _ => found.wrong(thing, || format!("outcome {body}: {result}")),
            }
        }
    }
    Ok(())
}

fn predictions(client: &Client, diaries: &[Diary], since: &str, found: &mut Findings) -> Result<(), String> {
    let mut there: HashMap<String, Vec<(String, f64)>> = HashMap::new();
    let mut after = since.to_owned();
    loop {
        let (status, page) = client.get(&format!("/v1/predictions?limit={PAGE}&after={after}"))?;
        let records = page.as_array().ok_or_else(|| format!("predictions: {status} {page}"))?;
        for r in records {
            let (Some(id), Some(score)) = (r["id"].as_str(), r["score"].as_f64()) else { continue };
            id.clone_into(&mut after);
            there.entry(r["request_id"].as_str().unwrap_or_default().to_owned()).or_default().push((id.into(), score));
        }
        if records.len() < PAGE {
            break;
        }
    }
    for p in diaries.iter().flat_map(|d| &d.predictions) {
        let on_record = there.get(&p.request).map_or(&[][..], Vec::as_slice);
        match (&p.answer, on_record) {
            (_, [_, _, ..]) => found.duplicated(&p.request, || format!("prediction {}: {on_record:?}", p.request)),
            (Some((id, _)), []) => found.lost(&p.request, || format!("prediction {id} ({}) was answered", p.request)),
            (Some(told), [logged]) if told != logged => {
                found.wrong(&p.request, || {
                    format!("prediction {}: {told:?} was answered, {logged:?} is logged", p.request)
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the stopped store itself: every event, outcome and prediction of all runs once, none missing.
pub fn check_records(data: &Path, diaries: &[Diary], found: &mut Findings) -> Result<(), String> {
    let store = Store::open(data, StoreOptions { free_floor: 0, ..StoreOptions::default() })
        .map_err(|e| format!("{}: {e}", data.display()))?;
    let (mut events, mut outcomes, mut requests) = (HashMap::new(), HashMap::new(), HashMap::new());
    let read = store
        .events()
        .scan(1, &mut |e| {
            *events.entry(e.event.id).or_insert(0u32) += 1;
            Continue(())
        })
        .and_then(|()| {
            store.outcomes().scan(0, &mut |o| {
                if let OutcomeTarget::RequestId(id) = o.target {
                    *outcomes.entry(id).or_insert(0u32) += 1;
                }
                Continue(())
            })
        })
        .and_then(|()| {
            store.predictions().scan(Some(MODEL), understudy_domain::prediction::PredictionId(0), &mut |p| {
                *requests.entry(p.request_id.unwrap_or_default()).or_insert(0u32) += 1;
                Continue(())
            })
        });
    read.map_err(|e| e.to_string())?;
    let mut once = |kind: &str, id: &str, n: u32, told: bool| {
        let thing = if kind == "outcome" { format!("outcome {id}") } else { id.to_owned() };
        match n {
            0 if told => found.lost(&thing, || format!("{kind} {id} is not on disk")),
            0 | 1 => {}
            n => found.duplicated(&thing, || format!("{kind} {id} is {n} times on disk")),
        }
    };
    let count = |of: &HashMap<String, u32>, id: &str| of.get(id).copied().unwrap_or(0);
    for diary in diaries {
        for e in &diary.events {
            once("event", &e.id, count(&events, &e.id), e.seq.is_some());
        }
        for p in &diary.predictions {
            once("prediction", &p.request, count(&requests, &p.request), p.answer.is_some());
        }
        for o in &diary.outcomes {
            let id = o.body["request_id"].as_str().unwrap_or_default();
            once("outcome", id, count(&outcomes, id), o.acknowledged);
        }
    }
    Ok(())
}
