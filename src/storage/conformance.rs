//! One suite for every implementation of the storage ports.

use super::memory::{MemoryEvents, MemoryFeatures, MemoryOutcomes, MemoryPredictions};
use super::tests::{event, options, outcome, prediction, state};
use super::{Store, StoreOptions};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use understudy_actors::ports::*;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::*;

struct Ports {
    events: Arc<dyn EventLog>,
    predictions: Arc<dyn PredictionLog>,
    outcomes: Arc<dyn OutcomeLog>,
    features: Arc<dyn FeatureStore>,
}

/// Runs `test` in memory and on disk; `reopen` gives the same ports after a restart.
fn on_both(test: impl Fn(&mut dyn FnMut() -> Ports)) {
    let (e, p) = (Arc::new(MemoryEvents::default()), Arc::new(MemoryPredictions::default()));
    let (o, f) = (Arc::new(MemoryOutcomes::default()), Arc::new(MemoryFeatures::default()));
    test(&mut || Ports { events: e.clone(), predictions: p.clone(), outcomes: o.clone(), features: f.clone() });
    let dir = tempfile::tempdir().unwrap();
    let mut store: Option<Store> = None;
    test(&mut || {
        store.take();
        let s = Store::open(dir.path(), StoreOptions { segment_bytes: 600 << 10, ..options() }).unwrap();
        assert_eq!(s.report().warnings, []);
        let ports =
            Ports { events: s.events(), predictions: s.predictions(), outcomes: s.outcomes(), features: s.features() };
        store = Some(s);
        ports
    });
    drop(store);
    for log in ["events", "predictions", "outcomes"] {
        for segment in std::fs::read_dir(dir.path().join(log)).unwrap() {
            let blobs = segment.unwrap().path().join("blobs");
            assert!(!blobs.exists() || blobs.read_dir().unwrap().next().is_none(), "{}", blobs.display());
        }
    }
}

fn wait(c: Commit) -> Result<(), StoreError> {
    c.blocking_recv().unwrap()
}

fn events(log: &dyn EventLog, from: u64) -> Vec<LoggedEvent> {
    let mut out = Vec::new();
    log.scan(from, &mut |e| {
        out.push(e);
        Continue(())
    })
    .unwrap();
    out
}

fn ids(log: &dyn PredictionLog, model: Option<&str>, from: u128) -> Vec<u128> {
    let mut out = Vec::new();
    log.scan(model, PredictionId(from), &mut |p| {
        out.push(p.id.0);
        Continue(())
    })
    .unwrap();
    out
}

#[test]
fn events_come_back_in_order_from_any_position() {
    on_both(|open| {
        let p = open();
        assert_eq!(p.events.last_seq(), 0);
        assert!(events(&*p.events, 0).is_empty());
        // Many small commits, then larger ones: more than one segment, blocks of different sizes.
        let all: Vec<_> = (1..=3000).map(|i| event(i, 400)).collect();
        let mut rest = &all[..];
        for n in (1..200).cycle() {
            let (now, later) = rest.split_at(n.min(rest.len()));
            wait(p.events.append(now.to_vec())).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            assert_eq!(p.events.last_seq(), 3000);
            assert_eq!(events(&*p.events, 0), all);
            for from in [1, 2, 199, 200, 1500, 2999, 3000] {
                assert_eq!(events(&*p.events, from), all[from as usize - 1..], "{from}");
            }
            assert!(events(&*p.events, 3001).is_empty());
            let mut seen = 0;
            p.events
                .scan(5, &mut |_| {
                    seen += 1;
                    if seen == 7 { Break(()) } else { Continue(()) }
                })
                .unwrap();
            assert_eq!(seen, 7);
        }
    });
}

#[test]
fn gaps_and_repeats_are_refused_and_change_nothing() {
    on_both(|open| {
        let p = open();
        wait(p.events.append(vec![event(1, 5), event(2, 5)])).unwrap();
        for wrong in [vec![event(2, 5)], vec![event(4, 5)], vec![event(3, 5), event(5, 5)]] {
            assert!(matches!(wait(p.events.append(wrong)), Err(StoreError::Io(_))));
        }
        wait(p.events.append(vec![event(3, 5)])).unwrap();
        wait(p.events.append(vec![])).unwrap();
        assert_eq!(events(&*p.events, 0).len(), 3);
    });
}

#[test]
fn large_records_survive() {
    on_both(|open| {
        let p = open();
        // Text that does not compress, larger than any value that sled may hold.
        let all = vec![event(1, 10), event(2, 900_000), event(3, 70_000), event(4, 10)];
        wait(p.events.append(all.clone())).unwrap();
        assert_eq!(events(&*p.events, 0), all);
        assert_eq!(events(&*open().events, 2), all[1..]);
    });
}

