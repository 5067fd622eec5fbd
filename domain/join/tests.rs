use super::*;
use crate::prediction::OutcomeStatus as S;
use proptest::prelude::*;

fn joiner(max: usize) -> Joiner {
    let spec = serde_json::from_value(serde_json::json!({"matures_after": "1d", "expires_after": "7d"})).unwrap();
    Joiner::new(BTreeMap::from([("m".to_string(), spec)]), max)
}

fn at(hours: i64) -> Timestamp {
    Timestamp(0) + Span::hours(24_000 + hours)
}

fn id(n: u8, t: Timestamp) -> PredictionId {
    PredictionId::of_request(t, "m", &format!("r{n}"))
}

fn predict(j: &mut Joiner, n: u8, t: Timestamp, now: Timestamp) -> Option<Joined> {
    let p = PredictionRef {
        model: "m".into(),
        version: "v1".into(),
        id: id(n, t),
        request_id: Some(format!("r{n}")),
        time: t,
        score: f64::from(n) / 10.0,
    };
    j.on_prediction(&p, now)
}

fn outcome(n: u8, label: Option<bool>, revision: u32) -> OutcomeRecord {
    OutcomeRecord { model: "m".into(), target: OutcomeTarget::RequestId(format!("r{n}")), label, time: at(1), revision }
}

fn change(j: Option<Joined>) -> Option<Change> {
    j.map(|j| j.change)
}

#[test]
fn a_forgotten_prediction_is_forgotten_with_and_without_a_tick() {
    // Expired after 7 days, forgotten after 14: what comes then waits for a request that repeats the id.
    for ticks in [false, true] {
        let mut j = joiner(100);
        predict(&mut j, 1, at(0), at(0));
        let now = at(14 * 24 + 1);
        if ticks {
            j.tick(now);
        }
        assert_eq!(j.on_outcome(&outcome(1, Some(true), 0), now).0, S::Parked, "ticks: {ticks}");
        assert_eq!(change(predict(&mut j, 1, now, now)), Some(Change::Matured { label: true }), "ticks: {ticks}");
    }
}

#[test]
fn revisions() {
    let mut j = joiner(100);
    assert_eq!(predict(&mut j, 1, at(0), at(0)), None);
    let table = [
        (Some(true), 0, S::Matured, Some(Change::Matured { label: true })),
        (Some(true), 0, S::Duplicate, None),
        (Some(false), 0, S::Conflict, None),
        (Some(false), 1, S::Amended, Some(Change::Amended { from: Some(true), to: false })),
        (Some(true), 0, S::Conflict, None),
        (None, 2, S::Voided, Some(Change::Voided { was: Some(false) })),
        (None, 2, S::Duplicate, None),
        (Some(true), 3, S::Amended, Some(Change::Amended { from: None, to: true })),
        (Some(true), 5, S::Duplicate, None),
        (Some(false), 4, S::Conflict, None),
    ];
    for (i, (label, revision, status, expected)) in table.into_iter().enumerate() {
        let (s, joined) = j.on_outcome(&outcome(1, label, revision), at(2));
        assert_eq!((s, change(joined)), (status, expected), "step {i}");
    }
    let by_id = OutcomeRecord { target: OutcomeTarget::PredictionId(id(1, at(0))), ..outcome(1, Some(true), 5) };
    assert_eq!(j.on_outcome(&by_id, at(3)).0, S::Duplicate);
    let c = j.counts("m").unwrap();
    assert_eq!((c.pending, c.matured, c.amended, c.voided, c.duplicates, c.conflicts), (0, 1, 2, 1, 4, 3));
}

#[test]
fn an_early_outcome_waits_a_day() {
    let mut j = joiner(100);
    assert_eq!(j.on_outcome(&outcome(1, Some(true), 0), at(0)).0, S::Parked);
    assert_eq!(j.on_outcome(&outcome(1, Some(true), 0), at(0)).0, S::Duplicate);
    assert_eq!(j.on_outcome(&outcome(1, Some(false), 1), at(0)).0, S::Parked);
    assert_eq!(change(predict(&mut j, 1, at(0), at(23))), Some(Change::Matured { label: false }));
    assert_eq!(predict(&mut j, 1, at(0), at(23)), None, "counted once");
    j.on_outcome(&outcome(2, Some(true), 0), at(0));
    assert_eq!(predict(&mut j, 2, at(0), at(24)), None, "too late, tick or not");
    j.on_outcome(&outcome(3, Some(true), 0), at(0));
    j.tick(at(24));
    let c = j.counts("m").unwrap();
    assert_eq!((c.parked, c.orphaned, c.pending, c.matured), (0, 2, 1, 1));
}

#[test]
fn expiry() {
    let mut j = joiner(100);
    predict(&mut j, 1, at(0), at(0));
    predict(&mut j, 2, at(1), at(1));
    j.on_outcome(&outcome(2, Some(true), 0), at(5));
    let week = 7 * 24;
    assert_eq!(j.tick(at(week - 1)), []);
    assert_eq!(j.on_outcome(&outcome(1, Some(true), 0), at(week)), (S::Expired, None), "before the tick");
    let expired = j.tick(at(week + 2));
    assert_eq!(expired.iter().map(|e| e.id).collect::<Vec<_>>(), [id(1, at(0))], "the joined one does not expire");
    assert_eq!(j.on_outcome(&outcome(1, Some(true), 0), at(week + 3)).0, S::Expired);
    assert_eq!(j.tick(at(3 * week)), []);
    let by_id = OutcomeRecord { target: OutcomeTarget::PredictionId(id(1, at(0))), ..outcome(1, Some(true), 0) };
    assert_eq!(j.on_outcome(&by_id, at(3 * week)).0, S::Expired, "its id tells its time");
    let c = j.counts("m").unwrap();
    assert_eq!((c.expired, c.late, c.pending), (1, 3, 0));
}

