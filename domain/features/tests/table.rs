//! Cold starts, null keys, age and ttl, expiry, eviction, explanations, whole vectors.

use super::*;

fn table(events: &[LoggedEvent]) -> FeatureTable {
    let mut t = FeatureTable::new(plan(), 0, 1, usize::MAX);
    events.iter().for_each(|e| t.apply(e, &mut |_| None));
    t
}

#[test]
fn a_cold_start_counts_zero_and_a_null_key_is_null() {
    let plan = plan();
    let names: Vec<String> =
        ["count_10", "sum_x", "mean_10", "distinct_c", "since", "rate", "pair_count"].map(String::from).into();
    let vector = plan.vector(&names).unwrap();
    let mut t = table(&[]);
    let mut v = vector.blank();
    let hashes = plan.entity_hashes(&ids(Some("u"), None));
    for g in vector.groups() {
        if let Some(h) = hashes[g.entity] {
            assert_eq!(t.read(h, g, Timestamp(0), &mut v), Lookup::Absent);
        }
    }
    vector.finish(&BTreeMap::new(), &ids(Some("u"), None), &mut v);
    let zero = Value::Float(0.0);
    assert_eq!(v.values, [Value::Int(0), zero.clone(), Value::Null, Value::Int(0), Value::Null, zero, Value::Null]);
    assert!(v.stale.is_empty() && v.ages.iter().all(Option::is_none));
}

#[test]
fn ages_and_ttl_are_of_the_moment_of_use() {
    let plan = plan();
    let vector = plan.vector(&["max_x".to_string(), "pair_mean".to_string()]).unwrap();
    let mut t = table(&[trip(1, 10, "u", Some(1.0), None, None)]);
    let v = read(&mut t, &plan.vector(&["max_x".to_string()]).unwrap(), "u", 18, &BTreeMap::new());
    assert_eq!((v.ages[0], v.stale.as_slice()), (Some(8), &[][..]));
    let mut v = vector.blank();
    for g in vector.groups() {
        let h = plan.entity_hashes(&ids(Some("u"), Some("y")))[g.entity].unwrap();
        t.read(h, g, Timestamp(19 * SECOND), &mut v);
    }
    assert_eq!(v.ages, [Some(9), Some(9)]);
    assert_eq!(v.stale, [0], "the pair's view has no ttl");
}

#[test]
fn context_and_expressions_complete_the_vector() {
    let plan = plan();
    // `gap_more` needs `gap`, `sum_x`, `d` and `pair_mean`, of which only `d` is an input of the model.
    let vector = plan.vector(&["gap_more".to_string(), "d".to_string(), "a_id".to_string()]).unwrap();
    let mut t = table(&[trip(1, 10, "u", Some(1.5), None, None)]);
    let who = ids(Some("u"), Some("y"));
    let mut v = vector.blank();
    let mut parts = Vec::new();
    for g in vector.groups() {
        let mut part = vector.blank();
        t.read(plan.entity_hashes(&who)[g.entity].unwrap(), g, Timestamp(12 * SECOND), &mut part);
        parts.push((g, part));
    }
    parts.iter().for_each(|(g, part)| v.absorb(g, part));
    let context = BTreeMap::from([("d".to_string(), Value::Int(4)), ("dd".to_string(), Value::Null)]);
    vector.finish(&context, &who, &mut v);
    assert_eq!(v.values, [Value::Float(7.0), Value::Float(4.0), Value::text("u")]);
    assert_eq!(v.ages, [Some(2), None, None]);
    assert_eq!(vector.unknown_context(&plan, &context), ["dd"]);
}

#[test]
fn expiry_drops_what_no_window_reaches_and_empty_entities() {
    let mut t = table(&[trip(1, 0, "u", Some(1.0), None, None), trip(2, 30, "v", Some(1.0), None, None)]);
    let before = t.stats();
    assert!(before.points > 0 && before.entities == 4, "{before:?}");
    let now = |s: i64| Timestamp(s * SECOND) + super::super::GRACE;
    assert_eq!(t.expire(now(9)), 0);
    assert!(t.expire(now(25)) > 0);
    let after = t.stats();
    assert_eq!(after.entities, 2);
    assert!(after.points < before.points);
    let v = read(&mut t, &plan().vector(&names()).unwrap(), "v", 31, &BTreeMap::new());
    assert_eq!(v.values[0], Value::Int(1));
}

#[test]
fn only_changed_entities_are_saved() {
    let mut t = table(&[trip(7, 0, "u", Some(1.0), None, None)]);
    assert_eq!(t.snapshot_dirty().len(), 2);
    assert_eq!(t.snapshot_dirty().len(), 0);
    t.apply(&trip(7, 0, "u", Some(1.0), None, None), &mut |_| None);
    assert_eq!(t.snapshot_dirty().len(), 0, "a repeat changes nothing");
    assert_eq!(t.watermark(), 7);
}

#[test]
fn states_of_other_definitions_are_refused() {
    let mut t = table(&[trip(1, 0, "u", Some(1.0), None, None)]);
    let saved = t.snapshot_dirty();
    let mut spec = project();
    spec.views.get_mut("a_trips").unwrap().features.retain(|n, _| n == "count_10");
    spec.views.get_mut("pair_trips").unwrap().features.retain(|n, _| n == "pair_count");
    spec.expressions.clear();
    let mut other = FeatureTable::new(Arc::new(Plan::compile(&spec).unwrap_or_else(|p| panic!("{p:?}"))), 0, 1, 10);
    for (h, s) in saved {
        assert!(!other.insert(h, s));
    }
}

