use super::super::gate::{GateKind, Verdict};
use super::super::ledger::Ledger;
use super::super::score::Reference;
use super::super::spec::Trigger;
use super::*;
use crate::join::{Change, Joined};
use crate::time::Span;
use proptest::prelude::*;

fn day(n: i64) -> Timestamp {
    "2013-04-01T00:00:00Z".parse::<Timestamp>().unwrap() + Span::days(n)
}

fn known(version: &str) -> Known {
    let reference = Some(Reference { loss: 0.35, wrong: Some(0.1), rows: 20_000 });
    Known { version: version.into(), since: day(0), cut: day(0), reference }
}

/// 300 answers a day of score .1; `bad` of each 10 come true.
fn ledger(version: &str, days: std::ops::Range<i64>, bad: usize) -> Ledger {
    let mut l = Ledger::new(0.5);
    ledger_into(&mut l, version, days, bad);
    l
}

fn ledger_into(l: &mut Ledger, version: &str, days: std::ops::Range<i64>, bad: usize) {
    for d in days {
        for i in 0..300 {
            l.on_served(day(d));
            let change = Change::Matured { label: i % 10 < bad };
            l.on_joined(&Joined {
                model: "m".into(),
                version: version.into(),
                id: Default::default(),
                time: day(d),
                score: 0.1,
                change,
            });
        }
    }
}

fn evidence(version: &str, ledger: Ledger) -> Event {
    Event::Due(Box::new(Evidence {
        known: known(version),
        ledger,
        matures_after: Span::days(1),
        drift: None,
        incident: None,
        rollout: None,
        busy: None,
    }))
}

fn act() -> RetrainingSpec {
    RetrainingSpec { mode: Mode::Act, promotion: Promotion::Immediate, ..RetrainingSpec::default() }
}

fn verdict(passed: bool) -> Verdict {
    Verdict {
        passed,
        kind: GateKind::Improve,
        rows: 2000,
        days: 7,
        champion_loss: 0.5,
        challenger_loss: 0.4,
        lower: 0.01,
        challenger_wrong: 0.15,
        checks: Vec::new(),
    }
}

fn attempt(passed: bool) -> Attempt {
    Attempt {
        candidate: Candidate::Retrain,
        rows: 9,
        until: day(20),
        cut: day(20),
        verdict: Some(verdict(passed)),
        line: String::new(),
    }
}

fn judged(job: u64, passed: bool) -> Event {
    let winner = passed.then(|| (Candidate::Retrain, "v2".to_string()));
    Event::Judged { job, attempts: vec![attempt(passed)], data: "h".into(), winner }
}

/// A machine with job 1 running: 40 % came true where 10 % were said, for 20 days.
fn running() -> (Machine, Vec<Entry>) {
    let mut m = Machine::new(act(), []);
    let mut journal = Vec::new();
    m.state.apply(&Entry::Champion(Champion {
        version: "v1".into(),
        since: day(0),
        cut: day(0),
        reference: known("v1").reference,
        by_job: None,
    }));
    journal.push(Entry::Champion(m.champion().unwrap().clone()));
    for d in [20, 21] {
        let (entries, _) = m.on(evidence("v1", ledger("v1", 0..d, 4)), day(d));
        journal.extend(entries);
    }
    (m, journal)
}

#[test]
fn two_of_three_bad_days_start_one_job() {
    let mut m = Machine::new(act(), []);
    let good = || ledger("v1", 0..20, 1);
    let (_, actions) = m.on(evidence("v1", good()), day(20));
    assert!(actions.is_empty());
    assert_eq!(m.evaluations()[0].decision, Decision::Rest, "{:?}", m.evaluations()[0]);
    let (mut m, _) = running();
    let job = m.jobs().next().unwrap().clone();
    assert_eq!((job.id, job.state, job.reason, job.until), (1, JobState::Running, Reason::Score, day(21)));
    assert_eq!(m.evaluations()[0].decision, Decision::Persist);
    // While it runs no other starts.
    for d in [22, 23, 24] {
        let (_, actions) = m.on(evidence("v1", ledger("v1", 0..d, 4)), day(d));
        assert!(actions.is_empty());
    }
    assert_eq!(m.evaluations().back().unwrap().decision, Decision::Blocked);
    let e = m.evaluations().back().unwrap();
    assert!(e.line.contains("one_job: job 1 is running"), "{}", e.line);
    assert!(e.score.terms[0].line.contains("is beyond chance"), "{:?}", e.score.terms);
}

