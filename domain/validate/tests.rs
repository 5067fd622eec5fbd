use super::*;
use crate::model::{Signature, SignatureFeature};
use crate::prediction::PredictionId;
use crate::problem::Problem;
use crate::project::{Checks, RuleSpec};
use crate::value::ValueType;
use std::collections::BTreeMap;

fn signature() -> Signature {
    let f = |name: &str, kind, nullable| SignatureFeature { name: name.into(), kind, nullable };
    Signature {
        features: vec![
            f("x", ValueType::Float, true),
            f("n", ValueType::Int, false),
            f("t", ValueType::Category, true),
        ],
        positive_label: "yes".into(),
        negative_label: "no".into(),
    }
}

fn checks(policy: Option<Policy>) -> Vec<Checks> {
    let c = Checks { policy, ..Checks::default() };
    vec![
        Checks { min: Some(0.0), max: Some(200.0), default: Some(Value::Int(50)), ..c.clone() },
        Checks { min: Some(0.0), default: Some(Value::Int(1)), ..c.clone() },
        Checks { values: Some(vec!["a".into(), "bb".into(), "ccc".into()]), max_length: Some(3), ..c },
    ]
}

fn rule(expect: &str, policy: Policy, feature: Option<&str>) -> RuleSpec {
    let feature = feature.map(str::to_string);
    RuleSpec { expect: expect.into(), message: None, policy, feature, models: vec![] }
}

fn compile(policy: Option<Policy>, rules: &[(&str, RuleSpec)], profile: ProfileSpec) -> Result<Rules, Vec<Problem>> {
    let rules: BTreeMap<String, RuleSpec> = rules.iter().map(|(n, r)| (n.to_string(), r.clone())).collect();
    Rules::compile(&signature(), &checks(policy), &rules, "m", &profile)
}

fn row(x: impl Into<Value>, n: impl Into<Value>, t: &str) -> Vec<Value> {
    vec![x.into(), n.into(), Value::text(t)]
}

#[test]
fn each_breach_has_its_own_rule_id() {
    let rules = compile(None, &[], ProfileSpec::default()).unwrap();
    for (mut values, id, feature, expected) in [
        (row("5", 1, "a"), "schema.type", "x", "a number"),
        (row(1.0, 1.5, "a"), "schema.type", "n", "an int"),
        (row(1.0, Value::Null, "a"), "schema.required", "n", "an int, not null"),
        (row(-0.1, 1, "a"), "schema.range", "x", "between 0 and 200"),
        (row(1.0, -1, "a"), "schema.range", "n", "at least 0"),
        (row(1.0, 1, "d"), "schema.values", "t", "one of a, bb, ccc"),
        (row(1.0, 1, "dddd"), "schema.length", "t", "at most 3 characters"),
        (row(f64::NAN, 1, "a"), "schema.type", "x", "a number"),
    ] {
        let v = rules.check(&mut values, None);
        assert_eq!(v.verdict, Verdict::Rejected, "{id}");
        assert_eq!(v.findings.len(), 1, "{id}");
        let f = &v.findings[0];
        assert_eq!((f.rule.as_str(), f.feature.as_deref(), f.expected.as_str()), (id, Some(feature), expected));
    }
    for mut good in [row(0.0, 0, "a"), row(200, 9, "ccc"), vec![Value::Null, Value::Int(1), Value::Null]] {
        assert_eq!(rules.check(&mut good, None), Validation::default());
    }
}

#[test]
fn policies_decide_verdict_and_value() {
    for (policy, verdict, after) in [
        (Policy::Flag, Verdict::Flagged, Value::Float(500.0)),
        (Policy::Default, Verdict::Defaulted, Value::Float(50.0)),
        (Policy::Fallback, Verdict::Fallback, Value::Float(500.0)),
        (Policy::Reject, Verdict::Rejected, Value::Float(500.0)),
    ] {
        let mut checks = checks(Some(policy));
        checks[2].default = Some(Value::text("a"));
        let rules = Rules::compile(&signature(), &checks, &BTreeMap::new(), "m", &ProfileSpec::default()).unwrap();
        let mut values = row(500.0, 1, "a");
        let v = rules.check(&mut values, None);
        assert_eq!((v.verdict, &values[0]), (verdict, &after));
        assert_eq!(v.findings[0].value, Value::Float(500.0), "the finding keeps what was sent");
    }
}

