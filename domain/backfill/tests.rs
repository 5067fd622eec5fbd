//! The training set: vectors before the request is folded in, labels by request id, nothing from the future.

use super::*;
use crate::event::Event;
use crate::time::SECOND;
use serde_json::json;
use std::collections::BTreeMap;

fn plan() -> Arc<Plan> {
    let spec = serde_json::from_value(json!({
        "events": {
            "ask": {"entities": ["a"], "properties": {"d": "float"}},
            "done": {"entities": ["a"], "properties": {"delay": "float", "request": "category"}},
            "gone": {"entities": ["a"], "properties": {"request": "category"}}},
        "views": {
            "asks": {"entity": "a", "event": "ask", "features": {"asked": {"aggregate": "count", "window": "10s"}}},
            "dones": {"entity": "a", "event": "done", "features": {"delay": {"aggregate": "mean", "property": "delay", "window": "10s"}}}},
        "context": {"d": {"type": "float"}}
    }));
    Arc::new(Plan::compile(&spec.unwrap()).unwrap_or_else(|p| panic!("{p:?}")))
}

fn outcome() -> OutcomeSpec {
    serde_json::from_value(json!({"event": "done", "request_property": "request", "label": "delay > 15.0",
        "void_event": "gone", "matures_after": "1d", "expires_after": "7d"}))
    .unwrap()
}

fn event(seq: u64, time: i64, kind: &str, id: &str, properties: &[(&str, Value)]) -> LoggedEvent {
    let event = Event {
        id: id.into(),
        kind: kind.into(),
        time: Timestamp(time * SECOND),
        entities: BTreeMap::from([("a".to_string(), Some("u".to_string()))]),
        properties: properties.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
    };
    LoggedEvent { seq, ingested: Timestamp(time * SECOND), late: false, event }
}

fn stream() -> Vec<LoggedEvent> {
    let ask = |seq, t, id| event(seq, t, "ask", id, &[("d", Value::Int(7))]);
    let done = |seq, t, of: &str, delay| {
        event(seq, t, "done", &format!("D{seq}"), &[("delay", Value::Int(delay)), ("request", of.into())])
    };
    vec![
        done(1, 0, "B", 20), // known before its request
        ask(2, 1, "A"),
        ask(3, 1, "B"),
        event(4, 2, "gone", "G", &[("request", "C".into())]),
        ask(5, 3, "C"),
        done(6, 4, "A", 10),
        ask(7, 4, "D"),
        done(8, 50, "D", 99),
    ]
}

fn run(from: Option<i64>, until: i64, only: Option<&[&str]>) -> Vec<BackfillRow> {
    let plan = plan();
    let vector = plan.vector(&["asked", "delay", "d"].map(String::from)).unwrap_or_else(|p| panic!("{p:?}"));
    let at = |s: i64| Timestamp(s * SECOND);
    let mut b = Backfill::new(plan, vector, "ask", Some(&outcome()), from.map(at), at(until))
        .unwrap_or_else(|p| panic!("{p:?}"));
    if let Some(ids) = only {
        b = b.only(ids.iter().map(ToString::to_string).collect());
    }
    stream().iter().for_each(|e| b.push(e));
    b.finish()
}

#[test]
fn rows_hold_what_was_known_and_the_label() {
    let rows = run(None, 40, None);
    let seen: Vec<_> = rows.iter().map(|r| (r.request_id.as_str(), r.label)).collect();
    assert_eq!(
        seen,
        [("A", Some(false)), ("B", Some(true)), ("D", None)],
        "C is void, D's outcome comes after `until`"
    );
    let values: Vec<_> = rows.iter().map(|r| r.vector.clone()).collect();
    let row = |asked, delay: f64| vec![Value::Int(asked), Value::Float(delay), Value::Float(7.0)];
    // A does not count itself, B counts A of the same second, D counts A's outcome of the same second.
    assert_eq!(values, [row(0, 20.0), row(1, 20.0), row(3, 15.0)]);
    assert_eq!(rows[0].ages, [None, Some(1), None]);
}

#[test]
fn bounds_and_listed_requests() {
    let ids = |rows: Vec<BackfillRow>| rows.into_iter().map(|r| r.request_id).collect::<Vec<_>>();
    assert_eq!(ids(run(Some(4), 40, None)), ["D"]);
    assert_eq!(ids(run(None, 1, None)), ["A", "B"]);
    assert_eq!(ids(run(None, 60, Some(&["D"]))), ["D"]);
    // The vector is the same whether or not others are wanted.
    assert_eq!(run(None, 60, Some(&["D"]))[0], run(None, 60, None)[2]);
}

#[test]
fn half_an_outcome_is_refused() {
    let refused = |change: &dyn Fn(&mut OutcomeSpec)| {
        let mut o = outcome();
        change(&mut o);
        let vector = plan().vector(&[]).unwrap_or_else(|p| panic!("{p:?}"));
        Backfill::new(plan(), vector, "ask", Some(&o), None, Timestamp(0)).err().map(|p| p[0].key.clone())
    };
    assert_eq!(refused(&|_| {}), None);
    assert_eq!(refused(&|o| o.label = None).as_deref(), Some("outcome"));
    assert_eq!(refused(&|o| o.event = Some("nope".into())).as_deref(), Some("outcome.event"));
    assert_eq!(refused(&|o| o.request_property = Some("delay".into())).as_deref(), Some("outcome.request_property"));
    assert_eq!(refused(&|o| o.label = Some("nope > 1.0".into())).as_deref(), Some("outcome.label"));
}
