//! Events, outcomes and requests over HTTP: what is taken, what is refused, what is repeated.

use crate::support::{Server, run};
use serde_json::{Value, json};
use tempfile::TempDir;

fn shop(set: &[&str]) -> (TempDir, Server) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    let (code, _, err) = run(&["init", project.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    let server = Server::start(&project, set);
    (dir, server)
}

fn order(id: &str, time: &str, amount: f64) -> Value {
    json!({"id": id, "type": "order_placed", "time": time, "entities": {"customer": "c1"},
        "properties": {"amount": amount, "items": 1}})
}

#[test]
fn every_answer_to_an_event() {
    let (_dir, server) = shop(&[]);
    let past = "2025-01-01T00:00:00Z";
    let post = |e: &Value| server.post("/v1/events", e);
    let (status, first) = post(&order("o1", past, 10.0));
    assert_eq!((status, &first["results"][0]["status"]), (202, &json!("accepted")), "{first}");
    // Learnt more than an hour after it happened: kept, marked, not folded into features.
    assert_eq!(first["results"][0]["late"], true);
    let (status, again) = post(&order("o1", past, 10.0));
    assert_eq!(
        (status, &again["results"][0]),
        (200, &json!({"status": "duplicate", "seq": first["results"][0]["seq"]}))
    );
    let table = [
        (409, "event_conflict", order("o1", past, 11.0)),
        (422, "unknown_event_type", json!({"id": "x", "type": "order_plaecd", "time": past})),
        (422, "", order("o2", "2999-01-01T00:00:00Z", 1.0)),
        (400, "", json!({"id": "x", "type": "order_placed"})),
        (400, "", json!({"id": "x", "type": "order_placed", "time": past, "extra": 1})),
    ];
    for (status, code, event) in table {
        let (got, problem) = post(&event);
        assert_eq!(got, status, "{event}: {problem}");
        assert!(code.is_empty() || problem["code"] == code, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()), "{problem}");
    }
    let mixed = format!("{}\nnot json\n{}\n", order("o1", past, 10.0), order("o3", past, 3.0));
    let (status, many) = server.lines("/v1/events", &mixed).expect("an answer");
    assert_eq!(status, 202, "{many}");
    assert_eq!(
        (&many["accepted"], &many["duplicates"], &many["rejected"]),
        (&json!(1), &json!(1), &json!(1)),
        "{many}"
    );
    assert_eq!(many["results"][1]["status"], "rejected");
}

#[test]
fn the_wall_clock_takes_no_times_and_no_replay() {
    let (_dir, server) = shop(&[]);
    let (status, p) = server.post("/v1/models/returns/predict", &json!({"time": "2025-01-01T00:00:00Z"}));
    assert!(matches!(status, 409 | 422), "{status} {p}");
    let (status, p) =
        server.lines("/v1/replay", &format!("{}\n", order("o1", "2025-01-01T00:00:00Z", 1.0))).expect("an answer");
    assert_eq!((status, &p["code"]), (409, &json!("clock_not_stream")));
    let (status, p) =
        server.post("/v1/models/returns/predict", &json!({"entities": {"customer": "c1"}, "context": {"amount": 1.0}}));
    assert_eq!((status, &p["code"]), (409, &json!("no_version")), "{p}");
    let (status, p) = server.post("/v1/models/retruns/predict", &json!({}));
    assert_eq!((status, &p["code"]), (404, &json!("unknown_model")), "{p}");
}