#[test]
fn predictions_by_id_by_model_in_order_of_id() {
    on_both(|open| {
        let p = open();
        // Overlapping blocks of very different widths, from several threads at once.
        let all: Vec<_> =
            (0..4000u64).map(|i| prediction((i * 7919) % 4000 * 60_000, i, ["a", "b"][i as usize % 2])).collect();
        std::thread::scope(|s| {
            for part in all.chunks(1000) {
                let log = &p.predictions;
                s.spawn(move || {
                    let (wide, narrow) = part.split_at(500);
                    let commits: Vec<_> = narrow
                        .chunks(7)
                        .chain([wide])
                        .map(|c| log.append(c.iter().cloned().map(Arc::new).collect()))
                        .collect();
                    commits.into_iter().for_each(|c| wait(c).unwrap());
                });
            }
        });
        let mut sorted: Vec<_> = all.iter().map(|r| r.id.0).collect();
        sorted.sort_unstable();
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            assert_eq!(ids(&*p.predictions, None, 0), sorted);
            assert_eq!(ids(&*p.predictions, None, sorted[1234]), sorted[1234..]);
            assert_eq!(ids(&*p.predictions, Some("b"), 0).len(), 2000);
            assert!(ids(&*p.predictions, Some("c"), 0).is_empty());
            let newest = |model, limit| -> Vec<u128> {
                p.predictions.newest(model, limit).unwrap().into_iter().map(|r| r.id.0).collect()
            };
            for limit in [0, 1, 10, 3999, 5000] {
                assert_eq!(newest(None, limit), sorted.iter().rev().take(limit).copied().collect::<Vec<_>>());
            }
            let b = ids(&*p.predictions, Some("b"), 0);
            assert_eq!(newest(Some("b"), 1500), b.iter().rev().take(1500).copied().collect::<Vec<_>>());
            assert!(newest(Some("c"), 5).is_empty());
            for r in all.iter().step_by(97) {
                assert_eq!(p.predictions.get(r.id).unwrap().as_ref(), Some(r));
                assert_eq!(p.predictions.get(PredictionId(r.id.0 ^ 1 << 79)).unwrap(), None);
            }
        }
    });
}

#[test]
fn a_repeated_prediction_id_keeps_the_first_record() {
    on_both(|open| {
        let p = open();
        let (first, second) = (prediction(5, 1, "a"), PredictionRecord { score: 0.9, ..prediction(5, 1, "a") });
        wait(p.predictions.append(vec![first.clone().into(), second.clone().into()])).unwrap();
        wait(p.predictions.append(vec![prediction(1, 1, "a").into(), second.into()])).unwrap();
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            assert_eq!(p.predictions.get(first.id).unwrap(), Some(first.clone()));
            assert_eq!(ids(&*p.predictions, None, 0), [prediction(1, 1, "a").id.0, first.id.0]);
        }
    });
}

#[test]
fn the_newest_of_one_millisecond_are_any_of_it_and_each_is_given_once() {
    on_both(|open| {
        let p = open();
        let old: Vec<_> = (0..300).map(|i| prediction(1_000 + i, i, "a").into()).collect();
        wait(p.predictions.append(old)).unwrap();
        // One instant, in groups of which each has low and high ids; and one group that begins before it.
        let crowd: Vec<_> = (0..6_000u64).map(|i| Arc::new(prediction(5_000, i * 7919 % 6_000, "ab"))).collect();
        crowd.chunks(150).for_each(|c| wait(p.predictions.append(c.to_vec())).unwrap());
        let across = [prediction(3_500, 1, "b"), prediction(5_000, 7_000, "b"), prediction(5_000, 11, "ab")];
        wait(p.predictions.append(across.into_iter().map(Arc::new).collect())).unwrap();
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            let newest = |model, limit| -> Vec<PredictionId> {
                p.predictions.newest(model, limit).unwrap().into_iter().map(|r| r.id).collect()
            };
            for limit in [1, 10, 1_000, 6_001] {
                let found = newest(None, limit);
                assert_eq!(found.len(), limit);
                assert!(found.windows(2).all(|w| w[0] > w[1]) && found.iter().all(|id| id.millis() == 5_000));
            }
            let more = newest(None, 6_100);
            assert_eq!(more.len(), 6_100);
            assert_eq!((more[6_001].millis(), more[6_002].millis(), more[6_099].millis()), (3_500, 1_299, 1_202));
            let b: Vec<u64> = newest(Some("b"), 9).into_iter().map(PredictionId::millis).collect();
            assert_eq!(b, [5_000, 3_500]);
            assert_eq!(newest(None, 9_000).len(), 6_302);
        }
    });
}

