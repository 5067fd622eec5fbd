use super::*;
use std::path::Path;

fn flights() -> Recording {
    open_recording(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights")).unwrap()
}

#[test]
fn flights_have_the_known_counts_order_and_rows() {
    let recording = flights();
    assert_eq!(recording.len(), 1_027_013);
    let mut counts = std::collections::BTreeMap::new();
    let mut last = (Timestamp::MIN, 0, String::new());
    let ranks = ["weather_observed", "flight_arrived", "flight_departed", "flight_cancelled", "flight_scheduled"];
    for r in recording {
        let r = r.unwrap();
        let rank = ranks.iter().position(|k| *k == r.event.kind).unwrap();
        *counts.entry(r.event.kind.clone()).or_insert(0) += 1;
        if r.event.id == "W01009" {
            assert_eq!(r.event.time.to_string(), "2013-02-12T08:00:00Z");
            assert_eq!(r.at.to_string(), "2013-02-12T09:00:00Z");
            assert!(r.event.properties["wind_speed"].as_f64().unwrap() > 1048.0);
        }
        if r.event.id == "SF000608" {
            assert_eq!(r.event.time.to_string(), "2013-01-01T20:29:00Z");
            assert_eq!(r.event.properties["sched_block_min"], 389.into());
            assert_eq!(r.event.properties["sched_hour"], 17.into());
        }
        if r.event.id == "AF000608" {
            assert_eq!(r.event.properties["leg"], "SF000608".into());
        }
        let key = (r.at, rank, r.event.id);
        assert!(last < key, "{last:?} is not before {key:?}");
        last = key;
    }
    let expected = [
        ("flight_arrived", 327_346),
        ("flight_cancelled", 8_255),
        ("flight_departed", 328_521),
        ("flight_scheduled", 336_776),
        ("weather_observed", 26_115),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected.map(|(k, n)| (k.to_string(), n)));
}

fn project(recording: &str, csv: &str) -> Result<Vec<Recorded>, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("recording.toml"), recording).unwrap();
    std::fs::write(dir.path().join("t.csv"), csv).unwrap();
    let all = open_recording(dir.path()).and_then(|r| r.collect());
    all.map_err(|e| e.to_string())
}

const SPEC: &str = r#"
[tables.t]
file = "t.csv"
[[events]]
type = "seen"
table = "t"
id = { prefix = "E", width = 3 }
time = { columns = ["s"], unit = "1s" }
entities = { user = "who" }
properties = { price = "price" }
"#;

#[test]
fn columns_are_what_they_hold() {
    let events = project(SPEC, "s,who,price\n2,007,1.5\n1,8,\n").unwrap();
    assert_eq!(events[0].event.id, "E001");
    assert_eq!(events[0].event.entities["user"].as_deref(), Some("8"));
    assert!(events[0].event.properties.is_empty());
    assert_eq!(events[1].event.entities["user"].as_deref(), Some("007"));
    assert_eq!(events[1].event.properties["price"], 1.5.into());
}

#[test]
fn errors_say_where_and_what() {
    let csv = "s,who,price\n1,a,2\n";
    let cases = [
        (SPEC.replace("\"t.csv\"", "\"u.csv\""), csv, "u.csv: cannot be read"),
        (SPEC.replace("\"price\" }", "\"prize\" }"), csv, "did you mean `price`?"),
        (SPEC.replace("table = \"t\"", "table = \"x\""), csv, "recording.toml:6: `events.0.table`: no table `x`"),
        (SPEC.replace("[\"s\"]", "[\"who\"]"), csv, "not made of integers"),
        (SPEC.replace("\"E\"", "\"E1\""), csv, "ends in a digit"),
        (SPEC.replace("rank", "x") + "rnak = 1\n", csv, "did you mean `rank`?"),
        (SPEC.into(), "s,who,price\n,a,2\n", "row 0 has no time for `seen`"),
        (SPEC.into(), "s,who,price\n1,a\n", "broken CSV"),
    ];
    for (spec, csv, expected) in cases {
        let error = project(&spec, csv).unwrap_err();
        assert!(error.contains(expected), "{error}\n  lacks: {expected}");
    }
}

#[test]
fn lines_carry_their_numbers_and_ingest_times() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"id":"a","type":"t","time":"2024-01-01T00:00:00Z","entities":{"u":"1"}}"#;
    let late = r#"{"id":"b","type":"t","time":"2024-01-01T00:00:00Z","at":"2024-01-01T01:00:00Z"}"#;
    let text = format!("{good}\n\n{late}\n{{\"id\":1}}\n{good}\n");
    let plain = dir.path().join("e.ndjson");
    std::fs::write(&plain, &text).unwrap();
    let packed = dir.path().join("e.jsonl.zst");
    std::fs::write(&packed, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    for path in [plain, packed] {
        let all: Vec<_> = open_events(&path).unwrap().collect();
        assert_eq!(all.len(), 3, "ends after the first error");
        assert_eq!(all[0].as_ref().unwrap().at, all[0].as_ref().unwrap().event.time);
        assert_eq!(all[1].as_ref().unwrap().at.to_string(), "2024-01-01T01:00:00Z");
        assert_eq!(all[2].as_ref().unwrap_err().line, 4);
    }
    assert!(open_events(&dir.path().join("e.csv")).is_err());
}
