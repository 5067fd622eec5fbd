//! Durable appends of the event log, one group of 500 events at a time, for each durability.

use std::collections::BTreeMap;
use understudy::storage::{Durability, Store, StoreOptions};
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

const GROUP: u64 = 500;

fn main() {
    divan::main();
}

fn group(first: u64) -> Vec<LoggedEvent> {
    (first..first + GROUP)
        .map(|seq| LoggedEvent {
            seq,
            ingested: Timestamp(seq as i64),
            late: false,
            event: Event {
                id: format!("E{seq}"),
                kind: "measured".into(),
                time: Timestamp(seq as i64),
                entities: BTreeMap::from([("user".into(), Some(format!("u{}", seq % 1000)))]),
                properties: BTreeMap::from([("amount".into(), Value::Float(seq as f64 / 7.0))]),
            },
        })
        .collect()
}

fn append(bencher: divan::Bencher<'_, '_>, durability: Durability) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store =
        Store::open(dir.path(), StoreOptions { durability, ..StoreOptions::default() }).expect("an empty store");
    let log = store.events();
    bencher.counter(divan::counter::ItemsCount::new(GROUP)).bench_local(|| {
        let commit = log.append(group(log.last_seq() + 1));
        commit.blocking_recv().expect("the writer lives").expect("durable");
    });
}

#[divan::bench]
fn power(bencher: divan::Bencher<'_, '_>) {
    append(bencher, Durability::Power);
}

#[divan::bench]
fn process(bencher: divan::Bencher<'_, '_>) {
    append(bencher, Durability::Process);
}