#[test]
fn predictions_after_a_position_as_they_came() {
    on_both(|open| {
        let p = open();
        // Ids that do not grow with the position, over more than one segment.
        let all: Vec<_> = (0..6000u64).map(|i| prediction((i * 7919) % 6000 * 60_000, i, "a")).collect();
        for commit in all.chunks(40) {
            let mut commit: Vec<_> = commit.iter().cloned().map(Arc::new).collect();
            commit.sort_by_key(|r| r.id);
            wait(p.predictions.append(commit)).unwrap();
        }
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            assert_eq!(p.predictions.position(), 6000);
            for position in [0, 40, 2960, 5960, 6000, 7000] {
                let mut seen = Vec::new();
                let mut visit = |r: PredictionRecord| {
                    seen.push(r.id.0);
                    Continue(())
                };
                p.predictions.scan_after(position, &mut visit).unwrap();
                let mut expected: Vec<_> = all.iter().skip(position as usize).map(|r| r.id.0).collect();
                assert_eq!(seen.len(), expected.len(), "{position}");
                for (seen, expected) in seen.chunks(40).zip(expected.chunks_mut(40)) {
                    let mut seen = seen.to_vec();
                    seen.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(seen, expected, "{position}");
                }
            }
            let mut seen = 0;
            let mut visit = |_| {
                seen += 1;
                if seen == 7 { Break(()) } else { Continue(()) }
            };
            p.predictions.scan_after(100, &mut visit).unwrap();
            assert_eq!(seen, 7);
        }
    });
}

#[test]
fn outcomes_in_order_of_arrival() {
    on_both(|open| {
        let p = open();
        let all: Vec<_> = (0..900).map(outcome).collect();
        all.chunks(100).for_each(|c| wait(p.outcomes.append(c.to_vec())).unwrap());
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            assert_eq!(p.outcomes.position(), 900);
            for from in [0, 1, 450, 899, 900] {
                let mut seen = Vec::new();
                p.outcomes
                    .scan(from, &mut |o| {
                        seen.push(o);
                        Continue(())
                    })
                    .unwrap();
                assert_eq!(seen, all[from as usize..]);
            }
        }
    });
}

#[test]
fn feature_state_and_watermark_move_together() {
    on_both(|open| {
        let p = open();
        let (e1, e2) = (EntityHash(1), EntityHash(u128::MAX));
        assert_eq!((p.features.layout().unwrap(), p.features.watermark(3).unwrap()), (None, 0));
        p.features.reset("v1").unwrap();
        p.features.save(3, 17, vec![(e1, state(30_000)), (e2, state(3))]).unwrap();
        p.features.save(4, 5, vec![]).unwrap();
        let mut opened = Some(p);
        for _ in 0..2 {
            let p = opened.take().unwrap_or_else(&mut *open);
            assert_eq!(p.features.layout().unwrap().as_deref(), Some("v1"));
            assert_eq!((p.features.watermark(3).unwrap(), p.features.watermark(4).unwrap()), (17, 5));
            assert_eq!(p.features.load(3, e1).unwrap(), Some(state(30_000)));
            assert_eq!(p.features.load(3, e2).unwrap(), Some(state(3)));
            assert_eq!(p.features.load(4, e1).unwrap(), None);
        }
        // From several parts to one, and back.
        let p = open();
        for n in [5, 20_000, 0] {
            p.features.save(3, 18, vec![(e1, state(n))]).unwrap();
            assert_eq!(p.features.load(3, e1).unwrap(), Some(state(n)));
        }
        p.features.reset("v2").unwrap();
        assert_eq!(p.features.layout().unwrap().as_deref(), Some("v2"));
        assert_eq!((p.features.watermark(3).unwrap(), p.features.load(3, e1).unwrap()), (0, None));
    });
}

#[test]
fn forgotten_states_are_gone_and_others_stay() {
    on_both(|reopen| {
        let ports = reopen();
        ports.features.reset("layout").unwrap();
        let all = |shard: u128| (0..3).map(|n| (EntityHash(shard << 64 | n), state(n as u64))).collect();
        ports.features.save(0, 5, all(0)).unwrap();
        ports.features.save(1, 5, all(1)).unwrap();
        ports.features.forget(0, &[EntityHash(1), EntityHash(77)]).unwrap();
        drop(ports);
        let ports = reopen();
        let there = |shard: usize, n: u128| ports.features.load(shard, EntityHash(n)).unwrap().is_some();
        assert_eq!((there(0, 0), there(0, 1), there(0, 2)), (true, false, true));
        assert!(there(1, 1 << 64 | 1), "another shard's stay");
        assert_eq!(ports.features.watermark(0), Ok(5));
    });
}
