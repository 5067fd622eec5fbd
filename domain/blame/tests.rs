use super::*;

fn day(n: i64) -> Timestamp {
    Timestamp(0) + Span::days(n)
}

fn case() -> Case {
    Case {
        subject: Subject::Feature,
        since: day(100),
        until: day(103),
        window: Span::days(1),
        against_training: false,
        feeds: Vec::new(),
        definitions: Vec::new(),
        versions: Vec::new(),
        mix: None,
    }
}

fn trace(read: bool, since: i64, until: Option<i64>) -> FeedTrace {
    let incident = DataIncident {
        feed: "weather".into(),
        since: day(since),
        opened: day(since + 2),
        until: until.map(day),
        column: "temp".into(),
        reason: "weather.temp: missing holds 100 % of the events".into(),
        effect: 3.0,
        findings: 4,
    };
    FeedTrace { incident, read }
}

fn changed(at: i64, direct: bool) -> Changed {
    Changed { at: day(at), what: "views.origin.features.x".into(), direct }
}

#[test]
fn each_cause_is_found_by_its_own_evidence() {
    let mix = |after| Some(MixEffect { by: "carrier".into(), before: 0.4, after });
    let model = Case { subject: Subject::Model, versions: vec![changed(100, true)], ..case() };
    let table = [
        ("nothing", case(), vec![Cause::World]),
        ("its feed, with it", Case { feeds: vec![trace(true, 100, None)], ..case() }, vec![Cause::Feed, Cause::World]),
        (
            "its feed, long before",
            Case { feeds: vec![trace(true, 90, None)], ..case() },
            vec![Cause::Feed, Cause::World],
        ),
        ("its feed, over before", Case { feeds: vec![trace(true, 80, Some(90))], ..case() }, vec![Cause::World]),
        ("its feed, after it", Case { feeds: vec![trace(true, 102, None)], ..case() }, vec![Cause::World]),
        ("another feed", Case { feeds: vec![trace(false, 100, None)], ..case() }, vec![Cause::World, Cause::Feed]),
        (
            "its definition",
            Case { definitions: vec![changed(100, true)], ..case() },
            vec![Cause::FeatureCode, Cause::World],
        ),
        ("a definition long ago", Case { definitions: vec![changed(90, true)], ..case() }, vec![Cause::World]),
        (
            "another definition",
            Case { definitions: vec![changed(100, false)], ..case() },
            vec![Cause::FeatureCode, Cause::World],
        ),
        ("another version of the model", model.clone(), vec![Cause::Model, Cause::World]),
        (
            "a version cannot change what it sees",
            Case { subject: Subject::Feature, ..model.clone() },
            vec![Cause::World],
        ),
        (
            "but what that is compared with",
            Case { subject: Subject::Feature, against_training: true, ..model },
            vec![Cause::Model, Cause::World],
        ),
        ("who asks", Case { mix: mix(0.05), ..case() }, vec![Cause::TrafficMix, Cause::World]),
        ("who asks, a little", Case { mix: mix(0.35), ..case() }, vec![Cause::World]),
        (
            "feed before mix",
            Case { feeds: vec![trace(true, 100, None)], mix: mix(0.0), ..case() },
            vec![Cause::Feed, Cause::TrafficMix, Cause::World],
        ),
    ];
    for (name, case, causes) in table {
        let found = blame(&case);
        assert_eq!(found.iter().map(|s| s.cause).collect::<Vec<_>>(), causes, "{name}: {found:?}");
        assert!(found.iter().all(|s| s.weight > 0.0 && s.weight <= 1.0 && !s.evidence.is_empty()), "{name}: {found:?}");
    }
}

#[test]
fn the_verdict_names_the_likeliest_and_why() {
    let found = blame(&Case { feeds: vec![trace(true, 100, None)], ..case() });
    let said = verdict(&found);
    assert!(said.starts_with("most likely the feed: an incident of the feed weather since 1970-04-11"), "{said}");
    assert!(verdict(&blame(&case())).contains("world: nothing of ours changed"), "{:?}", blame(&case()));
}
