use super::*;
use crate::event::Event;
use crate::value::Value;

/// Readings of two stations, 100 each a day; value about 20, text unit.
fn reading(n: i64, change: impl Fn(&mut Event)) -> LoggedEvent {
    let station = if n % 2 == 0 { "north" } else { "south" };
    let time = Timestamp(0) + Span(n * Span::days(1).0 / 200);
    let mut event = Event {
        id: format!("r{n}"),
        kind: "reading".into(),
        time,
        entities: [("station".to_string(), Some(station.to_string()))].into_iter().collect(),
        properties: [("value".to_string(), Value::Float(15.0 + (n * 7919 % 100) as f64 / 10.0))].into_iter().collect(),
    };
    change(&mut event);
    LoggedEvent { seq: n as u64, ingested: time + Span::seconds(60), late: false, event }
}

/// 20 quiet days, then five with a change.
fn after(change: impl Fn(&mut Event), keep: impl Fn(i64) -> bool) -> Vec<FeedFinding> {
    let mut watch = FeedWatch::new(DriftSpec::default());
    for n in 0..20 * 200 {
        let found = watch.on_event(&reading(n, |_| ()));
        assert!(found.is_empty(), "{found:?}");
    }
    let day = 20 * 200..21 * 200;
    let mut found = Vec::new();
    for n in day.clone() {
        if keep(n) {
            found.extend(watch.on_event(&reading(n, &change)));
        }
    }
    found.extend(watch.advance(Timestamp(0) + Span::days(21)));
    found
}

fn columns(found: &[FeedFinding]) -> Vec<&str> {
    found.iter().map(|f| f.column.as_str()).collect()
}

#[test]
fn a_unit_that_changes_for_one_station_is_named() {
    let found = after(
        |e| {
            if e.entities["station"].as_deref() == Some("north")
                && let Some(Value::Float(v)) = e.properties.get_mut("value")
            {
                *v = *v * 1.8 + 32.0;
            }
        },
        |_| true,
    );
    assert!(columns(&found).contains(&"value where station=north"), "{found:?}");
    assert!(!columns(&found).contains(&"value where station=south"), "{found:?}");
}

#[test]
fn faults_of_a_feed_are_found_and_quiet_days_are_not() {
    assert_eq!(after(|_| (), |_| true), []);
    let silent = after(|_| (), |_| false);
    assert!(columns(&silent).contains(&"volume"), "{silent:?}");
    let half = after(|_| (), |n| n % 2 == 1);
    assert!(columns(&half).contains(&"volume where station=north"), "{half:?}");
    let null = after(|e| drop(e.properties.insert("value".into(), Value::Null)), |_| true);
    assert!(columns(&null).contains(&"value"), "{null:?}");
    let renamed = after(|e| drop(e.entities.insert("station".into(), Some("NORTH".into()))), |_| true);
    assert!(columns(&renamed).contains(&"station"), "{renamed:?}");
    let skewed = after(|e| e.time = e.time - Span::hours(3), |_| true);
    assert!(columns(&skewed).contains(&"(seconds until learnt)"), "{skewed:?}");
}

#[test]
fn what_is_refused_is_seen() {
    let mut watch = FeedWatch::new(DriftSpec::default());
    for n in 0..20 * 200 {
        watch.on_event(&reading(n, |_| ()));
    }
    let mut found = Vec::new();
    for n in 20 * 200..21 * 200 {
        let e = reading(n, |_| ());
        found.extend(watch.on_event(&e));
        found.extend(watch.on_refused("reading", "duplicate", e.ingested));
    }
    found.extend(watch.advance(Timestamp(0) + Span::days(21)));
    assert_eq!(columns(&found), ["(taken)"], "{found:?}");
    assert!(found[0].explanation.contains("other holds 50 %"), "{found:?}");
}
