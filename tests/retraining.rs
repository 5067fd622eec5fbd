//! The loop over the real program: a planted shift is noticed, mended and gated without a person, and a death in the
//! middle of a job ends in the same state.

use crate::support::{Server, edit, run, until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;
use understudy_domain::time::{DAY, Span, Timestamp};

const MODEL: &str = "/v1/models/returns/retraining";
const DAYS: i64 = 40;
/// Trained here, and what customers do changes here.
const TRAINED: i64 = 12;
const SHIFTED: i64 = 16;
const ORDERS_A_DAY: i64 = 120;

fn start() -> Timestamp {
    "2025-01-01T00:00:00Z".parse().expect("an instant")
}

/// The example of `init`, with a loop that acts.
fn shop() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    let (code, _, err) = run(&["init", project.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    let model = project.join("models/returns.toml");
    edit(&model, "matures_after = \"14d\"\nexpires_after = \"30d\"", "matures_after = \"1d\"\nexpires_after = \"3d\"");
    let text = std::fs::read_to_string(&model).expect("the model's file");
    let own = "\n[retraining]\nmode = \"act\"\npromotion = \"immediate\"\nwindow = \"7d\"\nholdout = \"7d\"\n\
        holdout_rows = 500\nmin_rows = 500\n";
    std::fs::write(&model, text + own).expect("written");
    (dir, project)
}

/// Days of orders and, a few hours later, of what came back: one in five, and from the shift on three in five.
fn day(d: i64) -> String {
    let mut events = Vec::new();
    for i in 0..ORDERS_A_DAY {
        let n = d * ORDERS_A_DAY + i;
        // A fixed scramble of the number: the same stream in every run.
        let dice = |k: u64| (n as u64).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(k).rotate_left(23) % 1000;
        let at = start() + Span(d * DAY + i * (DAY / ORDERS_A_DAY));
        let amount = 10.0 + dice(17) as f64 / 10.0;
        let chance = if d < SHIFTED { 100 + amount as u64 * 2 } else { 480 + amount as u64 * 2 };
        let customer = json!({"customer": format!("c{}", n % 200)});
        let id = format!("o{n}");
        events.push((
            at,
            json!({"id": id, "type": "order_placed", "time": at.to_string(), "entities": customer,
            "properties": {"amount": amount, "items": 1}}),
        ));
        let back = at + Span::hours(3);
        events.push((
            back,
            json!({"id": format!("r{n}"), "type": "order_returned", "time": back.to_string(),
            "entities": customer, "properties": {"order": id, "returned": dice(5) < chance}}),
        ));
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, e)| format!("{e}\n")).collect()
}

fn serve(project: &std::path::Path) -> Server {
    Server::start(project, &["clock.source=stream"])
}

fn send(server: &Server, d: i64) {
    let (status, answer) = server.lines("/v1/replay", &day(d)).expect("the server lives");
    assert_eq!((status, answer["rejected"].as_array().map(Vec::len)), (200, Some(0)), "{answer}");
}

/// What a run ends in: loop, champion and all predictions.
struct End {
    state: Value,
    champion: Value,
    predictions: Vec<Value>,
    monitor: Value,
}

fn end(server: &Server) -> End {
    End {
        state: server.ok(MODEL),
        champion: server.ok("/v1/models/returns")["champion"].clone(),
        predictions: server.predictions(),
        monitor: server.ok("/v1/models/returns/monitor"),
    }
}

/// A run without a death, once for all tests.
fn straight() -> &'static End {
    static END: OnceLock<End> = OnceLock::new();
    END.get_or_init(|| {
        let (_dir, project) = shop();
        let server = serve(&project);
        for d in 0..DAYS {
            if d == TRAINED {
                server.train("returns");
            }
            send(&server, d);
        }
        end(&server)
    })
}

fn jobs(state: &Value) -> &Vec<Value> {
    state["jobs"].as_array().expect("jobs")
}

/// Without what a second run of a job adds.
fn without_runs(state: &Value) -> Vec<Value> {
    let mut all = jobs(state).clone();
    all.iter_mut().for_each(|j| j["run"] = 1.into());
    all
}

