//! An entity is erased: over HTTP, through a kill -9, down to the bytes of the files.

use crate::project::{MODEL, at, make, stream};
use crate::support::{Server, run};
use serde_json::{Value, json};
use std::path::Path;
use understudy::storage::tombstones;
use understudy_domain::entity::EntityHash;
use understudy_domain::erasure::Tombstone;

const DAY: i64 = 86_400;
const ANN: &str = "customer-ann-4711";

/// Ann's orders in the last days of the stream.
fn anns() -> Vec<String> {
    let order = |n: i64| {
        json!({"id": format!("{ANN}-o{n}"), "type": "order_placed", "time": at(41 * DAY + n), "entities": {"customer": ANN},
            "properties": {"amount": 12.5, "items": 1}})
    };
    (0..8).map(|n| order(n).to_string() + "\n").collect()
}

fn serve(dir: &Path) -> Server {
    Server::start(dir, &["clock.source=stream"])
}

/// An orderly end: the state goes to the disk.
fn stop(server: Server) {
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.end().0, 0);
}

/// Orders of 30 days of a customer, if they are known at all.
fn orders(server: &Server, customer: &str) -> Option<f64> {
    let (status, found) = server.get(&format!("/v1/features/orders_30d/explain?entity=customer:{customer}"));
    match status {
        200 => found["value"].as_f64(),
        404 => {
            assert_eq!(found["code"], "unknown_entity", "{found}");
            None
        }
        _ => panic!("{status}: {found}"),
    }
}

fn erase(server: &Server, customer: &str) -> Value {
    let (code, out, err) = run(&["entity", "erase", "customer", customer, "-o", "json", "--url", &server.url]);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

/// Files below a folder that hold the text.
fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn what_is_erased_stays_erased() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    make(dir.path());
    let server = serve(dir.path());
    for lines in [stream(40), anns()] {
        let (status, sum) = server.lines("/v1/replay", &lines.concat()).expect("an answer");
        assert_eq!((status, &sum["accepted"]), (200, &json!(lines.len())), "{sum}");
    }
    server.train(MODEL);
    let asked = json!({"request_id": format!("req-{ANN}"), "entities": {"customer": ANN}, "context": {"amount": 50.0}});
    let (status, answer) = server.post(&format!("/v1/models/{MODEL}/predict"), &asked);
    assert_eq!(status, 200, "{answer}");
    let outcome = json!({"model": MODEL, "request_id": format!("req-{ANN}"), "label": true, "time": at(43 * DAY)});
    assert_eq!(server.post("/v1/outcomes", &outcome).0, 202);
    assert_eq!(orders(&server, ANN), Some(8.0));
    stop(server);

    let mut server = serve(dir.path());
    let known = orders(&server, "c3").expect("a regular customer");
    assert_eq!(orders(&server, ANN), Some(8.0));
    let erased = erase(&server, ANN);
    server.kill();
    let count = |e: &Value| {
        let n = |key: &str| e[key].as_u64().expect("a number");
        (n("states_dropped"), n("events_until_compaction"), n("predictions_until_compaction"))
    };
    assert_eq!((count(&erased), &erased["again"]), ((1, 8, 1), &json!(false)), "{erased}");

    let mut server = serve(dir.path());
    assert_eq!((orders(&server, ANN), orders(&server, "c3")), (None, Some(known)));
    let (_, answers) = server.get("/v1/predictions?limit=1000");
    assert!(!answers.to_string().contains(ANN), "{answers}");
    let id = answer["id"].as_str().expect("an id");
    assert_eq!(server.get(&format!("/v1/predictions/{id}")).0, 404);
    // A repeat of what was erased is a repeat still; what is new is of a new customer.
    let (status, sum) = server.lines("/v1/events", &anns().concat()).expect("an answer");
    assert_eq!((status / 100, orders(&server, ANN)), (2, None), "{sum}");
    let late = json!({"id": "new-1", "type": "order_placed", "time": at(43 * DAY + 5), "entities": {"customer": ANN},
        "properties": {"amount": 1.0, "items": 1}});
    server.lines("/v1/events", &format!("{late}\n")).expect("an answer");
    assert_eq!(orders(&server, ANN), Some(1.0));
    let again = erase(&server, ANN);
    assert_eq!((count(&again), &again["again"]), ((1, 9, 1), &json!(true)), "{again}");
    assert_eq!(orders(&server, ANN), None);
    let (status, problem) = server.post("/v1/entities/erase", &json!({"entity": "custmer", "id": ANN}));
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_entity_type")), "{problem}");
    server.kill();

    // As after a kill between the tombstone and the drop: the tombstone is there, the state is, too.
    let data = dir.path().join("data");
    let erasures = tombstones::open(&data, 0).expect("the tombstones");
    let keys = vec!["customer".to_owned()];
    let mark = erasures.now().mark(&keys, &["c3"]);
    let t =
        Tombstone { entity: "customer".into(), keys, mark, seq: u64::MAX, time: at(60 * DAY).parse().expect("a time") };
    erasures.begin(t, &[EntityHash::new("customer", ["c3"])]).expect("written");
    let server = serve(dir.path());
    assert_eq!((orders(&server, "c3"), orders(&server, "c4").is_some()), (None, true));
    stop(server);

    assert!(!holding(&data, ANN).is_empty(), "the search finds what is there");
    let path = data.to_str().expect("UTF-8");
    let (code, out, err) = run(&["store", "compact", path]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(holding(&data, ANN), Vec::<String>::new());
    let (code, out, err) = run(&["store", "verify", path]);
    assert_eq!(code, 0, "{out}{err}");
    let server = serve(dir.path());
    assert_eq!(count(&erase(&server, ANN)), (0, 0, 0));
    assert!(orders(&server, "c4").is_some());
    let project = dir.path().to_str().expect("UTF-8");
    let (_, audit, _) = run(&["--project", project, "audit", "show", "-o", "json"]);
    assert!(audit.contains("entity.erase") && !audit.contains(ANN), "{audit}");
}
