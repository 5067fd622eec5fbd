use super::*;
use proptest::prelude::*;

fn at(minutes: i64) -> Now {
    let t = Timestamp(0) + Span::seconds(60 * minutes);
    Now { clock: t, wall: t }
}

fn signal(cause: &str, severity: Severity, hold: i64) -> Signal {
    Signal {
        cause: cause.into(),
        name: cause.split('/').next().unwrap_or_default().into(),
        severity,
        labels: BTreeMap::from([("feed".to_string(), cause.into())]),
        summary: format!("{cause} is wrong"),
        details: vec!["x".into(); 30],
        since: Timestamp(0),
        runbook: "docs/operations.md#alerts".into(),
        hold: Span::seconds(60 * hold),
        lasts: None,
        upstream: Vec::new(),
    }
}

/// A drift that feed/a explains.
fn follows() -> Event {
    Event::Raised(Signal {
        upstream: vec!["feed/a".into(), "feed/b".into()],
        ..signal("drift/m", Severity::Warning, 0)
    })
}

fn raise(cause: &str, severity: Severity, hold: i64) -> Event {
    Event::Raised(signal(cause, severity, hold))
}

fn clear(cause: &str) -> Event {
    Event::Cleared(Resolved { cause: cause.into(), at: None })
}

/// Causes and states of what is told.
fn told(told: &[Told]) -> Vec<String> {
    told.iter().flat_map(|t| &t.alerts).map(|a| format!("{} {}", a.signal.cause, a.is_open())).collect()
}

fn silence(matches: (&str, &str), until: i64) -> Silence {
    Silence {
        id: format!("s-{}-{until}", matches.1),
        matches: BTreeMap::from([(matches.0.to_string(), matches.1.to_string())]),
        created: Timestamp(0),
        until: at(until).wall,
        by: "ann".into(),
        comment: String::new(),
    }
}

#[test]
fn one_cause_is_one_alert_and_is_told_twice_when_it_begins_and_when_it_ends() {
    let mut book = AlertBook::default();
    assert_eq!(told(&book.on(raise("feed/a", Severity::Warning, 0), at(0)).1), ["feed/a true"]);
    for n in 1..50 {
        let (entries, said) = book.on(raise("feed/a", Severity::Warning, 0), at(n));
        assert!(entries.is_empty() && said.is_empty());
    }
    assert_eq!((book.open().len(), book.open()[0].count, book.open()[0].signal.details.len()), (1, 50, 10));
    // Worse: told again, once.
    assert_eq!(told(&book.on(raise("feed/a", Severity::Critical, 0), at(50)).1), ["feed/a true"]);
    assert!(book.on(raise("feed/a", Severity::Warning, 0), at(51)).1.is_empty());
    assert_eq!(book.open()[0].signal.severity, Severity::Critical);
    assert_eq!(told(&book.on(clear("feed/a"), at(52)).1), ["feed/a false"]);
    assert!(book.open().is_empty() && book.on(clear("feed/a"), at(53)).1.is_empty());
}

#[test]
fn what_flaps_is_one_alert_until_it_holds() {
    let mut book = AlertBook::default();
    let mut said = Vec::new();
    for n in 0..20 {
        said.extend(told(&book.on(raise("storage", Severity::Critical, 5), at(2 * n)).1));
        said.extend(told(&book.on(clear("storage"), at(2 * n + 1)).1));
    }
    assert_eq!(said, ["storage true"]);
    assert!(book.on(Event::Tick, at(43)).1.is_empty());
    assert_eq!(told(&book.on(Event::Tick, at(44)).1), ["storage false"]);
}

#[test]
fn what_nobody_ends_ends_by_itself_and_a_person_may_end_it() {
    let mut book = AlertBook::default();
    let lasting = Signal { lasts: Some(Span::hours(1)), ..signal("rollout/m", Severity::Critical, 0) };
    book.on(Event::Raised(lasting), at(0));
    assert!(book.on(Event::Tick, at(59)).1.is_empty());
    assert_eq!(told(&book.on(Event::Tick, at(60)).1), ["rollout/m false"]);
    book.on(raise("feed/a", Severity::Warning, 0), at(70));
    let id = book.open()[0].id.clone();
    assert_eq!(told(&book.on(Event::Ended { id: id.clone() }, at(71)).1), ["feed/a false"]);
    assert!(book.on(Event::Ended { id }, at(72)).0.is_empty());
    // It opens again as another alert.
    book.on(raise("feed/a", Severity::Warning, 0), at(73));
    assert_eq!(book.open().len(), 1);
}

