//! A small project and a naive engine over the raw list of events, which the tests compare with.

mod compile;
mod exact;
mod identity;
mod sawtooth;
mod table;

use super::{EntityState, FeatureTable, Lookup, Plan, Vector, VectorPlan};
use crate::entity::{EntityHash, EntityIds};
use crate::event::{Event, LoggedEvent};
use crate::project::FeatureFile;
use crate::time::{SECOND, Timestamp};
use crate::value::Value;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The aggregate of a naive feature: name, property, window in seconds, only events with x > 0.
type Naive = (&'static str, &'static str, Option<&'static str>, i64, bool);

/// Every aggregate, over two windows of which one shares its series with the other.
const NAIVE: &[Naive] = &[
    ("count_10", "count", None, 10, false),
    ("count_25", "count", None, 25, false),
    ("count_x", "count", Some("x"), 10, false),
    ("count_pos", "count", None, 25, true),
    ("sum_x", "sum", Some("x"), 10, false),
    ("mean_10", "mean", Some("x"), 10, false),
    ("mean_25", "mean", Some("x"), 25, false),
    ("mean_pos", "mean", Some("n"), 25, true),
    ("min_n", "min", Some("n"), 10, false),
    ("max_x", "max", Some("x"), 25, false),
    ("std_x", "std", Some("x"), 25, false),
    ("last_c", "last", Some("c"), 10, false),
    ("last_n", "last", Some("n"), 25, false),
    ("first_x", "first", Some("x"), 10, false),
    ("distinct_c", "distinct", Some("c"), 25, false),
    ("median_x", "quantile", Some("x"), 25, false),
    ("rate", "rate", None, 10, false),
    ("ewma_x", "ewma", Some("x"), 25, false),
    ("since", "seconds_since_last", None, 25, false),
    ("share", "share", None, 25, false),
];

fn project() -> FeatureFile {
    let mut features = serde_json::Map::new();
    for (name, aggregate, property, window, positive) in NAIVE {
        let mut f = json!({"aggregate": aggregate, "window": format!("{window}s")});
        if let Some(p) = property {
            f["property"] = json!(p);
        }
        if *positive {
            f["where"] = json!("x > 0.0");
        }
        match *aggregate {
            "quantile" => f["q"] = json!(0.5),
            "ewma" => f["half_life"] = json!("5s"),
            "share" => f["predicate"] = json!("x > 1.0"),
            "rate" => f["unit"] = json!("1m"),
            "seconds_since_last" => f["unit"] = json!("500ms"),
            _ => {}
        }
        features.insert(name.to_string(), f);
    }
    serde_json::from_value(json!({
        "entities": {"pair": {"keys": ["a", "b"]}},
        "events": {"trip": {"entities": ["a", "b"], "properties": {"x": "float", "n": "int", "c": "category"}},
                   "ask": {"entities": ["a", "b"], "properties": {"d": "float"}}},
        "views": {
            "a_trips": {"entity": "a", "event": "trip", "ttl": "8s", "features": features},
            "pair_trips": {"entity": "pair", "event": "trip", "features": {
                "pair_count": {"aggregate": "count", "window": "10s"},
                "pair_mean": {"aggregate": "mean", "property": "x", "window": "10s"}}}},
        "context": {"d": {"type": "float"}, "a_id": {"type": "category", "entity_key": "a"}},
        "expressions": {
            "gap": {"type": "float", "cel": "d + sum_x"},
            "gap_more": {"type": "float", "cel": "gap + pair_mean"}}
    }))
    .unwrap()
}

fn plan() -> Arc<Plan> {
    Arc::new(Plan::compile(&project()).unwrap_or_else(|p| panic!("{p:#?}")))
}

fn names() -> Vec<String> {
    NAIVE.iter().map(|f| f.0.to_string()).collect()
}

/// The naive answer: `closed` counts an event exactly one window old, which is wrong.
fn naive(events: &[LoggedEvent], a: &str, f: &Naive, t: i64, closed: bool) -> Value {
    let (_, aggregate, property, window, positive) = f;
    let mut all: Vec<&LoggedEvent> = Vec::new();
    for e in events {
        let age = t - e.event.time.0 / SECOND;
        let inside = (0..*window).contains(&age) || (closed && age == *window);
        let of = e.event.entities.get("a") == Some(&Some(a.to_string())) && e.event.kind == "trip";
        if inside && of && !e.late && !all.iter().any(|k| k.seq == e.seq) {
            all.push(e);
        }
    }
    all.sort_by_key(|e| (e.event.time, e.seq));
    let x = |e: &LoggedEvent| e.event.properties["x"].as_f64();
    if *positive {
        all.retain(|e| x(e).is_some_and(|x| x > 0.0));
    }
    if let Some(p) = property {
        all.retain(|e| !e.event.properties[*p].is_null());
    }
    let values: Vec<Value> = all.iter().filter_map(|e| property.map(|p| e.event.properties[p].clone())).collect();
    let mut xs: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    let n = xs.len() as f64;
    let mean = xs.iter().sum::<f64>() / n;
    let or_null = |v: f64| if all.is_empty() { Value::Null } else { Value::Float(v) };
    let by_number = |v: &&Value| (v.as_f64().unwrap() * 8.0) as i64;
    match *aggregate {
        "count" => Value::Int(all.len() as i64),
        "sum" => Value::Float(xs.iter().sum()),
        "mean" => or_null(mean),
        "std" => or_null((xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()),
        "min" => values.iter().min_by_key(by_number).cloned().unwrap_or_default(),
        "max" => values.iter().max_by_key(by_number).cloned().unwrap_or_default(),
        "last" => values.last().cloned().unwrap_or_default(),
        "first" => values.first().cloned().unwrap_or_default(),
        "distinct" => {
            let mut texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            texts.sort_unstable();
            texts.dedup();
            Value::Int(texts.len() as i64)
        }
        "quantile" => {
            xs.sort_by(f64::total_cmp);
            let middle = xs.len() / 2;
            or_null(if xs.is_empty() {
                0.0
            } else if xs.len() % 2 == 1 {
                xs[middle]
            } else {
                xs[middle - 1] + 0.5 * (xs[middle] - xs[middle - 1])
            })
        }
        "rate" => Value::Float(all.len() as f64 * 60.0 / *window as f64),
        "ewma" => {
            let weights: Vec<f64> =
                all.iter().map(|e| 0.5f64.powf((t - e.event.time.0 / SECOND) as f64 / 5.0)).collect();
            or_null(weights.iter().zip(&xs).map(|(w, x)| w * x).sum::<f64>() / weights.iter().sum::<f64>())
        }
        "seconds_since_last" => or_null(all.last().map_or(0.0, |e| (t - e.event.time.0 / SECOND) as f64 * 2.0)),
        "share" => {
            let known: Vec<f64> = all.iter().filter_map(|e| x(e)).collect();
            let over = known.iter().filter(|x| **x > 1.0).count() as f64;
            if known.is_empty() { Value::Null } else { Value::Float(over / known.len() as f64) }
        }
        other => panic!("{other}"),
    }
}

/// Equal to 1e-9 for floats, exactly for everything else.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(x), Value::Float(y)) => (x - y).abs() <= 1e-9 * x.abs().max(1.0),
        _ => a == b,
    }
}