#[test]
fn business_rules_see_defaults_and_the_worst_policy_wins() {
    let rules = compile(
        Some(Policy::Default),
        &[
            ("a_small", rule("x < 40.0", Policy::Flag, None)),
            ("b_reset", rule("n < 5", Policy::Default, Some("n"))),
            ("c_after", rule("n != 1", Policy::Fallback, Some("n"))),
            ("d_null", rule("x / 0.0 > 1.0", Policy::Reject, None)),
        ],
        ProfileSpec::default(),
    )
    .unwrap();
    let mut values = row(500.0, 9, "a");
    let v = rules.check(&mut values, None);
    let ids: Vec<&str> = v.findings.iter().map(|f| f.rule.as_str()).collect();
    assert_eq!(ids, ["schema.range", "rule.a_small", "rule.b_reset", "rule.c_after"]);
    assert_eq!((v.verdict, &values[1]), (Verdict::Fallback, &Value::Int(1)));
    assert_eq!(v.findings[2].value, Value::Int(9));
    assert_eq!(v.findings[1].expected, "x < 40.0");
}

#[test]
fn mistakes_in_settings_are_all_named() {
    let bad = [
        ("a", rule("xx > 1", Policy::Flag, None)),
        ("b", rule("x + 1.0", Policy::Flag, None)),
        ("c", rule("x > 1.0", Policy::Default, None)),
        ("d", rule("x > 1.0", Policy::Flag, Some("tt"))),
    ];
    let problems = compile(None, &bad, ProfileSpec { tail: 0.7, ..ProfileSpec::default() }).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        ["models.m.profile.tail", "rules.a.expect", "rules.b.expect", "rules.c.feature", "rules.d.feature"]
    );
    let mut wrong = checks(Some(Policy::Default));
    wrong[0] = Checks { min: Some(3.0), max: Some(1.0), default: Some(Value::text("a")), ..Checks::default() };
    wrong[1].default = None;
    wrong[2].min = Some(0.0);
    let problems = Rules::compile(&signature(), &wrong, &BTreeMap::new(), "m", &ProfileSpec::default()).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["x.check.min", "x.check.default", "n.check.default", "t.check.min"]);
    let mut other = rule("nowhere > 1", Policy::Reject, None);
    other.models = vec!["another".into()];
    assert!(compile(None, &[("e", other)], ProfileSpec::default()).is_ok(), "rules of other models are not read");
}

/// SplitMix64.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn false_alarms_on_reference_rows_stay_within_the_rate() {
    let mut seed = 7;
    // Skewed, with gaps and a heavy tail; and counts with many ties.
    let sample: Vec<Vec<Value>> = (0..20_000)
        .map(|_| {
            let (u, w) = (random(&mut seed), random(&mut seed));
            let x = if u < 0.995 { 1.0 - u } else { 1e6 / (1.0 - w) };
            row(x, (w * w * 12.0) as i64, if w < 0.5 { "a" } else { "bb" })
        })
        .collect();
    for (tail, draws) in [(1e-4, 200_000), (0.005, 100_000), (0.02, 50_000)] {
        let spec = ProfileSpec { tail, ..ProfileSpec::default() };
        let rules = Rules::compile(&signature(), &vec![Checks::default(); 3], &BTreeMap::new(), "m", &spec).unwrap();
        let profile = ReferenceProfile::build(&signature(), sample.iter().map(Vec::as_slice), &[]);
        let reference = rules.prepare(&profile);
        let (mut low, mut high) = (0u64, 0u64);
        for _ in 0..draws {
            let mut values = sample[(random(&mut seed) * sample.len() as f64) as usize].clone();
            for f in rules.check(&mut values, Some(&reference)).findings {
                assert_eq!(f.rule, "profile.tail");
                if f.feature.as_deref() == Some("x") {
                    if f.value.as_f64() > Some(1e3) { high += 1 } else { low += 1 }
                }
            }
        }
        // Four standard errors.
        let limit = f64::from(draws) * tail + 4.0 * (f64::from(draws) * tail).sqrt();
        assert!((low as f64) <= limit && (high as f64) <= limit, "tail {tail}: {low}, {high} > {limit}");
        // And the check is not asleep.
        let mut far = row(-1.0, 0, "zzz");
        let ids: Vec<String> = rules.check(&mut far, Some(&reference)).findings.into_iter().map(|f| f.rule).collect();
        assert_eq!(ids, ["profile.tail", "profile.unseen"]);
    }
}

