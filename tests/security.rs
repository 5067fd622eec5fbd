//! Who may do what: keys, rates, the hosts a page may name, TLS, the audit log.

use crate::support::{Server, program, run, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn shop() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("shop");
    let (code, _, err) = run(&["init", project.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    (dir, project)
}

/// A command on a project that must succeed; its JSON.
fn ok(project: &Path, args: &[&str]) -> Value {
    let mut all = vec!["--project", project.to_str().expect("UTF-8"), "-o", "json"];
    all.extend(args);
    let (code, out, err) = run(&all);
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn key(project: &Path, args: &[&str]) -> (String, String) {
    let made = ok(project, &[&["keys", "create"], args].concat());
    let word = |name: &str| made[name].as_str().expect("a text").to_owned();
    (word("id"), word("key"))
}

#[test]
fn keys_open_what_they_are_good_for() {
    let (_dir, project) = shop();
    let (reader_id, reader) = key(&project, &["people", "--scope", "read"]);
    let (_, sender) = key(&project, &["shop", "--scope", "ingest", "--scope", "serve", "--rate", "2"]);
    let server = Server::start(&project, &[]);
    let status = |key: Option<&str>, path: &str| server.with_key(key).get(path).0;
    assert_eq!(status(None, "/readyz"), 200, "health is open to all");
    assert_eq!(status(None, "/readyz?verbose"), 401, "but not its details");
    assert_eq!(status(None, "/v1/models"), 401);
    assert_eq!(status(Some("us_live_0_0"), "/v1/models"), 401);
    assert_eq!(status(Some(&reader), "/v1/models"), 200);
    assert_eq!(status(Some(&sender), "/v1/models"), 403);
    // The rate is spent before the body is read: what is no JSON is refused for its rate.
    let sender = server.with_key(Some(&sender));
    let answers: Vec<u16> = (0..6).map(|_| sender.post("/v1/outcomes", &json!({})).0).collect();
    assert_eq!(answers[..2], [400, 400]);
    assert!(answers.contains(&429), "{answers:?}");

    let (status_of_train, problem) = server.with_key(Some(&reader)).post("/v1/models/returns/train", &json!({}));
    assert_eq!((status_of_train, &problem["code"]), (403, &json!("scope_missing")), "{problem}");
    let (admin_id, admin) = key(&project, &["operator", "--scope", "admin"]);
    let train = || server.with_key(Some(&admin)).post("/v1/models/returns/train", &json!({})).0;
    until("the running server knows the new key", || (train() == 202).then_some(()));
    ok(&project, &["keys", "revoke", &reader_id]);
    until("and that the other one is gone", || (status(Some(&reader), "/v1/models") == 401).then_some(()));

    let records = ok(&project, &["audit", "show"])["records"].as_array().expect("records").clone();
    let actions: Vec<&str> = records.iter().filter_map(|r| r["action"].as_str()).collect();
    assert_eq!(actions, ["key.create", "key.create", "key.create", "model.train", "key.revoke"]);
    assert_eq!((&records[3]["who"], &records[3]["from"]), (&json!(admin_id), &json!("127.0.0.1")));
    assert_eq!(records[4]["before"]["state"], "active");
    assert_eq!(ok(&project, &["audit", "verify"])["records"], 5);

    // What a command needs a server for, it may do: it is on the machine, and can read the files anyway.
    drop(server);
    let models = ok(&project, &["model", "list"]);
    assert!(models.to_string().contains("returns"), "{models}");
    let log = project.join("data/audit.log");
    let mut bytes = std::fs::read(&log).expect("the log");
    bytes[100] ^= 1;
    std::fs::write(&log, bytes).expect("written");
    let (code, _, err) = run(&["--project", project.to_str().expect("UTF-8"), "audit", "verify"]);
    assert_eq!(code, 3, "{err}");
}

#[test]
fn other_machines_are_not_let_in_without_keys_and_tls() {
    let (_dir, project) = shop();
    let path = project.to_str().expect("UTF-8").to_owned();
    let serve = |set: &[&str]| {
        let mut args = vec!["serve", "--project", &path, "--set", "server.port=0", "--set", "server.bind=0.0.0.0"];
        args.extend(set);
        run(&args)
    };
    let (code, _, err) = serve(&[]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("no API keys") && err.contains("no TLS"), "{err}");
    key(&project, &["shop", "--scope", "serve"]);
    let (code, _, err) = serve(&[]);
    assert_eq!(code, 78, "{err}");
    assert!(!err.contains("no API keys") && err.contains("no TLS"), "{err}");
    let (code, _, err) = serve(&["--set", "tls.mode=files"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("cert.pem"), "{err}");
    let server = Server::start(&project, &["server.bind=0.0.0.0", "tls.mode=terminated-elsewhere"]);
    assert!(server.url.starts_with("http://0.0.0.0:"), "{}", server.url);
}

#[test]
fn a_page_of_another_site_is_not_answered() {
    let (_dir, project) = shop();
    let server = Server::start(&project, &["auth.allowed_hosts=models.internal"]);
    let ask = |header: &str, value: &str| server.get_with("/v1/models", header, value);
    assert_eq!(ask("host", "localhost:1").0, 200);
    assert_eq!(ask("host", "models.internal").0, 200);
    let (status, problem) = ask("host", "evil.example");
    assert_eq!((status, &problem["code"]), (403, &json!("host_not_allowed")), "{problem}");
    let (status, problem) = ask("origin", "https://evil.example");
    assert_eq!((status, &problem["code"]), (403, &json!("origin_not_allowed")), "{problem}");
    assert_eq!(ask("origin", "http://localhost:3000").0, 200);
}

#[test]
fn tls_takes_a_new_certificate_and_keeps_the_old_one_over_a_bad_one() {
    let (_dir, project) = shop();
    let (_, secret) = key(&project, &["people", "--scope", "read"]);
    let certificates = Path::new(crate::support::SOURCE).join("tests/tls");
    let here = project.join("tls");
    std::fs::create_dir(&here).expect("a folder");
    let install = |name: &str, cert: &[u8]| {
        std::fs::copy(certificates.join(format!("{name}-key.pem")), here.join("key.pem")).expect("a copy");
        std::fs::write(here.join("cert.pem"), cert).expect("written");
    };
    let certificate = |name: &str| std::fs::read(certificates.join(format!("{name}-cert.pem"))).expect("a file");
    install("one", &certificate("one"));
    let server = Server::start(&project, &["tls.mode=files"]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let trusts = |name: &str| {
        let mut command = program(&["--url", &server.url, "model", "list"]);
        command.env("UNDERSTUDY_CA", certificates.join(format!("{name}-cert.pem"))).env("UNDERSTUDY_KEY", &secret);
        command.output().expect("the program starts").status.success()
    };
    assert!(trusts("one") && !trusts("two"));
    install("two", &certificate("two"));
    until("the new certificate is shown", || trusts("two").then_some(()));
    assert!(!trusts("one"));
    // Bad ones in a row, then a good one again.
    for bad in ["expired", "one"] {
        let bytes = if bad == "one" { b"nonsense".to_vec() } else { certificate("expired") };
        install(bad, &bytes);
        assert!(trusts("two"), "the old certificate stays over a bad one");
    }
    install("one", &certificate("one"));
    until("a good one is taken again", || trusts("one").then_some(()));
}
