use super::*;
use proptest::prelude::*;

fn event(seq: u64, ids: &[(&str, &str)], properties: &[(&str, &str)]) -> LoggedEvent {
    let event = Event {
        id: format!("e-{seq}"),
        kind: "order".into(),
        time: Timestamp(seq as i64 * 1_000_000),
        entities: ids.iter().map(|(k, v)| ((*k).into(), Some((*v).into()))).collect(),
        properties: properties.iter().map(|(k, v)| ((*k).into(), Value::Text((*v).into()))).collect(),
    };
    LoggedEvent { seq, ingested: event.time, late: false, event }
}

fn erased(keys: &[&str], ids: &[&str], seq: u64) -> Erased {
    let keys: Vec<String> = keys.iter().map(|k| (*k).into()).collect();
    let mut all = Erased::new(7, []);
    let mark = all.mark(&keys, ids);
    all.add(Tombstone { entity: "user".into(), keys, mark, seq, time: Timestamp(seq as i64 * 1_000_000) });
    all
}

#[test]
fn an_event_of_nobody_else_keeps_its_place_only() {
    let all = erased(&["user"], &["ann-1"], 5);
    let mut e = event(5, &[("user", "ann-1")], &[("city", "Oslo")]);
    assert!(all.blank(&mut e));
    assert_eq!((e.seq, e.event.kind.as_str()), (5, "order"));
    assert_eq!(e.event.entities["user"], None);
    assert!(e.event.properties.is_empty() && e.event.is_erased());
    assert!(!all.blank(&mut e.clone()), "once is enough");
}

#[test]
fn others_keep_what_does_not_tell_who_is_gone() {
    let all = erased(&["user"], &["ann-1"], 5);
    let mut e = event(3, &[("user", "ann-1"), ("shop", "s9")], &[("item", "tea"), ("note", "for ann-1, with love")]);
    assert!(all.blank(&mut e));
    assert_eq!(e.event.entities["shop"].as_deref(), Some("s9"));
    assert_eq!(e.event.properties["item"], Value::Text("tea".into()));
    assert_eq!(e.event.properties["note"], Value::Null);
}

#[test]
fn later_events_and_other_ids_are_not_reached() {
    let all = erased(&["user"], &["ann-1"], 5);
    for mut e in [event(6, &[("user", "ann-1")], &[]), event(2, &[("user", "ann-2")], &[]), event(2, &[], &[])] {
        let before = e.clone();
        assert!(!all.blank(&mut e) && !all.reaches(&e));
        assert_eq!(e, before);
    }
}

#[test]
fn a_composite_is_reached_by_all_of_its_keys() {
    let all = erased(&["a", "b"], &["x", "y"], 9);
    assert!(all.reaches(&event(1, &[("a", "x"), ("b", "y")], &[])));
    assert!(!all.reaches(&event(1, &[("a", "y"), ("b", "x")], &[])));
    assert!(!all.reaches(&event(1, &[("a", "x")], &[])));
}

#[test]
fn a_second_tombstone_reaches_further_and_never_less() {
    let mut all = erased(&["user"], &["ann-1"], 5);
    let t = all.iter().next().unwrap().clone();
    all.add(Tombstone { seq: 9, ..t.clone() });
    all.add(Tombstone { seq: 2, ..t });
    assert!(all.reaches(&event(9, &[("user", "ann-1")], &[])) && !all.reaches(&event(10, &[("user", "ann-1")], &[])));
    assert_eq!(all.iter().count(), 1);
}

proptest! {
    #[test]
    fn the_id_is_nowhere_in_what_is_left(id in "[a-z]{4,12}", place in "[0-9]{0,5}", shop in proptest::bool::ANY) {
        let all = erased(&["user"], &[&id], 5);
        let mut ids = vec![("user", id.as_str())];
        if shop {
            ids.push(("shop", "9"));
        }
        let mut e = event(1, &ids, &[("p", &format!("{place}{id}{place}")), ("q", &id)]);
        e.event.id = format!("{place}-{id}");
        e.event.kind = "0".into();
        all.blank(&mut e);
        // Hexadecimal digits may spell a short word: the id is compared without its hash.
        let mut shown = e.event.clone();
        shown.id = shown.id[ERASED.len()..].chars().filter(char::is_ascii_digit).collect();
        let values: String = shown.entities.values().flatten().cloned().collect();
        let text = format!("{}{values}{:?}", shown.id, shown.properties.values());
        prop_assert!(!text.contains(&id), "{text}");
    }
}
