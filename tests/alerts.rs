//! Alerts over the real program: a feed goes wrong, a real receiver hears of it once, signed, and of its end; restarts
//! and silences in between; and a receiver that never answers holds up nobody.

use crate::project::{DAY, MODEL, at, make, stream};
use crate::support::{Server, run, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRET: &str = "a secret of the two of us";
const ORDERS_A_DAY: i64 = 60;

/// What came: value of the signature header, and the body.
type Got = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver: its address, and what it has got.
fn receiver() -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let got = Got::default();
    let kept = got.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            while take(&stream, &kept).is_some() {}
        }
    });
    (address, got)
}

/// One request of a connection; `None` when there are no more.
fn take(mut stream: &TcpStream, got: &Got) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut target, mut length, mut signature) = (String::new(), 0, String::new());
    reader.read_line(&mut target).ok().filter(|n| *n > 0)?;
    for line in reader.by_ref().lines() {
        let line = line.ok()?;
        match line.to_ascii_lowercase().split_once(": ") {
            Some(("content-length", n)) => length = n.parse().ok()?,
            Some(("x-understudy-signature", value)) => signature = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    assert!(target.starts_with("POST /hook "), "{target}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    got.lock().expect("bodies").push((signature, String::from_utf8(body).expect("UTF-8")));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}

/// The alerts of a body, whose signature must be good.
fn alerts(signature: &str, body: &str) -> Vec<Value> {
    let (t, v1) = signature.split_once(",v1=").expect("t=...,v1=...");
    let seconds: u64 = t.strip_prefix("t=").and_then(|t| t.parse().ok()).expect("seconds");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(now.abs_diff(seconds) < 600, "{seconds} is not now ({now})");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    assert_eq!(v1, tag.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>());
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["version"], &body["receiver"]), (&json!("4"), &json!("understudy")), "{body}");
    body["alerts"].as_array().expect("alerts").clone()
}

/// `name status` of all alerts that came, in order.
fn told(got: &Got) -> Vec<(String, Value)> {
    let all = got.lock().expect("bodies").clone();
    let each = all.iter().flat_map(|(signature, body)| alerts(signature, body));
    each.map(|a| (format!("{} {}", a["labels"]["alertname"], a["status"]).replace('"', ""), a)).collect()
}

fn names(got: &Got) -> Vec<String> {
    told(got).into_iter().map(|(name, _)| name).collect()
}

/// Orders of days, whose amounts are `unit` times what they should be.
fn orders(days: std::ops::Range<i64>, unit: f64) -> String {
    let order = |n: i64| {
        let amount = (n * 37 % 200) as f64 * unit;
        json!({"id": format!("f{n}"), "type": "order_placed", "time": at(n * DAY / ORDERS_A_DAY),
            "entities": {"customer": format!("c{}", n * 7 % 20)}, "properties": {"amount": amount, "items": 1 + n % 3}})
        .to_string()
            + "\n"
    };
    (days.start * ORDERS_A_DAY..days.end * ORDERS_A_DAY).map(order).collect()
}

/// The same orders with what came back of them, a day later: what a model is trained on.
fn orders_and_returns(days: std::ops::Range<i64>, unit: f64) -> String {
    let mut all = Vec::new();
    for n in (days.start - 1).max(0) * ORDERS_A_DAY..days.end * ORDERS_A_DAY {
        let time = n * DAY / ORDERS_A_DAY;
        let returned = (n * 37 % 200 > 100) != (n % 11 == 0);
        let back = json!({"id": format!("b{n}"), "type": "order_returned", "time": at(time + DAY),
            "entities": {"customer": format!("c{}", n * 7 % 20)},
            "properties": {"order": format!("f{n}"), "returned": returned}});
        all.push((time + DAY, 1, format!("{back}\n")));
    }
    all.retain(|(time, ..)| days.contains(&(time / DAY)));
    for (n, line) in orders(days.clone(), unit).lines().enumerate() {
        all.push(((days.start * ORDERS_A_DAY + n as i64) * DAY / ORDERS_A_DAY, 0, format!("{line}\n")));
    }
    all.sort();
    all.into_iter().map(|(_, _, line)| line).collect()
}

fn replay(server: &Server, lines: &str) {
    let (status, sum) = server.lines("/v1/replay", lines).expect("the server lives");
    assert_eq!((status, &sum["accepted"]), (200, &json!(lines.lines().count())), "{sum}");
}

fn serve(dir: &Path, webhook: &str, more: &[&str]) -> Server {
    std::fs::write(dir.join("alerts.secret"), format!("{SECRET}\n")).expect("written");
    let webhook = format!("alerts.webhook={webhook}");
    let mut set =
        vec!["clock.source=stream", "storage.durability=process", "alerts.secret_file=alerts.secret", &webhook];
    set.extend(more);
    Server::start(dir, &set)
}

fn command(server: &Server, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json", "--url", &server.url]);
    let (code, out, err) = run(&all);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
}

#[test]
fn a_feed_that_goes_wrong_is_told_once_and_so_is_its_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    make(dir.path());
    let (webhook, got) = receiver();
    let mut server = serve(dir.path(), &webhook, &[]);
    replay(&server, &orders(0..30, 1.0));
    assert_eq!(server.ok("/v1/feeds")["incidents"], json!([]));
    // The sender changes to cents; the server dies in the middle of it.
    replay(&server, &orders(30..32, 100.0));
    server.kill();
    let mut server = serve(dir.path(), &webhook, &[]);
    replay(&server, &orders(32..35, 100.0));
    let feeds = server.ok("/v1/feeds");
    let incident = &feeds["incidents"][0];
    assert_eq!((&incident["feed"], &incident["since"]), (&json!("order_placed"), &json!(at(30 * DAY))), "{feeds}");
    assert!(incident["reason"].as_str().is_some_and(|r| r.contains("amount")), "{incident}");
    let open = server.ok("/v1/alerts");
    let alert = &open["alerts"][0];
    assert_eq!((&alert["cause"], &alert["severity"]), (&json!("feed/order_placed"), &json!("critical")), "{open}");
    let ready = server.ok("/readyz?verbose");
    let watch = ready["actors"].as_array().and_then(|a| a.iter().find(|a| a["actor"] == "feed_monitor").cloned());
    let watch = watch.expect("the watch over the feeds");
    assert!(watch["ready"] == true && watch["detail"].as_str().is_some_and(|d| d.contains("order_placed")), "{watch}");
    until("the receiver hears of it", || (names(&got) == ["FeedIncident firing"]).then_some(()));
    // Dead again: nobody is told again, and what was counted goes on.
    server.kill();
    let mut server = serve(dir.path(), &webhook, &[]);
    replay(&server, &orders(35..40, 1.0));
    until("the receiver hears of its end", || names(&got).contains(&"FeedIncident resolved".to_owned()).then_some(()));
    let all = told(&got);
    assert_eq!(names(&got), ["FeedIncident firing", "FeedIncident resolved"], "{all:?}");
    assert_eq!((&all[0].1["fingerprint"], &all[0].1["startsAt"]), (&all[1].1["fingerprint"], &json!(at(30 * DAY))));
    assert_eq!(all[1].1["endsAt"], json!(at(35 * DAY)), "{all:?}");
    let metrics = server.text("/metrics", "text/plain");
    assert!(metrics.contains("understudy_feeds_incidents{feed=\"order_placed\"} 0"), "{metrics}");

    // Silenced: the test and the next incident are not told; the silence outlives the process.
    let silence =
        command(&server, &["alerts", "silence", "alertname=FeedIncident", "--for", "2h", "--comment", "known"]);
    let fired = command(&server, &["alerts", "test"]);
    assert_eq!(fired["alert"]["name"], "Test", "{fired}");
    assert_eq!(&names(&got)[2..], ["Test firing", "Test resolved"]);
    server.kill();
    let server = serve(dir.path(), &webhook, &[]);
    replay(&server, &orders(40..44, 100.0));
    let listed = command(&server, &["alerts", "list"]);
    let id = &silence["id"];
    assert_eq!((&listed["silences"][0]["id"], &listed["alerts"][0]["silenced_by"]), (id, id), "{listed}");
    assert_eq!(listed["alerts"][0]["cause"], "feed/order_placed", "{listed}");
    assert_eq!(names(&got).len(), 4);
    command(&server, &["alerts", "unsilence", id.as_str().expect("an id")]);
    until("it is told when the silence ends", || (names(&got).len() == 5).then_some(()));
    let (code, _, err) = run(&["alerts", "silence", "feed=x", "--for", "200d", "--url", &server.url]);
    assert!(code == 1 && err.contains("up to 90d"), "{code} {err}");
}

