//! A project of one's own, from `init` to `why`: other entities and events than the example's.

use crate::support::{Server, edit, run};
use serde_json::{Value, json};
use std::path::Path;

pub const MODEL: &str = "returns";
pub const DAY: i64 = 86_400;
/// 2025-01-01T00:00:00Z
const START: i64 = 1_735_689_600;

pub fn at(seconds: i64) -> String {
    let time = understudy_domain::time::Timestamp((START + seconds) * 1_000_000);
    time.to_string()
}

/// Orders of 20 customers, one every two hours for `days`; dear ones mostly come back a day later.
pub fn stream(days: i64) -> Vec<String> {
    let mut events = Vec::new();
    for n in 0..days * 12 {
        let (time, amount) = (n * 7_200, (n * 37 % 200) as f64);
        let customer = json!({"customer": format!("c{}", n * 7 % 20)});
        let returned = (amount > 100.0) != (n % 11 == 0);
        let placed = json!({"id": format!("o{n}"), "type": "order_placed", "time": at(time), "entities": customer,
            "properties": {"amount": amount, "items": 1 + n % 3}});
        let back = json!({"id": format!("r{n}"), "type": "order_returned", "time": at(time + DAY), "entities": customer,
            "properties": {"order": format!("o{n}"), "returned": returned}});
        events.push((time, placed.to_string()));
        events.push((time + DAY, back.to_string()));
    }
    events.sort();
    events.into_iter().map(|(_, line)| line + "\n").collect()
}

pub fn make(dir: &Path) {
    let (code, _, err) = run(&["init", dir.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    edit(&dir.join("models/returns.toml"), "matures_after = \"14d\"", "matures_after = \"2d\"");
}

fn serve(dir: &Path) -> Server {
    Server::start(dir, &["clock.source=stream", "storage.durability=process"])
}

/// A command against the server; its JSON.
fn ask(server: &Server, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json", "--url", &server.url]);
    let (code, out, err) = run(&all);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
}

#[test]
fn from_init_to_why() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    make(dir.path());
    let mut server = serve(dir.path());
    let lines = stream(60);
    let (history, live) = lines.split_at(lines.len() / 2);
    let replay = |server: &Server, lines: &[String]| {
        let (status, sum) = server.lines("/v1/replay", &lines.concat()).expect("an answer");
        assert_eq!((status, &sum["accepted"]), (200, &json!(lines.len())), "{sum}");
        sum
    };
    assert_eq!(replay(&server, history)["predictions"], 0);
    let job = ask(&server, &["train", MODEL]);
    assert_eq!(job["state"], "registered", "{job}");
    assert!(job["rows"].as_u64() > Some(300), "{job}");
    let sum = replay(&server, live);
    assert!(sum["predictions"].as_u64() > Some(300), "{sum}");

    let dear = ask(&server, &["predict", MODEL, "--entity", "customer=c1", "--context", "amount=190.0"]);
    let cheap = ask(&server, &["predict", MODEL, "--entity", "customer=c1", "--context", "amount=10.0"]);
    assert!(dear["score"].as_f64() > cheap["score"].as_f64(), "{dear}\n{cheap}");

    let asked = json!({"request_id": "q1", "entities": {"customer": "c2"}, "context": {"amount": 150.0}});
    let path = format!("/v1/models/{MODEL}/predict");
    let (status, answer) = server.post(&path, &asked);
    assert_eq!(status, 200, "{answer}");
    let (status, again) = server.post(&path, &asked);
    assert_eq!((status, &again["repeated"], &again["id"]), (200, &json!(true), &answer["id"]), "{again}");
    let (status, other) =
        server.post(&path, &json!({"request_id": "q1", "entities": {"customer": "c3"}, "context": {"amount": 150.0}}));
    assert_eq!(status, 422, "{other}");

    outcomes(&server);

    let monitor = ask(&server, &["monitor", "show", MODEL]);
    let windows = monitor["windows"].as_array().or(monitor.as_array()).expect("windows");
    assert!(!windows.is_empty(), "{monitor}");
    let report = server.ok(&format!("/v1/models/{MODEL}/monitor"));
    assert!(report["total"]["quality"]["auc"].as_f64() > Some(0.8), "{}", report["total"]["quality"]);

    let id = answer["id"].as_str().expect("an id");
    let why = ask(&server, &["why", id]);
    assert_eq!((&why["version"], &why["request_id"]), (&json!("v1"), &json!("q1")), "{why}");
    assert!(why["features"]["orders_30d"]["value"].as_f64() > Some(0.0), "{why}");
    assert_eq!(why["outcomes"][0]["label"], true, "{why}");
    let newest = &why["behind"][0]["event"];
    assert_eq!(newest["event"]["entities"]["customer"], "c2", "the event behind the features: {why}");
    assert!(why["behind"][0]["features"].as_array().is_some_and(|f| f.contains(&json!("orders_30d"))), "{why}");

    server.kill();
    the_wall_clock_takes_no_time(dir.path(), &path);
    // A damaged model is refused by name, never served.
    let file = dir.path().join("data/models/returns/v1/model.safetensors");
    let mut bytes = std::fs::read(&file).expect("the weights");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let server = serve(dir.path());
    let (status, problem) = server.post(&path, &json!({"entities": {"customer": "c2"}, "context": {"amount": 150.0}}));
    assert_eq!((status, &problem["code"]), (503, &json!("model_not_loadable")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("sha256")), "{problem}");
}

fn the_wall_clock_takes_no_time(dir: &Path, path: &str) {
    let server = Server::start(dir, &["storage.durability=process"]);
    let mut body = json!({"entities": {"customer": "c2"}, "context": {"amount": 150.0}});
    assert_eq!(server.post(path, &body).0, 200);
    body["time"] = at(60 * DAY).into();
    let (status, problem) = server.post(path, &body);
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("clock")), "{problem}");
}

fn outcomes(server: &Server) {
    let post = |id: &str, label: bool, revision: u32| {
        let time = at(60 * DAY + DAY / 2);
        let body = json!({"model": MODEL, "request_id": id, "label": label, "time": time, "revision": revision});
        let (status, answer) = server.post("/v1/outcomes", &body);
        (status, answer["status"].as_str().or(answer["code"].as_str()).unwrap_or_default().to_owned())
    };
    let said = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(post("q1", true, 0), said(202, "matured"));
    assert_eq!(post("q1", true, 0), said(200, "duplicate"));
    let (status, problem) =
        server.post("/v1/outcomes", &json!({"model": MODEL, "request_id": "q1", "label": false, "time": at(60 * DAY)}));
    assert_eq!((status, &problem["code"]), (409, &json!("outcome_conflict")), "{problem}");
    assert_eq!(post("q1", false, 1), said(202, "amended"));
    assert_eq!(post("q1", true, 2), said(202, "amended"));
    assert_eq!(post("not-asked-yet", true, 0), said(202, "parked"));
}
