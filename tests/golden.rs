//! Features against values that another implementation computed from the same recording.

use crate::flights::{self, END, MODEL, TRAIN, example, time};
use crate::support::SOURCE;
use serde_json::{Map, Value};
use std::collections::HashMap;
use understudy::config::Project;
use understudy_domain::backfill::Backfill;
use understudy_domain::catalog::Catalog;
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::PredictionId;
use understudy_domain::time::Timestamp;

/// Largest difference of two floats that count as equal, absolute or relative to the expected one.
const TOLERANCE: f64 = 1e-9;

struct Golden {
    time: Timestamp,
    features: Map<String, Value>,
}

fn golden() -> HashMap<String, Golden> {
    let path = format!("{SOURCE}/tests/golden/flights_200.jsonl");
    let text = std::fs::read_to_string(path).expect("the golden file");
    let read = |l: &str| {
        let v: Value = serde_json::from_str(l).expect("JSON");
        let features = v["features"].as_object().expect("features").clone();
        (
            v["id"].as_str().expect("an id").to_owned(),
            Golden { time: time(v["time"].as_str().expect("a time")), features },
        )
    };
    text.lines().map(read).collect()
}

/// Whole numbers exactly, floats within the tolerance, null only with null.
fn same(want: &Value, got: &Value) -> bool {
    match (want.as_i64(), got.as_i64(), want.as_f64(), got.as_f64()) {
        (Some(a), Some(b), ..) => a == b,
        (.., Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(1.0),
        _ => want == got,
    }
}

/// Differences of one request, and the number of values compared.
fn compare(id: &str, want: &Map<String, Value>, names: &[String], got: &[Value], wrong: &mut Vec<String>) -> usize {
    assert_eq!(names.len(), got.len(), "{id}");
    let served: HashMap<&str, &Value> = names.iter().map(String::as_str).zip(got).collect();
    for (name, w) in want {
        match served.get(name.as_str()) {
            Some(g) if same(w, g) => {}
            g => wrong.push(format!("{id} {name}: expected {w}, got {g:?}")),
        }
    }
    want.len()
}

#[test]
fn a_year_of_backfill_gives_every_golden_value() {
    let golden = golden();
    let project = Project::load_with(&example(), [], &[]).expect("the example loads");
    let catalog = Catalog::compile(&project.features, &project.models, &project.rules).expect("it compiles");
    let names: Vec<String> = golden.values().next().expect("rows").features.keys().cloned().collect();
    let vector = catalog.plan.vector(&names).expect("known features");
    let wanted = golden.keys().cloned().collect();
    let mut pass =
        Backfill::new(catalog.plan.clone(), vector, "flight_scheduled", None, None, time("2014-02-01T00:00:00Z"))
            .expect("a request event")
            .only(wanted);
    let mut events = 0;
    for (recorded, seq) in understudy::tables::open_recording(&example()).expect("it opens").zip(1..) {
        let r = recorded.expect("a line");
        pass.push(&LoggedEvent { seq, ingested: r.at, late: false, event: r.event });
        events = seq;
    }
    assert_eq!(events, 1_027_013);
    let rows = pass.finish();
    assert_eq!(rows.len(), golden.len());
    let (mut wrong, mut values) = (Vec::new(), 0);
    for row in rows {
        let want = &golden[&row.request_id];
        assert_eq!(row.time, want.time, "{}", row.request_id);
        let got: Vec<Value> = row.vector.iter().map(|v| serde_json::to_value(v).expect("a scalar")).collect();
        values += compare(&row.request_id, &want.features, &names, &got, &mut wrong);
    }
    assert_eq!((values, wrong.len()), (7_600, 0), "{:#?}", &wrong[..wrong.len().min(20)]);
}

/// The logged vectors of the golden requests that were served.
pub fn check(predictions: &[Value], names: &[String]) {
    let by_id: HashMap<&str, &Value> = predictions.iter().map(|p| (p["id"].as_str().expect("an id"), p)).collect();
    assert_eq!(by_id.len(), predictions.len(), "each id once");
    let (mut wrong, mut requests) = (Vec::new(), 0);
    // A request of the day before the training may have been learnt after it; leave a day on both sides.
    let served = |g: &Golden| g.time > time(TRAIN) && g.time < time(END);
    for (id, g) in golden().iter().filter(|(_, g)| served(g)) {
        let prediction = PredictionId::of_request(g.time, MODEL, id).to_string();
        let record = by_id.get(prediction.as_str()).unwrap_or_else(|| panic!("{id} was not logged as {prediction}"));
        assert_eq!(record["request_id"], id.as_str());
        compare(id, &g.features, names, record["vector"].as_array().expect("a vector"), &mut wrong);
        requests += 1;
    }
    assert!(requests >= 5, "only {requests} golden requests in range");
    assert_eq!(wrong.len(), 0, "{:#?}", &wrong[..wrong.len().min(20)]);
}

/// The model's inputs in order.
pub fn inputs() -> Vec<String> {
    let project = Project::load_with(&example(), [], &[]).expect("the example loads");
    project.models.into_iter().find(|m| m.name == MODEL).expect("the model").features
}

#[test]
fn online_serving_gives_every_golden_value() {
    check(&flights::reference().predictions, &inputs());
}