#[test]
fn a_shift_is_noticed_mended_and_gated_without_a_person() {
    let end = straight();
    let promoted = jobs(&end.state).iter().find(|j| j["state"] == "promoted");
    let promoted = promoted.unwrap_or_else(|| panic!("{:#}", end.state));
    let at: Timestamp = promoted["until"].as_str().expect("a time").parse().expect("an instant");
    assert!(at > start() + Span::days(SHIFTED), "{promoted}");
    assert_ne!(end.champion, json!("v1"));
    // Every day since the training has its evaluation, with every term explained.
    let evaluations = end.state["evaluations"].as_array().expect("evaluations");
    assert_eq!(evaluations.len() as i64, DAYS - TRAINED - 1);
    for e in evaluations {
        let terms = e["score"]["terms"].as_array().expect("terms");
        assert_eq!(terms.len(), 4);
        assert!(terms.iter().all(|t| t["line"].as_str().is_some_and(|l| !l.is_empty())), "{e}");
    }
    // Before the shift nothing asked for a job.
    assert!(jobs(&end.state).iter().all(|j| j["until"].as_str() > Some("2025-01-17")), "{:#}", end.state);
    // What came in was better on the holdout, and the weeks after it are better than those between.
    let verdict =
        &promoted["attempts"].as_array().expect("attempts").iter().find(|a| a["verdict"]["passed"] == json!(true));
    let verdict = &verdict.expect("a verdict that passed")["verdict"];
    assert!(verdict["lower"].as_f64() > Some(0.0), "{verdict}");
    let loss = |v: &str| end.monitor["total"]["quality_by_version"][v]["log_loss"].as_f64();
    assert!(loss("v2") < loss("v1"), "{}", end.monitor["total"]["quality_by_version"]);
}

#[test]
fn a_death_during_a_job_loses_nothing_and_ends_in_the_same_state() {
    let (_dir, project) = shop();
    let server = serve(&project);
    for d in 0..TRAINED {
        send(&server, d);
    }
    server.train("returns");
    drop(server);
    // From here on a job hangs: until there is one, nothing differs.
    let stuck = Server::start_faulty(&project, &["clock.source=stream"], "trainer.train:hang_ms=600000:9");
    let first: Timestamp = jobs(&straight().state)[0]["until"].as_str().expect("a time").parse().expect("an instant");
    let at = (first - start()).0 / DAY;
    for d in TRAINED..at {
        send(&stuck, d);
    }
    std::thread::scope(|s| {
        let (url, body) = (stuck.url.clone(), day(at));
        s.spawn(move || {
            let _ = ureq::post(format!("{url}/v1/replay")).content_type("application/x-ndjson").send(body.as_bytes());
        });
        until("a job runs", || {
            let state = stuck.ok(MODEL);
            jobs(&state).last().is_some_and(|j| j["state"] == "running").then_some(())
        });
        stuck.signal(rustix::process::Signal::KILL);
    });
    drop(stuck);
    let server = serve(&project);
    for d in at..DAYS {
        send(&server, d);
    }
    let (here, there) = (end(&server), straight());
    assert_eq!(jobs(&here.state)[0]["run"], json!(2), "{}", jobs(&here.state)[0]);
    assert_eq!(without_runs(&here.state), without_runs(&there.state));
    assert_eq!(here.state["champion"], there.state["champion"]);
    assert_eq!(here.champion, there.champion);
    assert_eq!(here.predictions.len(), there.predictions.len());
    for (a, b) in here.predictions.iter().zip(&there.predictions) {
        assert_eq!((&a["id"], &a["version"], &a["score"]), (&b["id"], &b["version"], &b["score"]));
    }
    // The words for it, from the command line.
    let (code, out, err) = run(&["retrain", "explain", "returns/1", "--url", &server.url]);
    assert_eq!(code, 0, "{err}");
    for part in ["performance", "calibration", "cool_down", "recalibrate", "data sha256"] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    let (code, out, _) = run(&["retrain", "list", "-o", "json", "--url", &server.url]);
    let list: Value = serde_json::from_str(&out).expect("JSON alone on stdout");
    assert_eq!((code, list["jobs"].as_array().map(Vec::len)), (0, Some(jobs(&here.state).len())));
}
