//! What definitions may not say, where it is reported, and what the id depends on.

use super::*;

/// The keys of all problems after a change to the good project.
fn problems(change: impl Fn(&mut serde_json::Value)) -> Vec<(String, String)> {
    let mut spec = serde_json::to_value(project()).unwrap();
    change(&mut spec);
    match Plan::compile(&serde_json::from_value(spec).unwrap()) {
        Ok(_) => Vec::new(),
        Err(p) => p.into_iter().map(|p| (p.key, format!("{} {}", p.message, p.hint))).collect(),
    }
}

#[test]
fn every_mistake_has_its_place() {
    let f = |name: &str, spec: serde_json::Value| {
        let name = name.to_string();
        move |p: &mut serde_json::Value| p["views"]["a_trips"]["features"][&name] = spec.clone()
    };
    type Change = Box<dyn Fn(&mut serde_json::Value)>;
    let table: Vec<(Change, &str, &str)> = vec![
        (Box::new(|p| p["views"]["a_trips"]["event"] = json!("tripp")), "views.a_trips.event", "`trip`"),
        (Box::new(|p| p["views"]["pair_trips"]["entity"] = json!("pairs")), "views.pair_trips.entity", "`pair`"),
        (Box::new(|p| p["entities"]["pair"]["keys"] = json!([])), "entities.pair.keys", "keys"),
        (
            Box::new(|p| p["context"]["sum_x"] = json!({"type": "float"})),
            "context.sum_x",
            "views.a_trips.features.sum_x",
        ),
        (
            Box::new(|p| p["views"]["pair_trips"]["features"]["sum_x"] = json!({"aggregate": "count", "window": "1s"})),
            "views.pair_trips.features.sum_x",
            "already",
        ),
        (
            Box::new(f("y", json!({"aggregate": "mean", "window": "1s"}))),
            "views.a_trips.features.y.property",
            "needs a property",
        ),
        (
            Box::new(f("y", json!({"aggregate": "mean", "property": "xx", "window": "1s"}))),
            "views.a_trips.features.y.property",
            "`x`",
        ),
        (
            Box::new(f("y", json!({"aggregate": "mean", "property": "c", "window": "1s"}))),
            "views.a_trips.features.y.property",
            "category",
        ),
        (
            Box::new(f("y", json!({"aggregate": "share", "property": "x", "predicate": "x > 1.0", "window": "1s"}))),
            "views.a_trips.features.y.property",
            "no property",
        ),
        (
            Box::new(f("y", json!({"aggregate": "share", "window": "1s"}))),
            "views.a_trips.features.y.predicate",
            "needs",
        ),
        (
            Box::new(f("y", json!({"aggregate": "share", "predicate": "zz > 1.0", "window": "1s"}))),
            "views.a_trips.features.y.predicate",
            "zz",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "where": "zz > 1.0", "window": "1s"}))),
            "views.a_trips.features.y.where",
            "zz",
        ),
        (
            Box::new(f("y", json!({"aggregate": "quantile", "property": "x", "window": "1s"}))),
            "views.a_trips.features.y.q",
            "needs",
        ),
        (
            Box::new(f("y", json!({"aggregate": "quantile", "q": 1.5, "property": "x", "window": "1s"}))),
            "views.a_trips.features.y.q",
            "between",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "q": 0.5, "window": "1s"}))),
            "views.a_trips.features.y.q",
            "takes no",
        ),
        (
            Box::new(f("y", json!({"aggregate": "ewma", "property": "x", "window": "1s"}))),
            "views.a_trips.features.y.half_life",
            "needs",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "unit": "1s", "window": "1s"}))),
            "views.a_trips.features.y.unit",
            "takes no",
        ),
        (Box::new(f("y", json!({"aggregate": "count", "window": "0s"}))), "views.a_trips.features.y.window", "longer"),
        (
            Box::new(f("y", json!({"aggregate": "count", "window": "10s", "hop": "3s"}))),
            "views.a_trips.features.y.hop",
            "divide",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "window": "1s", "check": {"min": 2.0, "max": 1.0}}))),
            "views.a_trips.features.y.check.min",
            "above",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "window": "1s", "check": {"default": "none"}}))),
            "views.a_trips.features.y.check.default",
            "int",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "window": "1s", "check": {"policy": "default"}}))),
            "views.a_trips.features.y.check.default",
            "needs",
        ),
        (
            Box::new(f("y", json!({"aggregate": "count", "window": "1s", "check": {"values": ["a"]}}))),
            "views.a_trips.features.y.check.values",
            "categories",
        ),
        (Box::new(|p| p["expressions"]["gap"]["cel"] = json!("d + nowhere")), "expressions.gap.cel", "nowhere"),
        (Box::new(|p| p["expressions"]["gap"]["cel"] = json!("d + gap_more")), "expressions.gap.cel", "itself"),
        (Box::new(|p| p["context"]["d"]["entity_key"] = json!("a")), "context.d.type", "category"),
        (Box::new(|p| p["context"]["d"]["transforms"] = json!(["trim", "log1p"])), "context.d.transforms[1]", "number"),
    ];
    assert_eq!(problems(|_| {}), []);
    for (change, key, word) in table {
        let found = problems(change);
        assert!(found.iter().any(|(k, text)| k == key && text.contains(word)), "{key}, {word}: {found:#?}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let found = problems(|p| {
        p["views"]["a_trips"]["features"]["sum_x"]["window"] = json!("0s");
        p["views"]["pair_trips"]["event"] = json!("nothing");
        p["context"]["d"]["check"] = json!({"min": 2.0, "max": 1.0});
    });
    assert!(found.len() >= 3, "{found:#?}");
}

