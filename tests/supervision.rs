//! Restart loops, orderly ends and impatient ones, over the real program.

use crate::support::{Server, run, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn shop() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    let (code, _, err) = run(&["init", project.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    (dir, project)
}

fn order(id: &str) -> Value {
    json!({"id": id, "type": "order_placed", "time": "2025-01-01T00:00:00Z", "entities": {"customer": "c1"},
        "properties": {"amount": 1.0, "items": 1}})
}

#[test]
fn one_panic_is_a_refusal_and_a_restart() {
    let (_dir, project) = shop();
    let server = Server::start_faulty(&project, &[], "event_logger.numbered:panic:1");
    let (status, problem) = server.post("/v1/events", &order("a"));
    assert_eq!((status, &problem["code"]), (500, &json!("internal")), "{problem}");
    let (status, answer) = until("the actor is back", || {
        let (status, answer) = server.post("/v1/events", &order("a"));
        (status < 500).then_some((status, answer))
    });
    assert_eq!((status, &answer["results"][0]["seq"]), (202, &json!(1)), "the number was not used up: {answer}");
    until("it is ready", || (server.get("/readyz").0 == 200).then_some(()));
    let system = server.ok("/v1/system");
    let logger = system["actors"].as_array().expect("a list").iter().find(|a| a["actor"] == "event_logger");
    assert_eq!(logger.map(|a| (&a["restarts"], &a["panics"])), Some((&json!(1), &json!(1))), "{system}");
}

#[test]
fn a_restart_loop_ends_the_process_with_its_reason() {
    let (_dir, project) = shop();
    let server = Server::start_faulty(&project, &[], "event_logger.ingest:panic:100");
    let refused = (0..).map_while(|n| server.try_post("/v1/events", &order(&n.to_string()))).take(2_000);
    let statuses: Vec<u16> = refused.collect();
    assert!(statuses.len() >= 6 && statuses.iter().all(|s| *s >= 500), "{statuses:?}");
    let (code, lines) = server.end();
    let last = lines.last().expect("a last line");
    assert_eq!(code, 70, "{lines:#?}");
    assert!(last.contains("restart loop: event_logger failed more than 5 times in 1m"), "{last}");
    assert!(last.contains("planted at event_logger.ingest"), "{last}");
    // The next start finds all that was acknowledged, and serves.
    let server = Server::start(&project, &[]);
    assert_eq!(server.post("/v1/events", &order("after")).0, 202);
}

#[test]
fn sigterm_under_load_loses_nothing_and_fails_nothing() {
    let (_dir, project) = shop();
    let server = Server::start(&project, &["server.drain=1s", "storage.durability=process"]);
    let (stop, sent, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let id = format!("e{}", sent.fetch_add(1, SeqCst));
                    match server.try_post("/v1/events", &order(&id)) {
                        Some(status) => {
                            assert!(status < 500, "{status} while draining");
                            acknowledged.lock().expect("a list").push(id);
                        }
                        // Not accepted any more: the listener is closed.
                        None => return,
                    }
                }
            });
        }
        until("there is load", || (acknowledged.lock().expect("a list").len() > 100).then_some(()));
        server.signal(Signal::TERM);
        let (_, body) = until("it is not ready", || {
            let (status, body) = server.get("/readyz");
            (status == 503).then_some((status, body))
        });
        assert!(body["actors"][0]["detail"].as_str().is_some_and(|d| d.contains("stopping")), "{body}");
        let before = acknowledged.lock().expect("a list").len();
        until("it serves while it drains", || (acknowledged.lock().expect("a list").len() > before + 20).then_some(()));
    });
    stop.store(true, SeqCst);
    let (code, lines) = server.end();
    assert_eq!(code, 0, "{lines:#?}");
    assert!(started.elapsed() < Duration::from_secs(30));
    let server = Server::start(&project, &["storage.durability=process"]);
    for id in acknowledged.into_inner().expect("a list").iter().rev().take(50) {
        let (status, again) = server.post("/v1/events", &order(id));
        assert_eq!((status, &again["results"][0]["status"]), (200, &json!("duplicate")), "{id}: {again}");
    }
}

#[test]
fn a_second_sigterm_ends_at_once_and_consistently() {
    let (_dir, project) = shop();
    let server = Server::start(&project, &["server.drain=60s"]);
    assert_eq!(server.post("/v1/events", &order("a")).0, 202);
    server.signal(Signal::TERM);
    until("it drains", || (server.get("/readyz").0 == 503).then_some(()));
    assert_eq!(server.post("/v1/events", &order("b")).0, 202);
    let told = Instant::now();
    server.signal(Signal::TERM);
    let (code, lines) = server.end();
    assert_eq!(code, 143, "{lines:#?}");
    assert!(told.elapsed() < Duration::from_secs(10));
    let server = Server::start(&project, &[]);
    for id in ["a", "b"] {
        assert_eq!(server.post("/v1/events", &order(id)).0, 200, "{id} is there");
    }
}

#[test]
fn a_second_process_on_the_directory_is_refused_by_name() {
    let (_dir, project) = shop();
    let server = Server::start(&project, &[]);
    let path = project.to_str().expect("UTF-8");
    let (code, _, err) = run(&["serve", "--project", path, "--set", "server.port=0"]);
    assert_ne!(code, 0);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(err.contains(&server.pid().to_string()) && err.contains(&host), "{err}");
    assert_eq!(server.post("/v1/events", &order("a")).0, 202, "the first one goes on");
}
