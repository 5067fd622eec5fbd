//! The registry from the outside: versions that were made elsewhere, their names, versions out of use, and what of it
//! outlives the process.

use crate::project::{MODEL, make, stream};
use crate::support::{Server, run};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const SETTINGS: [&str; 3] = ["clock.source=stream", "storage.durability=process", "models.max_upload_bytes=200000"];

/// Exit code and the answer, or what was said.
fn ask(server: &Server, args: &[&str]) -> (i32, Value) {
    let mut all = vec!["model"];
    all.extend(args);
    all.extend(["-o", "json", "--url", &server.url]);
    let (code, out, err) = run(&all);
    (code, serde_json::from_str(&out).unwrap_or(Value::String(err)))
}

fn done(server: &Server, args: &[&str]) -> Value {
    let (code, answer) = ask(server, args);
    assert_eq!(code, 0, "{args:?}: {answer}");
    answer
}

fn refused(server: &Server, args: &[&str], says: &str) {
    let (code, said) = ask(server, args);
    let said = said.as_str().unwrap_or_default();
    assert!(code == 1 && said.contains(says), "{args:?}: {code} {said}");
}

/// A version that differs from `from` by its golden requests, as if it had been made elsewhere.
fn other_version(from: &Path, to: &Path, keep: usize) -> PathBuf {
    std::fs::create_dir_all(to).expect("a folder");
    for file in ["manifest.json", "model.safetensors", "profile.json"] {
        std::fs::copy(from.join(file), to.join(file)).expect("a copy");
    }
    let golden = std::fs::read_to_string(from.join("golden.jsonl")).expect("golden requests");
    let golden: String = golden.lines().take(keep).map(|l| format!("{l}\n")).collect();
    std::fs::write(to.join("golden.jsonl"), &golden).expect("written");
    let hash: String = Sha256::digest(golden.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    let path = to.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).expect("a manifest")).expect("JSON");
    for file in manifest["files"].as_array_mut().expect("files") {
        if file["name"] == "golden.jsonl" {
            *file = json!({"name": "golden.jsonl", "bytes": golden.len(), "sha256": hash});
        }
    }
    std::fs::write(path, manifest.to_string()).expect("written");
    to.to_owned()
}

fn version_that_answers(server: &Server) -> String {
    let asked = json!({"entities": {"customer": "c1"}, "context": {"amount": 10.0}});
    let (status, answer) = server.post(&format!("/v1/models/{MODEL}/predict"), &asked);
    assert_eq!(status, 200, "{answer}");
    answer["version"].as_str().expect("a version").to_owned()
}

#[test]
fn versions_are_registered_named_and_archived_and_the_names_last() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    make(&project);
    let mut server = Server::start(&project, &SETTINGS);
    let (status, sum) = server.lines("/v1/replay", &stream(30).concat()).expect("an answer");
    assert_eq!(status, 200, "{sum}");
    server.train(MODEL);
    let v1 = project.join(format!("data/models/{MODEL}/v1"));
    let elsewhere = other_version(&v1, &dir.path().join("elsewhere"), 9);
    let folder = elsewhere.to_str().expect("UTF-8");

    // A version from outside is there, and answers nobody.
    let registered = done(&server, &["register", folder]);
    assert_eq!((&registered["version"], &registered["champion"]), (&json!("v2"), &json!(false)), "{registered}");
    assert_eq!(version_that_answers(&server), "v1");
    refused(&server, &["register", folder], "already_registered");
    refuse_bad_versions(&server, dir.path(), &v1);

    // A name moves traffic at once; the version before it stays at hand.
    let named = done(&server, &["alias", MODEL, "champion", "v2"]);
    assert_eq!((&named["before"], version_that_answers(&server).as_str()), (&json!("v1"), "v2"), "{named}");
    done(&server, &["alias", MODEL, "shadow", "v1"]);
    refused(&server, &["alias", MODEL, "champion", "v9"], "unknown_version");
    refused(&server, &["alias", MODEL, "v3", "v1"], "invalid_alias");
    let shown = done(&server, &["show", MODEL]);
    assert_eq!(shown["aliases"], json!({"champion": "v2", "previous": "v1", "shadow": "v1"}), "{shown}");

    // What a name leads to is not archived; what is archived is shown and not used.
    refused(&server, &["archive", MODEL, "v2"], "version_in_use");
    refused(&server, &["archive", MODEL, "v1"], "version_in_use");
    done(&server, &["alias", MODEL, "shadow", "--remove"]);
    done(&server, &["alias", MODEL, "previous", "--remove"]);
    done(&server, &["archive", MODEL, "v1"]);
    refused(&server, &["alias", MODEL, "champion", "v1"], "version_archived");
    let infer = json!({"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1], "data": [1.0]}]});
    let (status, problem) = server.post(&format!("/v2/models/{MODEL}/versions/v1/infer"), &infer);
    assert_eq!((status, &problem["code"]), (409, &json!("version_archived")), "{problem}");

    // All of it outlives the process.
    server.kill();
    let server = Server::start(&project, &SETTINGS);
    assert_eq!(version_that_answers(&server), "v2");
    let shown = done(&server, &["show", MODEL, "v1"]);
    assert_eq!((&shown["state"], &shown["model"]), (&json!("archived"), &json!(MODEL)), "{shown}");
    assert!(shown["files"][0]["sha256"].is_string() && shown["signature"]["features"].is_array(), "{shown}");
    let trained = server.train(MODEL);
    assert_eq!(trained["version"], "v3", "an archived number is not used again");
    assert_eq!(version_that_answers(&server), "v3");
    let log = run(&["--project", project.to_str().expect("UTF-8"), "audit", "show", "-o", "json"]).1;
    for action in ["model.register", "model.alias", "model.archive"] {
        assert!(log.contains(action), "{action}: {log}");
    }
}

/// Each with its reason, and nothing is changed by any.
fn refuse_bad_versions(server: &Server, dir: &Path, v1: &Path) {
    let before = server.ok(&format!("/v1/models/{MODEL}"));
    type Damage = fn(&Path);
    let table: [(Damage, &str); 4] = [
        (|d| std::fs::write(d.join("profile.json"), "{}").expect("written"), "profile.json: 2 bytes"),
        (|d| std::fs::remove_file(d.join("golden.jsonl")).expect("removed"), "golden.jsonl: is not there"),
        (|d| crate::support::edit(&d.join("manifest.json"), "\"returns\"", "\"unknown\""), "has no model `unknown`"),
        (|d| crate::support::edit(&d.join("manifest.json"), "orders_30d", "orders_90d"), "those of the signature"),
    ];
    for (i, (damage, says)) in table.iter().enumerate() {
        let folder = other_version(v1, &dir.join(format!("bad-{i}")), 5);
        damage(&folder);
        refused(server, &["register", folder.to_str().expect("UTF-8")], says);
    }
    let post = |bytes: &[u8]| server.post_bytes("/v1/models", "application/x-tar", bytes);
    let (status, problem) = post(&[0; 100]);
    assert_eq!((status, &problem["code"]), (422, &json!("artefact_refused")), "{problem}");
    let (status, problem) = post(&[0; 200_001]);
    assert_eq!((status, &problem["code"]), (413, &json!("body_too_large")), "{problem}");
    assert_eq!(server.ok(&format!("/v1/models/{MODEL}")), before);
}