#[test]
fn a_drift_is_blamed_on_the_feed_that_went_wrong() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    make(dir.path());
    let model = dir.path().join("models/returns.toml");
    let text = std::fs::read_to_string(&model).expect("the model's file");
    std::fs::write(&model, text + "\n[drift]\nmin_rows = 50\n").expect("written");
    let server = Server::start(dir.path(), &["clock.source=stream", "storage.durability=process"]);
    replay(&server, &orders_and_returns(0..20, 1.0));
    server.train(MODEL);
    replay(&server, &orders_and_returns(20..32, 1.0));
    let quiet = command(&server, &["explain", "drift", "returns/amount"]);
    assert_eq!((&quiet["drift"]["window_level"], &quiet["suspects"][0]["cause"]), (&json!("none"), &json!("world")));
    replay(&server, &orders_and_returns(32..36, 100.0));
    let told = command(&server, &["explain", "drift", "amount"]);
    let first = &told["suspects"][0];
    assert_eq!((&first["cause"], &told["since"]), (&json!("feed"), &json!(at(32 * DAY))), "{told}");
    assert!(first["evidence"][0].as_str().is_some_and(|e| e.contains("order_placed since")), "{told}");
    assert_eq!((&told["reads"], &told["model"]), (&json!(["order_placed"]), &json!("returns")), "{told}");
    assert!(told["drift"]["bars"].as_array().map(Vec::len) > Some(3), "{told}");
    let (code, out, err) = run(&["explain", "drift", "returns/amount", "--url", &server.url]);
    assert!(code == 0 && out.contains("most likely the feed"), "{out}{err}");
    assert!(out.lines().all(|l| l.chars().count() <= 80), "{out}");
    // One cause, one alert: the drift is told with it.
    let open = server.ok("/v1/alerts");
    let alerts = open["alerts"].as_array().expect("alerts");
    assert_eq!(alerts.iter().map(|a| &a["cause"]).collect::<Vec<_>>(), ["feed/order_placed"], "{open}");
    let consequence = alerts[0]["consequences"][0].as_str().expect("a consequence");
    assert!(consequence.starts_with("returns: "), "{open}");
    let metrics = server.text("/metrics", "text/plain");
    for part in
        ["understudy_drift_index{against=\"recent\",feature=\"amount\"", "understudy_quality_last{measure=\"log_loss\""]
    {
        assert!(metrics.contains(part), "{part} is missing:\n{metrics}");
    }
    let (code, _, err) = run(&["explain", "drift", "returns/amout", "--url", &server.url]);
    assert!(code == 1 && err.contains("no feature `amout`"), "{err}");
}

