//! Features: folding an event into 5,000 entities, and reading a vector with and without the memo.
//!
//! `cargo bench --bench features`. One thread; numbers are per event and per vector.

use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::features::{FeatureTable, Plan, VectorPlan};
use understudy_domain::time::{SECOND, Span, Timestamp};
use understudy_domain::value::Value;

const ENTITIES: u64 = 5_000;
const EVENTS_EACH: u64 = 40;

fn main() {
    divan::main();
}

fn plan(hop: &str) -> (Arc<Plan>, VectorPlan) {
    let feature = |aggregate: &str, property: Option<&str>, window: &str| {
        let mut f = serde_json::json!({"aggregate": aggregate, "window": window, "hop": hop});
        if let Some(p) = property {
            f["property"] = p.into();
        }
        f
    };
    let spec = serde_json::json!({
        "events": {"payment": {"entities": ["user"], "properties": {"amount": "float", "country": "category"}}},
        "views": {"payments": {"entity": "user", "event": "payment", "features": {
            "count_1h": feature("count", None, "1h"),
            "count_24h": feature("count", None, "24h"),
            "sum_24h": feature("sum", Some("amount"), "24h"),
            "mean_1h": feature("mean", Some("amount"), "1h"),
            "mean_24h": feature("mean", Some("amount"), "24h"),
            "max_24h": feature("max", Some("amount"), "24h"),
            "last_24h": feature("last", Some("amount"), "24h"),
            "countries_24h": feature("distinct", Some("country"), "24h"),
            "idle": feature("seconds_since_last", None, "24h")}}}
    });
    let plan = Plan::compile(&serde_json::from_value(spec).expect("well formed")).unwrap_or_else(|p| panic!("{p:?}"));
    let names: Vec<String> = plan.features().iter().map(|f| f.name.clone()).collect();
    let vector = plan.vector(&names).unwrap_or_else(|p| panic!("{p:?}"));
    (Arc::new(plan), vector)
}

/// Event number `i`: users in a fixed scatter, 200 ms apart.
fn event(i: u64) -> LoggedEvent {
    let user = i.wrapping_mul(2_654_435_761) % ENTITIES;
    let time = Timestamp(i as i64 * SECOND / 5);
    let event = Event {
        id: format!("e{i}"),
        kind: "payment".into(),
        time,
        entities: BTreeMap::from([("user".into(), Some(format!("u{user}")))]),
        properties: BTreeMap::from([
            ("amount".into(), Value::Float((i % 97) as f64)),
            ("country".into(), Value::text(["ES", "FR", "DE", "PT"][(i % 4) as usize])),
        ]),
    };
    LoggedEvent { seq: i + 1, ingested: time, late: false, event }
}

fn filled(hop: &str) -> (Arc<Plan>, VectorPlan, FeatureTable) {
    let (plan, vector) = plan(hop);
    let mut table = FeatureTable::new(Arc::clone(&plan), 0, 1, usize::MAX);
    for i in 0..ENTITIES * EVENTS_EACH {
        table.apply(&event(i), &mut |_| None);
    }
    (plan, vector, table)
}

#[divan::bench(args = ["0s", "15m"])]
fn apply(bencher: divan::Bencher<'_, '_>, hop: &str) {
    let (_, _, mut table) = filled(hop);
    let mut next = ENTITIES * EVENTS_EACH;
    bencher
        .with_inputs(|| {
            next += 1;
            event(next)
        })
        .bench_local_values(|e| table.apply(&e, &mut |_| None));
}

/// The same few entities again and again. `step` zero: the same instant, all from the memo.
/// One hour: back and forth, so that the last answer never holds.
#[divan::bench(args = [("0s", 0), ("0s", 3_600), ("15m", 0), ("15m", 3_600)], sample_count = 2_000)]
fn read(bencher: divan::Bencher<'_, '_>, (hop, step): (&str, i64)) {
    const READ: i64 = 16;
    let (plan, vector, mut table) = filled(hop);
    let user = |u: i64| BTreeMap::from([("user".into(), Some(format!("u{u}")))]);
    let hashes: Vec<_> = (0..READ).map(|u| plan.entity_hashes(&user(u))[0].expect("a whole key")).collect();
    let start = Timestamp((ENTITIES * EVENTS_EACH) as i64 * SECOND / 5);
    let mut i = 0;
    bencher.bench_local(|| {
        i += 1;
        let t = start + Span::seconds(step * (i / READ % 2));
        let mut v = vector.blank();
        for group in vector.groups() {
            table.read(hashes[(i % READ) as usize], group, t, &mut v);
        }
        v
    });
}
