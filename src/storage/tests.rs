//! Damage, refusals, golden files. The behaviour of the ports is in `conformance`.

use super::codec::{self, CodecError, Record};
use super::*;
use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::{Placement, PredictionRecord, ServedArm};

pub fn options() -> StoreOptions {
    StoreOptions { durability: Durability::Process, cache_bytes: 1 << 20, free_floor: 0, ..StoreOptions::default() }
}

pub use super::sample::{event, outcome, prediction, state};

fn fill(dir: &Path, seqs: std::ops::RangeInclusive<u64>) {
    let s = Store::open(dir, options()).unwrap();
    for seq in seqs {
        s.events().append(vec![event(seq, 50)]).blocking_recv().unwrap().unwrap();
    }
}

fn seqs(s: &Store) -> Result<Vec<u64>, understudy_actors::ports::StoreError> {
    let mut out = Vec::new();
    s.events().scan(0, &mut |e| {
        out.push(e.seq);
        Continue(())
    })?;
    Ok(out)
}

/// Opens the newest event segment behind the store's back.
fn tamper(dir: &Path, what: impl FnOnce(&sled::Db)) {
    let db = sled::open(dir.join("events/000001")).unwrap();
    what(&db);
    db.flush().unwrap();
}

fn block_key(seq: u64) -> Vec<u8> {
    [&seq.to_be_bytes()[..], &[0, 0]].concat()
}

#[test]
fn every_flipped_byte_and_every_truncation_of_a_frame_is_found() {
    for size in [20, 4000] {
        let events: Vec<_> = (1..=3).map(|i| event(i, size)).collect();
        let body = codec::runs(&events).unwrap().remove(0).1;
        let good = codec::frame::<LoggedEvent>(b"key", &body).unwrap();
        assert_eq!(codec::decode_block::<LoggedEvent>(b"key", &good).unwrap(), events);
        assert!(codec::decode_block::<LoggedEvent>(b"kez", &good).is_err(), "wrong key");
        for i in 0..good.len() {
            for bit in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[i] ^= bit;
                assert!(matches!(codec::decode_block::<LoggedEvent>(b"key", &bad), Err(CodecError::Corrupt(_))), "{i}");
            }
            assert!(codec::decode_block::<LoggedEvent>(b"key", &good[..i]).is_err(), "cut at {i}");
        }
        assert!(codec::decode_block::<LoggedEvent>(b"key", &[&good[..], &[0]].concat()).is_err());
    }
}

#[test]
fn kinds_are_not_mixed_and_newer_versions_are_refused() {
    let bytes = codec::encode(b"k", &7u64).unwrap();
    assert_eq!(codec::decode::<u64>(b"k", &bytes), Ok(7));
    assert!(matches!(codec::decode::<String>(b"k", &bytes), Err(CodecError::Corrupt(_))));
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Later(u64);
    impl Record for Later {
        const MAGIC: u8 = <u64 as Record>::MAGIC;
        const VERSION: u8 = 2;
    }
    let bytes = codec::encode(b"k", &Later(7)).unwrap();
    let e = codec::decode::<u64>(b"k", &bytes).unwrap_err();
    assert!(e.to_string().starts_with("written by a newer version"), "{e}");
}

