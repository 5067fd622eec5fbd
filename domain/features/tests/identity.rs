//! What changes the meaning of a feature, what changes the state it is read from, and what changes neither.

use crate::features::Plan;
use crate::project::FeatureFile;

const BASE: &str = r#"{
  "events": {"order": {"entities": ["customer"], "properties": {"amount": "float", "items": "int"}}},
  "views": {"orders": {"entity": "customer", "event": "order", "ttl": "30d", "features": {
    "n": {"aggregate": "count", "window": "30d"},
    "mean": {"aggregate": "mean", "property": "amount", "window": "30d"}}}},
  "context": {"amount_now": {"type": "float"}},
  "expressions": {
    "ratio": {"type": "float", "cel": "amount_now / mean"},
    "twice": {"type": "float", "cel": "ratio * 2.0"}}
}"#;

fn plan(text: &str) -> Plan {
    let spec: FeatureFile = serde_json::from_str(text).expect("a feature file");
    Plan::compile(&spec).unwrap_or_else(|p| panic!("{p:?}"))
}

#[test]
fn a_change_reaches_what_depends_on_it_and_nothing_else() {
    let base = plan(BASE);
    let all = ["n", "mean", "amount_now", "ratio", "twice"];
    assert!(all.iter().all(|f| base.meaning(f).is_some()));
    // What is replaced, the features that mean something else then, and whether the state does.
    let table: &[(&str, &str, &[&str], bool)] = &[
        ("\"ttl\": \"30d\"", "\"ttl\": \"1d\"", &[], false),
        ("\"type\": \"float\"}},\n  \"exp", "\"type\": \"float\", \"check\": {\"min\": 0}}},\n  \"exp", &[], false),
        ("\"count\", \"window\": \"30d\"", "\"count\", \"window\": \"7d\"", &["n"], true),
        ("\"amount\", \"window\": \"30d\"", "\"amount\", \"window\": \"7d\"", &["mean", "ratio", "twice"], true),
        ("ratio * 2.0", "ratio * 3.0", &["twice"], false),
        ("amount_now / mean", "mean / amount_now", &["ratio", "twice"], false),
        ("\"amount\": \"float\"", "\"amount\": \"int\"", &["mean", "ratio", "twice"], true),
        // One more property of the event: the state is built anew, no value is another.
        ("\"items\": \"int\"", "\"items\": \"int\", \"note\": \"category\"", &[], true),
    ];
    for (from, to, changed, state) in table {
        assert!(BASE.contains(from), "{from}");
        let other = plan(&BASE.replace(from, to));
        let found: Vec<&str> = all.into_iter().filter(|f| base.meaning(f) != other.meaning(f)).collect();
        assert_eq!(&found, changed, "{from} -> {to}");
        assert_eq!(base.state_id() != other.state_id(), *state, "{from} -> {to}");
    }
}