#[test]
fn unknown_model_inputs_are_named() {
    let p = plan().vector(&["sum_y".to_string(), "d".to_string(), "d".to_string()]).err().unwrap();
    assert_eq!(p.len(), 2);
    assert!(p[0].hint.contains("`sum_x`"), "{}", p[0]);
    assert!(p[1].message.contains("twice"));
}

#[test]
fn the_id_is_of_what_changes_values() {
    let base = plan().id().to_string();
    assert_eq!(base.len(), 16);
    let id = |change: &dyn Fn(&mut FeatureFile)| {
        let mut spec = project();
        change(&mut spec);
        Plan::compile(&spec).ok().map(|p| p.id().to_string()).unwrap()
    };
    assert_eq!(id(&|_| {}), base);
    assert_eq!(id(&|s| s.views.get_mut("a_trips").unwrap().ttl = None), base);
    assert_eq!(id(&|s| s.context.get_mut("d").unwrap().check.min = Some(0.0)), base);
    assert_ne!(id(&|s| s.views.get_mut("a_trips").unwrap().features.get_mut("sum_x").unwrap().window.0 += 1), base);
}

#[test]
fn windows_over_the_same_facts_share_a_series() {
    let mut table = FeatureTable::new(plan(), 0, 1, usize::MAX);
    table.apply(&trip(1, 0, "u", Some(2.0), Some(1), Some("c")), &mut |_| None);
    // a: events, x, n, c, events with x > 0, n with x > 0, the predicate; pair: events, x.
    assert_eq!(table.stats().points, 7 + 2);
}

#[test]
fn what_a_feature_is() {
    let plan = plan();
    let meta = plan.feature("last_c").unwrap();
    assert_eq!((meta.kind, meta.nullable), (crate::value::ValueType::Category, true));
    assert_eq!(meta.view.as_deref(), Some("a_trips"));
    assert!(!plan.feature("d").unwrap().nullable);
    assert_eq!(plan.max_window(), crate::time::Span::seconds(25));
    assert_eq!(plan.entity_types().collect::<Vec<_>>(), ["a", "pair"]);
}