#[test]
fn a_receiver_that_never_answers_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    make(dir.path());
    // Connections wait to be accepted for ever.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let webhook = format!("http://{}/", silent.local_addr().expect("an address"));
    let server = serve(dir.path(), &webhook, &["alerts.timeout=60s", "alerts.queue=3"]);
    replay(&server, &stream(30).concat());
    server.train(MODEL);
    for _ in 0..10 {
        assert_eq!(server.post("/v1/alerts/test", &json!({})).0, 202);
    }
    let asked = |n: i64| {
        let time = at(40 * DAY + n);
        json!({"request_id": format!("q{n}"), "entities": {"customer": "c1"}, "context": {"amount": 150.0}, "time": time})
    };
    let started = Instant::now();
    for n in 0..50 {
        let (status, answer) = server.post(&format!("/v1/models/{MODEL}/predict"), &asked(n));
        assert_eq!(status, 200, "{answer}");
    }
    // One attempt alone takes a minute.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let sinks = server.ok("/v1/alerts")["sinks"].clone();
    let hook = sinks.as_array().and_then(|s| s.iter().find(|s| s["name"] == "webhook")).expect("the webhook");
    assert!(hook["dropped"].as_u64() > Some(0) && hook["queued"].as_u64() <= Some(4), "{hook}");
    assert_eq!(hook["delivered"], 0, "{hook}");
}

#[test]
fn alerts_are_not_sent_in_the_clear_or_unsigned() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    make(dir.path());
    let project = dir.path().to_str().expect("UTF-8");
    for (set, said) in [("alerts.webhook=http://192.0.2.1/", "in the clear"), ("alerts.webhook=https://x/", "signed")] {
        let (code, _, err) = run(&["serve", "--project", project, "--set", "server.port=0", "--set", set]);
        assert!(code != 0 && err.contains(said), "{set}: {code} {err}");
    }
}
