//! The real program on a disk that is full, fails once, hangs, or holds what it should not.

use crate::support::{edit, run, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use understudy::chaos::Server;
use understudy::chaos::layer::{Fault, Layer};
use understudy::chaos::server::Client;

struct Shop {
    dir: TempDir,
    project: PathBuf,
    layer: Layer,
}

impl Shop {
    fn new() -> Shop {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let project = dir.path().join("shop");
        let (code, _, err) = run(&["init", project.to_str().expect("UTF-8")]);
        assert_eq!(code, 0, "{err}");
        let layer = Layer::build(&dir.path().join("layer"), &project.join("data"), false).expect("a fault layer");
        Shop { dir, project, layer }
    }

    fn try_serve(&self, set: &[&str]) -> Result<(Server, Client), String> {
        let mut all = vec!["features.lateness=3650d", "storage.min_free_bytes=0"];
        all.extend(set);
        let program = Path::new(crate::support::PROGRAM);
        let server = Server::start(program, &self.project, &all, &self.layer.environment())?;
        let client = Client::new(&server.url);
        Ok((server, client))
    }

    fn serve(&self, set: &[&str]) -> (Server, Client) {
        self.try_serve(set).expect("a server")
    }

    fn data(&self, part: &str) -> PathBuf {
        self.project.join("data").join(part)
    }
}

fn order(id: &str, customer: &str) -> Value {
    json!({"id": id, "type": "order_placed", "time": "2025-01-01T00:00:00Z", "entities": {"customer": customer},
        "properties": {"amount": 10.0, "items": 1}})
}

fn post(client: &Client, event: &Value) -> (u16, Value) {
    client.json("/v1/events", event).expect("an answer")
}

fn counted(client: &Client, customer: &str) -> Option<u64> {
    let path = format!("/v1/features/orders_30d/explain?entity=customer:{customer}&time=2025-01-02T00:00:00Z");
    let (status, answer) = client.get(&path).expect("an answer");
    (status == 200).then(|| answer["value"].as_u64()).flatten()
}

fn storage_says(client: &Client) -> (u16, String) {
    let (status, body) = client.get("/readyz?verbose").expect("an answer");
    let actors = body["actors"].as_array().cloned().unwrap_or_default();
    let said = actors.iter().find(|a| a["actor"] == "storage").map(|a| a["detail"].as_str().unwrap_or("").to_owned());
    (status, said.unwrap_or_default())
}

/// A model that answers, made from a little history.
fn train(shop: &Shop) {
    edit(&shop.project.join("models/returns.toml"), "matures_after = \"14d\"", "matures_after = \"1d\"");
    let (mut server, client) = shop.serve(&[]);
    let mut lines = String::new();
    for n in 0..400 {
        let (day, hour) = (1 + n / 24, n % 24);
        let time = |d: i32| format!("2025-01-{:02}T{hour:02}:00:00Z", day + d);
        let entities = json!({"customer": format!("c{}", n % 7)});
        let amount = f64::from(n * 37 % 200);
        lines += &json!({"id": format!("o{n}"), "type": "order_placed", "time": time(0), "entities": entities,
            "properties": {"amount": amount, "items": 1}})
        .to_string();
        lines += "\n";
        lines += &json!({"id": format!("r{n}"), "type": "order_returned", "time": time(1), "entities": entities,
            "properties": {"order": format!("o{n}"), "returned": amount > 100.0}})
        .to_string();
        lines += "\n";
    }
    let (status, answer) = client.lines("/v1/events", &lines).expect("an answer");
    assert_eq!(status, 202, "{answer}");
    let (_, job) = client.json("/v1/models/returns/train", &json!({})).expect("an answer");
    until("the model is trained", || {
        let (_, job) = client.get(&format!("/v1/jobs/{}", job["job"])).expect("an answer");
        assert_ne!(job["state"], "failed", "{job}");
        (job["state"] == "registered").then_some(())
    });
    server.kill();
}

#[test]
fn a_full_disk_refuses_events_whole_and_ends_without_a_restart() {
    let shop = Shop::new();
    train(&shop);
    let (_server, client) = shop.serve(&[]);
    assert_eq!(post(&client, &order("a1", "full")).0, 202);
    shop.layer.set(Fault::Full, "").expect("set");
    for n in 0..20 {
        let (status, problem) = post(&client, &order(&format!("b{n}"), "full"));
        assert_eq!((status, &problem["code"]), (507, &json!("disk_full")), "{problem}");
    }
    let outcome = json!({"model": "returns", "request_id": "o1", "label": true, "time": "2025-02-01T00:00:00Z"});
    let (status, problem) = client.json("/v1/outcomes", &outcome).expect("an answer");
    assert_eq!((status, &problem["code"]), (507, &json!("disk_full")), "{problem}");
    // What was not acknowledged is taken back, and predictions go on, off the record.
    until("the features hold what was acknowledged", || (counted(&client, "full") == Some(1)).then_some(()));
    let ask = || {
        let body = json!({"entities": {"customer": "full"}, "context": {"amount": 10.0}});
        client.json("/v1/models/returns/predict", &body).expect("an answer")
    };
    until("predictions say that they are not on record", || {
        let (status, answer) = ask();
        assert_eq!(status, 200, "{answer}");
        (answer["logged"] == false).then_some(())
    });
    until("it is said", || {
        let (status, said) = storage_says(&client);
        (status == 200 && said.contains("full")).then_some(())
    });
    let (_, system) = client.get("/v1/system").expect("an answer");
    assert!(system["prediction_log"]["dropped"].as_u64() > Some(0), "{system}");
    shop.layer.clear(Fault::Full).expect("cleared");
    until("events are taken again", || (post(&client, &order("b0", "full")).0 == 202).then_some(()));
    until("predictions are logged again", || {
        let (status, answer) = ask();
        (status == 200 && answer["logged"] == true).then_some(())
    });
    assert_eq!(counted(&client, "full"), Some(2));
}

#[test]
fn one_failed_write_or_sync_acknowledges_nothing_and_mends_itself() {
    let shop = Shop::new();
    let (mut server, client) = shop.serve(&[]);
    let mut sent = 0;
    for fault in [Fault::WriteErrorOnce, Fault::SyncErrorOnce] {
        for round in 0..3 {
            let id = format!("{fault:?}{round}");
            shop.layer.set(fault, "/events/000001/db").expect("set");
            let (status, problem) = post(&client, &order(&id, "once"));
            assert_eq!((status, &problem["code"]), (503, &json!("storage_unavailable")), "{fault:?}: {problem}");
            assert!(!shop.layer.pending(fault), "the fault has not happened");
            // Sent again it is new: the failed one left nothing behind.
            until("the event is taken", || (post(&client, &order(&id, "once")).0 == 202).then_some(()));
            sent += 1;
            until("it counts once", || (counted(&client, "once") == Some(sent)).then_some(()));
        }
    }
    server.kill();
    let (_server, client) = shop.serve(&[]);
    assert_eq!(counted(&client, "once"), Some(sent));
}

#[test]
fn what_the_machine_refuses_sets_nothing_aside() {
    let shop = Shop::new();
    let (mut server, client) = shop.serve(&[]);
    assert_eq!(post(&client, &order("a", "c")).0, 202);
    server.kill();
    shop.layer.set(Fault::TooManyFiles, "/events/").expect("set");
    let e = shop.try_serve(&[]).err().expect("refused");
    assert!(e.contains("Too many open files"), "{e}");
    shop.layer.clear(Fault::TooManyFiles).expect("cleared");
    assert!(!shop.data("quarantine").exists());
    let (_server, client) = shop.serve(&[]);
    assert_eq!(counted(&client, "c"), Some(1));
}

#[test]
fn an_open_that_hangs_and_a_corrupt_snapshot_are_set_aside() {
    let shop = Shop::new();
    let (mut server, client) = shop.serve(&[]);
    assert_eq!(post(&client, &order("a", "c")).0, 202);
    server.kill();
    // State can be rebuilt from the log.
    shop.layer.set(Fault::OpenHangs, "/state/db").expect("set");
    let (mut server, client) = std::thread::scope(|scope| {
        let start = scope.spawn(|| shop.serve(&["storage.open_deadline=300ms"]));
        until("it was set aside", || shop.data("quarantine").exists().then_some(()));
        shop.layer.clear(Fault::OpenHangs).expect("cleared");
        start.join().expect("a server")
    });
    assert_eq!(counted(&client, "c"), Some(1));
    until("it is said", || {
        let (status, said) = storage_says(&client);
        (status == 200 && said.contains("state could not be opened") && said.contains("not open after")).then_some(())
    });
    server.kill();
    // The engine's snapshot of the event log: the log itself has it all, and the start says so.
    let snapshot = std::fs::read_dir(shop.data("events/000001"))
        .expect("a folder")
        .filter_map(Result::ok)
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snap.")));
    let snapshot = snapshot.expect("a snapshot");
    let mut bytes = std::fs::read(&snapshot).expect("readable");
    bytes[4] ^= 1;
    std::fs::write(&snapshot, bytes).expect("written");
    let (_server, client) = shop.serve(&[]);
    until("it is said", || {
        let (status, said) = storage_says(&client);
        (status == 200 && said.contains("events/000001 was damaged")).then_some(())
    });
    assert_eq!(post(&client, &order("a", "c")).0, 200, "still known");
    assert_eq!(post(&client, &order("b", "c")).0, 202);
    assert_eq!(counted(&client, "c"), Some(2));
    drop(shop.dir);
}

#[test]
fn a_newer_record_and_a_second_process_are_refused() {
    let shop = Shop::new();
    let (mut server, client) = shop.serve(&[]);
    assert_eq!(post(&client, &order("a", "c")).0, 202);
    let e = shop.try_serve(&[]).err().expect("refused");
    assert!(e.contains("is in use by pid") && e.contains(" on host "), "{e}");
    server.kill();
    understudy::storage::plant_newer_record(&shop.data("events/000001")).expect("planted");
    let e = shop.try_serve(&[]).err().expect("refused");
    assert!(e.contains("written by a newer version of understudy (record version 200"), "{e}");
    assert!(!shop.data("quarantine").exists());
}

/// What the monitor counted is there after an end of any kind, from what was saved and from the logs alone.
#[test]
fn a_start_goes_on_where_joins_and_monitors_stood() {
    let shop = Shop::new();
    train(&shop);
    let saved = shop.data("joins.snapshot");
    let ask = |client: &Client, n: u32| {
        let body =
            json!({"request_id": format!("q{n}"), "entities": {"customer": "c1"}, "context": {"amount": f64::from(n)}});
        let (status, answer) = client.json("/v1/models/returns/predict", &body).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        if n.is_multiple_of(2) {
            let outcome = json!({"model": "returns", "request_id": format!("q{n}"), "label": n.is_multiple_of(4), "time": jiff::Timestamp::now().to_string()});
            let (status, result) = client.json("/v1/outcomes", &outcome).expect("an answer");
            assert_eq!(status, 202, "{result}");
        }
    };
    let counted = |client: &Client| {
        let (status, report) = client.get("/v1/models/returns/monitor").expect("an answer");
        assert_eq!(status, 200, "{report}");
        let total = &report["total"];
        let matured = total["outcomes"]["matured"].as_u64().expect("a number");
        (total["requests"].as_u64().expect("a number"), matured, total["labels"].clone(), total["scores"].clone())
    };
    let set = ["prediction_log.mode=sync", "server.drain=0s"];
    let (server, client) = shop.serve(&set);
    (0..60).for_each(|n| ask(&client, n));
    let first = counted(&client);
    assert_eq!((first.0, first.1), (60, 30));
    assert!(!saved.exists(), "nothing was saved yet");
    server.stop();
    assert!(saved.exists(), "an orderly end saves");

    let (mut server, client) = shop.serve(&set);
    assert_eq!(counted(&client), first);
    (60..90).for_each(|n| ask(&client, n));
    let second = counted(&client);
    assert_eq!((second.0, second.1), (90, 45));
    server.kill();
    // From the save and the logs after it, with one that is damaged, and with none.
    let whole = std::fs::read(&saved).expect("it is there");
    for content in [Some(whole.clone()), Some(whole[..whole.len() / 2].to_vec()), None] {
        match content {
            Some(bytes) => std::fs::write(&saved, bytes).expect("written"),
            None => std::fs::remove_file(&saved).expect("removed"),
        }
        let (mut server, client) = shop.serve(&set);
        assert_eq!(counted(&client), second);
        let again = json!({"model": "returns", "request_id": "q0", "label": true, "time": "2025-02-01T00:00:00Z"});
        let (_, result) = client.json("/v1/outcomes", &again).expect("an answer");
        assert_eq!(result["status"], "duplicate", "{result}");
        server.kill();
    }
}