#[test]
fn bounded_by_dropping_the_oldest() {
    let mut j = joiner(3);
    for n in 0..5 {
        predict(&mut j, n, at(i64::from(n)), at(i64::from(n)));
        j.on_outcome(&outcome(100 + n, None, 0), at(i64::from(n)));
    }
    assert_eq!(j.on_outcome(&outcome(4, Some(true), 0), at(5)).0, S::Matured);
    let c = j.counts("m").unwrap();
    assert_eq!((c.pending, c.parked, c.forgotten), (2, 3, 4));
    assert!(!j.knows("x"));
    assert_eq!(j.on_outcome(&OutcomeRecord { model: "x".into(), ..outcome(1, None, 0) }, at(0)), (S::Expired, None));
}

/// Net label by prediction, as a consumer that adds up the changes sees it.
fn net(joined: Vec<Joined>) -> BTreeMap<PredictionId, Option<bool>> {
    let mut net = BTreeMap::new();
    for j in joined {
        let (before, after) = match j.change {
            Change::Matured { label } => (None, Some(label)),
            Change::Amended { from, to } => (Some(from), Some(to)),
            Change::Voided { was: None } => (None, None),
            Change::Voided { was } => (Some(was), None),
        };
        assert_eq!(net.insert(j.id, after), before, "a change starts from what was said last");
    }
    net
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn thrice_in_any_order_is_once(
        labels in prop::collection::vec(prop::collection::vec(prop::option::of(any::<bool>()), 1..4), 1..12),
        order in any::<u64>(),
    ) {
        let records: Vec<(u8, OutcomeRecord)> = labels
            .iter()
            .enumerate()
            .flat_map(|(n, ls)| ls.iter().enumerate().map(move |(r, l)| (n as u8, outcome(n as u8, *l, r as u32))))
            .collect();
        // `None` is the prediction itself, posted twice.
        let mut steps: Vec<(u8, Option<OutcomeRecord>)> = Vec::new();
        for _ in 0..3 {
            steps.extend(records.iter().map(|(n, r)| (*n, Some(r.clone()))));
        }
        for n in 0..labels.len() as u8 {
            steps.extend([(n, None), (n, None)]);
        }
        let mut i = 0u64;
        steps.sort_by_cached_key(|_| {
            i += 1;
            fixed_hash::of_parts([&order.to_le_bytes()[..], &i.to_le_bytes()[..]])
        });
        let mut j = joiner(1_000);
        let mut joined = Vec::new();
        for (n, step) in &steps {
            match step {
                None => joined.extend(predict(&mut j, *n, at(i64::from(*n)), at(20))),
                Some(o) => joined.extend(j.on_outcome(o, at(20)).1),
            }
        }
        let expected: BTreeMap<_, _> =
            labels.iter().enumerate().map(|(n, ls)| (id(n as u8, at(n as i64)), *ls.last().unwrap())).collect();
        prop_assert_eq!(net(joined), expected);
        let c = j.counts("m").unwrap();
        prop_assert_eq!((c.pending, c.parked, c.orphaned, c.late, c.forgotten), (0, 0, 0, 0, 0));
    }
}

#[test]
fn a_changed_project_keeps_what_waits() {
    let spec = |text: &str| -> OutcomeSpec { serde_json::from_str(text).unwrap() };
    let week = spec(r#"{"expires_after": "7d"}"#);
    let mut joiner = Joiner::new([("a".into(), week.clone()), ("b".into(), week.clone())].into(), 10);
    let now = Timestamp(1_000_000);
    for model in ["a", "b"] {
        let p = PredictionRef {
            model: model.into(),
            version: "v1".into(),
            id: PredictionId(1),
            request_id: None,
            time: now,
            score: 0.5,
        };
        joiner.on_prediction(&p, now);
    }
    // `a` waits for a shorter time now, `b` is gone, `c` is new.
    joiner.follow([("a".into(), spec(r#"{"expires_after": "1d"}"#)), ("c".into(), week)].into(), 10);
    assert_eq!((joiner.knows("a"), joiner.knows("b"), joiner.knows("c")), (true, false, true));
    assert_eq!(joiner.counts("a").unwrap().pending, 1);
    assert_eq!(joiner.tick(now + Span::hours(23)), []);
    assert_eq!(joiner.tick(now + Span::hours(25)).len(), 1);
}

proptest! {
    /// What was saved and read back at any moment goes on as if nothing had happened.
    #[test]
    fn a_saved_joiner_goes_on(steps in proptest::collection::vec((0u8..12, any::<Option<bool>>(), 0u32..3, 0u8..4), 1..60), cut in 0usize..60) {
        let run = |saved_at: Option<usize>| {
            let (mut j, mut told) = (joiner(8), Vec::new());
            for (i, (n, label, revision, kind)) in steps.iter().enumerate() {
                if saved_at == Some(i) {
                    let saved = serde_json::to_string(&j.save()).unwrap();
                    j = Joiner::from_saved(serde_json::from_str(&saved).unwrap());
                }
                let now = at(i as i64 * 7);
                match kind {
                    0 | 1 => told.push(format!("{:?}", predict(&mut j, *n, now, now))),
                    2 => told.push(format!("{:?}", j.on_outcome(&outcome(*n, *label, *revision), now))),
                    _ => told.push(format!("{:?}", j.tick(now))),
                }
            }
            (told, j.all_counts())
        };
        prop_assert_eq!(run(None), run(Some(cut % steps.len())));
    }
}
