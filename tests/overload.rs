//! Slow clients, too many of them, and too little memory: others do not notice, and it passes.

use crate::support::{Server, run, until};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn shop() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    let (code, _, err) = run(&["init", project.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    (dir, project)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(text.as_bytes()).expect("sent");
    stream
}

/// All that comes until the server closes.
fn rest(mut stream: TcpStream) -> String {
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    String::from_utf8_lossy(&got).into_owned()
}

const HEAD: &str = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";

#[test]
fn slow_clients_are_ended_and_disturb_nobody() {
    let (_dir, project) = shop();
    let set = ["limits.header_timeout=400ms", "limits.body_timeout=400ms", "limits.keep_alive=400ms"];
    let server = Server::start(&project, &set);
    let begun = Instant::now();
    let slow_heads: Vec<_> = (0..300).map(|_| send(&server, "GET /livez HTTP/1.1\r\nhost: loc")).collect();
    let slow_bodies: Vec<_> =
        (0..100).map(|_| send(&server, &format!("{HEAD}content-length: 100\r\n\r\n{{"))).collect();
    // A second head that never ends, on a connection whose first request was answered.
    let second = send(&server, "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nho");
    let idle = connect(&server);
    // They hold no place among the requests in work, so others are answered as if they were not there.
    for _ in 0..20 {
        server.ok("/v1/models");
    }
    assert_eq!(server.ok("/v1/system")["admission"]["in_flight"], 0);
    for slow in slow_heads {
        assert!(rest(slow).starts_with("HTTP/1.1 408"), "a head that does not come");
    }
    for slow in slow_bodies {
        let answer = rest(slow);
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    }
    let second = rest(second);
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
    rest(idle);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    until("their connections are counted out", || {
        let metrics = server.text("/metrics", "text/plain");
        let open = metrics.lines().find_map(|l| l.strip_prefix("understudy_connections_open")?.split(' ').nth(1));
        (open?.parse::<f64>().ok()? <= 2.0).then_some(())
    });
}

#[test]
fn heads_and_connections_have_limits() {
    let (_dir, project) = shop();
    let server = Server::start(&project, &["limits.max_connections_per_address=20"]);
    let many: String = (0..70).map(|i| format!("x-{i}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(20_000));
    for headers in [many, long] {
        let answer = rest(send(
            &server,
            &format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"),
        ));
        assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("head_too_large"), "{answer}");
    }
    let one_too_many =
        |server: &Server| rest(send(server, "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    // Others may be open yet when these come, and are gone a moment later: hold more until there are too many.
    let mut open: Vec<_> = (0..19).map(|_| connect(&server)).collect();
    until("one too many is closed without an answer", || {
        open.push(connect(&server));
        one_too_many(&server).is_empty().then_some(())
    });
    drop(open);
    until("there is room again", || one_too_many(&server).starts_with("HTTP/1.1 200").then_some(()));
}

#[test]
fn it_lives_on_when_no_file_can_be_opened() {
    let (_dir, project) = shop();
    let server = Server::start_limited(&project, &[], 120);
    let held: Vec<_> = (0..300).map(|_| connect(&server)).collect();
    drop(held);
    until("it answers again", || {
        let answer = rest(send(&server, "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    let event = json!({"id": "o1", "type": "order_placed", "time": "2025-01-01T00:00:00Z",
        "entities": {"customer": "c1"}, "properties": {"amount": 1.0, "items": 1}});
    assert_eq!(server.post("/v1/events", &event).0, 202, "its logs kept their files");
}

#[test]
fn short_memory_is_named_in_every_answer() {
    let (_dir, project) = shop();
    // No process is this small: it is on the last rung from its first reading.
    let server = Server::start(&project, &["limits.memory_cap_bytes=1000000"]);
    until("the level is reached", || (server.get("/readyz?verbose").0 == 503).then_some(()));
    let (_, ready) = server.get("/readyz?verbose");
    assert_eq!(ready["memory_level"], "refuse_work", "{ready}");
    let (status, problem) = server.post("/v1/models/returns/predict", &json!({}));
    assert_eq!((status, &problem["code"]), (503, &json!("memory_pressure")), "{problem}");
    assert!(problem["retry_after_ms"].as_u64() >= Some(1000), "{problem}");
    let answer = rest(send(&server, "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200"), "alive, and says so: {answer}");
    assert!(answer.contains("understudy-degraded: refuse_work"), "{answer}");
}

#[test]
fn three_times_what_can_be_answered() {
    use crate::flights::{MODEL, example, january, project, send, serve};
    let project = project();
    let server = serve(project.path());
    for lines in january()[..2500].chunks(1000) {
        send(&server, lines);
    }
    server.train(MODEL);
    let example = example();
    let example = example.to_str().expect("UTF-8");
    let bench = |args: &[&str]| -> serde_json::Value {
        let fixed = ["bench", "overload", "--url", &server.url, "--project", example, "--model", MODEL, "-o", "json"];
        let (code, out, err) = run(&[&fixed, args].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).expect("JSON")
    };
    let report = bench(&["--seconds", "1", "--connections", "64", "--deadline-ms", "2000"]);
    let n = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"));
    // How much is answered depends on what else the machine does; that nothing is lost or late does not.
    assert_eq!(n("failed"), 0.0, "{report}");
    assert_eq!(n("due"), n("accepted") + n("refused") + n("late") + n("unsent"), "{report}");
    // The deadline, and the width of the histogram's bucket around it.
    assert!(n("accepted") > 0.0 && n("accepted_p99_ms") <= 2000.0 * 1.07, "{report}");
    assert!(report["back_to_normal_s"].is_number(), "it is as before when the flood is over: {report}");
    let slow = bench(&["--seconds", "1", "--slow-clients", "200"]);
    assert!(slow["slow_connections_open"].as_u64() >= Some(150), "{slow}");
    assert!(slow["with"]["answered"].as_u64() > Some(0) && slow["with"]["failed"] == 0, "{slow}");
}