#[test]
fn an_explanation_names_its_evidence() {
    let t = table(&[
        trip(1, 10, "u", Some(1.0), None, None),
        trip(2, 14, "u", Some(2.0), None, None),
        trip(3, 15, "u", None, None, None),
    ]);
    let e = t.explain(hash("u"), "mean_10", Timestamp(16 * SECOND)).unwrap();
    assert_eq!(e.value, Value::Float(1.5));
    assert_eq!((e.from, e.to), (Timestamp(6 * SECOND), Timestamp(16 * SECOND)));
    assert_eq!((e.events, e.age_seconds), (2, Some(2)));
    assert_eq!((e.newest, e.oldest), (Some(Timestamp(14 * SECOND)), Some(Timestamp(10 * SECOND))));
    assert!(t.explain(hash("u"), "pair_mean", Timestamp(0)).is_none());
    assert!(t.explain(hash("nobody"), "mean_10", Timestamp(0)).is_none());
}

#[test]
fn memory_is_bounded_by_max_entities() {
    let mut t = FeatureTable::new(plan(), 0, 1, 10);
    for i in 0..2_000 {
        t.apply(&trip(i + 1, 0, &format!("n{i}"), Some(1.0), None, None), &mut |_| None);
        t.take_evicted();
    }
    let s = t.stats();
    assert_eq!(s.entities, 10);
    assert!(s.bytes < 200_000, "{s:?}");
}

#[test]
fn events_are_checked() {
    let plan = plan();
    let good = trip(1, 0, "u", Some(1.0), Some(1), Some("c")).event;
    assert_eq!(plan.check_event(&good), Ok(()));
    let code = |change: &dyn Fn(&mut Event)| {
        let mut e = good.clone();
        change(&mut e);
        plan.check_event(&e).err().map(|e| e.0)
    };
    let long = "x".repeat(257);
    assert_eq!(code(&|e| e.id = String::new()).as_deref(), Some("bad_id"));
    assert_eq!(code(&|e| e.id = long.clone()).as_deref(), Some("bad_id"));
    assert_eq!(code(&|e| e.kind = "tripp".into()).as_deref(), Some("unknown_event_type"));
    assert_eq!(code(&|e| drop(e.properties.insert("y".into(), Value::Null))).as_deref(), Some("unknown_property"));
    assert_eq!(code(&|e| drop(e.properties.insert("n".into(), Value::Float(1.5)))).as_deref(), Some("type_mismatch"));
    assert_eq!(code(&|e| drop(e.properties.insert("x".into(), Value::Int(1)))), None);
    assert_eq!(code(&|e| drop(e.entities.insert("z".into(), None))).as_deref(), Some("unknown_entity_key"));
    assert_eq!(code(&|e| drop(e.entities.insert("a".into(), Some(String::new())))).as_deref(), Some("bad_entity_id"));
    assert_eq!(code(&|e| drop(e.entities.insert("a".into(), None))), None);
    let detail = plan.check_event(&Event { kind: "tripp".into(), ..good.clone() }).unwrap_err().1;
    assert!(detail.contains("did you mean `trip`?"), "{detail}");
}

#[test]
fn a_state_handed_over_is_handed_back() {
    let mut t = FeatureTable::new(plan(), 0, 1, 2);
    t.apply(&trip(1, 0, "u", Some(1.0), None, None), &mut |_| None);
    t.apply(&trip(2, 0, "v", Some(1.0), None, None), &mut |_| None);
    t.apply(&trip(3, 0, "w", Some(1.0), None, None), &mut |_| None);
    let taken: BTreeMap<_, _> = t.take_evicted().into_iter().collect();
    let state = taken.get(&hash("u")).expect("the oldest went").clone();
    // A repeat changes nothing, but the caller gave its only copy away.
    t.apply(&trip(1, 0, "u", Some(1.0), None, None), &mut |h| taken.get(&h).cloned());
    assert!(t.snapshot_dirty().contains(&(hash("u"), state)));
}

#[test]
fn a_long_log_is_not_held_whole() {
    let mut t = FeatureTable::new(plan(), 0, 1, usize::MAX);
    for i in 0..20_000u64 {
        t.apply(&trip(i + 1, 60 * i as i64, "u", Some(1.0), None, None), &mut |_| None);
    }
    let s = t.stats();
    assert!(s.points < 9 * 512, "{s:?}");
    let counts = read(&mut t, &plan().vector(&names()).unwrap(), "u", 60 * 19_999, &BTreeMap::new());
    assert_eq!(counts.values[1], Value::Int(1));
}

#[test]
fn an_erased_entity_is_gone() {
    let mut t = table(&[trip(1, 0, "u", Some(1.0), None, None)]);
    assert!(t.forget(hash("u")));
    assert!(!t.forget(hash("u")));
    let v = read(&mut t, &plan().vector(&names()).unwrap(), "u", 1, &BTreeMap::new());
    assert_eq!(v.values[0], Value::Int(0));
}

#[test]
fn a_clock_that_was_ahead_closes_no_window_that_is_open() {
    // Enough points of one instant for the sweep that goes with them; the clock is ten days ahead meanwhile.
    let trips = |ahead: i64| -> Vec<LoggedEvent> {
        let one = |seq| {
            let mut e = trip(seq, 100, "u", Some(1.0), None, None);
            e.ingested = Timestamp(e.event.time.0 + ahead * 86_400 * SECOND);
            e
        };
        (1..=600).map(one).collect()
    };
    let vector = plan().vector(&names()).unwrap();
    let read_at = |t: &mut FeatureTable| read(t, &vector, "u", 101, &BTreeMap::new());
    let (mut right, mut wrong) = (table(&trips(0)), table(&trips(10)));
    assert_eq!(read_at(&mut wrong).values, read_at(&mut right).values);
    assert_eq!(wrong.newest(), Timestamp(100 * SECOND));
}
