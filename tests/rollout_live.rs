//! Rollouts on a real server by the wall clock: what people ask for, who answers for a canary that fails, and how fast it
//! is gone.

use crate::project::{MODEL, make, stream};
use crate::support::{Server, edit, run, until};
use serde_json::{Value, json};
use std::path::Path;
use understudy::runtime::{artefact::Artefact, variant};

/// Above this v3 answers no number.
const EDGE: f64 = 150.0;

/// A version of the project beside v1.
fn version(project: &Path, version: &str, make: impl Fn(Artefact) -> Result<Artefact, String>) {
    let dir = project.join(format!("data/models/{MODEL}"));
    let mut made = Artefact::read(&dir.join("v1")).and_then(make).expect("a version");
    made.manifest.version = version.into();
    made.write(&dir.join(version)).expect("it is written");
}

/// The champion, its double and one that fails on dear orders.
fn served(project: &Path) -> Server {
    make(project);
    let mut server = Server::start(project, &["clock.source=stream", "storage.durability=process"]);
    let (status, sum) = server.lines("/v1/replay", &stream(60).concat()).expect("an answer");
    assert_eq!(status, 200, "{sum}");
    server.train(MODEL);
    let (status, problem) = server.post_with(&path("/predict"), "x-understudy-arm", "baseline", &order(10.0));
    assert_eq!((status, &problem["code"]), (403, &json!("override_not_allowed")), "{problem}");
    server.kill();
    version(project, "v2", |a| variant::slow(a, 2, 500));
    version(project, "v3", |a| variant::overflowing(a, "amount", EDGE));
    edit(&project.join("models/returns.toml"), "[train]", "[rollout]\noverride_keys = [\"*\"]\n\n[train]");
    let server = Server::start(project, &["storage.durability=process"]);
    let (status, answer) = server.post(&path("/aliases"), &json!({"alias": "champion", "version": "v1"}));
    assert_eq!(status, 200, "{answer}");
    server
}

fn path(rest: &str) -> String {
    format!("/v1/models/{MODEL}{rest}")
}

fn order(amount: f64) -> Value {
    json!({"entities": {"customer": "c1"}, "context": {"amount": amount}})
}

