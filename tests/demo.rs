//! The demo as a stranger runs it, shortened.

use crate::flights::example;
use crate::support::{copy_project, edit, run};
use serde_json::Value;

#[test]
fn a_quick_demo_reports_weeks_and_totals_of_both_models() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let report = dir.path().join("report.html");
    let (project, file) = (dir.path().join("flights"), report.to_str().expect("UTF-8"));
    copy_project(&example(), &project);
    std::os::unix::fs::symlink(example().join("data"), project.join("data")).expect("the recorded tables");
    edit(&project.join("recording.toml"), "2013-02-01T00:00:00Z", "2013-01-22T00:00:00Z");
    edit(&project.join("recording.toml"), "2013-02-22T00:00:00Z", "2013-02-08T00:00:00Z");
    let project = project.to_str().expect("UTF-8");
    let (code, out, err) = run(&["demo", "--quick", "-o", "json", "-q", "--project", project, "--report", file]);
    assert_eq!(code, 0, "{err}");
    let demo: Value = serde_json::from_str(&out).expect("JSON alone on stdout");
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
        // Three weeks of training say little about the level of February; a year's calibration is judged elsewhere.
        assert!(total["ece"].as_f64() < Some(0.08), "{model}: {total}");
    }
    let html = std::fs::read_to_string(&report).expect("a report");
    assert!(html.contains("delay-mlp") && html.contains("<svg"), "the report has plots");
}
