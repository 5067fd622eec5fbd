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

/// 60 quiet days with a weekly pattern, then days with a change; what was found, and the watch.
fn weeks(days: i64, change: impl Fn(&mut Event), keep: impl Fn(i64) -> bool) -> (Vec<FeedFinding>, FeedWatch) {
    let mut watch = FeedWatch::new(DriftSpec::default());
    let weekday = |e: &mut Event, n: i64| drop(e.properties.insert("dow".into(), Value::Int(n / 200 % 7)));
    for n in 0..60 * 200 {
        let found = watch.on_event(&reading(n, |e| weekday(e, n)));
        assert!(found.iter().all(|f| f.level < Level::Alert), "{found:?}");
    }
    let mut found = Vec::new();
    for n in 60 * 200..(60 + days) * 200 {
        let e = reading(n, |e| {
            weekday(e, n);
            change(e);
        });
        found.extend(if keep(n) { watch.on_event(&e) } else { watch.advance(e.ingested) });
    }
    found.extend(watch.advance(Timestamp(0) + Span::days(60 + days)));
    (found, watch)
}

fn no_change(_: &mut Event) {}

#[test]
fn a_value_that_is_odd_for_two_windows_is_no_incident_and_for_three_it_is() {
    let hot = |days: std::ops::Range<i64>| {
        move |e: &mut Event| {
            let day = e.time.0 / Span::days(1).0;
            if days.contains(&day)
                && let Some(Value::Float(v)) = e.properties.get_mut("value")
            {
                *v += 30.0;
            }
        }
    };
    let (found, watch) = weeks(10, hot(61..62), |_| true);
    assert!(found.iter().any(|f| f.window_level == Level::Alert) && watch.incidents().is_empty(), "{found:?}");
    assert!(weeks(10, hot(61..63), |_| true).1.incidents().is_empty());
    let (_, watch) = weeks(10, hot(61..65), |_| true);
    let i = &watch.incidents()[0];
    let day = |n| Timestamp(0) + Span::days(n);
    assert_eq!((watch.incidents().len(), i.since, i.opened, i.until), (1, day(61), day(64), Some(day(65))), "{i:?}");
    assert!(i.overlaps(day(64), day(70)) && !i.overlaps(day(65), day(70)) && !i.is_open());
}

#[test]
fn weekdays_counted_from_one_and_half_of_a_station_lost_are_found() {
    let shifted = |e: &mut Event| {
        if let Some(Value::Int(d)) = e.properties.get_mut("dow") {
            *d += 1;
        }
    };
    let (_, watch) = weeks(4, shifted, |_| true);
    assert_eq!(watch.incidents().iter().map(|i| i.column.as_str()).collect::<Vec<_>>(), ["dow"]);
    let (_, watch) = weeks(4, no_change, |n| n % 4 != 1);
    assert_eq!(watch.incidents()[0].column, "volume where station=south", "{:?}", watch.incidents());
}

#[test]
fn silence_is_an_incident_at_once_and_what_lasts_becomes_usual() {
    let (found, watch) = weeks(1, no_change, |_| false);
    assert!(found.iter().any(|f| f.column == "volume" && f.level == Level::Alert), "{found:?}");
    assert!(watch.incidents()[0].is_open());
    let warmer = |e: &mut Event| {
        if let Some(Value::Float(v)) = e.properties.get_mut("value") {
            *v += 30.0;
        }
    };
    let (_, watch) = weeks(30, warmer, |_| true);
    let i = &watch.incidents()[0];
    assert!(watch.incidents().len() == 1 && !i.is_open(), "{:?}", watch.incidents());
}

#[test]
fn an_erased_entity_leaves_no_name() {
    let erase = |watch: &mut FeedWatch| watch.forget(&["station".into()], &["north".into()]);
    let mut young = FeedWatch::new(DriftSpec::default());
    (0..100).for_each(|n| drop(young.on_event(&reading(n, no_change))));
    let (_, mut old) = weeks(4, no_change, |n| n % 2 == 1);
    for watch in [&mut young, &mut old] {
        assert!(format!("{watch:?}").contains("north"));
        erase(watch);
        assert!(!format!("{watch:?}").contains("north"), "{watch:?}");
    }
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut watch = FeedWatch::new(DriftSpec::default());
    let size = |w: &FeedWatch| serde_json::to_vec(&w.report(None, None)).map(|v| v.len()).unwrap_or_default();
    for n in 0..200i64 {
        for k in 0..3 {
            let e = reading(n * 200 + k, |e| e.kind = format!("kind{n}"));
            watch.on_event(&e);
            watch.on_refused(&format!("made up {n} {k}"), "unknown_event_type", e.ingested);
        }
    }
    assert_eq!(watch.statuses().len(), 64);
    assert!(size(&watch) < 64 * 1024, "{}", size(&watch));
}