#[test]
fn tails_and_unseen_follow_their_policy() {
    let spec = ProfileSpec { tail: 0.01, tail_policy: Policy::Default, unseen_policy: Policy::Fallback };
    let rules = compile(None, &[], spec.clone()).unwrap();
    let sample: Vec<Vec<Value>> = (0..1000).map(|i| row(f64::from(i % 100), 3, "a")).collect();
    let profile = ReferenceProfile::build(&signature(), sample.iter().map(Vec::as_slice), &[]);
    let reference = rules.prepare(&profile);
    let mut values = row(150.0, 3, "bb");
    let v = rules.check(&mut values, Some(&reference));
    assert_eq!((v.verdict, v.findings.len(), &values[0]), (Verdict::Fallback, 2, &Value::Float(50.0)));
    assert_eq!(rules.check(&mut values, None), Validation::default(), "no reference, no such checks");
    let off = compile(None, &[], ProfileSpec { tail: 0.0, ..spec }).unwrap();
    let v = off.check(&mut row(150.0, 3, "a"), Some(&off.prepare(&profile)));
    assert_eq!(v.verdict, Verdict::Valid);
}

#[test]
fn a_trial_counts_rows_per_rule() {
    let old = compile(None, &[("r", rule("n < 8", Policy::Flag, None))], ProfileSpec::default()).unwrap();
    let new = compile(None, &[("r", rule("n < 3", Policy::Reject, None))], ProfileSpec::default()).unwrap();
    let rows: Vec<(PredictionId, Vec<Value>)> = (0..10).map(|i| (PredictionId(i as u128), row(1.0, i, "a"))).collect();
    let trial = try_rules((&old, None), (&new, None), rows);
    assert_eq!((trial.rows, trial.rejected_old, trial.rejected_new), (10, 0, 7));
    let r = &trial.rules["rule.r"];
    assert_eq!((r.old.flagged, r.old.rejected, r.new.flagged, r.new.rejected), (2, 0, 7, 7));
    assert_eq!(r.new.examples, (3..8).map(PredictionId).collect::<Vec<_>>());
}

#[test]
fn personal_values_stand_in_no_finding() {
    let mut personal = checks(Some(Policy::Default));
    personal.iter_mut().for_each(|c| c.pii = true);
    personal[2].default = Some(Value::text("a"));
    let expensive = BTreeMap::from([("cheap".to_string(), rule("x < 100.0", Policy::Flag, Some("x")))]);
    let rules = Rules::compile(&signature(), &personal, &expensive, "m", &ProfileSpec::default()).unwrap();
    let mut values = row(150.0, -7, "secret");
    let v = rules.check(&mut values, None);
    assert_eq!(v.findings.len(), 3, "{v:?}");
    for finding in &v.findings {
        assert_eq!(finding.value, Value::text("(withheld)"), "{finding:?}");
        assert!(!format!("{finding:?}").contains("secret") && !finding.expected.contains("150"), "{finding:?}");
    }
    assert_eq!(values, row(150.0, 1, "a"), "the policy is applied all the same");
    let mut missing = row(1.0, 1, "a");
    missing[0] = Value::Null;
    let nulls = rules.check(&mut missing, None);
    assert!(nulls.findings.iter().all(|f| f.value.is_null()), "that there is no value may be said");
}