#[test]
fn what_passed_comes_in_and_is_measured_by_what_it_showed() {
    let (mut m, _) = running();
    let (_, actions) = m.on(judged(1, true), day(21));
    assert_eq!(actions, [Action::Promote { job: 1, version: "v2".into(), how: Promotion::Immediate }]);
    m.on(Event::Promoted { job: 1 }, day(21));
    let c = m.champion().unwrap();
    assert_eq!((c.version.as_str(), c.since, c.cut, c.by_job), ("v2", day(21), day(20), Some(1)));
    assert_eq!(c.reference.unwrap().loss, 0.4);
    // Bad again within three days: an alert, no job. Later it is a job again.
    let spec = RetrainingSpec { window: Span::days(1), cool_down: Span::ZERO, min_rows: 1, ..act() };
    m.follow(spec);
    for (d, decision) in
        [(23, Decision::Persist), (24, Decision::Start { reason: Reason::Score, kind: GateKind::Improve })]
    {
        let mut l = ledger("v2", 0..d, 9);
        for i in 0..2000 {
            l.on_joined(&Joined {
                model: "m".into(),
                version: "v2".into(),
                id: Default::default(),
                time: day(d - 2),
                score: 0.05,
                change: Change::Matured { label: i % 10 < 9 },
            });
        }
        let (_, actions) = m.on(evidence("v2", l), day(d));
        assert_eq!(m.evaluations().back().unwrap().decision, decision, "{}", m.evaluations().back().unwrap().line);
        assert_eq!(actions.len(), usize::from(d == 24));
    }
}

#[test]
fn a_refused_challenger_doubles_the_wait() {
    let (mut m, _) = running();
    let (_, actions) = m.on(judged(1, false), day(21));
    assert!(actions.is_empty());
    assert_eq!(m.job(1).unwrap().state, JobState::Refused);
    for (d, starts) in [(22, false), (23, true)] {
        let (_, actions) = m.on(evidence("v1", ledger("v1", 0..d, 4)), day(d));
        assert_eq!(!actions.is_empty(), starts, "{}", m.evaluations().back().unwrap().line);
    }
}