fn ids(a: Option<&str>, b: Option<&str>) -> EntityIds {
    BTreeMap::from([("a".to_string(), a.map(str::to_string)), ("b".to_string(), b.map(str::to_string))])
}

fn hash(a: &str) -> EntityHash {
    EntityHash::new("a", [a])
}

fn trip(seq: u64, seconds: i64, a: &str, x: Option<f64>, n: Option<i64>, c: Option<&str>) -> LoggedEvent {
    let properties = BTreeMap::from([
        ("x".to_string(), x.map_or(Value::Null, Value::Float)),
        ("n".to_string(), n.map_or(Value::Null, Value::Int)),
        ("c".to_string(), c.map_or(Value::Null, Value::text)),
    ]);
    let time = Timestamp(seconds * SECOND);
    let entities = ids(Some(a), Some("y"));
    let event = Event { id: format!("e{seq}"), kind: "trip".into(), time, entities, properties };
    LoggedEvent { seq, ingested: time, late: false, event }
}

/// Sets the vector of entity `a` at `t` seconds, asking `store` for what is cold.
fn read(
    table: &mut FeatureTable,
    vector: &VectorPlan,
    a: &str,
    t: i64,
    store: &BTreeMap<EntityHash, EntityState>,
) -> Vector {
    let mut v = vector.blank();
    for group in vector.groups() {
        if table.read(hash(a), group, Timestamp(t * SECOND), &mut v) == Lookup::Cold {
            match store.get(&hash(a)) {
                Some(state) => {
                    assert!(table.insert(hash(a), state.clone()));
                    assert_eq!(table.read(hash(a), group, Timestamp(t * SECOND), &mut v), Lookup::Hot);
                }
                None => table.absent(group, &mut v),
            }
        }
    }
    v
}

/// Second, entity, x in eighths, n, category, late if 0.
type Raw = (i64, u8, Option<i64>, Option<i64>, usize, u8);

/// Up to 40 events of three entities within 60 s, some with equal times, nulls and lateness.
fn events() -> impl Strategy<Value = Vec<LoggedEvent>> {
    let one = (
        0i64..60,
        0u8..3,
        prop::option::weighted(0.8, -16i64..16),
        prop::option::weighted(0.8, -3i64..4),
        0usize..4,
        0u8..12,
    );
    prop::collection::vec(one, 0..40).prop_map(|raw| {
        let make = |(i, (s, a, x, n, c, late)): (usize, Raw)| {
            let c = [None, Some("p"), Some("q"), Some("r")][c];
            // Eighths: exact in binary, so sums do not depend on the naive engine's order.
            let mut e = trip(i as u64 + 1, s, ["u", "v", "w"][a as usize], x.map(|x| x as f64 / 8.0), n, c);
            e.late = late == 0;
            e
        };
        raw.into_iter().enumerate().map(make).collect()
    })
}
