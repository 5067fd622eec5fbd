use super::*;
use crate::storage::memory::MemoryFeatures;
use crate::storage::transfer;
use crate::storage::{Store, StoreOptions};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::prediction::{OutcomeRecord, OutcomeTarget, PredictionId, PredictionRecord};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

const ANN: &str = "ann-4711";

fn options() -> StoreOptions {
    StoreOptions { free_floor: 0, ..StoreOptions::default() }
}

fn event(seq: u64, user: &str) -> LoggedEvent {
    let entities = BTreeMap::from([("user".into(), Some(user.into())), ("shop".into(), Some("s1".into()))]);
    let properties = BTreeMap::from([("note".to_owned(), Value::Text(format!("for {user}").into()))]);
    let time = Timestamp(seq as i64 * 1_000_000);
    let event = Event { id: format!("{user}/{seq}"), kind: "order".into(), time, entities, properties };
    LoggedEvent { seq, ingested: time, late: false, event }
}

fn prediction(n: u64, user: &str) -> PredictionRecord {
    let time = Timestamp(n as i64 * 1_000_000);
    let mut r = PredictionRecord {
        id: PredictionId::new(time, n.into()),
        model: "m".into(),
        version: "v1".into(),
        feature_set: "f".into(),
        epoch: 1,
        placement: Default::default(),
        request_id: Some(format!("{user}?{n}")),
        time,
        entities: BTreeMap::new(),
        context: BTreeMap::new(),
        vector: vec![Value::Float(1.5)],
        ages: vec![Some(3)],
        score: 0.5,
        label: "yes".into(),
        confidence: 0.5,
        verdict: Default::default(),
        findings: Vec::new(),
        timing: Default::default(),
    };
    r.entities.insert("user".into(), Some(user.into()));
    r
}

fn outcome(n: u64, user: &str) -> OutcomeRecord {
    let target = OutcomeTarget::RequestId(format!("{user}?{n}"));
    OutcomeRecord { model: "m".into(), target, label: Some(true), time: Timestamp(0), revision: 0 }
}

fn tombstone(erased: &Erased, seq: u64) -> Tombstone {
    let keys = vec!["user".to_owned()];
    let mark = erased.mark(&keys, &[ANN]);
    Tombstone { entity: "user".into(), keys, mark, seq, time: Timestamp(seq as i64 * 1_000_000) }
}

/// A store of ten users' events, predictions and outcomes; every third is Ann's.
fn filled(dir: &Path) {
    let store = Store::open(dir, options()).unwrap();
    let users = |n: u64| if n.is_multiple_of(3) { ANN.to_owned() } else { format!("bob-{n}") };
    let wait = |commit: understudy_actors::ports::Commit| commit.blocking_recv().unwrap().unwrap();
    wait(store.events().append((1..=30).map(|n| event(n, &users(n))).collect()));
    wait(store.predictions().append((1..=30).map(|n| Arc::new(prediction(n, &users(n)))).collect()));
    wait(store.outcomes().append((1..=30).map(|n| outcome(n, &users(n))).collect()));
}

/// All that the logs hold, as text.
fn raw(dir: &Path) -> Vec<String> {
    let store = Store::open(dir, options()).unwrap();
    let mut all = Vec::new();
    let mut note = |text: String| {
        all.push(text);
        ControlFlow::Continue(())
    };
    store.events().scan(1, &mut |e| note(format!("{e:?}"))).unwrap();
    store.predictions().scan(None, PredictionId(0), &mut |r| note(format!("{r:?}"))).unwrap();
    store.outcomes().scan(0, &mut |o| note(format!("{o:?}"))).unwrap();
    assert_eq!(store.health().findings, Vec::<String>::new());
    all
}

#[test]
fn compaction_and_export_leave_the_places_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    filled(&data);
    let of_ann = |all: &[String]| all.iter().filter(|l| l.contains(ANN)).count();
    assert_eq!((raw(&data).len(), of_ann(&raw(&data))), (90, 30));
    let erasures = open(&data, 99).unwrap();
    erasures.begin(tombstone(&erasures.now(), 30), &[]).unwrap();
    assert_eq!(of_ann(&raw(&data)), 30, "a tombstone hides; it rewrites nothing");

    let (file, copy) = (dir.path().join("out"), dir.path().join("copy"));
    transfer::export(&data, options(), &file).unwrap();
    transfer::import(&file, &copy, &options()).unwrap();
    let moved = transfer::compact(&data, &options()).unwrap();
    assert_eq!(moved.findings, Vec::<String>::new());
    for dir in [&data, &copy] {
        let left = raw(dir);
        assert_eq!((left.len(), of_ann(&left)), (90, 0));
        assert_eq!(left.iter().filter(|l| l.contains("bob-")).count(), 60, "others keep theirs");
    }
    // Once more changes nothing: the tombstone stays.
    let before = raw(&data);
    transfer::compact(&data, &options()).unwrap();
    assert_eq!(raw(&data), before);
}

#[test]
fn an_interrupted_erasure_is_ended_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let features = MemoryFeatures::default();
    let state = crate::storage::sample::state(0);
    let ours = EntityHash(1 << 64);
    features.save(1, 7, vec![(ours, state.clone()), (EntityHash(3 << 64), state)]).unwrap();
    let erasures = open(dir.path(), 99).unwrap();
    let t = tombstone(&erasures.now(), 5);
    erasures.begin(t.clone(), &[ours]).unwrap();
    drop(erasures); // the process ends here

    let erasures = open(dir.path(), 1).unwrap();
    assert_eq!((erasures.now().salt(), erasures.now().iter().next()), (99, Some(&t)), "the first salt stays");
    assert_eq!(erasures.pending().len(), 1);
    resume(&erasures, &features, 2).unwrap();
    assert_eq!(features.load(1, ours), Ok(None));
    assert!(features.load(1, EntityHash(3 << 64)).unwrap().is_some());
    assert_eq!(open(dir.path(), 1).unwrap().pending(), Vec::new());
    let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
    assert!(!text.contains(ANN), "{text}");
}

#[test]
fn every_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let erasures = open(dir.path(), 99).unwrap();
    erasures.begin(tombstone(&erasures.now(), 5), &[]).unwrap();
    let whole = fs::read(dir.path().join(FILE)).unwrap();
    for at in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(dir.path().join(FILE), &bytes).unwrap();
        assert!(of(dir.path()).is_err(), "byte {at}");
    }
}