#[test]
fn golden_files_read_and_write_the_same() {
    fn path(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage/golden").join(name)
    }
    fn check<T: Record + PartialEq + std::fmt::Debug>(name: &str, records: &[T]) {
        let body = codec::runs(records).unwrap().remove(0).1;
        written(name, records, &codec::frame::<T>(b"golden", &body).unwrap());
    }
    fn read<T: Record + PartialEq + std::fmt::Debug>(name: &str, records: &[T]) -> Vec<u8> {
        let golden = std::fs::read(path(name)).unwrap();
        assert_eq!(codec::decode_block::<T>(b"golden", &golden).unwrap(), records, "{name}");
        golden
    }
    fn written<T: Record + PartialEq + std::fmt::Debug>(name: &str, records: &[T], bytes: &[u8]) {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path(name), bytes).unwrap();
        }
        assert_eq!(read(name, records), bytes, "{name}: the record changed; add a version instead");
    }
    check("event.v1.bin", &[event(1, 20), event(2, 0)]);
    let predictions = [prediction(1_365_000_000_000, 3, "m")];
    read("prediction.v1.bin", &predictions);
    read("prediction.v2.bin", &predictions);
    let placement = Placement { arm: ServedArm::Canary, slot: 9_999, weight: 500, segment: Some(2), instead: true };
    let predictions = [PredictionRecord { placement, ..prediction(1_365_000_000_000, 3, "m") }];
    let body = prediction_block::runs(&predictions.clone().map(Arc::new), |_, _| false).unwrap().remove(0).1;
    written("prediction.v3.bin", &predictions, &codec::frame::<PredictionRecord>(b"golden", &body).unwrap());
    check("outcome.v1.bin", &[outcome(0), outcome(1), outcome(2)]);
    check("state.v1.bin", &[state(2)]);
    check("position.v1.bin", &[0u64, u64::MAX]);
    check("sum.v1.bin", &[codec::SegmentSum { blocks: 3, keys: u64::MAX }]);
    check("layout.v1.bin", &["abc".to_string()]);
}

#[test]
fn a_second_process_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let _held = Store::open(dir.path(), options()).unwrap();
    let e = Store::open(dir.path(), options()).err().unwrap().to_string();
    assert!(e.contains(&format!("pid {} on host ", std::process::id())), "{e}");
}

#[test]
fn too_little_space_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let e = Store::open(dir.path(), StoreOptions { free_floor: u64::MAX, ..options() }).err().unwrap();
    assert!(matches!(e, OpenError::NoSpace { .. }), "{e}");
}

#[test]
fn a_lost_tail_is_an_incident_and_its_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1..=5);
    tamper(dir.path(), |db| drop((db.remove(block_key(4)), db.remove(block_key(5)))));
    let s = Store::open(dir.path(), options()).unwrap();
    assert_eq!(s.report().warnings, [Warning::TailLost { log: "events", found: 3, acknowledged: 5 }]);
    s.events().append(vec![event(6, 1)]).blocking_recv().unwrap().unwrap();
    assert_eq!(seqs(&s).unwrap(), [1, 2, 3, 6]);
}

#[test]
fn a_damaged_tail_that_nobody_was_told_about_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1..=3);
    let watermark = std::fs::read(dir.path().join("events/watermark")).unwrap();
    fill(dir.path(), 4..=6);
    std::fs::write(dir.path().join("events/watermark"), watermark).unwrap();
    tamper(dir.path(), |db| drop(db.insert(block_key(5), b"torn").unwrap()));
    let s = Store::open(dir.path(), options()).unwrap();
    assert!(matches!(&s.report().warnings[..], [Warning::TailDropped { from: 5, .. }]), "{:?}", s.report());
    assert_eq!(s.events().last_seq(), 4);
    s.events().append(vec![event(5, 1)]).blocking_recv().unwrap().unwrap();
    assert_eq!(seqs(&s).unwrap(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_damaged_acknowledged_block_is_reported_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1..=4);
    tamper(dir.path(), |db| {
        let mut v = db.get(block_key(2)).unwrap().unwrap().to_vec();
        v[20] ^= 1;
        db.insert(block_key(2), v).unwrap();
    });
    let s = Store::open(dir.path(), options()).unwrap();
    assert!(matches!(&s.report().warnings[..], [Warning::DamagedBlock { position: 2, .. }]), "{:?}", s.report());
    assert_eq!(s.events().last_seq(), 4);
    assert_eq!(seqs(&s).unwrap(), [1, 3, 4]);
    assert_eq!(seqs(&s).unwrap(), [1, 3, 4]);
    let health = s.health();
    assert_eq!(health.damaged, 1, "told once: {health:?}");
    assert!(health.findings[0].contains("events/000001 at 2"), "{health:?}");
}

