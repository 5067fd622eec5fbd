//! Whatever happens to a rollout, in any order.

use super::support::*;
use super::*;
use crate::evidence::HardEvidence;
use proptest::prelude::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happening {
    Ticks(u8, u8),
    Incomplete,
    Completion(u8, u64),
    Command(u8, i64),
    Crash,
    Hard(bool),
    Restart(bool),
    Jump(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (1u8..20, 0u8..4).prop_map(|(n, world)| Happening::Ticks(n, world)),
        1 => Just(Happening::Incomplete),
        4 => (0u8..4, 0u64..4).prop_map(|(kind, back)| Happening::Completion(kind, back)),
        2 => (0u8..4, -1i64..2).prop_map(|(kind, off)| Happening::Command(kind, off)),
        1 => Just(Happening::Crash),
        1 => any::<bool>().prop_map(Happening::Hard),
        1 => any::<bool>().prop_map(Happening::Restart),
        1 => (-600i64..100_000).prop_map(Happening::Jump),
    ]
}

fn worlds(n: u8) -> Rates {
    match n {
        0 => Rates { canary_bad: 0.003, ..healthy() },
        1 => Rates { canary_event: 0.15, ..healthy() },
        2 => Rates { assigned: 1.02, ..healthy() },
        _ => healthy(),
    }
}

fn inputs(h: &Happening, step: u64) -> Vec<Input> {
    let by = || "ann".to_owned();
    let back = |n: u64| step.saturating_sub(n);
    match h {
        Happening::Completion(0, n) => vec![Input::Loaded { step: back(*n) }],
        Happening::Completion(1, n) => vec![Input::Warmed { step: back(*n) }],
        Happening::Completion(2, n) => vec![Input::WarmupFailed { step: back(*n), reason: "golden".into() }],
        Happening::Completion(_, n) => {
            let report = ShadowReport { answers: 500, ..ShadowReport::default() };
            vec![Input::Shadow { step: back(*n), report }]
        }
        Happening::Command(kind, off) => {
            let expected_step = step.saturating_add_signed(*off);
            vec![match kind {
                0 => Input::Abort { expected_step, by: by(), reason: "no".into() },
                1 => Input::PromoteNow { expected_step, by: by(), all: false },
                2 => Input::Approve { expected_step, by: by() },
                _ => Input::Retry { expected_step, by: by() },
            }]
        }
        Happening::Crash => vec![Input::CanaryFault(Fault::Crash { detail: "signal 9".into() })],
        Happening::Hard(both) => {
            let canary = HardEvidence { answers: 9, bad: 9, log_e: 20.0 };
            let baseline = if *both { canary } else { HardEvidence::default() };
            vec![Input::HardIncident { canary, baseline }]
        }
        Happening::Restart(lost) => vec![Input::Restarted { evidence_lost: *lost }],
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn invariants_hold_in_every_order(
        happenings in proptest::collection::vec(happening(), 1..40),
        mode in 0u8..3, shadow in any::<bool>(),
    ) {
        let mode = [Mode::Act, Mode::Ask, Mode::Advise][usize::from(mode)];
        let shadow_answers = if shadow { 500 } else { 0 };
        let mut run = Run::start(RolloutSettings { mode, shadow_answers, ..settings() });
        for h in &happenings {
            match h {
                Happening::Ticks(n, world) if run.rollout.state().serving() => {
                    for _ in 0..*n {
                        if run.rollout.state().serving() {
                            run.tick(&worlds(*world));
                        }
                    }
                }
                Happening::Incomplete if run.rollout.state().serving() => {
                    run.tick_with(&healthy(), Tick { incomplete: Some("node".into()), ..Tick::default() });
                }
                Happening::Jump(seconds) => run.now = run.now + Span::seconds(*seconds),
                h => for input in inputs(h, run.rollout.step()) {
                    run.offer(input);
                },
            }
            // A share above 0 only while it serves; 0 after every end but promotion.
            let (state, share) = (run.rollout.state(), run.rollout.share());
            prop_assert_eq!(state.serving() || state == State::Promoted, share > Share::ZERO, "{} {}", state, share);
        }
        // The journal alone gives the same rollout, and text does not change it.
        let text: Vec<String> = run.journal.iter().map(|e| serde_json::to_string(e).expect("plain data")).collect();
        let read: Vec<JournalEntry> = text.iter().map(|t| serde_json::from_str(t).expect("its own text")).collect();
        let again = Rollout::replay(&read).map_err(|d| TestCaseError::fail(format!("{d:?}")))?;
        prop_assert_eq!(format!("{:?}", again), format!("{:?}", run.rollout));
        prop_assert!(read.iter().enumerate().all(|(i, e)| e.seq == i as u64));
        // Within one attempt shares only grow until it is over, and steps never go back.
        let steps: Vec<u64> = read.iter().map(|e| e.step).collect();
        prop_assert!(steps.is_sorted());
        let shares: Vec<u32> = read.iter().filter(|e| e.state.serving()).map(|e| e.share.0).collect();
        let attempts = read.split(|e| !e.state.serving() && e.state != State::Promoted);
        for attempt in attempts {
            prop_assert!(attempt.iter().map(|e| e.share).is_sorted(), "{:?}", shares);
        }
        // A changed count is found.
        if let Some(at) = read.iter().position(|e| matches!(&e.input, Some(Input::Tick(_))) && e.decision.is_some()) {
            let mut forged = read.clone();
            if let Some(Input::Tick(tick)) = &mut forged[at].input {
                tick.segments[0].canary.entities += 50_000;
                tick.incomplete = None;
            }
            prop_assert!(Rollout::replay(&forged).is_err());
        }
    }
}