/// A command that people read: it succeeds, in 80 columns.
fn told(server: &Server, args: &[&str]) -> String {
    let mut all = vec!["rollout"];
    all.extend(args);
    all.extend(["--url", &server.url]);
    let (code, out, err) = run(&all);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    let wide: Vec<&str> = out.lines().filter(|l| l.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{args:?}: wider than 80 columns: {wide:#?}");
    out
}

#[test]
fn what_people_ask_of_a_rollout_and_who_answers_for_a_failing_canary() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    let server = served(&project);
    for part in 0..4 {
        let instances: Vec<Value> = (0..100).map(|n| order(f64::from((part * 100 + n) * 37 % 140))).collect();
        let (status, answer) = server.post(&path("/predict"), &json!({ "instances": instances }));
        assert_eq!((status, &answer["failed"]), (200, &json!(0)), "{answer}");
    }

    let plan = told(&server, &["plan", MODEL, "--set", "error_limit=0.05"]);
    assert!(plan.contains("latency p95") && plan.contains("canary units"), "{plan}");
    let aa = told(&server, &["aa", MODEL, "--runs", "20", "--predictions", "400", "--set", "latency=[]"]);
    assert!(aa.contains("20 runs over 400 predictions") && aa.contains("rolled back 0.00 %"), "{aa}");

    let start = ["start", MODEL, "v3", "--set", "stages=[50,100]", "--set", "latency=[]", "--set", "tick=\"1s\""];
    let more = ["--set", "shadow_answers=0", "--set", "min_dwell=\"1d\"", "--set", "max_duration=\"9d\""];
    told(&server, &[&start[..], &more].concat());
    let status = until("it serves and was looked at", || {
        let status = server.ok(&path("/rollout"));
        (status["standing"] == "stage 1" && status["decision"].is_object()).then_some(status)
    });
    let watched = told(&server, &["watch", MODEL, "--once"]);
    assert!(watched.contains("stage 1 at 50%") && watched.contains("errors"), "{watched}");

    // A command that looked before the last step is refused and changes nothing.
    let stale = json!({"expected_step": 0, "all": true});
    let (code, problem) = server.post(&path("/rollout/promote"), &stale);
    assert_eq!((code, &problem["code"]), (409, &json!("rollout_moved")), "{problem}");
    let refused = run(&["rollout", "abort", MODEL, "--expected-step", "0", "--url", &server.url]);
    assert!(refused.0 == 1 && refused.2.contains("moved on"), "{refused:?}");
    assert_eq!(server.ok(&path("/rollout"))["step"], status["step"]);

    // Whoever may choose a side gets it, evidence of nothing, and nobody answers in its place.
    let chosen =
        |side: &str, amount: f64| server.post_with(&path("/predict"), "x-understudy-arm", side, &order(amount));
    for (side, version) in [("baseline", "v1"), ("canary", "v3"), ("v2", "v2")] {
        let (code, answer) = chosen(side, 10.0);
        assert_eq!((code, &answer["version"], &answer["arm"]), (200, &json!(version), &json!("override")), "{answer}");
    }
    let (code, problem) = chosen("canary", 190.0);
    assert!(code >= 500 && problem["code"].is_string(), "{code} {problem}");

    // A canary that fails is answered for, and its answer says so. The third answer that is no number ends it.
    let tensor =
        |name: &str, kind: &str, value: Value| json!({"name": name, "datatype": kind, "shape": [1], "data": [value]});
    let inputs = [
        tensor("orders_30d", "INT64", json!(3)),
        tensor("amount_mean_30d", "FP64", json!(80.0)),
        tensor("amount", "FP64", json!(190.0)),
    ];
    let by_tensor = until("a tensor came to the canary", || {
        let (code, answer) = server.post(&format!("/v2/models/{MODEL}/infer"), &json!({ "inputs": inputs }));
        assert_eq!((code, &answer["model_version"]), (200, &json!("v1")), "{answer}");
        answer["parameters"].is_object().then_some(answer)
    });
    assert_eq!(by_tensor["parameters"], json!({"fallback_version": true}));
    let mut answered_for = 0;
    let ended = until("it ends", || {
        let (code, answer) = server.post(&path("/predict"), &order(190.0));
        assert_eq!((code, &answer["version"]), (200, &json!("v1")), "{answer}");
        answered_for += u32::from(answer["fallback_version"] == true);
        let status = server.ok(&path("/rollout"));
        (status["ended"] == true).then_some(status)
    });
    assert_eq!((&ended["state"], &ended["share"]), (&json!("incident"), &json!("0%")), "{ended}");
    assert!(answered_for >= 2, "{answered_for} answers say that the champion stood in");

    let id = ended["id"].as_str().expect("an id");
    let watched = told(&server, &["watch", MODEL]);
    assert!(watched.contains("incident at 0%"), "{watched}");
    let page = dir.path().join("report.html");
    let report = told(&server, &["report", id, "--html", page.to_str().expect("UTF-8")]);
    assert!(report.contains("outputs that are not finite"), "{report}");
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("<svg") && page.contains("not finite"), "the page has plots and the reason");
    assert!(told(&server, &["verify", id]).contains("everything is as it was recorded"));
    assert!(told(&server, &["status"]).contains(id));
}

#[test]
fn a_canary_that_always_fails_is_gone_within_ten_answers_under_load() {
    let (code, out, err) =
        run(&["bench", "rollout", "--seconds", "1", "--rollbacks", "1", "--connections", "16", "-q", "-o", "json"]);
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let rollback = &told["rollback"];
    assert_eq!((code, &told["failed"]), (0, &json!(0)), "{told}{err}");
    assert!((1..=10).contains(&rollback["canary_answers_max"].as_u64().unwrap_or(0)), "{told}");
    assert!(rollback["last_canary_answer_ms_max"].as_f64() < Some(1000.0), "{told}");
    assert!(rollback["answered_by_champion_instead"].as_u64() > Some(0), "{told}");
    assert!(told["shadow_copies"]["answered"].as_u64() > Some(0), "{told}");
}