#[test]
fn a_segment_that_cannot_be_opened_is_set_aside_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1..=4);
    for broken in ["events/000001/db", "state/db"] {
        std::fs::remove_file(dir.path().join(broken)).unwrap();
        std::fs::create_dir(dir.path().join(broken)).unwrap();
    }
    let s = Store::open(dir.path(), options()).unwrap();
    let w = &s.report().warnings;
    assert!(matches!(&w[0], Warning::Quarantined { name, to, .. } if name == "events/000001" && to.exists()), "{w:?}");
    assert!(matches!(&w[1], Warning::TailLost { found: 0, acknowledged: 4, .. }), "{w:?}");
    assert!(
        matches!(&w[2], Warning::Quarantined { name, to, .. } if name == "state" && to.with_extension("reason").exists())
    );
    s.events().append(vec![event(5, 1)]).blocking_recv().unwrap().unwrap();
    assert_eq!(seqs(&s).unwrap(), [5]);
}

#[test]
fn a_full_queue_refuses_and_a_closed_store_says_so() {
    use understudy_actors::ports::StoreError;
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(dir.path(), StoreOptions { queue_records: 10, ..options() }).unwrap();
    let log = s.outcomes();
    let commits: Vec<_> = (0..200).map(|i| log.append((0..10).map(|j| outcome(i * 10 + j)).collect())).collect();
    let results: Vec<_> = commits.into_iter().map(|c| c.blocking_recv().unwrap()).collect();
    assert!(results.contains(&Err(StoreError::Full)));
    let kept = results.iter().filter(|r| r.is_ok()).count() as u64 * 10;
    assert_eq!((s.stats().outcomes.records, s.stats().outcomes.queued), (kept, 0));
    s.close();
    assert_eq!(log.append(vec![outcome(1)]).blocking_recv().unwrap(), Err(StoreError::Closed));
    assert_eq!(s.features().layout(), Err(StoreError::Closed));
    assert_eq!(seqs(&s), Err(StoreError::Closed));
}

#[test]
fn retention_deletes_whole_segments_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(dir.path(), StoreOptions { segment_bytes: 1, ..options() }).unwrap();
    for seq in 1..=4 {
        s.events().append(vec![event(seq, 10)]).blocking_recv().unwrap().unwrap();
    }
    let before = seqs(&s).unwrap();
    let dropped = s.drop_oldest(LogName::Events, 0).unwrap();
    assert!(!dropped.is_empty() && !dir.path().join("events/000001").exists());
    let after = seqs(&s).unwrap();
    assert_eq!((before, after.last()), (vec![1, 2, 3, 4], Some(&4)));
    assert!(after.len() < 4);
}

#[test]
fn retention_keeps_what_is_still_needed() {
    use super::retention::{Keep, Policy};
    use understudy_domain::time::{Span, Timestamp};
    const DAY: i64 = 86_400_000_000;
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(dir.path(), StoreOptions { segment_bytes: 1, ..options() }).unwrap();
    // One segment a day: events 1 to 6.
    for seq in 1..=6 {
        let mut e = event(seq, 10);
        (e.ingested, e.event.time) = (Timestamp(seq as i64 * DAY), Timestamp(seq as i64 * DAY));
        s.events().append(vec![e]).blocking_recv().unwrap().unwrap();
    }
    let days = |n: i64| Span(n * DAY);
    let now = Timestamp(7 * DAY);
    let old = |age: i64, needed: i64| Policy {
        events: Keep { age: Some(days(age)), bytes: None },
        events_needed: days(needed),
        ..Policy::default()
    };
    let table = [
        (Policy::default(), u64::MAX, "nothing is asked for", vec![1, 2, 3, 4, 5, 6]),
        (old(1, 100), u64::MAX, "all is still needed by a window", vec![1, 2, 3, 4, 5, 6]),
        (old(3, 0), 1, "saved state holds the first only", vec![2, 3, 4, 5, 6]),
        (old(3, 0), u64::MAX, "older than three days", vec![4, 5, 6]),
        (old(0, 0), u64::MAX, "never the newest segment", vec![6]),
    ];
    for (policy, saved, why, left) in table {
        s.retain(&policy, saved, now).unwrap();
        assert_eq!(seqs(&s).unwrap(), left, "{why}");
    }
    let bytes = Policy { events: Keep { age: None, bytes: Some(1) }, ..Policy::default() };
    assert!(s.retain(&bytes, u64::MAX, now).unwrap().is_empty());
    drop(s);
    let s = Store::open(dir.path(), options()).unwrap();
    assert_eq!((s.report().warnings.len(), s.events().last_seq()), (0, 6), "{:?}", s.report());
}

