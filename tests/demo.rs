//! The demo as a stranger runs it, shortened.

use crate::flights::example;
use crate::support::{copy_project, edit, run};
use serde_json::Value;
use std::path::Path;

fn demo(project: &Path, data: &Path, more: &[&str]) -> Value {
    let (project, data) = (project.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));
    let mut args = vec!["demo", "--quick", "-o", "json", "-q", "--project", project, "--data", data];
    args.extend(more);
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON alone on stdout")
}

/// Every rollout's journal, byte for byte.
fn journals(data: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(data.join("rollouts")).expect("journals").map(|f| f.expect("an entry").path());
    let mut all: Vec<_> = files.map(|f| (f.display().to_string(), std::fs::read(&f).expect("a journal"))).collect();
    all.iter_mut().for_each(|(name, _)| *name = name.rsplit('/').next().unwrap_or_default().to_owned());
    all.sort();
    all
}

#[test]
fn a_quick_demo_reports_weeks_totals_and_rollouts_and_decides_the_same_at_another_pace() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let report = dir.path().join("report.html");
    let (project, file) = (dir.path().join("flights"), report.to_str().expect("UTF-8"));
    copy_project(&example(), &project);
    std::os::unix::fs::symlink(example().join("data"), project.join("data")).expect("the recorded tables");
    edit(&project.join("recording.toml"), "2013-02-01T00:00:00Z", "2013-01-15T00:00:00Z");
    edit(&project.join("recording.toml"), "2013-02-22T00:00:00Z", "2013-01-30T00:00:00Z");
    let first = dir.path().join("first");
    let demo_of = |data: &Path, more: &[&str]| demo(&project, data, more);
    let demo = demo_of(&first, &["--report", file]);
    let weeks = demo["weeks"].as_array().expect("weeks");
    assert!(weeks.len() >= 3, "{} weeks", weeks.len());
    for w in weeks {
        assert!(w["auc"].as_f64() > Some(0.6) && w["p50_us"].as_f64() > Some(0.0), "{w}");
    }
    let counts = &demo["counts"];
    assert_eq!((&counts["rejected"], &counts["accepted"]), (&Value::from(0), &counts["lines"]), "{counts}");
    for model in ["delay-logistic", "delay-mlp"] {
        let total = &demo["total"][model];
        assert!(total["n"].as_u64() > Some(10_000), "{model}: {total}");
        assert!(total["auc"].as_f64() > Some(0.65), "{model}: {total}");
        // Two weeks of training say little about the level of the next two; a year's calibration is judged elsewhere.
        assert!(total["ece"].as_f64() < Some(0.08), "{model}: {total}");
    }
    let html = std::fs::read_to_string(&report).expect("a report");
    assert!(html.contains("delay-mlp") && html.contains("<svg"), "the report has plots");

    // Too slow, and no number after a while: found within days. Whether scores are right takes weeks.
    let rollouts = demo["rollouts"].as_array().expect("rollouts");
    for (name, state, because) in [("slow", "rolled_back", "worse"), ("broken", "incident", "non_finite")] {
        let told = rollouts.iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("{name}: {demo}"));
        assert_eq!((&told["state"], &told["verified"]), (&Value::from(state), &Value::Bool(true)), "{told}");
        let last = told["timeline"].as_array().and_then(|t| t.last()).expect("steps");
        assert_eq!(last["because"], because, "{told}");
    }
    let usual = journals(&first);
    assert!(usual.len() >= 3, "{} journals", usual.len());
    let second = dir.path().join("second");
    demo_of(&second, &["--replay-speed", "2000000x", "--batch", "77"]);
    assert!(journals(&second) == usual, "another pace, another decision");
}
