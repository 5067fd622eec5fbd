//! Short forms of the campaigns: `understudy chaos` runs the long ones.

use crate::support::{program, run};
use serde_json::Value;
use std::path::Path;

/// Exit code and report of a campaign.
fn chaos(args: &[&str]) -> (i32, Value) {
    let mut all = vec!["chaos"];
    all.extend(args);
    all.extend(["-q", "-o", "json"]);
    let (code, out, err) = run(&all);
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}{err}")))
}

fn clean(report: &Value, runs: u64) {
    assert_eq!(report["runs"], runs, "{report}");
    assert!(report["acknowledged"].as_u64() > Some(0), "{report}");
    for none in ["lost", "duplicated", "wrong_served"] {
        assert_eq!(report[none], 0, "{report}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_killed() {
    let (code, report) = chaos(&["kill", "--runs", "2", "--load-ms", "600", "--connections", "4"]);
    clean(&report, 2);
    assert_eq!(code, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let (code, report) = chaos(&["power", "--runs", "2", "--load-ms", "600", "--connections", "4"]);
    clean(&report, 2);
    assert!(report["writes_taken_back"].as_u64() > Some(0), "{report}");
    assert_eq!(code, 0);
}

/// The layer bites: without our sync, a power cut loses records.
#[test]
fn a_power_cut_without_sync_loses_records_and_is_noticed() {
    let args = ["power", "--runs", "1", "--load-ms", "1000", "--connections", "4"];
    let (code, report) = chaos(&[&args[..], &["--set", "storage.durability=process"]].concat());
    assert_eq!(code, 1, "{report}");
    assert!(report["lost"].as_u64() > Some(0), "{report}");
}

#[test]
fn damage_is_found_or_harmless() {
    let (code, report) = chaos(&["flip", "--bytes", "49152", "--every", "397"]);
    assert!(report["runs"].as_u64() > Some(100), "{report}");
    clean(&report, report["runs"].as_u64().unwrap_or(0));
    let sum = report["found"].as_u64().unwrap_or(0) + report["harmless"].as_u64().unwrap_or(0);
    assert_eq!(report["runs"], sum, "{report}");
    assert_eq!(code, 0);
}

#[test]
fn a_store_is_checked_moved_and_shrunk() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (work, data) = (at("work"), at("work/project/data"));
    let (code, report) = {
        let (code, out, err) =
            run(&["chaos", "kill", "--runs", "1", "--load-ms", "300", "--work", &work, "-o", "json"]);
        (code, serde_json::from_str::<Value>(&out).unwrap_or_else(|e| panic!("{e}: {err}")))
    };
    assert_eq!(code, 0, "{report}");
    let said = |args: &[&str]| {
        let (code, out, err) = run(args);
        (code, format!("{out}{err}"))
    };
    let done = |args: &[&str]| {
        let (code, text) = said(args);
        assert_eq!(code, 0, "{args:?}: {text}");
    };
    done(&["store", "verify", &data]);
    done(&["store", "export", &data, "--to", &at("a")]);
    done(&["store", "import", &at("new"), "--from", &at("a")]);
    done(&["store", "compact", &data]);
    done(&["store", "verify", &at("new")]);
    done(&["store", "export", &data, "--to", &at("b")]);
    done(&["store", "export", &at("new"), "--to", &at("c")]);
    let bytes = |name: &str| std::fs::read(dir.path().join(name)).expect("readable");
    assert!(bytes("a") == bytes("b") && bytes("a") == bytes("c"), "the content is the same after each way");
    done(&["store", "snapshot", &data, "--to", &at("copy")]);
    // An interrupted compaction is ended, whichever side it was on.
    std::fs::create_dir_all(Path::new(&data).join("compact/events")).expect("made");
    done(&["store", "verify", &data]);
    assert!(!Path::new(&data).join("compact").exists());
    let before = said(&["store", "verify", &data, "-o", "json"]).1;
    let half = Path::new(&data).join("compact");
    std::fs::create_dir_all(&half).expect("made");
    std::fs::rename(Path::new(&data).join("outcomes"), half.join("outcomes")).expect("moved");
    std::fs::write(half.join("DONE"), b"").expect("written");
    assert_eq!(said(&["store", "verify", &data, "-o", "json"]).1, before);

    let mut damaged = bytes("a");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(dir.path().join("a"), &damaged).expect("written");
    let (code, text) = said(&["store", "import", &at("bad"), "--from", &at("a")]);
    assert!(code == 1 && text.contains("damaged"), "{text}");
    let db = dir.path().join("copy/events/000001/db");
    let mut flipped = std::fs::read(&db).expect("readable");
    flipped[9000] ^= 1;
    std::fs::write(&db, &flipped).expect("written");
    let (code, text) = said(&["store", "verify", &at("copy")]);
    assert!(code == 3 && text.contains("events"), "{code} {text}");
    assert_eq!(std::fs::read(&db).expect("readable"), flipped, "verify changes nothing");
    // A running server's store is refused.
    let held = understudy::storage::hold(Path::new(&data)).expect("the lock");
    let output = program(&["store", "compact", &data]).output().expect("the program starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is in use by pid"), "{output:?}");
    drop(held);
}
