//! A project that is changed while its server runs.

use crate::support::{Server, edit, run, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The example project in a folder of its own.
fn project() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().expect("a folder");
    let dir = scratch.path().join("project");
    let (exit, _, said) = run(&["init", dir.to_str().expect("a path"), "--quiet"]);
    assert_eq!(exit, 0, "{said}");
    (scratch, dir)
}

fn file(dir: &Path, folder: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir.join(folder)).expect("a folder");
    let mut found = entries.map(|e| e.expect("an entry").path());
    found.find(|p| p.extension().is_some_and(|e| e == "toml")).expect("a file")
}

fn append(path: &Path, text: &str) {
    let now = std::fs::read_to_string(path).expect("a text");
    std::fs::write(path, format!("{now}\n{text}")).expect("written");
}

fn order(server: &Server, id: &str, customer: &str, amount: f64) {
    let now = server.ok("/v1/system")["clock"]["now"].clone();
    let event = json!({
        "id": id, "type": "order_placed", "time": now, "entities": {"customer": customer},
        "properties": {"amount": amount, "items": 1},
    });
    let (status, answer) = server.post("/v1/events", &event);
    assert_eq!(status, 202, "{answer}");
}

fn reload(server: &Server) -> (u16, Value) {
    server.post("/v1/config/reload", &json!({}))
}

fn explain(server: &Server, feature: &str) -> Value {
    server.ok(&format!("/v1/features/{feature}/explain?entity=customer:a"))["value"].clone()
}