#[test]
fn a_kill_in_each_state_ends_as_without_it() {
    let (m, journal) = running();
    // Running: once more, on the same data.
    let mut again = Machine::new(act(), &journal);
    let (more, actions) = again.on(Event::Restarted, day(21));
    let [Action::Train(job)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((job.id, job.run, job.until), (1, 2, m.job(1).unwrap().until));
    // A second time: failed.
    let both: Vec<Entry> = journal.iter().chain(&more).cloned().collect();
    let mut third = Machine::new(act(), &both);
    let (_, actions) = third.on(Event::Restarted, day(21));
    assert!(actions.is_empty());
    assert_eq!(third.job(1).unwrap().state, JobState::Failed);
    // Passed and not yet seen to serve: brought in again, the same end.
    let (mut straight, mut journal) = running();
    let (entries, _) = straight.on(judged(1, true), day(21));
    journal.extend(entries);
    let mut restarted = Machine::new(act(), &journal);
    let (_, actions) = restarted.on(Event::Restarted, day(21));
    assert_eq!(actions, [Action::Promote { job: 1, version: "v2".into(), how: Promotion::Immediate }]);
    for m in [&mut straight, &mut restarted] {
        m.on(Event::Promoted { job: 1 }, day(21));
    }
    assert_eq!(straight.champion(), restarted.champion());
    assert_eq!(straight.job(1), restarted.job(1));
}

#[test]
fn failures_are_tried_again_once_and_three_stop_the_loop() {
    let mut m = running().0;
    m.follow(RetrainingSpec { jobs_a_day: 99, jobs_a_week: 99, ..act() });
    let mut d = 21;
    for id in 1..=3 {
        let (_, actions) = m.on(Event::Failed { job: id, why: "no memory".into() }, day(d));
        assert!(matches!(actions.as_slice(), [Action::Train(j)] if j.run == 2), "{actions:?}");
        let (_, actions) = m.on(Event::Failed { job: id, why: "no memory".into() }, day(d));
        assert_eq!(actions.len(), usize::from(id == 3));
        for _ in 0..3 {
            d += 1;
            if m.busy().is_none() {
                m.on(evidence("v1", ledger("v1", 0..d, 4)), day(d));
            }
        }
    }
    assert_eq!(m.jobs().count(), 3);
    assert!(m.evaluations().back().unwrap().line.contains("circuit"), "{}", m.evaluations().back().unwrap().line);
    m.on(Event::Asked { candidates: vec![], champion: known("v1") }, day(d));
    m.on(judged(4, false), day(d));
    assert_eq!(m.state.failed, 0);
}

#[test]
fn modes_differ_in_who_decides() {
    let start = |mode| {
        let mut m = running().0;
        m.state.jobs.clear();
        m.follow(RetrainingSpec { mode, cool_down: Span::ZERO, ..act() });
        for d in [22, 23] {
            m.on(evidence("v1", ledger("v1", 0..d, 4)), day(d));
        }
        m
    };
    let m = start(Mode::Advise);
    assert_eq!((m.jobs().count(), &m.evaluations().back().unwrap().decision), (0, &Decision::Advise));
    let mut m = start(Mode::Ask);
    let (_, actions) = m.on(judged(1, true), day(23));
    assert!(matches!(actions.as_slice(), [Action::Alert(Alarm::Waiting(_))]), "{actions:?}");
    let (_, actions) = m.on(Event::Approved { job: 1 }, day(24));
    assert!(matches!(actions.as_slice(), [Action::Promote { .. }]));
    let mut m = start(Mode::Ask);
    m.on(judged(1, true), day(23));
    m.on(Event::Declined { job: 1 }, day(24));
    assert_eq!(m.job(1).unwrap().state, JobState::Refused);
    assert_eq!(m.champion().unwrap().version, "v1");
}

#[test]
fn a_calendar_starts_with_each_month_whatever_the_score() {
    let spec = RetrainingSpec { trigger: Trigger::Monthly, gate: false, ..act() };
    let mut m = Machine::new(spec, []);
    let mut started = Vec::new();
    for d in 1..95 {
        let (_, actions) = m.on(evidence("v1", ledger("v1", 0..2, 1)), day(d));
        for a in actions {
            let Action::Train(job) = a else { panic!("{a:?}") };
            started.push(job.until.to_string());
            m.on(judged(job.id, false), day(d));
        }
    }
    assert_eq!(started, ["2013-05-01T00:00:00Z", "2013-06-01T00:00:00Z", "2013-07-01T00:00:00Z"]);
}

#[test]
fn an_old_model_asks_to_be_refreshed() {
    let mut m = Machine::new(act(), []);
    let mut last = Vec::new();
    for d in 100..103 {
        last = m.on(evidence("v1", ledger("v1", 60..d, 1)), day(d)).1;
        if !last.is_empty() {
            break;
        }
    }
    assert!(matches!(last.as_slice(), [Action::Train(j)] if j.kind == GateKind::Refresh), "{last:?}");
}

#[test]
fn a_challenger_that_just_came_in_and_triggers_is_an_alert() {
    let (mut m, _) = running();
    m.on(judged(1, true), day(21));
    m.on(Event::Promoted { job: 1 }, day(21));
    m.follow(RetrainingSpec { persistence: 1, window: Span::days(1), ..act() });
    let mut bad = ledger("v2", 21..22, 9);
    for _ in 0..2 {
        ledger_into(&mut bad, "v2", 21..22, 9);
    }
    let (_, actions) = m.on(evidence("v2", bad), day(23));
    assert!(matches!(actions.as_slice(), [Action::Alert(Alarm::Loop(_))]), "{:?}", m.evaluations().back());
    assert_eq!(m.evaluations().back().unwrap().decision, Decision::Loop);
}

/// 60 days of a model by the number of each 10 answers that came true; built once.
fn prepared(version: &str, bad: usize) -> Ledger {
    static ALL: std::sync::OnceLock<Vec<Ledger>> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| (0..10).map(|i| ledger(["v1", "v2"][i / 5], 0..60, i % 5)).collect());
    all[bad + if version == "v2" { 5 } else { 0 }].clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever happens in whatever order: at most one job is open, and the journal alone gives the same state.
    #[test]
    fn the_journal_is_the_state(steps in prop::collection::vec((0u8..8, 0usize..5), 1..40)) {
        let mut m = Machine::new(act(), []);
        let mut journal = Vec::new();
        for (n, (what, bad)) in steps.into_iter().enumerate() {
            let d = 20 + n as i64;
            let id = m.jobs().next_back().map_or(1, |j| j.id);
            let event = match what {
                0..=2 => {
                    let version = m.champion().map_or("v1".to_string(), |c| c.version.clone());
                    evidence(&version, prepared(&version, bad))
                }
                3 => judged(id, true),
                4 => judged(id, false),
                5 => Event::Promoted { job: id },
                6 => Event::Failed { job: id, why: "x".into() },
                _ => Event::Restarted,
            };
            journal.extend(m.on(event, day(d)).0);
            prop_assert!(m.jobs().filter(|j| j.state.is_open()).count() <= 1);
        }
        let read = Machine::new(act(), &journal);
        prop_assert_eq!(read.state.jobs, m.state.jobs);
        prop_assert_eq!(read.state.champion, m.state.champion);
        prop_assert_eq!(read.state.above, m.state.above);
    }
}
