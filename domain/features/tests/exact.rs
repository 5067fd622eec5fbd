//! Exact windows against the naive engine.

use super::*;

/// All features of all entities at several times.
fn check(
    table: &mut FeatureTable,
    vector: &VectorPlan,
    events: &[LoggedEvent],
    store: &BTreeMap<EntityHash, EntityState>,
) {
    for t in [0, 9, 10, 11, 25, 30, 59, 60, 90] {
        for a in ["u", "v", "w"] {
            // Twice: the second answer is the memo's.
            let first = read(table, vector, a, t, store);
            assert_eq!(first, read(table, vector, a, t, store));
            for (f, got) in NAIVE.iter().zip(&first.values) {
                let want = naive(events, a, f, t, false);
                assert!(same(got, &want), "{} of {a} at {t}: {got}, naive {want}", f.0);
            }
        }
    }
}

fn bits(v: &Vector) -> Vec<u8> {
    serde_json::to_vec(&v.values).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_order_and_repeats_agree_with_the_naive_engine(events in events(), order in Just(()).prop_perturb(|(), r| r), cut in 0usize..40) {
        let plan = plan();
        let vector = plan.vector(&names()).unwrap();
        let none = BTreeMap::new();
        let mut sorted = FeatureTable::new(plan.clone(), 0, 1, usize::MAX);
        events.iter().for_each(|e| sorted.apply(e, &mut |_| None));
        check(&mut sorted, &vector, &events, &none);

        let mut mixed: Vec<&LoggedEvent> = events.iter().chain(&events[..cut.min(events.len())]).collect();
        let mut rng = order;
        for i in (1..mixed.len()).rev() {
            mixed.swap(i, rng.next_u32() as usize % (i + 1));
        }
        let mut other = FeatureTable::new(plan.clone(), 0, 1, usize::MAX);
        for (i, e) in mixed.iter().enumerate() {
            other.apply(e, &mut |_| None);
            if i % 5 == 0 {
                read(&mut other, &vector, "u", i as i64, &none); // fills the memo in between
            }
        }
        for t in [5, 30, 60] {
            for a in ["u", "v", "w"] {
                prop_assert_eq!(bits(&read(&mut other, &vector, a, t, &none)), bits(&read(&mut sorted, &vector, a, t, &none)));
            }
        }
    }

    #[test]
    fn eviction_snapshot_and_restore_change_nothing(events in events(), cut in 0usize..40, back in 0usize..10) {
        let plan = plan();
        let vector = plan.vector(&names()).unwrap();
        let cut = cut.min(events.len());
        let mut store: BTreeMap<EntityHash, EntityState> = BTreeMap::new();
        // One entity (of each of two types) fits: nearly every event evicts.
        let mut table = FeatureTable::new(plan.clone(), 0, 1, 2);
        for e in &events[..cut] {
            table.apply(e, &mut |h| store.get(&h).cloned());
            store.extend(table.take_evicted());
        }
        check(&mut table, &vector, &events[..cut], &store);
        store.extend(table.take_evicted());
        store.extend(table.snapshot_dirty());
        // Restored from what was saved, then fed again from before the watermark.
        let mut table = FeatureTable::new(plan.clone(), 0, 1, 2);
        table.set_may_be_cold(true);
        for e in &events[cut.saturating_sub(back)..] {
            table.apply(e, &mut |h| store.get(&h).cloned());
            store.extend(table.take_evicted());
        }
        check(&mut table, &vector, &events, &store);
    }

    #[test]
    fn the_memo_equals_recomputation_bit_for_bit(events in events(), times in prop::collection::vec(0i64..90, 1..60)) {
        let plan = plan();
        let vector = plan.vector(&names()).unwrap();
        let none = BTreeMap::new();
        let mut table = FeatureTable::new(plan.clone(), 0, 1, usize::MAX);
        let mut feed = events.iter();
        for t in times {
            if let Some(e) = feed.next() {
                table.apply(e, &mut |_| None);
            }
            let remembered = read(&mut table, &vector, "u", t, &none);
            for (name, value) in names().iter().zip(&remembered.values) {
                if let Some(fresh) = table.explain(hash("u"), name, Timestamp(t * SECOND)) {
                    prop_assert_eq!(&fresh.value, value, "{} at {}", name, t);
                }
            }
        }
    }

    #[test]
    fn shards_divide_the_entities(events in events()) {
        let plan = plan();
        let vector = plan.vector(&names()).unwrap();
        let none = BTreeMap::new();
        let mut whole = FeatureTable::new(plan.clone(), 0, 1, usize::MAX);
        let mut parts: Vec<_> = (0..3).map(|i| FeatureTable::new(plan.clone(), i, 3, usize::MAX)).collect();
        for e in &events {
            whole.apply(e, &mut |_| None);
            parts.iter_mut().for_each(|p| p.apply(e, &mut |_| None));
        }
        prop_assert_eq!(whole.stats().points, parts.iter().map(|p| p.stats().points).sum::<usize>());
        for a in ["u", "v", "w"] {
            let part = &mut parts[hash(a).shard(3)];
            prop_assert_eq!(read(part, &vector, a, 40, &none), read(&mut whole, &vector, a, 40, &none));
        }
    }
}

/// The comparison can fail: a window closed at t - w differs, and the engine is not it.
#[test]
fn an_event_exactly_one_window_old_is_out() {
    let events = [trip(1, 10, "u", Some(1.0), None, None), trip(2, 20, "u", Some(3.0), None, None)];
    let plan = plan();
    let vector = plan.vector(&names()).unwrap();
    let mut table = FeatureTable::new(plan, 0, 1, usize::MAX);
    events.iter().for_each(|e| table.apply(e, &mut |_| None));
    let count = &NAIVE[0];
    assert_eq!(naive(&events, "u", count, 20, false), Value::Int(1));
    assert_eq!(naive(&events, "u", count, 20, true), Value::Int(2));
    let none = BTreeMap::new();
    assert_eq!(read(&mut table, &vector, "u", 20, &none).values[0], Value::Int(1));
    assert_eq!(read(&mut table, &vector, "u", 19, &none).values[0], Value::Int(1), "an event after t does not count");
    assert_eq!(read(&mut table, &vector, "u", 29, &none).values[0], Value::Int(1));
    assert_eq!(read(&mut table, &vector, "u", 30, &none).values[0], Value::Int(0));
}

#[test]
fn last_is_by_time_then_seq() {
    let plan = plan();
    let vector = plan.vector(&["last_c".to_string(), "last_n".to_string()]).unwrap();
    let mut table = FeatureTable::new(plan, 0, 1, usize::MAX);
    table.apply(&trip(5, 10, "u", None, Some(5), Some("five")), &mut |_| None);
    table.apply(&trip(4, 10, "u", None, Some(4), Some("four")), &mut |_| None);
    table.apply(&trip(6, 9, "u", None, Some(6), None), &mut |_| None);
    let v = read(&mut table, &vector, "u", 10, &BTreeMap::new());
    assert_eq!(v.values, [Value::text("five"), Value::Int(5)]);
}