#[test]
fn a_short_campaign_of_reloads_under_load() {
    let args = ["bench", "reload", "--seconds", "1", "--reloads", "12", "--connections", "4", "--output", "json"];
    let (exit, out, said) = run(&args);
    assert_eq!(exit, 0, "{said}\n{out}");
    let result: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&result["reloads"], &result["applied"], &result["refused"]), (&json!(12), &json!(7), &json!(5)));
    assert_eq!(
        (&result["failed"], &result["mixed_generations"], &result["features_wrong"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert!(result["generations_that_answered"].as_u64() > Some(3), "{result}");
}

#[test]
fn added_features_are_whole_before_they_serve_and_survive_restarts() {
    let (_scratch, dir) = project();
    let mut server = Server::start(&dir, &[]);
    for i in 0..20 {
        order(&server, &format!("o{i}"), "a", f64::from(i));
    }
    let before = server.ok("/v1/config");
    append(
        &file(&dir, "features"),
        "[views.customer_orders.features.amount_max]\naggregate = \"max\"\nproperty = \"amount\"\nwindow = \"7d\"\n",
    );
    // Nobody asks: the files are watched.
    let after = until("the changed file is seen", || {
        let now = server.ok("/v1/config");
        (now["generation"] != before["generation"]).then_some(now)
    });
    assert_eq!(after["generation"], json!(before["generation"].as_u64().expect("a number") + 1));
    assert_eq!(explain(&server, "amount_max"), json!(19.0));
    order(&server, "o20", "a", 100.0);
    assert_eq!((explain(&server, "amount_max"), explain(&server, "orders_30d")), (json!(100.0), json!(21)));
    // Other shards are built in the same way.
    append(&dir.join("understudy.toml"), "[features]\nshards = 3\n");
    assert_eq!(reload(&server).0, 200);
    assert_eq!(server.ok("/v1/system")["features"]["shards"], 3);
    assert_eq!((explain(&server, "amount_max"), explain(&server, "orders_30d")), (json!(100.0), json!(21)));
    server.kill();
    let again = Server::start(&dir, &[]);
    assert_eq!(again.ok("/v1/config")["generation"], json!(before["generation"].as_u64().expect("a number") + 2));
    assert_eq!((explain(&again, "amount_max"), explain(&again, "orders_30d")), (json!(100.0), json!(21)));
    // And back: the first definitions have no such feature.
    let (status, change) = again.post(&format!("/v1/config/revert?to={}", before["generation"]), &json!({}));
    assert_eq!((status, &change["verdict"]), (200, &json!("applied")), "{change}");
    assert_eq!(again.get("/v1/features/amount_max/explain?entity=customer:a").0, 404);
    assert_eq!(explain(&again, "orders_30d"), json!(21));
    assert!(!std::fs::read_to_string(file(&dir, "features")).expect("a text").contains("amount_max"));
}

#[test]
fn wrong_files_change_nothing_and_say_why() {
    let (_scratch, dir) = project();
    let server = Server::start(&dir, &[]);
    let generation = server.ok("/v1/config")["generation"].clone();
    let main = dir.join("understudy.toml");
    let right = std::fs::read_to_string(&main).expect("a text");
    let table = [
        (&main, "[limits]\nmax_instence = 5\n", "unknown key `max_instence`"),
        (&main, "[limits]\nmax_in_flight = 0\n", "`limits.max_in_flight`: 0 is out of range"),
        (&main, "[limits\n", "understudy.toml:1"),
        (&main, "[server]\nrequest_timeout = \"0s\"\n", "`server.request_timeout`: 0s is out of range"),
    ];
    for (path, text, said) in table {
        std::fs::write(path, text).expect("written");
        let (status, problem) = reload(&server);
        assert_eq!((status, &problem["code"]), (422, &json!("config_refused")), "{text}: {problem}");
        assert!(
            problem["detail"].as_str().is_some_and(|d| d.contains(said) && d.contains("understudy.toml")),
            "{problem}"
        );
        let status = server.ok("/v1/config");
        assert_eq!(status["generation"], generation);
        assert!(status["last_error"]["problems"].to_string().contains(&said.replace('"', "\\\"")), "{status}");
    }
    let health = server.ok("/readyz?verbose");
    let watcher = health["actors"].as_array().expect("actors").iter().find(|a| a["actor"] == "config_watcher");
    assert!(watcher.is_some_and(|w| w["detail"].as_str().is_some_and(|d| d.contains("refused"))), "{health}");
    std::fs::write(&main, &right).expect("written");
    let (status, change) = reload(&server);
    assert_eq!((status, &change["verdict"]), (200, &json!("unchanged")), "{change}");
    assert_eq!(server.ok("/v1/config")["last_error"], Value::Null);
}

#[test]
fn keys_that_need_a_restart_say_so_and_limits_do_not() {
    let (_scratch, dir) = project();
    let server = Server::start(&dir, &[]);
    append(&dir.join("understudy.toml"), "[limits]\nmax_instances = 2\nkeep_alive = \"10s\"\n");
    let (status, change) = reload(&server);
    assert_eq!((status, &change["at_next_start"]), (200, &json!(["limits.keep_alive"])), "{change}");
    assert_eq!(server.ok("/v1/config")["at_next_start"], json!(["limits.keep_alive"]));
    let three = json!({"instances": [{}, {}, {}]});
    let (status, problem) = server.post("/v1/models/returns/predict", &three);
    assert_eq!((status, &problem["code"]), (413, &json!("too_many_instances")), "{problem}");
    // A model more, and none of it less.
    let model = std::fs::read_to_string(file(&dir, "models")).expect("a text");
    std::fs::write(dir.join("models/second.toml"), model.replace("\"returns\"", "\"second\"")).expect("written");
    assert_eq!(reload(&server).0, 200);
    assert_eq!(server.get("/v1/models/second").0, 200);
    assert_eq!(server.get("/v1/models/second/monitor").0, 200);
    std::fs::remove_file(dir.join("models/second.toml")).expect("removed");
    assert_eq!(reload(&server).0, 200);
    assert_eq!(server.get("/v1/models/second").0, 404);
    let url = server.url.clone();
    let (exit, out, said) = run(&["config", "history", "--url", &url, "--output", "json"]);
    assert_eq!(exit, 0, "{said}");
    let history: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(history.as_array().map(Vec::len), Some(4), "{history}");
}

#[test]
fn a_change_that_killed_the_server_is_not_tried_again() {
    let (_scratch, dir) = project();
    let mut server = Server::start(&dir, &[]);
    let main = dir.join("understudy.toml");
    append(&main, "[limits]\nmax_instances = 2\n");
    assert_eq!(reload(&server).0, 200);
    server.kill();
    // As if it had died after the journal's first line: the last entry is of a change in the making.
    let path = dir.join("data/config-history");
    let text = std::fs::read_to_string(&path).expect("a history");
    let (_, body) = text.split_once('\n').expect("a first line");
    let mut lines: Vec<Value> = body.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let last = lines.last_mut().and_then(Value::as_object_mut).expect("an entry");
    last.insert("verdict".into(), json!("applying"));
    last.remove("files");
    let body: String = lines.iter().map(|l| format!("{l}\n")).collect();
    let sum = sha2_of(&body);
    std::fs::write(&path, format!("understudy config history 1 {sum}\n{body}")).expect("written");
    let server = Server::start(&dir, &[]);
    let status = server.ok("/v1/config");
    assert!(status["last_error"]["problems"].to_string().contains("last good files"), "{status}");
    let three = json!({"instances": [{}, {}, {}]});
    assert_ne!(
        server.post("/v1/models/returns/predict", &three).0,
        413,
        "the limit of the cut-off change is not in force"
    );
    // Asked for, it is tried again.
    let (status, change) = reload(&server);
    assert_eq!((status, &change["verdict"]), (200, &json!("applied")), "{change}");
    assert_eq!(server.post("/v1/models/returns/predict", &three).0, 413);
    edit(&main, "max_instances = 2", "max_instances = 3");
    assert_eq!(reload(&server).1["verdict"], "applied");
}

fn sha2_of(body: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(body.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}
