//! Short forms of `chaos rollout`, and the recipe in the documentation.

use crate::support::{SOURCE, run};
use serde_json::Value;

#[test]
fn batches_and_deaths_do_not_change_a_rollouts_journal() {
    let (code, out, err) = run(&["chaos", "rollout", "--kills", "4", "--per-pass", "2", "-q", "-o", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert_eq!((code, &report["different"]), (0, &Value::from(0)), "{report}{err}");
    assert_eq!(report["end"], "promoted", "{report}");
    assert!(report["entries"].as_u64() > Some(100), "{report}");
    assert_eq!(report["kills"], 4, "{report}");
}

#[test]
fn the_documented_recipe_has_the_vectors_of_the_code() {
    let text = std::fs::read_to_string(format!("{SOURCE}/docs/rollout.md")).expect("docs/rollout.md");
    let line = text.lines().find_map(|l| l.strip_prefix("vectors = ")).expect("the vectors of the recipe");
    let tuples = line.replace('(', "[").replace(')', "]");
    let vectors: Vec<(String, String, u16)> = serde_json::from_str(&tuples).expect("tuples of text, text and number");
    assert_eq!(vectors.len(), 4);
    for (salt, unit, slot) in vectors {
        assert_eq!(understudy_domain::route::slot(&salt, &unit), slot, "{salt} {unit}");
    }
}
