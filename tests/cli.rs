//! What the command line says, above all when something is wrong.

use crate::support::{PROGRAM, Server, edit, run};
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;

/// A project as `init` writes it.
fn fresh() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (code, _, err) = run(&["init", path(&dir.path().join("shop"))]);
    assert_eq!(code, 0, "{err}");
    dir
}

fn path(p: &Path) -> &str {
    p.to_str().expect("UTF-8")
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[test]
fn help_and_wrong_flags() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0, "{PROGRAM}");
    holds(&out, &["demo", "serve", "train", "predict", "monitor", "why", "--project"]);
    for wrong in [&["--nonsense"][..], &["nonsense"], &["serve", "--nonsense"], &["demo", "--speed", "fast"], &[]] {
        let (code, out, err) = run(wrong);
        assert_eq!(code, 2, "{wrong:?}");
        assert!(out.is_empty() && !err.is_empty(), "{wrong:?}: {out}");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_is_said_to_be_missing_before_anything_starts() {
    let args = ["log", "export", "--format", "parquet", "--model", "m", "--to", "m.parquet"];
    let (code, out, err) = run(&args);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    holds(&err, &["built without Parquet", "cargo build --release --features parquet", "--format ndjson"]);
}

#[test]
fn a_missing_project_says_how_to_get_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let nothing = dir.path().join("nothing");
    for command in [&["serve"][..], &["model", "list"], &["config", "check"]] {
        let mut args = command.to_vec();
        args.extend(["--project", path(&nothing)]);
        let (code, _, err) = run(&args);
        assert_eq!(code, 1, "{command:?}: {err}");
        holds(&err, &["nothing", "hint", "init"]);
    }
}

#[test]
fn wrong_files_are_named_with_line_and_key() {
    let dir = fresh();
    let shop = dir.path().join("shop");
    let table: [(&str, &str, &str, &[&str]); 5] = [
        ("understudy.toml", "[server]", "[server", &["understudy.toml:"]),
        ("understudy.toml", "port = 8080", "prot = 8080", &["understudy.toml:", "prot", "port"]),
        ("features/shop.toml", "window = \"30d\"", "windw = \"30d\"", &["shop.toml:", "windw", "window"]),
        (
            "features/shop.toml",
            "property = \"amount\"",
            "property = \"amont\"",
            &["shop.toml:", "amount_mean_30d", "amont", "amount"],
        ),
        ("models/returns.toml", "\"orders_30d\"", "\"orders_31d\"", &["returns.toml:", "orders_31d", "orders_30d"]),
    ];
    for (file, from, to, said) in table {
        let at = shop.join(file);
        let good = std::fs::read(&at).expect("readable");
        edit(&at, from, to);
        for command in [&["serve", "--set", "server.port=0"][..], &["config", "check"]] {
            let mut args = command.to_vec();
            args.extend(["--project", path(&shop)]);
            let (code, out, err) = run(&args);
            assert_eq!(code, 1, "{command:?} {to}: {out}{err}");
            holds(&(out + &err), said);
        }
        std::fs::write(&at, good).expect("written");
    }
    let (code, out, err) = run(&["config", "check", "--project", path(&shop)]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn a_busy_port_is_said() {
    let dir = fresh();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let (code, _, err) =
        run(&["serve", "--project", path(&dir.path().join("shop")), "--set", &format!("server.port={port}")]);
    assert_eq!(code, 1, "{err}");
    holds(&err, &[&port.to_string(), "server.port"]);
}

#[test]
fn init_writes_nothing_into_a_full_folder() {
    let dir = fresh();
    let shop = dir.path().join("shop");
    let (code, _, err) = run(&["init", path(&shop)]);
    assert_eq!(code, 1);
    holds(&err, &["not empty", "hint"]);
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let (code, _, err) = run(&["model", "list", "--url", "http://127.0.0.1:1"]);
    assert_eq!(code, 1, "{err}");
    holds(&err, &["no server answers at http://127.0.0.1:1", "understudy serve"]);
}

#[test]
fn two_servers_do_not_share_a_data_folder() {
    let dir = fresh();
    let shop = dir.path().join("shop");
    let _first = Server::start(&shop, &[]);
    let (code, _, err) = run(&["serve", "--project", path(&shop), "--set", "server.port=0"]);
    assert_eq!(code, 1, "{err}");
    holds(&err, &["data"]);
}
