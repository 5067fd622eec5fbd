use super::*;
use proptest::prelude::*;

const KNOWN: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn vectors_hold() {
    for (salt, unit, expected) in
        [("delay", "UA", 9008u16), ("delay", "", 4588), ("", "user-1", 5843), ("exp-2", "Zürich", 9575)]
    {
        assert_eq!(slot(salt, unit), expected, "{salt} {unit}");
    }
}

#[test]
fn refuses_what_cannot_be_routed() {
    for (shares, word) in [
        (vec![], "no version"),
        (vec![("a", 6_000), ("b", 4_001)], "10001"),
        (vec![("a", 1), ("b", 1), ("b", 1)], "twice"),
        (vec![("a", 1), ("x", 1)], "`x` is not loaded"),
    ] {
        let e = RouteTable::weighted("m", "s", &shares, &KNOWN).unwrap_err();
        assert!(e.contains(word), "{e}");
    }
}

#[test]
fn the_baseline_gets_the_rest() {
    let r = ModelRoute::weighted("s", &[("a", 0), ("b", 500), ("c", 1_000)], &KNOWN).unwrap();
    assert_eq!(r.shares(), [("a", 8_500), ("b", 500), ("c", 1_000)]);
    assert_eq!(
        r.ranges().iter().map(|r| (r.from, r.until)).collect::<Vec<_>>(),
        [(0, 500), (500, 1_500), (1_500, 10_000)]
    );
}

#[test]
fn one_unit_in_twenty_meets_a_five_percent_canary() {
    let t = RouteTable::weighted("m", "s", &[("a", 9_500), ("b", 500)], &KNOWN).unwrap();
    let n = (0..20_000).filter(|i| t.assign("m", &format!("u{i}")).unwrap().version == "b").count();
    // 3 sigma of a binomial(20,000, .05).
    assert!((n as f64 - 1_000.0).abs() < 3.0 * 31.0, "{n}");
    assert_eq!(t.assign("other", "u"), None);
    let single = RouteTable::single("m", "a").with("n", ModelRoute::single("n", "b"));
    assert_eq!(single.assign("n", "u").map(|a| (a.version, a.epoch)), Some(("b", 2)));
    assert_eq!(single.assign("m", "u").map(|a| a.version), Some("a"));
}

#[test]
fn a_broken_table_is_refused() {
    for (ranges, word) in [
        (r#"[{"from":0,"until":9999,"version":"a"}]"#, "9999"),
        (r#"[{"from":5,"until":10000,"version":"a"}]"#, "slot 0"),
        (r#"[{"from":0,"until":10000,"version":"z"}]"#, "`z`"),
    ] {
        let json = format!(r#"{{"salt":"s","versions":["a"],"ranges":{ranges}}}"#);
        let e = serde_json::from_str::<ModelRoute>(&json).unwrap_err().to_string();
        assert!(e.contains(word), "{e}");
    }
}

fn shares() -> impl Strategy<Value = (u32, u32, u32)> {
    (0u32..=4_000, 0u32..=3_000, 0u32..=3_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whoever_is_in_stays_while_shares_grow((b, c, d) in shares(), (b2, c2, d2) in shares()) {
        let of = |b, c, d| [("a", 0), ("b", b), ("c", c), ("d", d)];
        let before = ModelRoute::weighted("s", &of(b, c, d), &KNOWN).unwrap();
        prop_assert_eq!(before.shares(), vec![("a", 10_000 - b - c - d), ("b", b), ("c", c), ("d", d)]);
        let grown = (b.max(b2), c.max(c2), d.max(d2));
        let after = before.reweighted(&of(grown.0, grown.1, grown.2), &KNOWN).unwrap();
        prop_assert_eq!(after.shares()[1..].to_vec(), vec![("b", grown.0), ("c", grown.1), ("d", grown.2)]);
        for (x, y) in before.slots.iter().zip(&after.slots) {
            prop_assert!(*x == 0 || x == y);
        }
        let back = after.reweighted(&[("a", 10_000)], &KNOWN).unwrap();
        prop_assert_eq!(back.ranges().len(), 1);
        let json = serde_json::to_string(&after).unwrap();
        prop_assert_eq!(serde_json::from_str::<ModelRoute>(&json).unwrap(), after);
    }
}

/// A user's visits spread over a rollout: restarts and machines are new tables read from what was stored.
#[test]
fn nobody_returns_to_the_baseline_while_shares_grow() {
    const USERS: usize = 1_000_000;
    const VISITS: usize = 20;
    let units: Vec<String> = (0..USERS).map(|u| format!("user-{u}")).collect();
    let mut in_canary = vec![false; USERS];
    let mut route: Option<ModelRoute> = None;
    for share in [100u32, 500, 2_500, 5_000, 10_000] {
        let next = ModelRoute::rollout(route.as_ref(), "m-1", ("a", "b"), share).unwrap();
        let stored = serde_json::to_string(&next).unwrap();
        let next: ModelRoute = serde_json::from_str(&stored).unwrap();
        let mut users = 0usize;
        for (unit, was) in units.iter().zip(&mut in_canary) {
            for _ in 0..VISITS / 5 {
                let is = next.index_of(unit) == 1;
                assert!(is || !*was, "{unit} went back at {share}");
                *was = is;
            }
            users += usize::from(*was);
        }
        let (p, n) = (f64::from(share) / SLOTS as f64, USERS as f64);
        let sigma = (n * p * (1.0 - p)).sqrt();
        assert!((users as f64 - n * p).abs() <= 3.0 * sigma, "{users} of {USERS} at {share} slots");
        route = Some(next);
    }
}

#[test]
fn one_version_may_be_both_arms() {
    let route = ModelRoute::rollout(None, "aa-1", ("v1", "v1"), 5_000).unwrap().in_segment(3);
    let stored: ModelRoute = serde_json::from_str(&serde_json::to_string(&route).unwrap()).unwrap();
    assert_eq!(stored, route);
    let table = RouteTable::default().with("m", stored);
    let arms: Vec<ServedArm> = (0..200).map(|u| table.assign("m", &u.to_string()).unwrap().placement.arm).collect();
    assert!(arms.contains(&ServedArm::Canary) && arms.contains(&ServedArm::Baseline));
    assert_eq!(table.assign("m", "x").unwrap().placement.segment, Some(3));
    assert_eq!(table.assign("m", "x").unwrap().placement.weight, 5_000);
}
