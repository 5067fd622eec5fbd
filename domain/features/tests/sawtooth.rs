//! Tiles: mergeable sums with a trailing edge that moves in hops.

use super::*;

const FEATURES: [&str; 11] =
    ["count", "sum", "mean", "std", "min", "max", "first", "last", "distinct", "share", "seconds_since_last"];

fn tiled() -> (Arc<Plan>, VectorPlan) {
    let mut features = serde_json::Map::new();
    for f in FEATURES {
        let mut spec = json!({"aggregate": f, "window": "20s", "hop": "5s"});
        match f {
            "count" | "seconds_since_last" => {}
            "share" => spec["predicate"] = json!("x > 1.0"),
            "distinct" => spec["property"] = json!("c"),
            _ => spec["property"] = json!("x"),
        }
        features.insert(f.to_string(), spec);
    }
    features.insert(
        "p90".into(),
        json!({"aggregate": "quantile", "q": 0.9, "property": "x", "window": "20s", "hop": "5s"}),
    );
    let spec = serde_json::from_value(json!({
        "events": {"trip": {"properties": {"x": "float", "n": "int", "c": "category"}}},
        "views": {"v": {"entity": "a", "event": "trip", "features": features}}
    }))
    .unwrap();
    let plan = Arc::new(Plan::compile(&spec).unwrap_or_else(|p| panic!("{p:?}")));
    let vector = plan.vector(&FEATURES.map(String::from)).unwrap();
    (plan, vector)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tiles_agree_with_the_naive_engine_over_whole_hops(events in events(), t in 0i64..60, cut in 0usize..40) {
        let (plan, vector) = tiled();
        let mut table = FeatureTable::new(plan, 0, 1, usize::MAX);
        // Backwards, and some of them again.
        events.iter().rev().chain(events.iter().take(cut)).for_each(|e| table.apply(e, &mut |_| None));
        let v = read(&mut table, &vector, "u", t, &BTreeMap::new());
        // From the start of the tile with t - 20 to the end of the tile with t.
        let head = t.div_euclid(5) * 5 + 4;
        let window = head - ((t - 20).div_euclid(5) * 5 - 1);
        for (name, got) in FEATURES.iter().zip(&v.values) {
            let property = match *name {
                "count" | "seconds_since_last" | "share" => None,
                "distinct" => Some("c"),
                _ => Some("x"),
            };
            let mut want = naive(&events, "u", &(name, name, property, window, false), head, false);
            if *name == "seconds_since_last" {
                // The naive one counts half seconds from the end of the head tile.
                want = want.as_f64().map_or(Value::Null, |s| Value::Float(s / 2.0 - (head - t) as f64));
            }
            prop_assert!(same(got, &want), "{} at {}: {}, naive {}", name, t, got, want);
        }
    }
}

#[test]
fn memory_is_bounded_by_tiles_and_quantiles_are_within_one_percent() {
    let (plan, _) = tiled();
    let vector = plan.vector(&["p90".to_string(), "count".to_string()]).unwrap();
    let mut table = FeatureTable::new(plan, 0, 1, usize::MAX);
    for i in 0..5_000u64 {
        table.apply(&trip(i + 1, (i % 20) as i64, "u", Some(1.0 + i as f64), None, None), &mut |_| None);
    }
    let s = table.stats();
    assert!(s.points == 0 && s.tiles <= 4 * 4, "{s:?}");
    let v = read(&mut table, &vector, "u", 19, &BTreeMap::new());
    assert_eq!(v.values[1], Value::Int(5_000));
    let p90 = v.values[0].as_f64().unwrap();
    assert!((p90 / 4_500.0 - 1.0).abs() < 0.011, "{p90}");
}

#[test]
fn the_trailing_edge_moves_in_hops() {
    let (plan, vector) = tiled();
    let mut table = FeatureTable::new(plan, 0, 1, usize::MAX);
    table.apply(&trip(1, 7, "u", Some(1.0), None, None), &mut |_| None);
    let mut count = |t| read(&mut table, &vector, "u", t, &BTreeMap::new()).values[0].clone();
    assert_eq!(count(4), Value::Int(0), "a later tile does not count");
    assert_eq!(count(27), Value::Int(1), "exactly one window old, still in its tile");
    assert_eq!(count(29), Value::Int(1));
    assert_eq!(count(30), Value::Int(0), "its tile has left");
}

#[test]
fn an_event_of_the_future_waits_for_its_time() {
    let (plan, vector) = tiled();
    let mut table = FeatureTable::new(plan, 0, 1, usize::MAX);
    let none = BTreeMap::new();
    let mut early = trip(1, 13, "u", Some(1.0), None, Some("p"));
    early.ingested = Timestamp(10 * SECOND);
    table.apply(&early, &mut |_| None);
    table.apply(&trip(2, 11, "u", Some(2.0), None, Some("q")), &mut |_| None);
    let count = |table: &mut FeatureTable, t| read(table, &vector, "u", t, &none).values[0].clone();
    // The same tile, but 13 is not yet; the memo must notice when it comes.
    assert_eq!([11, 12, 13, 14].map(|t| count(&mut table, t)), [1, 1, 2, 2].map(Value::Int));
    assert_eq!(count(&mut table, 12), Value::Int(1));
    table.apply(&trip(3, 15, "u", None, None, None), &mut |_| None);
    assert_eq!(count(&mut table, 15), Value::Int(3));
    table.apply(&early, &mut |_| None);
    assert_eq!(count(&mut table, 15), Value::Int(3), "a repeat");
    assert_eq!(count(&mut table, 35), Value::Int(1), "only the newest is within its 20 s and hop");
}