#[test]
fn errors_of_the_machine_are_not_taken_for_damage() {
    use super::engine::engine;
    use std::io::{Error, ErrorKind};
    use understudy_actors::ports::StoreError;
    let of = |e: Error| engine(sled::Error::Io(e));
    for errno in [5, 13, 23, 24] {
        let e = of(Error::from_raw_os_error(errno));
        assert!(matches!(e, StoreError::Io(_)), "EIO, EACCES, ENFILE, EMFILE: {e:?}");
        // As the engine keeps it: without its number.
        let kept = of(Error::other(format!("{:?}", Error::from_raw_os_error(errno))));
        assert!(matches!(kept, StoreError::Io(_)), "{kept:?}");
    }
    assert!(matches!(of(Error::from_raw_os_error(28)), StoreError::DiskFull(_)));
    assert!(matches!(of(Error::new(ErrorKind::StorageFull, "kept")), StoreError::DiskFull(_)));
    for damage in [Error::from(ErrorKind::UnexpectedEof), Error::from_raw_os_error(21), Error::other("bad page")] {
        assert!(matches!(of(damage), StoreError::Corrupt(_)));
    }
    assert!(matches!(engine(sled::Error::Corruption { at: None, bt: () }), StoreError::Corrupt(_)));
}

#[test]
fn too_little_space_closes_the_logs_and_is_told() {
    use understudy_actors::ports::StoreError;
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(dir.path(), StoreOptions { min_free: u64::MAX, ..options() }).unwrap();
    assert!(matches!(s.events().accepting(), Err(StoreError::DiskFull(_))));
    assert!(matches!(s.predictions().accepting(), Err(StoreError::DiskFull(_))));
    assert!(s.health().low_space && s.health().free_bytes > 0);
}

#[test]
fn a_group_that_was_being_written_is_told_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), options()).unwrap());
    let (mark, _) = super::watermark::Watermark::open(&dir.path().join("predictions/watermark")).unwrap();
    mark.begin(40).unwrap();
    let s = Store::open(dir.path(), options()).unwrap();
    assert_eq!(s.report().warnings, [Warning::LostAtMost { log: "predictions", records: 40 }]);
    assert!(s.report().warnings[0].to_string().contains("lost_at_most=40"));
    drop(s);
    assert!(Store::open(dir.path(), options()).unwrap().report().warnings.is_empty(), "told once");
}

#[test]
fn state_that_went_back_to_an_earlier_save_is_set_aside() {
    use understudy_domain::entity::EntityHash;
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let save = |n: u64| {
        let s = Store::open(dir.path(), options()).unwrap();
        s.features().save(0, n, vec![(EntityHash(1), state(n))]).unwrap();
    };
    save(3);
    super::segment::copy_dir(&dir.path().join("state"), &old.path().join("state")).unwrap();
    save(4);
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    super::segment::copy_dir(&old.path().join("state"), &dir.path().join("state")).unwrap();
    let s = Store::open(dir.path(), options()).unwrap();
    let w = &s.report().warnings;
    assert!(matches!(&w[..], [Warning::Quarantined { name, .. }] if name == "state"), "{w:?}");
    assert_eq!((s.features().watermark(0).unwrap(), s.features().load(0, EntityHash(1)).unwrap()), (0, None));
}

/// A stream's clock stands still while thousands are answered.
#[test]
fn the_newest_of_a_crowded_millisecond_cost_what_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(dir.path(), options()).unwrap();
    let all: Vec<_> = (0..12_000u64).map(|i| Arc::new(prediction(5_000, i * 7919 % 12_000, "m"))).collect();
    for group in all.chunks(200) {
        s.predictions().append(group.to_vec()).blocking_recv().unwrap().unwrap();
    }
    let (found, took) = crate::simulate::meter::measure(|| s.predictions().newest(None, 10).unwrap());
    assert_eq!(found.len(), 10);
    assert!(took.calls > 0, "the meter is the allocator of this test");
    assert!(took.calls < 12_000, "{took:?}: fewer allocations than there are records");
}