#[test]
fn the_silenced_are_not_told_until_the_silence_ends() {
    let mut book = AlertBook::default();
    book.on(Event::Silenced(silence(("feed", "feed/a*"), 10)), at(0));
    assert!(book.on(raise("feed/a", Severity::Critical, 0), at(1)).1.is_empty());
    assert_eq!(told(&book.on(raise("feed/b", Severity::Critical, 0), at(1)).1), ["feed/b true"]);
    // Over while it was silenced: nobody hears of it at all.
    assert!(book.on(clear("feed/a"), at(2)).1.is_empty());
    assert!(book.on(raise("feed/a", Severity::Critical, 0), at(3)).1.is_empty());
    assert!(book.on(Event::Tick, at(9)).1.is_empty());
    assert_eq!(told(&book.on(Event::Tick, at(10)).1), ["feed/a true"]);
    let s = silence(("alertname", "feed"), 99);
    book.on(Event::Silenced(s.clone()), at(11));
    assert!(book.on(raise("feed/c", Severity::Critical, 0), at(12)).1.is_empty());
    assert_eq!(told(&book.on(Event::Unsilenced { id: s.id }, at(13)).1), ["feed/c true"]);
    assert!(!silence(("feed", "x"), 1).matches(book.open()[0]));
    assert!(
        !Silence { matches: BTreeMap::new(), ..silence(("a", "b"), 1) }.matches(book.open()[0]),
        "nothing is no all"
    );
}

#[test]
fn what_follows_from_an_open_alert_is_told_there() {
    let mut book = AlertBook::default();
    book.on(raise("feed/a", Severity::Critical, 0), at(0));
    for n in 1..5 {
        assert!(book.on(follows(), at(n)).1.is_empty());
    }
    assert_eq!((book.open().len(), book.open()[0].consequences.as_slice()), (1, &["drift/m is wrong".to_string()][..]));
    // It stays when its cause is over: then it is one of its own.
    book.on(clear("feed/a"), at(5));
    assert_eq!(told(&book.on(follows(), at(6)).1), ["drift/m true"]);
    // And goes when the cause is found later.
    assert_eq!(told(&book.on(raise("feed/b", Severity::Critical, 0), at(7)).1), ["drift/m false", "feed/b true"]);
    assert_eq!(book.open()[0].consequences, ["drift/m is wrong"]);
    assert!(book.on(follows(), at(8)).1.is_empty() && book.on(clear("drift/m"), at(9)).1.is_empty());
}

#[test]
fn more_than_can_be_told_is_one_alert() {
    let mut book = AlertBook::default();
    for n in 0..300 {
        book.on(raise(&format!("feed/{n}"), Severity::Warning, 0), at(n));
    }
    assert_eq!(book.open().len(), 201);
    assert!(book.open().iter().any(|a| a.signal.name == "TooManyAlerts" && a.count == 100));
}

#[test]
fn tellings_are_grouped_by_name_and_the_worst_stands_first() {
    let mut book = AlertBook::default();
    book.on(Event::Silenced(silence(("feed", "*"), 10)), at(0));
    for (cause, severity) in [("a/1", Severity::Info), ("b/1", Severity::Critical), ("a/2", Severity::Warning)] {
        assert!(book.on(raise(cause, severity, 0), at(1)).1.is_empty());
    }
    let (_, said) = book.on(Event::Tick, at(10));
    assert_eq!(said.iter().map(|t| (t.name.as_str(), t.alerts.len())).collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
    assert_eq!(book.open().iter().map(|a| a.signal.cause.as_str()).collect::<Vec<_>>(), ["b/1", "a/2", "a/1"]);
    let again = book.reminders(|a| a.signal.severity == Severity::Critical, at(300));
    assert_eq!(told(&again), ["b/1 true"]);
}

proptest! {
    /// Whatever happens, the journal gives the same book, and nobody is told of anything twice after it.
    #[test]
    fn the_journal_gives_the_book_back(steps in proptest::collection::vec((0usize..6, 0usize..3, 0i64..30), 1..60)) {
        let causes = ["feed/a", "drift/m", "storage"];
        let (mut book, mut journal, mut now) = (AlertBook::default(), Vec::new(), 0);
        for (what, which, passed) in steps {
            now += passed;
            let event = match what {
                0 | 1 => raise(causes[which], [Severity::Info, Severity::Warning, Severity::Critical][which], 3),
                2 => clear(causes[which]),
                3 => Event::Silenced(silence(("feed", causes[which]), now + 20)),
                4 => book.silences().first().map_or(Event::Tick, |s| Event::Unsilenced { id: s.id.clone() }),
                _ => Event::Tick,
            };
            let (entries, said) = book.on(event, at(now));
            // As the actor journals it: with what was told.
            for alert in said.iter().flat_map(|t| &t.alerts).filter(|a| a.is_open()) {
                journal.push(Entry::Alert(Box::new(alert.clone())));
            }
            journal.extend(entries.into_iter().filter(|e| !matches!(e, Entry::Alert(_))));
            journal.extend(book.open().into_iter().map(|a| Entry::Alert(Box::new(a.clone()))));
        }
        let text: Vec<String> = journal.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let read = text.iter().map(|t| serde_json::from_str::<Entry>(t).unwrap());
        let mut back = AlertBook::read(read, at(now));
        prop_assert_eq!(back.open(), book.open());
        prop_assert_eq!(back.silences(), book.silences());
        let (_, said) = back.on(Event::Tick, at(now));
        let (_, expected) = book.on(Event::Tick, at(now));
        prop_assert_eq!(told(&said), told(&expected));
    }
}
